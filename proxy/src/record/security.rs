//! The security log: what agents attempted, and who changed what they may do.
//!
//! Events come in; JSON lines go out, to a file of their own for readers of their own, joined to
//! the decision log by `decision_id`. A hostile agent can neither fill the disk nor stop calls
//! through it: events are capped by kind, what is over the cap is counted, and a failed write is
//! counted too. Changes of authority are never capped.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;

use super::{
    file::{GrowingFile, Occupant, OpenError, Sink as _},
    whole::{Counts, Whole},
};
use crate::{call::DecisionId, json::Object};

/// How many events of one kind are written at once before the cap counts.
const BURST: u64 = 100;

/// How much time one more event of a kind takes, in milliseconds.
const REFILL_MS: i64 = 1_000;

/// The longest text of one member, in bytes.
const MAX_TEXT: usize = 512;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityKind {
    /// Arguments or an answer against the published schema.
    SchemaViolation,
    /// Headers that only the sidecar may set.
    HeaderForgery,
    /// A tool that is no longer what was locked.
    ToolDrift,
    /// The same refusal over and over.
    RepeatedRefusals,
    /// Something sensitive was found where it should not be.
    DetectorFinding,
    /// Bytes that are no HTTP request.
    ConnectionError,
    /// A destination or origin that is not served.
    DestinationRefused,
    /// A task token that is not valid.
    TokenRefused,
    /// The decision log cannot be written.
    LogFailed,
    /// A task was opened.
    TaskOpened,
    /// A task was closed.
    TaskClosed,
    /// A task was suspended.
    TaskSuspended,
    /// A task goes on.
    TaskResumed,
    /// A task's confidence was set.
    TaskConfidence,
    /// A task, agent, subject or token was revoked.
    Revoked,
    /// A revocation counts no longer.
    RevocationLifted,
    /// Another key signs assertions.
    KeyRotated,
    /// Somebody tried to hand on more than they have, or to do more than was handed on.
    DelegationWidened,
    /// Another process took over, tasks and all.
    TakenOver,
    /// The agent's identity was obtained.
    IdentityObtained,
    /// The agent's identity no longer holds.
    IdentityLost,
    /// A transmitter told of something from which nothing followed.
    SignalReceived,
    /// What came from a transmitter was refused.
    SignalRefused,
    /// A held call was approved or refused by a person.
    Approval,
}

impl SecurityKind {
    /// How many kinds there are.
    const COUNT: usize = Self::Approval as usize + 1;

    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SchemaViolation => "schema_violation",
            Self::HeaderForgery => "header_forgery",
            Self::ToolDrift => "tool_drift",
            Self::RepeatedRefusals => "repeated_refusals",
            Self::DetectorFinding => "detector_finding",
            Self::ConnectionError => "connection_error",
            Self::DestinationRefused => "destination_refused",
            Self::TokenRefused => "token_refused",
            Self::LogFailed => "log_failed",
            Self::TaskOpened => "task_opened",
            Self::TaskClosed => "task_closed",
            Self::TaskSuspended => "task_suspended",
            Self::TaskResumed => "task_resumed",
            Self::TaskConfidence => "task_confidence",
            Self::Revoked => "revoked",
            Self::RevocationLifted => "revocation_lifted",
            Self::KeyRotated => "key_rotated",
            Self::DelegationWidened => "delegation_widened",
            Self::TakenOver => "taken_over",
            Self::IdentityObtained => "identity_obtained",
            Self::IdentityLost => "identity_lost",
            Self::SignalReceived => "signal_received",
            Self::SignalRefused => "signal_refused",
            Self::Approval => "approval",
        }
    }

    /// Whether this changes what an agent may do; such events are never capped.
    pub fn is_authority(self) -> bool {
        match self {
            Self::TaskOpened
            | Self::TaskClosed
            | Self::TaskSuspended
            | Self::TaskResumed
            | Self::TaskConfidence
            | Self::Revoked
            | Self::RevocationLifted
            | Self::KeyRotated
            | Self::TakenOver
            | Self::IdentityObtained
            | Self::IdentityLost
            | Self::Approval => true,
            Self::SchemaViolation
            | Self::HeaderForgery
            | Self::ToolDrift
            | Self::RepeatedRefusals
            | Self::DetectorFinding
            | Self::ConnectionError
            | Self::DestinationRefused
            | Self::TokenRefused
            | Self::DelegationWidened
            | Self::SignalReceived
            | Self::SignalRefused
            | Self::LogFailed => false,
        }
    }
}

/// One event. Texts never hold argument values or secrets; each is cut at 512 bytes.
#[derive(Debug, Clone, Copy)]
pub struct SecurityEvent<'a> {
    /// What happened.
    pub kind: SecurityKind,
    /// Whose doing it is, when known: the agent's ID.
    pub agent: Option<&'a str>,
    /// The decision it belongs to.
    pub decision_id: Option<DecisionId>,
    /// Where it came in.
    pub listener: Option<&'a str>,
    /// More, for instance `who`, `task`, `why`, `tool`, `pointer`.
    pub what: &'a [(&'static str, &'a str)],
}

/// The security log of this process.
#[derive(Debug)]
pub struct SecurityLog {
    path: PathBuf,
    failures: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Whole<GrowingFile>,
    buffer: Vec<u8>,
    caps: [Cap; SecurityKind::COUNT],
}

/// How much of one kind may still be written.
#[derive(Debug, Clone, Copy)]
struct Cap {
    kind: Option<SecurityKind>,
    left: u64,
    refilled: Timestamp,
    suppressed: u64,
    since: Timestamp,
}

impl Cap {
    fn new(now: Timestamp) -> Self {
        Self {
            kind: None,
            left: BURST,
            refilled: now,
            suppressed: 0,
            since: now,
        }
    }

    /// Takes one place; when there is none, counts.
    fn admits(&mut self, kind: SecurityKind, now: Timestamp) -> bool {
        self.kind = Some(kind);
        self.refill(now);
        if kind.is_authority() {
            return true;
        }
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return true;
        }
        if self.suppressed == 0 {
            self.since = now;
        }
        self.suppressed = self.suppressed.saturating_add(1);
        false
    }

    fn refill(&mut self, now: Timestamp) {
        let passed = now
            .as_millisecond()
            .saturating_sub(self.refilled.as_millisecond());
        let places = u64::try_from(passed / REFILL_MS).unwrap_or_default();
        if places > 0 || passed < 0 {
            self.left = self.left.saturating_add(places).min(BURST);
            self.refilled = now;
        }
    }
}

impl SecurityLog {
    /// Opens or creates the log at `path`, locked and with mode 0600.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when another process holds the file or something else stands there, which is
    /// left untouched.
    pub fn open(path: impl Into<PathBuf>, now: Timestamp) -> Result<Self, OpenError> {
        let path = path.into();
        let file = Whole::new(open_file(&path)?, Counts::Written);
        Ok(Self::over(file, path, now))
    }

    /// Goes on with the log of a predecessor, which may append to it as well to its end.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when another file stands at `path`.
    pub fn inherit(
        path: impl Into<PathBuf>,
        file: OwnedFd,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let path = path.into();
        let mut file = Whole::new(GrowingFile::adopt(file, &path)?, Counts::Written);
        file.share();
        Ok(Self::over(file, path, now))
    }

    /// The file with its lock, for a successor.
    ///
    /// # Errors
    ///
    /// When there are too many descriptors.
    pub fn share(&self) -> std::io::Result<OwnedFd> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.share().share()
    }

    fn over(file: Whole<GrowingFile>, path: PathBuf, now: Timestamp) -> Self {
        let caps = [Cap::new(now); SecurityKind::COUNT];
        let state = Mutex::new(State {
            file,
            buffer: Vec::new(),
            caps,
        });
        Self {
            path,
            failures: AtomicU64::new(0),
            state,
        }
    }

    /// Writes `event`, unless too many of its kind came lately: then it is counted. A change of
    /// authority is written to the file at the path, or has failed.
    pub fn write(&self, event: &SecurityEvent<'_>, now: Timestamp) {
        self.with(|state| {
            if event.kind.is_authority() {
                state.keep_place(&self.path)?;
            }
            let admitted = state
                .caps
                .get_mut(event.kind as usize)
                .is_none_or(|cap| cap.admits(event.kind, now));
            if !admitted {
                return Ok(());
            }
            compose(event.kind, now, &mut state.buffer, |line| {
                describe(event, line);
            });
            state.end()
        });
    }

    /// Does what is due; called several times a second: writes counted lines and opens a file that
    /// was deleted or replaced anew.
    pub fn tick(&self, now: Timestamp) {
        self.with(|state| {
            state.keep_place(&self.path)?;
            state.write_counts(now)
        });
    }

    /// How many writes failed since the start.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn with(&self, act: impl FnOnce(&mut State) -> std::io::Result<()>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = act(&mut state)
            && self.failures.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!(path = %self.path.display(), %error, "the security log cannot be written");
        }
    }
}

impl State {
    /// Opens the file anew when it is no longer the one at `path`.
    fn keep_place(&mut self, path: &Path) -> std::io::Result<()> {
        if self.file.sink().occupant(path)? != Occupant::Ours {
            let file = open_file(path).map_err(std::io::Error::other)?;
            self.file.move_to(file);
        }
        Ok(())
    }

    /// Ends the line in the buffer and writes it, whole or not at all.
    fn end(&mut self) -> std::io::Result<()> {
        self.buffer.push(b'\n');
        self.file.append(&self.buffer)
    }

    fn write_counts(&mut self, now: Timestamp) -> std::io::Result<()> {
        for index in 0..self.caps.len() {
            let Some((kind, count, since)) = self.caps.get_mut(index).and_then(|cap| due(cap, now))
            else {
                continue;
            };
            let window = now.as_millisecond().saturating_sub(since.as_millisecond());
            compose(kind, now, &mut self.buffer, |line| {
                line.number("count", count);
                line.number("window_ms", u64::try_from(window).unwrap_or_default());
            });
            self.end()?;
        }
        Ok(())
    }
}

/// Takes the counted events of a kind when there is a place for their line.
fn due(cap: &mut Cap, now: Timestamp) -> Option<(SecurityKind, u64, Timestamp)> {
    cap.refill(now);
    if cap.suppressed == 0 {
        return None;
    }
    cap.left = cap.left.checked_sub(1)?;
    let count = std::mem::take(&mut cap.suppressed);
    Some((cap.kind?, count, cap.since))
}

/// Composes a line, but for its end: type, time, and what `fill` adds.
fn compose(
    kind: SecurityKind,
    now: Timestamp,
    line: &mut Vec<u8>,
    fill: impl FnOnce(&mut Object<'_>),
) {
    line.clear();
    let mut object = Object::begin(line);
    object.text("type", kind.as_str());
    object.display("timestamp", &format_args!("{now:.3}"));
    fill(&mut object);
    object.end();
}

fn describe(event: &SecurityEvent<'_>, line: &mut Object<'_>) {
    let mut put = |name: &str, text: &str| {
        let kept = text.get(..text.floor_char_boundary(MAX_TEXT));
        line.text(name, kept.unwrap_or_default());
    };
    if let Some(agent) = event.agent {
        put("agent", agent);
    }
    if let Some(id) = event.decision_id {
        put("decision_id", id.encode(&mut [0; 36]));
    }
    if let Some(listener) = event.listener {
        put("listener", listener);
    }
    for (name, text) in event.what {
        put(name, text);
    }
}

/// Opens a security log, ends a torn last line, and refuses a file that is something else.
fn open_file(path: &Path) -> Result<GrowingFile, OpenError> {
    const START: &[u8] = b"{\"type\":\"";
    let mut file = GrowingFile::open(path)?;
    let size = file.size()?;
    let start = file.read_at(0, size.min(9))?;
    if !START.starts_with(&start) {
        return Err(OpenError::Occupied("a file that is no security log"));
    }
    file.restrict()?;
    if size > 0 && file.read_at(size - 1, 1)? != b"\n" {
        file.append(b"\n")?;
    }
    Ok(file)
}
