//! The decision log: a chained, signed JSON-lines file that is written before anything acts.
//!
//! The members of a line come in as JSON text; the log adds `instance`, `seq`, `prev` and `hash`
//! and appends the line, and those that waited for it, with one `write(2)` under one short lock. A log that cannot be written
//! says so on every append, leaves no partial line and no gap, and recovers by itself.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    checkpoint::{CheckpointKey, KeyError},
    file::{GrowingFile, Occupant, OpenError, append_line, beside, rename_to_free},
    resume::{ResumeError, resume},
    writer::{Position, Writer},
};

/// How long after a failed rotation it is tried again.
const ROTATE_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// When a record counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// In the file before the act: survives a crash of the process.
    #[default]
    Written,
}

/// When the log goes on in a new file; the old one becomes `FILE.<seq of its last line>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate {
    /// From this size on, in bytes.
    pub size: Option<u64>,
    /// From this age on, counted from when the file was opened.
    pub age: Option<Duration>,
}

/// How a decision log is kept.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The file.
    pub path: PathBuf,
    /// The Ed25519 key of the checkpoints, PKCS#8 PEM; made at start when absent.
    pub key: Option<PathBuf>,
    /// When a record counts as written.
    pub durability: Durability,
    /// After how many lines a checkpoint follows.
    pub checkpoint_lines: u64,
    /// After how long a checkpoint follows a line.
    pub checkpoint_every: Duration,
    /// When the log goes on in a new file; never when absent.
    pub rotate: Option<Rotate>,
}

impl LogConfig {
    /// A log at `path` with a checkpoint each 1,000 lines or 10 s and a key made at start.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            key: None,
            durability: Durability::Written,
            checkpoint_lines: 1_000,
            checkpoint_every: Duration::from_secs(10),
            rotate: None,
        }
    }

    fn load_key(&self) -> Result<CheckpointKey, LogError> {
        let Some(path) = &self.key else {
            return CheckpointKey::made().map_err(|error| LogError::key(&self.path, error));
        };
        let pem = std::fs::read(path).map_err(|source| LogError::Open {
            path: path.clone(),
            source: source.into(),
        })?;
        CheckpointKey::from_pem(&pem).map_err(|error| LogError::key(path, error))
    }
}

/// Why a decision log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The path or one beside it cannot be used.
    #[error("cannot use `{}`: {source}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// What the file holds cannot be continued.
    #[error("cannot continue `{}`: {source}", path.display())]
    Resume {
        /// The path.
        path: PathBuf,
        /// Why.
        source: ResumeError,
    },
    /// The checkpoint key cannot be used.
    #[error("cannot use the checkpoint key of `{}`: {source}", path.display())]
    Key {
        /// The key's path, or the log's when the key was to be made.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

impl LogError {
    fn open(path: &Path, source: OpenError) -> Self {
        Self::Open {
            path: path.to_owned(),
            source,
        }
    }

    fn key(path: &Path, source: KeyError) -> Self {
        Self::Key {
            path: path.to_owned(),
            source,
        }
    }
}

/// The record is not in the log: nothing may act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the decision log cannot be written")]
pub struct Unwritable;

/// The decision log of this process, shared by its workers.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    instance: Arc<str>,
    public_jwk: String,
    kid: String,
    healthy: AtomicBool,
    rotate: Option<Rotate>,
    state: Mutex<State>,
    waits: Notify,
}

#[derive(Debug)]
struct State {
    writer: Writer<GrowingFile>,
    /// Whether the open file is no longer the one at the path.
    displaced: bool,
    closed: bool,
    /// Nothing is written: a successor is about to, or does.
    held: bool,
    /// Since when this file is written.
    since: Timestamp,
    /// Rotation is not tried before: one that fails is not tried four times a second.
    rotate_from: Timestamp,
}

impl State {
    fn ready(&self) -> bool {
        !self.displaced && !self.closed && !self.writer.failed()
    }

    /// Whether the file is too large or too old, and holds more than the line it started with.
    fn outgrew(&self, rotate: Rotate, now: Timestamp) -> bool {
        let too_large = rotate
            .size
            .is_some_and(|limit| self.writer.sink().size().is_ok_and(|size| size >= limit));
        let too_old = rotate
            .age
            .is_some_and(|limit| now.duration_since(self.since).unsigned_abs() >= limit);
        (too_large || too_old) && self.writer.has_lines() && now >= self.rotate_from
    }
}

impl Log {
    /// Opens or creates the log: locks it, checks it from its last checkpoint, moves a torn last
    /// line to `FILE.torn`, appends the public key to `FILE.jwks`, and continues the chain.
    ///
    /// # Errors
    ///
    /// [`LogError`] when another process holds the file, when something else than a log stands
    /// there (which is left untouched), when its chain is broken, or when the key is unusable.
    pub fn open(config: &LogConfig, now: Timestamp) -> Result<Self, LogError> {
        let file = GrowingFile::open(&config.path);
        Self::over(file, config, now)
    }

    /// Goes on with the log of a predecessor, from [`Log::hold`]; as [`Log::open`].
    ///
    /// # Errors
    ///
    /// [`LogError`].
    pub fn inherit(config: &LogConfig, file: OwnedFd, now: Timestamp) -> Result<Self, LogError> {
        let file = GrowingFile::adopt(file, &config.path);
        Self::over(file, config, now)
    }

    fn over(
        file: Result<GrowingFile, OpenError>,
        config: &LogConfig,
        now: Timestamp,
    ) -> Result<Self, LogError> {
        let path = &config.path;
        let key = config.load_key()?;
        let mut file = file.map_err(|source| LogError::open(path, source))?;
        let position = resume(&mut file, path, now).map_err(|source| LogError::Resume {
            path: path.clone(),
            source,
        })?;
        file.restrict()
            .map_err(|source| LogError::open(path, source.into()))?;
        publish(path, key.kid(), &key.public_jwk())?;
        Ok(Self::starting(config, file, key, position, now))
    }

    fn starting(
        config: &LogConfig,
        file: GrowingFile,
        key: CheckpointKey,
        position: Position,
        now: Timestamp,
    ) -> Self {
        let (instance, public_jwk, kid) = (
            position.instance.as_str().into(),
            key.public_jwk(),
            key.kid().to_owned(),
        );
        let writer = Writer::new(file, key, position, now)
            .checkpointing(config.checkpoint_lines, config.checkpoint_every);
        let state = Mutex::new(State {
            writer,
            displaced: false,
            closed: false,
            held: false,
            since: now,
            rotate_from: now,
        });
        Self {
            path: config.path.clone(),
            instance,
            public_jwk,
            kid,
            healthy: AtomicBool::new(true),
            rotate: config.rotate,
            state,
            waits: Notify::new(),
        }
    }

    /// Appends one line of `members`, the text of JSON members without braces and newlines, for
    /// instance `"type":"decision","code":"ok"`; returns its `seq`.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when the whole line is not in the file.
    pub fn append(&self, members: &[u8]) -> Result<u64, Unwritable> {
        let mut state = self.state();
        if state.displaced || state.closed || state.held {
            return Err(Unwritable);
        }
        let result = state.writer.append(members);
        self.note(&state);
        result
    }

    /// Appends one line of `members` with the next write; [`Log::flush`] is due when
    /// [`Log::outcomes_wait`] says so.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when nothing more may wait for a log that cannot be written.
    pub fn defer(&self, members: &[u8]) -> Result<(), Unwritable> {
        let mut state = self.state();
        if state.closed {
            return Err(Unwritable);
        }
        state.writer.defer(members)?;
        if state.writer.is_full() && !state.displaced && !state.held {
            state.writer.flush();
            self.note(&state);
        }
        drop(state);
        self.waits.notify_one();
        Ok(())
    }

    /// Waits until a line waits for the next write.
    pub async fn outcomes_wait(&self) {
        self.waits.notified().await;
    }

    /// How many lines wait for the next write.
    pub fn waiting(&self) -> usize {
        self.state().writer.waiting()
    }

    /// Writes the lines that wait.
    pub fn flush(&self) {
        let mut state = self.state();
        if !state.displaced && !state.closed && !state.held {
            state.writer.flush();
            self.note(&state);
        }
    }

    /// Does what is due; called several times a second. Writes checkpoints, notices that the file
    /// was deleted or replaced, takes the path again when it is free, and tries a failed log anew.
    pub fn tick(&self, now: Timestamp) {
        let mut state = self.state();
        if state.closed || state.held {
            return;
        }
        self.look_after_place(&mut state, now);
        if !state.displaced {
            state.writer.tick(now);
            self.rotate_if_due(&mut state, now);
        }
        self.note(&state);
    }

    /// Whether the log can be written, as far as is known.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Writes the last checkpoint, hands the file to the disk and accepts nothing more.
    pub fn close(&self, now: Timestamp) {
        self.tick(now);
        let mut state = self.state();
        if !state.closed && !state.displaced && !state.held {
            state.writer.sign();
            state.writer.sync();
        }
        let lost = state.writer.waiting();
        if lost > 0 {
            tracing::error!(
                lost,
                "outcome lines are lost: the decision log cannot be written"
            );
        }
        state.closed = true;
        self.healthy.store(false, Ordering::Relaxed);
    }

    /// Writes what waits and a checkpoint, and from then on nothing; returns the file with its
    /// lock, with which a successor goes on.
    ///
    /// # Errors
    ///
    /// [`Unwritable`]; then nothing is held.
    pub fn hold(&self, now: Timestamp) -> Result<OwnedFd, Unwritable> {
        self.tick(now);
        let mut state = self.state();
        state.writer.sign();
        self.note(&state);
        if !state.ready() || state.writer.waiting() > 0 {
            return Err(Unwritable);
        }
        let file = state.writer.sink().share().map_err(|_| Unwritable)?;
        state.held = true;
        Ok(file)
    }

    /// Goes on writing: there is no successor.
    pub fn resume(&self) {
        self.state().held = false;
    }

    /// The lines that wait while the log is held, each with a newline behind it: they are the
    /// successor's to write.
    pub fn take_waiting(&self) -> Vec<u8> {
        self.state().writer.give_waiting()
    }

    /// The public key of the checkpoints, a compact JWK (RFC 8037).
    pub fn public_jwk(&self) -> &str {
        &self.public_jwk
    }

    /// The log's instance: a `UUIDv7` made with the file.
    pub fn instance(&self) -> &Arc<str> {
        &self.instance
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot happen while it is held; if one did, the writer's own repair still holds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: &State) {
        let ready = state.ready();
        if self.healthy.load(Ordering::Relaxed) == ready {
            return;
        }
        self.healthy.store(ready, Ordering::Relaxed);
        if ready {
            tracing::info!(path = %self.path.display(), "the decision log can be written again");
        } else {
            tracing::error!(path = %self.path.display(), displaced = state.displaced, "the decision log cannot be written: calls are refused");
        }
    }

    /// Compares the path with the open file; a free path is taken with the chain carried forward,
    /// so that verification shows what is missing.
    fn look_after_place(&self, state: &mut State, now: Timestamp) {
        state.displaced = match state.writer.sink().occupant(&self.path) {
            Ok(Occupant::Ours) => false,
            Ok(Occupant::Nobody | Occupant::Other) => self.take_place(state, now).is_err(),
            Err(_) => true,
        };
    }

    fn take_place(&self, state: &mut State, now: Timestamp) -> Result<(), LogError> {
        let file =
            GrowingFile::claim(&self.path).map_err(|source| LogError::open(&self.path, source))?;
        file.restrict()
            .map_err(|source| LogError::open(&self.path, source.into()))?;
        publish(&self.path, &self.kid, &self.public_jwk)?;
        state.writer.move_to(file, now);
        state.since = now;
        tracing::warn!(path = %self.path.display(), "the decision log goes on in a new file");
        Ok(())
    }

    /// Puts the file aside when it is due and takes its place; when that fails the file stays, or
    /// the next tick finds the place free.
    fn rotate_if_due(&self, state: &mut State, now: Timestamp) {
        let due = self.rotate.is_some_and(|rotate| state.outgrew(rotate, now));
        if !due || state.writer.failed() {
            return;
        }
        state.writer.sign();
        let aside = beside(&self.path, &format!(".{:020}", state.writer.seq()));
        match rename_to_free(&self.path, &aside) {
            Ok(()) => state.displaced = self.take_place(state, now).is_err(),
            Err(error) => {
                state.rotate_from = now.saturating_add(ROTATE_AGAIN).unwrap_or(now);
                tracing::warn!(%error, "the decision log could not be put aside and goes on in its file");
            }
        }
    }
}

/// Appends the public key to `FILE.jwks` unless it is there.
fn publish(log: &Path, kid: &str, jwk: &str) -> Result<(), LogError> {
    let path = beside(log, ".jwks");
    let known = super::resume::known_keys(log).contains(kid);
    if known {
        return Ok(());
    }
    append_line(&path, jwk.as_bytes()).map_err(|source| LogError::Open { path, source })
}
