//! The decision log: a chained, signed JSON-lines file that is written before anything acts.
//!
//! The members of a line come in as JSON text; the log adds `instance`, `seq`, `prev` and `hash`.
//! Under `written` it appends the line, and those that waited for it, with one `write(2)` under one
//! short lock. Under `synced` and `memory` lines queue for a thread that writes many at once. A log
//! that cannot be written says so on every append, leaves no partial line and no gap, and recovers
//! by itself.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{
    keeper::Keeper,
    queue::{Line, Queue},
};
pub use super::{
    queue::Receipt,
    settings::{Durability, LogConfig, LogError, Rotate},
};

/// The record is not in the log: nothing may act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the decision log cannot be written")]
pub struct Unwritable;

/// The decision log of this process, shared by its workers.
#[derive(Debug)]
pub struct Log {
    durability: Durability,
    instance: Arc<str>,
    public_jwk: String,
    shared: Arc<Shared>,
    /// The thread that writes what queues.
    writing: Mutex<Option<thread::JoinHandle<()>>>,
}

/// What the writing thread shares with those who decide.
#[derive(Debug)]
struct Shared {
    healthy: AtomicBool,
    keeper: Mutex<Keeper>,
    waits: Notify,
    queue: Queue,
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
        Self::over(Keeper::open(config, now)?, config)
    }

    /// Goes on with the log of a predecessor, from [`Log::hold`]; as [`Log::open`].
    ///
    /// # Errors
    ///
    /// [`LogError`].
    pub fn inherit(config: &LogConfig, file: OwnedFd, now: Timestamp) -> Result<Self, LogError> {
        Self::over(Keeper::inherit(config, file, now)?, config)
    }

    fn over(keeper: Keeper, config: &LogConfig) -> Result<Self, LogError> {
        let (instance, public_jwk) = (keeper.instance().into(), keeper.public_jwk().to_owned());
        let shared = Arc::new(Shared {
            healthy: AtomicBool::new(true),
            keeper: Mutex::new(keeper),
            waits: Notify::new(),
            queue: Queue::default(),
        });
        let writing = match config.durability {
            Durability::Written => None,
            Durability::Synced | Durability::Memory => Some(write_apart(&shared)?),
        };
        Ok(Self {
            durability: config.durability,
            instance,
            public_jwk,
            shared,
            writing: Mutex::new(writing),
        })
    }

    /// Records one line of `members`, the text of JSON members without braces and newlines, for
    /// instance `"type":"decision","code":"ok"`. Where there is a receipt, the line counts as
    /// recorded once that is settled.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when the line is not in the log and will not be.
    pub fn record(&self, members: &[u8]) -> Result<Option<Receipt>, Unwritable> {
        let receipt = match self.durability {
            Durability::Written => {
                self.append(members)?;
                None
            }
            Durability::Synced if self.healthy() => {
                let (line, receipt) = Line::awaited(members);
                self.shared.queue.decide(line)?;
                Some(receipt)
            }
            Durability::Memory if self.healthy() => {
                self.shared.queue.decide(Line::left(members))?;
                self.shared.waits.notify_one();
                None
            }
            Durability::Synced | Durability::Memory => return Err(Unwritable),
        };
        Ok(receipt)
    }

    /// Appends one line of `members` at once; returns its `seq`.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when the whole line is not in the file.
    pub fn append(&self, members: &[u8]) -> Result<u64, Unwritable> {
        let mut keeper = self.shared.keeper();
        let result = keeper.append(members);
        self.shared.note(&keeper);
        result
    }

    /// Appends one line of `members` with the next write; [`Log::flush`] is due when
    /// [`Log::outcomes_wait`] says so. While the log cannot be written it waits.
    ///
    /// # Errors
    ///
    /// [`Unwritable`] when nothing more may wait for a log that cannot be written.
    pub fn defer(&self, members: &[u8]) -> Result<(), Unwritable> {
        match self.durability {
            Durability::Written => {
                let mut keeper = self.shared.keeper();
                keeper.defer(members)?;
                self.shared.note(&keeper);
            }
            Durability::Synced | Durability::Memory => {
                self.shared.queue.push(Line::left(members))?;
            }
        }
        self.shared.waits.notify_one();
        Ok(())
    }

    /// Waits until a line waits for the next write.
    pub async fn outcomes_wait(&self) {
        self.shared.waits.notified().await;
    }

    /// How many lines wait for the next write.
    pub fn waiting(&self) -> usize {
        match self.durability {
            Durability::Written => self.shared.keeper().waiting(),
            Durability::Synced | Durability::Memory => self.shared.queue.len(),
        }
    }

    /// Writes the lines that wait, or has them written.
    pub fn flush(&self) {
        match self.durability {
            Durability::Written => {
                let mut keeper = self.shared.keeper();
                keeper.flush();
                self.shared.note(&keeper);
            }
            Durability::Synced | Durability::Memory => self.shared.queue.flush(),
        }
    }

    /// Does what is due, or has it done; called several times a second. Writes checkpoints, notices
    /// that the file was deleted or replaced, takes the path again when it is free, and tries a
    /// failed log anew.
    pub fn tick(&self, now: Timestamp) {
        match self.durability {
            Durability::Written => self.shared.round(&mut Vec::new(), Some(now)),
            Durability::Synced | Durability::Memory => {
                if !self.shared.queue.tick(now) && self.healthy() {
                    tracing::error!("the decision log's disk hangs: calls are refused");
                    self.shared.healthy.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether the log can be written, as far as is known.
    pub fn healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Relaxed)
    }

    /// When a record counts as written.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Writes what waits and the last checkpoint, hands the file to the disk and accepts nothing
    /// more.
    pub fn close(&self, now: Timestamp) {
        self.tick(now);
        self.end_thread();
        self.shared.keeper().close();
        let lost = self.waiting();
        if lost > 0 {
            tracing::error!(lost, "lines are lost: the decision log cannot be written");
        }
        self.shared.healthy.store(false, Ordering::Relaxed);
    }

    /// Writes a checkpoint, and from then on nothing; returns the file with its lock, with which a
    /// successor goes on. Decisions are refused, outcomes wait.
    ///
    /// # Errors
    ///
    /// [`Unwritable`]; then nothing is held.
    pub fn hold(&self, now: Timestamp) -> Result<OwnedFd, Unwritable> {
        self.shared.queue.hold();
        let held = self.shared.keeper().hold(now);
        held.inspect_err(|_| self.shared.queue.resume())
    }

    /// Goes on writing: there is no successor.
    pub fn resume(&self) {
        self.shared.keeper().resume();
        self.shared.queue.resume();
    }

    /// The lines that wait while the log is held, each with a newline behind it: they are the
    /// successor's to write.
    pub fn take_waiting(&self) -> Vec<u8> {
        self.shared.queue.flush();
        self.shared.keeper().give_waiting()
    }

    /// The last of [`Log::take_waiting`]: no line is taken any more.
    pub fn take_last(&self) -> Vec<u8> {
        self.end_thread();
        self.shared.keeper().give_waiting()
    }

    /// The public key of the checkpoints, a compact JWK (RFC 8037).
    pub fn public_jwk(&self) -> &str {
        &self.public_jwk
    }

    /// The log's instance: a `UUIDv7` made with the file.
    pub fn instance(&self) -> &Arc<str> {
        &self.instance
    }

    fn end_thread(&self) {
        self.shared.queue.close();
        let writing = self
            .writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if writing.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the decision log has failed");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.end_thread();
    }
}

/// Starts the thread that writes what queues.
fn write_apart(shared: &Arc<Shared>) -> Result<thread::JoinHandle<()>, LogError> {
    let writing = Writing(Arc::clone(shared));
    let work = move || writing.run();
    thread::Builder::new()
        .name("outrider-log".into())
        .spawn(work)
        .map_err(LogError::Thread)
}

/// The writing thread. However it ends, nobody waits for it in vain.
struct Writing(Arc<Shared>);

impl Writing {
    fn run(self) {
        let Shared { queue, .. } = &*self.0;
        let mut lines = Vec::new();
        loop {
            let round = queue.next(&mut lines);
            self.0.round(&mut lines, round.tick);
            queue.left(&lines);
            if round.last {
                return;
            }
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}

impl Shared {
    /// Writes `lines`, and does what is due at `tick`; those stay in `lines` that could not be
    /// written and are kept.
    fn round(&self, lines: &mut Vec<Line>, tick: Option<Timestamp>) {
        let mut keeper = self.keeper();
        keeper.round(lines, tick);
        self.note(&keeper);
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        // A panic cannot happen while it is held; if one did, the writer's own repair still holds.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, keeper: &Keeper) {
        let ready = keeper.ready();
        if self.healthy.load(Ordering::Relaxed) == ready {
            return;
        }
        self.healthy.store(ready, Ordering::Relaxed);
        keeper.tell();
    }
}
