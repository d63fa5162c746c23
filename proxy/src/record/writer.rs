//! Composes and appends the lines of one chain, and repairs what a failed write left behind.

use std::{mem, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use super::{
    chain::Unwritable,
    checkpoint::{CheckpointKey, Head},
    file::Sink,
    line::{write_hex, write_u64},
};

/// A line buffer larger than this is given back after the line.
const KEPT_BUFFER: usize = 256 * 1024;

/// Where a chain stands.
#[derive(Debug, Clone)]
pub(super) struct Position {
    /// The log's instance.
    pub(super) instance: String,
    /// The number of the last line; 0 before the first.
    pub(super) seq: u64,
    /// The hash of the last line, 64 hex digits.
    pub(super) prev: String,
    /// How many lines follow the last checkpoint.
    pub(super) unsigned: u64,
}

/// Appends to one chain. A line is in the sink whole, or not at all and not counted.
#[derive(Debug)]
pub(super) struct Writer<S> {
    sink: S,
    key: CheckpointKey,
    instance: String,
    seq: u64,
    prev: Vec<u8>,
    hash: Vec<u8>,
    buffer: Vec<u8>,
    /// Bytes of a partial line that could not be removed yet.
    partial: usize,
    failed: bool,
    /// The number of the last line when the chain came to this sink.
    came_at: u64,
    unsigned: u64,
    checkpoint_lines: u64,
    checkpoint_every: Duration,
    checkpoint_at: Timestamp,
    now: Timestamp,
}

impl<S: Sink> Writer<S> {
    pub(super) fn new(sink: S, key: CheckpointKey, position: Position, now: Timestamp) -> Self {
        Self {
            sink,
            key,
            instance: position.instance,
            seq: position.seq,
            came_at: position.seq,
            prev: position.prev.into_bytes(),
            hash: Vec::with_capacity(64),
            buffer: Vec::with_capacity(4096),
            partial: 0,
            failed: false,
            unsigned: position.unsigned,
            checkpoint_lines: u64::MAX,
            checkpoint_every: Duration::MAX,
            checkpoint_at: now,
            now,
        }
    }

    /// Sets after how many lines and after how long a checkpoint follows.
    pub(super) fn checkpointing(mut self, lines: u64, every: Duration) -> Self {
        self.checkpoint_lines = lines.max(1);
        self.checkpoint_every = every;
        self
    }

    pub(super) fn sink(&self) -> &S {
        &self.sink
    }

    /// Whether the last attempt to write failed.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// The number of the last line; 0 before the first.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether a line was appended since the chain came to this sink.
    pub(super) fn has_lines(&self) -> bool {
        self.seq > self.came_at
    }

    /// Continues the chain in another, empty sink. It starts with a checkpoint, so that a restart
    /// finds the chain there.
    pub(super) fn move_to(&mut self, sink: S, now: Timestamp) {
        self.sink = sink;
        self.partial = 0;
        self.now = now;
        self.try_checkpoint();
        self.came_at = self.seq;
    }

    /// Appends a line of `members`; a checkpoint follows when one is due by count.
    pub(super) fn append(&mut self, members: &[u8]) -> Result<u64, Unwritable> {
        // A raw newline is never part of JSON members: it would tear the line in two.
        if members.is_empty() || memchr::memchr(b'\n', members).is_some() {
            return Err(Unwritable);
        }
        self.begin();
        self.buffer.extend_from_slice(members);
        self.buffer.extend_from_slice(b",\"instance\":\"");
        self.buffer.extend_from_slice(self.instance.as_bytes());
        self.buffer.extend_from_slice(b"\",\"seq\":");
        write_u64(self.seq + 1, &mut self.buffer);
        let seq = self.seal()?;
        self.unsigned += 1;
        if self.unsigned >= self.checkpoint_lines {
            self.try_checkpoint();
        }
        Ok(seq)
    }

    /// Takes the time, writes a checkpoint that is due and tries a failed sink anew.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.now = now;
        let waited = now.duration_since(self.checkpoint_at).unsigned_abs();
        if self.failed || (self.unsigned > 0 && waited >= self.checkpoint_every) {
            self.try_checkpoint();
        }
    }

    /// Writes a checkpoint unless one ends the log.
    pub(super) fn sign(&mut self) {
        if self.unsigned > 0 || self.seq == 0 {
            self.try_checkpoint();
        }
    }

    /// Hands everything to the disk.
    pub(super) fn sync(&mut self) {
        if let Err(error) = self.sink.sync() {
            tracing::error!(%error, "the decision log could not be synced to disk");
        }
    }

    fn try_checkpoint(&mut self) {
        match self.checkpoint() {
            Ok(seq) => tracing::trace!(seq, "checkpoint"),
            Err(error) => tracing::debug!(%error, "no checkpoint"),
        }
    }

    fn checkpoint(&mut self) -> Result<u64, Unwritable> {
        let seq = self.seq + 1;
        let prev = std::str::from_utf8(&self.prev).unwrap_or_default();
        let sig = self.key.sign(Head {
            instance: &self.instance,
            seq,
            prev,
        });
        let (instance, now, kid) = (&self.instance, self.now, self.key.kid());
        let members = format!(
            r#""type":"checkpoint","instance":"{instance}","timestamp":"{now:.3}","seq":{seq},"kid":"{kid}","sig":"{sig}""#
        );
        self.begin();
        self.buffer.extend_from_slice(members.as_bytes());
        let seq = self.seal()?;
        self.unsigned = 0;
        self.checkpoint_at = self.now;
        Ok(seq)
    }

    fn begin(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        self.buffer.push(b'{');
    }

    /// Adds `prev` and `hash` to the line in the buffer, writes it, and counts it if it is whole.
    fn seal(&mut self) -> Result<u64, Unwritable> {
        self.buffer.extend_from_slice(b",\"prev\":\"");
        self.buffer.extend_from_slice(&self.prev);
        self.buffer.push(b'"');
        self.hash.clear();
        write_hex(digest(&SHA256, &self.buffer).as_ref(), &mut self.hash);
        self.buffer.extend_from_slice(b",\"hash\":\"");
        self.buffer.extend_from_slice(&self.hash);
        self.buffer.extend_from_slice(b"\"}\n");
        self.failed = self.write().is_err();
        if self.failed {
            return Err(Unwritable);
        }
        self.seq += 1;
        mem::swap(&mut self.prev, &mut self.hash);
        Ok(self.seq)
    }

    fn write(&mut self) -> Result<(), Unwritable> {
        self.repair()?;
        match self.sink.append(&self.buffer) {
            Ok(taken) if taken == self.buffer.len() => Ok(()),
            Ok(taken) => {
                self.partial = taken;
                self.repair()?;
                Err(Unwritable)
            }
            Err(_) => Err(Unwritable),
        }
    }

    /// INVARIANT: nothing is appended behind a partial line.
    fn repair(&mut self) -> Result<(), Unwritable> {
        if self.partial > 0 {
            self.sink.shorten(self.partial).map_err(|_| Unwritable)?;
            self.partial = 0;
        }
        Ok(())
    }
}
