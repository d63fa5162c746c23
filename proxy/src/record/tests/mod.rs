//! What the rooms of the log promise together.
mod chain;
mod queue;
mod refusals;
mod security;
mod verify;
mod whole;
mod writer;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    checkpoint::{CheckpointKey, PublicKeys},
    file::Sink,
    verify::{Report, Verification, Witness},
    whole::{Counts, Whole},
    writer::{Position, Writer},
};

pub(super) const INSTANCE: &str = "0197f0c0-0000-7000-8000-000000000001";

/// What the next write of a [`Memory`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Whole,
    Refused,
    Short(usize),
}

/// A sink in memory whose writes fail as planned; afterwards they succeed.
#[derive(Debug, Default, Clone)]
pub(super) struct Memory(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    bytes: Vec<u8>,
    writes: std::collections::VecDeque<Fate>,
    refused_repairs: usize,
    refused_syncs: usize,
    synced: usize,
}

impl Memory {
    /// The next syncs fail.
    pub(super) fn refuse_syncs(&self, count: usize) {
        self.0.lock().unwrap().refused_syncs = count;
    }

    /// How many bytes were there at the last sync that succeeded.
    pub(super) fn synced(&self) -> usize {
        self.0.lock().unwrap().synced
    }

    pub(super) fn plan(&self, writes: &[Fate], refused_repairs: usize) {
        let mut plan = self.0.lock().unwrap();
        plan.writes = writes.iter().copied().collect();
        plan.refused_repairs = refused_repairs;
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
}

impl Sink for Memory {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut plan = self.0.lock().unwrap();
        let taken = match plan.writes.pop_front().unwrap_or(Fate::Whole) {
            Fate::Whole => bytes.len(),
            Fate::Refused => return Err(io::ErrorKind::StorageFull.into()),
            Fate::Short(taken) => taken.min(bytes.len() - 1),
        };
        plan.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn shorten(&mut self, bytes: usize) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        if plan.refused_repairs > 0 {
            plan.refused_repairs -= 1;
            return Err(io::ErrorKind::Other.into());
        }
        let length = plan.bytes.len() - bytes;
        plan.bytes.truncate(length);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        if plan.refused_syncs > 0 {
            plan.refused_syncs -= 1;
            return Err(io::ErrorKind::Other.into());
        }
        plan.synced = plan.bytes.len();
        Ok(())
    }
}

pub(super) fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

pub(super) fn position() -> Position {
    let prev = super::verify::GENESIS.to_owned();
    Position {
        instance: INSTANCE.to_owned(),
        seq: 0,
        prev,
        unsigned: 0,
    }
}

/// A writer to memory with a checkpoint each `lines` lines, and its public key.
pub(super) fn writer(lines: u64) -> (Writer<Memory>, Memory, PublicKeys) {
    writer_counting(Counts::Written, lines)
}

/// The same for lines that count so.
pub(super) fn writer_counting(counts: Counts, lines: u64) -> (Writer<Memory>, Memory, PublicKeys) {
    let key = CheckpointKey::made().unwrap();
    let keys = PublicKeys::parse(&key.public_jwk()).unwrap();
    let memory = Memory::default();
    let writer = Writer::new(Whole::new(memory.clone(), counts), key, position(), now())
        .checkpointing(lines, Duration::from_secs(10));
    (writer, memory, keys)
}

/// A log of `count` decisions that was closed cleanly, and the keys to verify it with.
pub(super) fn log(count: u64, lines: u64) -> (Vec<u8>, PublicKeys) {
    let (mut writer, memory, keys) = writer(lines);
    for number in 0..count {
        let members =
            format!(r#""type":"decision","decision_id":"d{number}","code":"ok","n":[{number}]"#);
        writer.append(members.as_bytes()).unwrap();
    }
    writer.sign();
    (memory.bytes(), keys)
}

pub(super) fn check(bytes: &[u8], keys: &PublicKeys, witness: Option<&Witness>) -> Report {
    let mut verification = Verification::new(keys, witness);
    verification.read("log", bytes).unwrap();
    verification.finish()
}

pub(super) fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}
