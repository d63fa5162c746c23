//! What became of a task: whether it goes on, what it has spent, what it has touched.
//!
//! One life for all tokens of a task. A life that was derived from another stands no better than
//! that one, and whoever waits on it hears of both.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use outrider_policy::Level;
use tokio::sync::watch;

/// How many tasks may stand above one.
const DEEPEST: usize = 16;

/// The final word on a task, if one was spoken.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    Debug,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// None was.
    #[default]
    NotYet,
    /// The work was said to be done.
    Closed,
    /// The authority was taken back.
    Revoked,
}

/// What was said about a task.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Stand {
    /// The final word.
    pub end: End,
    /// Nothing may be done under it for now.
    pub suspended: bool,
}

impl Stand {
    /// The worse of both.
    fn worse(self, other: Self) -> Self {
        Self {
            end: self.end.max(other.end),
            suspended: self.suspended || other.suspended,
        }
    }
}

/// How sure one is that a task still does what it was opened for: 0 to 1.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Confidence(f64);

/// The number is no confidence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a number from 0 to 1")]
pub struct NotAConfidence;

impl Confidence {
    /// Nobody has said anything.
    pub const FULL: Self = Self(1.0);

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Confidence {
    type Error = NotAConfidence;

    fn try_from(number: f64) -> Result<Self, NotAConfidence> {
        if (0.0..=1.0).contains(&number) {
            Ok(Self(number))
        } else {
            Err(NotAConfidence)
        }
    }
}

impl From<Confidence> for f64 {
    fn from(confidence: Confidence) -> Self {
        confidence.0
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The task's budget of calls is spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the task's budget of calls is spent")]
pub struct BudgetExhausted;

/// A task that would stand above itself, or below too many others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a task is derived from at most {DEEPEST} others, and not from itself")]
pub struct Cyclic;

/// What became of a task so far.
#[derive(Debug)]
pub struct Life {
    stand: watch::Sender<Stand>,
    confidence: AtomicU64,
    used: AtomicU64,
    /// How many spent calls a store knows of already.
    reserved: AtomicU64,
    high_water: AtomicU8,
    parent: OnceLock<Arc<Life>>,
    children: Mutex<Vec<Weak<Life>>>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            stand: watch::Sender::default(),
            confidence: Confidence::FULL.0.to_bits().into(),
            used: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            high_water: AtomicU8::new(0),
            parent: OnceLock::new(),
            children: Mutex::default(),
        }
    }
}

/// A life at one moment, for another process to go on with.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// What was said about it alone.
    pub stand: Stand,
    /// How sure one is of it.
    pub confidence: Confidence,
    /// How many calls were spent.
    pub used: u64,
    /// The highest level that was touched.
    pub high_water: Level,
}

impl Life {
    /// Goes on from there.
    pub fn resumed(from: Snapshot) -> Self {
        let life = Self {
            stand: watch::Sender::new(from.stand),
            confidence: from.confidence.0.to_bits().into(),
            used: from.used.into(),
            reserved: from.used.into(),
            ..Self::default()
        };
        life.raise_high_water(from.high_water);
        life
    }

    /// All of it as it is now, without what it was derived from.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            stand: *self.stand.borrow(),
            confidence: self.confidence(),
            used: self.used(),
            high_water: self.high_water(),
        }
    }

    /// As a file keeps it: what was set aside for calls to come counts as spent, since those write
    /// nothing.
    pub fn kept(&self) -> Snapshot {
        let stands = self.snapshot();
        Snapshot {
            used: stands.used.max(self.reserved()),
            ..stands
        }
    }

    /// Whether nothing was ever said of it or done under it.
    pub fn is_untouched(&self) -> bool {
        self.snapshot() == Self::default().snapshot()
    }

    /// Becomes what was kept of it; what was spent and touched only grows.
    pub fn become_as(&self, kept: Snapshot) {
        self.change(|stand| std::mem::replace(stand, kept.stand) != kept.stand);
        self.trust(kept.confidence);
        self.spent_at_least(kept.used);
        self.reserve(kept.used);
        self.raise_high_water(kept.high_water);
    }

    /// Lets it end with `parent`, and be suspended with it.
    ///
    /// # Errors
    /// [`Cyclic`]; then nothing has changed.
    pub fn derive(self: &Arc<Self>, parent: &Arc<Self>) -> Result<(), Cyclic> {
        let above = std::iter::successors(Some(parent), |life| life.parent.get());
        for (depth, life) in above.enumerate() {
            if Arc::ptr_eq(life, self) || depth >= DEEPEST {
                return Err(Cyclic);
            }
        }
        let known = self.parent.get_or_init(|| Arc::clone(parent));
        if !Arc::ptr_eq(known, parent) {
            return Err(Cyclic);
        }
        parent.adopt(self);
        Ok(())
    }

    /// The life of one token of a task.
    pub fn below(task: &Arc<Self>) -> Arc<Self> {
        let life = Arc::new(Self {
            parent: OnceLock::from(Arc::clone(task)),
            ..Self::default()
        });
        task.adopt(&life);
        life
    }

    fn adopt(&self, child: &Arc<Self>) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|child| child.strong_count() > 0);
        let listed = |known: &Weak<Self>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(child));
        if !children.iter().any(listed) {
            children.push(Arc::downgrade(child));
        }
    }

    /// What was said about it, or about what it was derived from.
    pub fn stand(&self) -> Stand {
        let own = *self.stand.borrow();
        match self.parent.get() {
            Some(parent) => own.worse(parent.stand()),
            None => own,
        }
    }

    /// Tells of every change of [`stand`](Self::stand).
    pub fn changes(&self) -> watch::Receiver<Stand> {
        self.stand.subscribe()
    }

    /// Speaks a final word. Returns whether that changed anything: ends only ever grow harder.
    pub fn end(&self, end: End) -> bool {
        self.change(|stand| {
            let harder = stand.end < end;
            if harder {
                stand.end = end;
            }
            harder
        })
    }

    /// Stops it for now. Returns whether that changed anything.
    pub fn suspend(&self) -> bool {
        self.change(|stand| !std::mem::replace(&mut stand.suspended, true))
    }

    /// Lets it go on. Returns whether that changed anything.
    pub fn resume(&self) -> bool {
        self.change(|stand| std::mem::replace(&mut stand.suspended, false))
    }

    fn change(&self, change: impl FnOnce(&mut Stand) -> bool) -> bool {
        let changed = self.stand.send_if_modified(change);
        if changed {
            self.wake_children();
        }
        changed
    }

    fn wake_children(&self) {
        for child in self.children() {
            child.stand.send_modify(|_| {});
            child.wake_children();
        }
    }

    fn children(&self) -> Vec<Arc<Self>> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.iter().filter_map(Weak::upgrade).collect()
    }

    /// How sure one is of it.
    pub fn confidence(&self) -> Confidence {
        Confidence(f64::from_bits(self.confidence.load(Ordering::Acquire)))
    }

    /// Says how sure one is of it.
    pub fn trust(&self, confidence: Confidence) {
        self.confidence
            .store(confidence.0.to_bits(), Ordering::Release);
    }

    /// How many calls were spent.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Learns that so many were spent, here or elsewhere.
    pub fn spent_at_least(&self, used: u64) {
        self.used.fetch_max(used, Ordering::AcqRel);
    }

    /// Spends one call of a budget and returns how many are spent now.
    ///
    /// # Errors
    /// [`BudgetExhausted`]; then nothing is spent.
    pub fn spend(&self, budget: Option<u64>) -> Result<u64, BudgetExhausted> {
        let budget = budget.unwrap_or(u64::MAX);
        let one_more = |used: u64| (used < budget).then(|| used.saturating_add(1));
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .map(|before| before.saturating_add(1))
            .map_err(|_| BudgetExhausted)
    }

    /// Takes back one [`spend`](Self::spend) that came to nothing.
    pub fn give_back(&self) {
        let one_less = |used: u64| used.checked_sub(1);
        // Nothing spent is nothing to give back.
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less)
            .ok();
    }

    /// How many spent calls a store knows of.
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Acquire)
    }

    /// A store knows of so many spent calls.
    pub fn reserve(&self, reserved: u64) {
        self.reserved.fetch_max(reserved, Ordering::AcqRel);
    }

    /// Notes that data of this level was touched. Returns whether it is the highest so far.
    pub fn raise_high_water(&self, level: Level) -> bool {
        let rank = rank(level);
        self.high_water.fetch_max(rank, Ordering::AcqRel) < rank
    }

    /// The highest level that was touched so far.
    pub fn high_water(&self) -> Level {
        level(self.high_water.load(Ordering::Acquire))
    }
}

/// A level as a number that can be raised atomically.
const fn rank(level: Level) -> u8 {
    match level {
        Level::Public => 0,
        Level::Internal => 1,
        Level::Confidential => 2,
        Level::Restricted => 3,
    }
}

/// The level of a [`rank`]; a number that is none is the strictest.
const fn level(rank: u8) -> Level {
    match rank {
        0 => Level::Public,
        1 => Level::Internal,
        2 => Level::Confidential,
        _ => Level::Restricted,
    }
}
