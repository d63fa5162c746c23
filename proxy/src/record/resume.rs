//! Finds where an existing log stands: checks it from its last checkpoint and puts a torn last
//! line aside.

use std::path::Path;

use jiff::Timestamp;

use super::{
    checkpoint::{PublicKeys, Signature},
    file::{GrowingFile, OpenError, Sink as _, append_line, beside},
    verify::{Fault, FirstLine, Follower, GENESIS, Line},
    writer::Position,
};

/// How much is read from the end at first, in bytes.
const WINDOW: u64 = 1 << 20;

/// How every checkpoint starts.
const CHECKPOINT: &[u8] = b"{\"type\":\"checkpoint\",";

/// How the first line of a log can start.
const STARTS: [&[u8]; 3] = [
    b"{\"type\":\"decision\",",
    b"{\"type\":\"outcome\",",
    CHECKPOINT,
];

/// Why a file cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The file holds something else.
    #[error("it is no decision log; it was left untouched")]
    NotALog,
    /// The chain is broken.
    #[error(
        "its chain is broken: the line after seq {after} {fault}; verify it, move it away, and start again"
    )]
    Broken {
        /// The number of the last good line.
        after: u64,
        /// What is wrong with the next one.
        fault: Fault,
    },
    /// It cannot be read, or the torn line cannot be put aside.
    #[error(transparent)]
    File(#[from] OpenError),
}

impl From<std::io::Error> for ResumeError {
    fn from(error: std::io::Error) -> Self {
        Self::File(error.into())
    }
}

/// Finds the position of the log in `file`; a new one gets an instance made at `now`.
pub(super) fn resume(
    file: &mut GrowingFile,
    path: &Path,
    now: Timestamp,
) -> Result<Position, ResumeError> {
    if file.size()? == 0 {
        return Ok(begin(now));
    }
    let tail = Tail::read(file)?;
    if tail.offset == 0 {
        tail.require_log()?;
    }
    let position = tail.follow(path)?;
    if !tail.torn.is_empty() {
        append_line(&beside(path, ".torn"), &tail.torn)?;
        file.shorten(tail.torn.len())?;
    }
    Ok(position.unwrap_or_else(|| begin(now)))
}

/// The keys in `FILE.jwks`; none when there is no such file.
pub(super) fn known_keys(log: &Path) -> PublicKeys {
    let text = std::fs::read_to_string(beside(log, ".jwks")).unwrap_or_default();
    PublicKeys::parse(&text).unwrap_or_default()
}

/// A chain that has not begun (RFC 9562 §5.7 for its instance).
fn begin(now: Timestamp) -> Position {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or_default();
    let instance =
        uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)).to_string();
    Position {
        instance,
        seq: 0,
        prev: GENESIS.to_owned(),
        unsigned: 0,
    }
}

/// The end of a log, from its last checkpoint or from its start.
struct Tail {
    offset: u64,
    lines: Vec<u8>,
    torn: Vec<u8>,
}

impl Tail {
    fn read(file: &GrowingFile) -> Result<Self, ResumeError> {
        let size = file.size()?;
        let mut window = WINDOW;
        loop {
            let start = size.saturating_sub(window);
            let bytes = file.read_at(start, size - start)?;
            let from = last_checkpoint(&bytes, start).or((start == 0).then_some(0));
            if let Some(from) = from {
                return Ok(Self::split(start, bytes, from));
            }
            window = window.saturating_mul(2);
        }
    }

    fn split(start: u64, mut bytes: Vec<u8>, from: usize) -> Self {
        let mut lines = bytes.split_off(from);
        let end = memchr::memrchr(b'\n', &lines).map_or(0, |newline| newline + 1);
        let torn = lines.split_off(end);
        Self {
            offset: start + u64::try_from(from).unwrap_or_default(),
            lines,
            torn,
        }
    }

    /// Refuses a file that does not start as a log does.
    fn require_log(&self) -> Result<(), ResumeError> {
        let is_log = match self.lines.split(|&byte| byte == b'\n').next() {
            Some(first) if !first.is_empty() => !matches!(Line::parse(first), Err(Fault::Form)),
            _ if !self.lines.is_empty() => false,
            _ => STARTS
                .iter()
                .any(|start| self.torn.starts_with(start) || start.starts_with(&self.torn)),
        };
        if is_log {
            Ok(())
        } else {
            Err(ResumeError::NotALog)
        }
    }

    /// Follows the lines; `None` when there is none.
    fn follow(&self, path: &Path) -> Result<Option<Position>, ResumeError> {
        let keys = known_keys(path);
        let mut chain = Follower::new(FirstLine::Trusted);
        let mut unsigned = 0;
        for line in self.lines.split_inclusive(|&byte| byte == b'\n') {
            let after = chain.seq();
            let broken = |fault| ResumeError::Broken { after, fault };
            let line = chain
                .follow(line.strip_suffix(b"\n").unwrap_or(line))
                .map_err(broken)?;
            unsigned = match line.signature(&keys) {
                None => unsigned + 1,
                Some(Signature::Bad) => return Err(broken(Fault::Signature)),
                Some(Signature::Good | Signature::KeyUnknown) => 0,
            };
        }
        let (instance, seq, prev) = (
            chain.instance().map(str::to_owned),
            chain.seq(),
            chain.prev().to_owned(),
        );
        Ok(instance.map(|instance| Position {
            instance,
            seq,
            prev,
            unsigned,
        }))
    }
}

/// Where the last whole line that is a checkpoint starts, in `bytes` read from offset `start`.
fn last_checkpoint(bytes: &[u8], start: u64) -> Option<usize> {
    let begins_line = |at: usize| match at.checked_sub(1) {
        Some(before) => bytes.get(before) == Some(&b'\n'),
        None => start == 0,
    };
    let is_whole = |at: usize| {
        bytes
            .get(at..)
            .is_some_and(|rest| memchr::memchr(b'\n', rest).is_some())
    };
    memchr::memmem::rfind_iter(bytes, CHECKPOINT).find(|&at| begins_line(at) && is_whole(at))
}
