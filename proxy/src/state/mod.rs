//! What the sidecar remembers between calls: the tasks it issued.
//!
//! [`Tasks`] is the embedded issuer with its memory. A token is known by its exact bytes: what
//! was not issued here, down to the last bit, is not a token. Everything ends with the process.

mod estate;
mod token;

use std::{
    collections::{HashMap, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use jiff::Timestamp;
use outrider_policy::{Level, Pattern};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    keys::SigningKey,
    task::{State, Task, Terms},
};
pub use estate::Estate;

/// How many tasks are remembered at most, ended ones included.
pub const MOST_TASKS: usize = 131_072;

/// The longest time for which a task may be opened.
pub const LONGEST_TASK: Duration = Duration::from_hours(24);

/// How long a task is remembered after its expiry, so that its token is still told apart from
/// one that never existed.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The signature ends every token: 64 bytes as 86 characters of base64url.
const SIGNATURE: usize = 86;

/// What a task is to be.
#[derive(Clone, Debug)]
pub struct Open {
    /// The agent that will act: the outermost `act` (RFC 8693 §4.1).
    pub agent: Arc<str>,
    /// What the work is for; whether it is declared is the caller's to check.
    pub intent: Arc<str>,
    /// The principal acted for.
    pub subject: Arc<str>,
    /// The tools it may use; `None` leaves that to the intent.
    pub tools: Option<Vec<Pattern>>,
    /// The highest class of data it may touch; `None` leaves that to the intent.
    pub max_classification: Option<Level>,
    /// How many calls it may make; `None` for any number.
    pub budget: Option<u64>,
    /// How long it lasts: at least a second, at most [`LONGEST_TASK`].
    pub ttl: Duration,
    /// The listener it is bound to, for agents that can send no token.
    pub current: Option<Arc<str>>,
    /// Who opens it, such as `uid:1000`.
    pub opened_by: Arc<str>,
}

/// A task that was opened, and the only copy of its token that is given out.
pub struct Opened {
    /// The task.
    pub task: Arc<Task>,
    /// Its token: a bearer secret.
    pub token: String,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("task", &self.task)
            .finish_non_exhaustive()
    }
}

/// A task that was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotOpened {
    /// Its time is not between a second and [`LONGEST_TASK`].
    #[error("a task lasts at least 1s and at most 24h")]
    BadTtl,
    /// [`MOST_TASKS`] are open.
    #[error("{MOST_TASKS} tasks are open: close some first")]
    TooMany,
    /// The token could not be signed.
    #[error("the token could not be signed")]
    Unsigned,
}

/// A task ID that stands for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such task")]
pub struct UnknownTask;

/// How many tasks stand how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Usable tasks.
    pub active: usize,
    /// Suspended tasks.
    pub suspended: usize,
    /// Tasks whose time is over.
    pub expired: usize,
    /// Tasks whose work was said to be done.
    pub closed: usize,
    /// Tasks whose authority was taken back.
    pub revoked: usize,
}

/// The embedded issuer and every task it still remembers.
pub struct Tasks {
    issuer: Arc<str>,
    key: SigningKey,
    header: String,
    hasher: RandomState,
    most: usize,
    memory: RwLock<Memory>,
}

/// INVARIANT: `by_id` and `by_token` hold the same tasks, and what `current` names is in both.
#[derive(Default)]
struct Memory {
    by_id: HashMap<Arc<str>, Held>,
    by_token: HashMap<u64, Arc<str>>,
    current: HashMap<Arc<str>, Arc<str>>,
}

struct Held {
    task: Arc<Task>,
    token: SecretString,
    place: u64,
}

impl Tasks {
    /// Starts with no task. `issuer` becomes `iss`, such as `outrider:<instance>`.
    pub fn new(issuer: impl Into<Arc<str>>, key: SigningKey) -> Self {
        Self {
            issuer: issuer.into(),
            header: key.jose_header(token::TYP),
            key,
            hasher: RandomState::new(),
            most: MOST_TASKS,
            memory: RwLock::default(),
        }
    }

    /// The key that signs task tokens.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Opens a task. The next call may use it.
    ///
    /// # Errors
    /// [`NotOpened`]; then nothing has changed.
    pub fn open(&self, open: Open, now: Timestamp) -> Result<Opened, NotOpened> {
        let current = open.current.clone();
        let terms = self.terms(open, now)?;
        let token = self
            .key
            .compact(&self.header, token::claims(&terms).as_bytes())
            .map_err(|_| NotOpened::Unsigned)?;
        let task = Arc::new(Task::new(terms));
        let place = self.place(token.as_bytes());
        let held = Held {
            task: Arc::clone(&task),
            token: token.clone().into(),
            place,
        };
        let mut memory = self.write();
        memory.make_room(self.most, now)?;
        memory.keep(held, current)?;
        Ok(Opened { task, token })
    }

    fn terms(&self, open: Open, now: Timestamp) -> Result<Terms, NotOpened> {
        if open.ttl < Duration::from_secs(1) || open.ttl > LONGEST_TASK {
            return Err(NotOpened::BadTtl);
        }
        // The token speaks in whole seconds, and the task must not outlive its token.
        let whole = Duration::from_secs(open.ttl.as_secs());
        let expires = now.checked_add(whole).map_err(|_| NotOpened::BadTtl)?;
        let expires = Timestamp::from_second(expires.as_second()).map_err(|_| NotOpened::BadTtl)?;
        Ok(Terms {
            id: uuid::Uuid::now_v7().to_string().into(),
            token_id: uuid::Uuid::now_v7().to_string().into(),
            issuer: Arc::clone(&self.issuer),
            subject: open.subject,
            actors: vec![open.agent],
            intent: open.intent,
            tools: open.tools,
            max_classification: open.max_classification,
            budget: open.budget,
            opened: now,
            expires,
            parent: None,
            opened_by: open.opened_by,
        })
    }

    /// The task of exactly this token, however it stands.
    ///
    /// The place is found by a keyed hash of the signature and the whole token is compared in
    /// constant time, so that no answer says how much of a guess was right.
    pub fn by_token(&self, token: &[u8]) -> Option<Arc<Task>> {
        let memory = self.read();
        let held = memory.by_id.get(memory.by_token.get(&self.place(token))?)?;
        let issued = held.token.expose_secret().as_bytes();
        aws_lc_rs::constant_time::verify_slices_are_equal(issued, token).ok()?;
        Some(Arc::clone(&held.task))
    }

    fn place(&self, token: &[u8]) -> u64 {
        let signature = token.len().saturating_sub(SIGNATURE);
        self.hasher
            .hash_one(token.get(signature..).unwrap_or_default())
    }

    /// The task bound to this listener, however it stands: an ended task is not "no task".
    pub fn current(&self, listener: &str) -> Option<Arc<Task>> {
        let memory = self.read();
        let held = memory.by_id.get(memory.current.get(listener)?)?;
        Some(Arc::clone(&held.task))
    }

    /// Binds a task to a listener, in place of what was bound there.
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn bind(&self, listener: Arc<str>, id: &str) -> Result<(), UnknownTask> {
        let mut memory = self.write();
        let id = Arc::clone(memory.by_id.get_key_value(id).ok_or(UnknownTask)?.0);
        memory.current.insert(listener, id);
        Ok(())
    }

    /// The task with this ID.
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn get(&self, id: &str) -> Result<Arc<Task>, UnknownTask> {
        self.read()
            .by_id
            .get(id)
            .map(|held| Arc::clone(&held.task))
            .ok_or(UnknownTask)
    }

    /// Every remembered task, the oldest first.
    pub fn list(&self) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self
            .read()
            .by_id
            .values()
            .map(|held| Arc::clone(&held.task))
            .collect();
        tasks.sort_by(|a, b| (a.opened, &a.id).cmp(&(b.opened, &b.id)));
        tasks
    }

    /// Says that the work of a task is done. When this returns, the next call sees it.
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn close(&self, id: &str) -> Result<Arc<Task>, UnknownTask> {
        let task = self.get(id)?;
        task.close();
        Ok(task)
    }

    /// Takes the authority of a task back. When this returns, the next call sees it, and what
    /// waits in [`Task::ended`] is awake.
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn revoke(&self, id: &str) -> Result<Arc<Task>, UnknownTask> {
        let task = self.get(id)?;
        task.revoke();
        Ok(task)
    }

    /// How many tasks stand how.
    pub fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for held in self.read().by_id.values() {
            let count = match held.task.state(now) {
                State::Active => &mut counts.active,
                State::Suspended => &mut counts.suspended,
                State::Expired => &mut counts.expired,
                State::Closed => &mut counts.closed,
                State::Revoked => &mut counts.revoked,
            };
            *count += 1;
        }
        counts
    }

    /// Forgets tasks whose time is long over.
    pub fn sweep(&self, now: Timestamp) {
        self.write().forget(|task| {
            now.duration_since(task.expires)
                >= jiff::SignedDuration::try_from(REMEMBERED).unwrap_or(jiff::SignedDuration::MAX)
        });
    }

    // Nothing panics while it holds the lock, and each change is whole before the lock is given
    // back; a poisoned lock therefore guards good data.
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Adds a task, and binds it to `current` in place of what was bound there.
    fn keep(&mut self, held: Held, current: Option<Arc<str>>) -> Result<(), NotOpened> {
        let id = Arc::clone(&held.task.id);
        // Two signatures with one 64-bit hash: as good as never, and then the new one yields.
        if self.by_token.contains_key(&held.place) {
            return Err(NotOpened::Unsigned);
        }
        self.by_token.insert(held.place, Arc::clone(&id));
        if let Some(listener) = current {
            self.current.insert(listener, Arc::clone(&id));
        }
        self.by_id.insert(id, held);
        Ok(())
    }

    /// Leaves room for one more task; ended ones are forgotten early rather than a new one
    /// refused, because a forgotten token is refused all the same.
    fn make_room(&mut self, most: usize, now: Timestamp) -> Result<(), NotOpened> {
        if self.by_id.len() >= most {
            self.forget(|task| task.state(now) != State::Active);
        }
        if self.by_id.len() >= most {
            Err(NotOpened::TooMany)
        } else {
            Ok(())
        }
    }

    /// Forgets the tasks that are `over`, except those bound to a listener: forgetting one
    /// would turn a call that is refused into a call that has no task.
    fn forget(&mut self, over: impl Fn(&Task) -> bool) {
        let Self {
            by_id,
            by_token,
            current,
        } = self;
        by_id.retain(|id, held| {
            let keep = !over(&held.task) || current.values().any(|bound| bound == id);
            if !keep {
                by_token.remove(&held.place);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests;
