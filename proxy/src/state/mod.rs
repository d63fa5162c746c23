//! What the sidecar remembers between calls: tasks, and from whom authority was taken back.
//!
//! [`Tasks`] is the embedded issuer with its memory, and remembers the tasks of other issuers once
//! their tokens were verified. A token is known by its digest: what was not issued or verified,
//! down to the last bit, is not a token. [`Authority`] changes how tasks stand, by [`Decree`]s.

mod authority;
mod children;
pub mod config;
mod decree;
mod estate;
mod journal;
pub mod redis;
mod revocations;
mod store;
mod tether;
mod token;
mod used;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use outrider_policy::{Level, Pattern};

pub use self::{
    authority::{Authority, Effect, NotAdmitted, NotDone, Standing},
    children::{Claims, Depth, NotADepth, Reach, Widened, widened},
    decree::{Decree, Edict, Target},
    estate::Estate,
    journal::{BadJournal, Journal, Kept},
    revocations::{Revocation, Revocations, TooMany},
    store::{NotKept, Store},
    tether::{Severed, Tether},
    used::{Used, UsedToken},
};
use crate::{
    keys::SigningKey,
    task::{Cyclic, Life, State, Task, TaskKey, Terms},
};

/// How many tokens are remembered at most, those of ended tasks included.
pub const MOST_TASKS: usize = 131_072;

/// The longest time for which a task may be opened.
pub const LONGEST_TASK: Duration = Duration::from_hours(24);

/// How long a task is remembered after its expiry, so that its token is still told apart from
/// one that never existed.
const REMEMBERED: Duration = Duration::from_hours(1);

/// What tells a token from every other: its SHA-256.
pub type TokenDigest = [u8; 32];

/// The digest of a token, as it was sent.
pub fn token_digest(token: &[u8]) -> TokenDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

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
    /// The task it is derived from: it never lasts longer, and ends with it.
    pub parent: Option<Arc<Task>>,
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
    /// Authority was taken back from the agent or the subject.
    #[error("the agent or the subject is revoked: see `outrider revoke list`")]
    TakenBack,
    /// The task it is derived from is over, suspended or not ours.
    #[error("the parent is not an active task of this sidecar")]
    NoParent,
    /// Too many tasks stand above it.
    #[error(transparent)]
    TooDeep(#[from] Cyclic),
}

/// A task ID that does not say which task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnknownTask {
    /// It stands for nothing.
    #[error("there is no such task: see `outrider task list`")]
    NoSuch,
    /// Two issuers have a task with this ID.
    #[error("tasks of several issuers have this ID: say which with `--issuer`")]
    Ambiguous,
}

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

/// The embedded issuer, and every task that is remembered.
pub struct Tasks {
    issuer: Arc<str>,
    key: SigningKey,
    header: String,
    most: usize,
    memory: RwLock<Memory>,
}

/// INVARIANT: `by_token` and the tokens of `by_key` are the same.
#[derive(Default)]
struct Memory {
    by_key: HashMap<TaskKey, Held>,
    by_token: HashMap<TokenDigest, Arc<Task>>,
    /// What is bound to listeners. An ended task stays: a call that is refused must not turn into
    /// one that has no task.
    current: HashMap<Arc<str>, Arc<Task>>,
}

/// A task with its tokens; none has been seen yet of one that was only heard of.
struct Held {
    life: Arc<Life>,
    tokens: Vec<(TokenDigest, Arc<Task>)>,
    heard: Timestamp,
}

impl Tasks {
    /// Starts with no task. `issuer` becomes `iss`, such as `outrider:<instance>`.
    pub fn new(issuer: impl Into<Arc<str>>, key: SigningKey) -> Self {
        Self {
            issuer: issuer.into(),
            header: key.jose_header(token::TYP),
            key,
            most: MOST_TASKS,
            memory: RwLock::default(),
        }
    }

    /// The key that signs task tokens.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Who vouches for the tasks that are opened here.
    pub fn issuer(&self) -> &Arc<str> {
        &self.issuer
    }

    /// Opens a task, whoever is revoked: see [`Authority::open`].
    ///
    /// # Errors
    /// [`NotOpened`]; then nothing has changed.
    pub(crate) fn open(&self, open: Open, now: Timestamp) -> Result<Opened, NotOpened> {
        let (current, parent) = (open.current.clone(), open.parent.clone());
        if let Some(parent) = &parent
            && (parent.issuer != self.issuer || parent.state(now) != State::Active)
        {
            return Err(NotOpened::NoParent);
        }
        let terms = self.terms(open, now)?;
        let token = self
            .key
            .compact(&self.header, token::claims(&terms).as_bytes())
            .map_err(|_| NotOpened::Unsigned)?;
        let mut memory = self.write();
        let task = memory.keep(
            terms,
            token_digest(token.as_bytes()),
            parent,
            self.most,
            now,
        )?;
        if let Some(listener) = current {
            memory.current.insert(listener, Arc::clone(&task));
        }
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
        let latest = open
            .parent
            .as_ref()
            .map_or(expires, |parent| parent.expires);
        Ok(Terms {
            id: uuid::Uuid::now_v7().to_string().into(),
            token_id: uuid::Uuid::now_v7().to_string().into(),
            issuer: Arc::clone(&self.issuer),
            key: self.key.kid().into(),
            subject: open.subject,
            actors: vec![open.agent],
            intent: open.intent,
            tools: open.tools,
            max_classification: open.max_classification,
            budget: open.budget,
            opened: now,
            expires: expires.min(latest),
            parent: open.parent.map(|parent| Arc::clone(&parent.id)),
            opened_by: open.opened_by,
        })
    }

    /// Takes in a verified token of another issuer, or gives its task when it is known already.
    ///
    /// # Errors
    /// [`NotOpened::TooMany`], [`NotOpened::TooDeep`].
    fn foreign(
        &self,
        terms: Terms,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Arc<Task>, NotOpened> {
        let mut memory = self.write();
        if let Some(known) = memory.by_token.get(&digest) {
            return Ok(Arc::clone(known));
        }
        let parent = terms.derived_from().and_then(|key| memory.newest(&key));
        memory.keep(terms, digest, parent, self.most, now)
    }

    /// The task of exactly this token, however it stands.
    pub fn by_token(&self, token: &[u8]) -> Option<Arc<Task>> {
        self.by_digest(&token_digest(token))
    }

    /// The task of the token with this digest, however it stands.
    pub fn by_digest(&self, digest: &TokenDigest) -> Option<Arc<Task>> {
        self.read().by_token.get(digest).map(Arc::clone)
    }

    /// The task bound to this listener, however it stands: an ended task is not "no task".
    pub fn current(&self, listener: &str) -> Option<Arc<Task>> {
        self.read().current.get(listener).map(Arc::clone)
    }

    /// Binds a task to a listener, in place of what was bound there.
    pub fn bind(&self, listener: Arc<str>, task: Arc<Task>) {
        self.write().current.insert(listener, task);
    }

    /// The name of the task with this ID.
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn find(&self, id: &str, issuer: Option<&str>) -> Result<TaskKey, UnknownTask> {
        let memory = self.read();
        let named =
            |key: &&TaskKey| &*key.id == id && issuer.is_none_or(|issuer| *key.issuer == *issuer);
        let mut keys = memory.by_key.keys().filter(named);
        match (keys.next(), keys.next()) {
            (Some(key), None) => Ok(key.clone()),
            (None, _) => Err(UnknownTask::NoSuch),
            (Some(_), Some(_)) => Err(UnknownTask::Ambiguous),
        }
    }

    /// The newest token of the task with this ID.
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn get(&self, id: &str, issuer: Option<&str>) -> Result<Arc<Task>, UnknownTask> {
        let key = self.find(id, issuer)?;
        self.read().newest(&key).ok_or(UnknownTask::NoSuch)
    }

    /// The newest token of a task.
    pub fn newest(&self, task: &TaskKey) -> Option<Arc<Task>> {
        self.read().newest(task)
    }

    /// The life of a task, also of one that was only heard of: it begins then.
    ///
    /// # Errors
    /// [`NotOpened::TooMany`].
    pub fn life(&self, task: &TaskKey, now: Timestamp) -> Result<Arc<Life>, NotOpened> {
        self.write().life(task, self.most, now)
    }

    /// The newest token of every remembered task, the oldest first.
    pub fn list(&self) -> Vec<Arc<Task>> {
        let newest = |held: &Held| held.tokens.last().map(|(_, task)| Arc::clone(task));
        let mut tasks: Vec<_> = self.read().by_key.values().filter_map(newest).collect();
        tasks.sort_by(|a, b| (a.opened, &a.id).cmp(&(b.opened, &b.id)));
        tasks
    }

    /// Every remembered token.
    pub fn tokens(&self) -> Vec<Arc<Task>> {
        self.read().by_token.values().map(Arc::clone).collect()
    }

    /// How many tasks stand how.
    pub fn counts(&self, now: Timestamp) -> Counts {
        let mut counts = Counts::default();
        for held in self.read().by_key.values() {
            let Some((_, task)) = held.tokens.last() else {
                continue;
            };
            let count = match task.state(now) {
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
        let long_over = |task: &Task| longer(now, task.expires, REMEMBERED);
        self.write().forget(long_over, &self.issuer, now);
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

/// Whether more than `time` has passed since `then`.
fn longer(now: Timestamp, then: Timestamp, time: Duration) -> bool {
    now.duration_since(then)
        >= jiff::SignedDuration::try_from(time).unwrap_or(jiff::SignedDuration::MAX)
}

impl Memory {
    /// Adds a token.
    fn keep(
        &mut self,
        terms: Terms,
        digest: TokenDigest,
        parent: Option<Arc<Task>>,
        most: usize,
        now: Timestamp,
    ) -> Result<Arc<Task>, NotOpened> {
        self.make_room(most, &terms.issuer, now)?;
        let key = terms.task();
        let life = self.life(&key, most, now)?;
        if let Some(above) = terms.derived_from() {
            let above = match &parent {
                Some(parent) => Arc::clone(parent.life()),
                None => self.life(&above, most, now)?,
            };
            life.derive(&above)?;
        }
        let task = Arc::new(Task::of(terms, life, parent));
        if let Some(held) = self.by_key.get_mut(&key) {
            held.tokens.push((digest, Arc::clone(&task)));
        }
        self.by_token.insert(digest, Arc::clone(&task));
        Ok(task)
    }

    fn life(
        &mut self,
        task: &TaskKey,
        most: usize,
        now: Timestamp,
    ) -> Result<Arc<Life>, NotOpened> {
        if let Some(held) = self.by_key.get_mut(task) {
            held.heard = held.heard.max(now);
            return Ok(Arc::clone(&held.life));
        }
        // Twice as many: each token may name a parent of which nothing else is known.
        if self.by_key.len() >= 2 * most {
            return Err(NotOpened::TooMany);
        }
        let held = Held {
            life: Arc::default(),
            tokens: Vec::new(),
            heard: now,
        };
        let life = Arc::clone(&held.life);
        self.by_key.insert(task.clone(), held);
        Ok(life)
    }

    fn newest(&self, task: &TaskKey) -> Option<Arc<Task>> {
        let held = self.by_key.get(task)?;
        held.tokens.last().map(|(_, task)| Arc::clone(task))
    }

    /// Leaves room for one more token; those of ended tasks are forgotten early rather than a new
    /// one refused, because a forgotten token is refused all the same.
    fn make_room(&mut self, most: usize, own: &str, now: Timestamp) -> Result<(), NotOpened> {
        if self.by_token.len() >= most {
            let over = |task: &Task| !matches!(task.state(now), State::Active | State::Suspended);
            self.forget(over, own, now);
        }
        if self.by_token.len() >= most {
            Err(NotOpened::TooMany)
        } else {
            Ok(())
        }
    }

    /// Forgets the tokens that are `over`, and tasks of which nothing is left to know. What is bound
    /// to a listener is held there.
    fn forget(&mut self, over: impl Fn(&Task) -> bool, own: &str, now: Timestamp) {
        let Self {
            by_key,
            by_token,
            current,
        } = self;
        let bound = |task: &Arc<Task>| current.values().any(|one| Arc::ptr_eq(one, task));
        by_key.retain(|key, held| {
            held.tokens.retain(|(digest, task)| {
                let keep = !over(task) || bound(task);
                if !keep {
                    by_token.remove(digest);
                }
                keep
            });
            // What was said of another issuer's task outlives its tokens: one more may come.
            let may_come = *key.issuer != *own && !held.life.is_untouched();
            !held.tokens.is_empty()
                || (may_come && !longer(now, held.heard, LONGEST_TASK + REMEMBERED))
        });
    }
}

#[cfg(test)]
mod tests;
