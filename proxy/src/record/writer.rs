//! Composes and appends the lines of one chain, and repairs what a failed write left behind.

use std::{io, mem, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use super::{
    chain::Unwritable,
    checkpoint::{CheckpointKey, Head},
    file::Sink,
    whole::Whole,
};
use crate::json::{write_hex, write_u64};

/// A line buffer larger than this is given back after the line.
const KEPT_BUFFER: usize = 256 * 1024;

/// So many bytes of lines that waited are written at once.
pub(super) const FULL: usize = 64 * 1024;

/// So many bytes of lines that others wait for are written, and synced, at once.
const GROUP: usize = 1024 * 1024;

/// So many bytes of lines wait for a sink that fails; what comes then is lost.
const OVERFULL: usize = 4 * 1024 * 1024;

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

/// The end of a chain.
#[derive(Debug, Default)]
struct End {
    seq: u64,
    /// The hash of the last line, in hex.
    hash: Vec<u8>,
    /// How many lines follow the last checkpoint.
    unsigned: u64,
}

/// Appends to one chain. A line is in the sink whole, or not at all and not counted.
#[derive(Debug)]
pub(super) struct Writer<S> {
    sink: Whole<S>,
    key: CheckpointKey,
    instance: String,
    /// What is in the sink.
    end: End,
    /// What is, and what the buffer adds.
    next: End,
    buffer: Vec<u8>,
    /// The members of lines that wait for the next write, each with a newline behind it.
    waiting: Vec<u8>,
    /// Why the last attempt to write failed, if it did.
    fault: Option<io::Error>,
    /// The number of the last line when the chain came to this sink.
    came_at: u64,
    /// The sink has to begin with a checkpoint, and does not yet.
    begins: bool,
    checkpoint_lines: u64,
    checkpoint_every: Duration,
    checkpoint_at: Timestamp,
    now: Timestamp,
}

impl<S: Sink> Writer<S> {
    pub(super) fn new(
        sink: Whole<S>,
        key: CheckpointKey,
        position: Position,
        now: Timestamp,
    ) -> Self {
        Self {
            sink,
            key,
            instance: position.instance,
            came_at: position.seq,
            begins: false,
            end: End {
                seq: position.seq,
                hash: position.prev.into_bytes(),
                unsigned: position.unsigned,
            },
            next: End::default(),
            buffer: Vec::with_capacity(4096),
            waiting: Vec::new(),
            fault: None,
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
        self.sink.sink()
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether the last attempt to write failed.
    pub(super) fn failed(&self) -> bool {
        self.fault.is_some()
    }

    /// Why it failed, if it did.
    pub(super) fn fault(&self) -> Option<&io::Error> {
        self.fault.as_ref()
    }

    /// The number of the last line; 0 before the first.
    pub(super) fn seq(&self) -> u64 {
        self.end.seq
    }

    /// Whether a line was appended since the chain came to this sink.
    pub(super) fn has_lines(&self) -> bool {
        self.end.seq > self.came_at
    }

    /// Continues the chain in another, empty sink. It starts with a checkpoint, so that a restart
    /// finds the chain there.
    pub(super) fn move_to(&mut self, sink: S, now: Timestamp) {
        self.sink.move_to(sink);
        self.now = now;
        self.begins = true;
        self.try_checkpoint();
        self.came_at = self.end.seq;
    }

    /// Appends a line of `members`, behind those that wait; a checkpoint follows when one is due by
    /// count. While lines wait for a sink that fails, only [`Writer::tick`] tries it anew.
    pub(super) fn append(&mut self, members: &[u8]) -> Result<u64, Unwritable> {
        if !is_one_line(members) || (self.failed() && !self.waiting.is_empty()) {
            return Err(Unwritable);
        }
        if self.waiting.len() > FULL {
            self.flush();
        }
        self.begin()?;
        let taken = self.take_waiting();
        if taken < self.waiting.len() {
            return Err(Unwritable);
        }
        self.entry(members);
        let seq = self.commit()?;
        self.waiting.clear();
        self.checkpoint_if_due();
        Ok(seq)
    }

    /// Appends the first of `lines`, a megabyte or so of them, with one write; says how many.
    pub(super) fn append_first<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> Result<usize, Unwritable> {
        self.begin()?;
        let mut taken = 0;
        for members in lines {
            self.entry(members);
            taken += 1;
            if self.buffer.len() >= GROUP {
                break;
            }
        }
        self.commit()?;
        self.checkpoint_if_due();
        Ok(taken)
    }

    /// Keeps a line of `members` for the next write. While the sink fails it waits, and is lost
    /// only when too many do.
    pub(super) fn defer(&mut self, members: &[u8]) -> Result<(), Unwritable> {
        if !is_one_line(members) || self.waiting.len() >= OVERFULL {
            return Err(Unwritable);
        }
        self.waiting.extend_from_slice(members);
        self.waiting.push(b'\n');
        Ok(())
    }

    /// Gives away the lines that wait.
    pub(super) fn give_waiting(&mut self) -> Vec<u8> {
        mem::take(&mut self.waiting)
    }

    /// Whether so much waits that it should be written now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= FULL && !self.failed()
    }

    /// How many lines wait.
    pub(super) fn waiting(&self) -> usize {
        memchr::memchr_iter(b'\n', &self.waiting).count()
    }

    /// Writes what waits, as far as the sink takes it.
    pub(super) fn flush(&mut self) {
        while !self.waiting.is_empty() {
            if self.begin().is_err() {
                return;
            }
            let taken = self.take_waiting();
            if self.commit().is_err() {
                return;
            }
            self.waiting.drain(..taken);
            self.checkpoint_if_due();
        }
        self.waiting.shrink_to(FULL);
    }

    /// Takes the time, writes what waits and a checkpoint that is due, and tries a failed sink
    /// anew.
    pub(super) fn tick(&mut self, now: Timestamp) {
        self.now = now;
        self.flush();
        if !self.waiting.is_empty() {
            return;
        }
        let waited = now.duration_since(self.checkpoint_at).unsigned_abs();
        if self.failed() || (self.end.unsigned > 0 && waited >= self.checkpoint_every) {
            self.try_checkpoint();
        }
    }

    /// Writes what waits, and a checkpoint unless one ends the log.
    pub(super) fn sign(&mut self) {
        self.flush();
        if self.end.unsigned > 0 || self.end.seq == 0 {
            self.try_checkpoint();
        }
    }

    /// Hands everything to the disk.
    pub(super) fn sync(&mut self) {
        if let Err(error) = self.sink.sync() {
            tracing::error!(%error, "the decision log could not be synced to disk");
        }
    }

    fn checkpoint_if_due(&mut self) {
        if self.end.unsigned >= self.checkpoint_lines {
            self.try_checkpoint();
        }
    }

    fn try_checkpoint(&mut self) {
        match self.checkpoint() {
            Ok(seq) => tracing::trace!(seq, "checkpoint"),
            Err(error) => tracing::debug!(%error, "no checkpoint"),
        }
    }

    fn checkpoint(&mut self) -> Result<u64, Unwritable> {
        self.clear();
        let seq = self.end.seq + 1;
        let prev = std::str::from_utf8(&self.end.hash).unwrap_or_default();
        let sig = self.key.sign(Head {
            instance: &self.instance,
            seq,
            prev,
        });
        let (instance, now, kid) = (&self.instance, self.now, self.key.kid());
        let members = format!(
            r#""type":"checkpoint","instance":"{instance}","timestamp":"{now:.3}","seq":{seq},"kid":"{kid}","sig":"{sig}""#
        );
        self.line(|line| line.extend_from_slice(members.as_bytes()));
        self.next.unsigned = 0;
        let seq = self.commit()?;
        self.checkpoint_at = self.now;
        self.begins = false;
        Ok(seq)
    }

    /// Empties the buffer for lines that are no checkpoints.
    fn begin(&mut self) -> Result<(), Unwritable> {
        if self.begins {
            self.checkpoint()?;
        }
        self.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        self.next.seq = self.end.seq;
        self.next.unsigned = self.end.unsigned;
        self.next.hash.clone_from(&self.end.hash);
    }

    /// Adds the first of the lines that wait; says how many bytes of them.
    fn take_waiting(&mut self) -> usize {
        let waiting = mem::take(&mut self.waiting);
        let mut taken = 0;
        for end in memchr::memchr_iter(b'\n', &waiting) {
            if taken >= FULL {
                break;
            }
            self.entry(waiting.get(taken..end).unwrap_or_default());
            taken = end + 1;
        }
        self.waiting = waiting;
        taken
    }

    /// Adds a line that is no checkpoint.
    fn entry(&mut self, members: &[u8]) {
        let instance = mem::take(&mut self.instance);
        let seq = self.next.seq + 1;
        self.line(|line| {
            line.extend_from_slice(members);
            line.extend_from_slice(b",\"instance\":\"");
            line.extend_from_slice(instance.as_bytes());
            line.extend_from_slice(b"\",\"seq\":");
            write_u64(seq, line);
        });
        self.instance = instance;
    }

    /// Adds a line to the buffer: its members, and `prev` and `hash`.
    fn line(&mut self, members: impl FnOnce(&mut Vec<u8>)) {
        let (buffer, next) = (&mut self.buffer, &mut self.next);
        let start = buffer.len();
        buffer.push(b'{');
        members(buffer);
        buffer.extend_from_slice(b",\"prev\":\"");
        buffer.extend_from_slice(&next.hash);
        buffer.push(b'"');
        next.hash.clear();
        let text = buffer.get(start..).unwrap_or_default();
        write_hex(digest(&SHA256, text).as_ref(), &mut next.hash);
        buffer.extend_from_slice(b",\"hash\":\"");
        buffer.extend_from_slice(&next.hash);
        buffer.extend_from_slice(b"\"}\n");
        next.seq += 1;
        next.unsigned += 1;
    }

    /// Writes the buffer, and counts its lines if all of it is in the sink.
    fn commit(&mut self) -> Result<u64, Unwritable> {
        self.fault = self.sink.append(&self.buffer).err();
        if self.failed() {
            return Err(Unwritable);
        }
        mem::swap(&mut self.end, &mut self.next);
        Ok(self.end.seq)
    }
}

/// A raw newline is never part of JSON members: it would tear the line in two.
pub(super) fn is_one_line(members: &[u8]) -> bool {
    !members.is_empty() && memchr::memchr(b'\n', members).is_none()
}
