//! The unit of authority: for one piece of work, what an agent may use, how often and until when.
//!
//! A [`Task`] is what a token or a binding to a listener stands for. What it permits never
//! changes after it was opened; what lives is its end, its spent budget and its high-water mark.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use outrider_policy::{
    Level, Pattern, Patterns,
    input::{ActorFacts, Moment, Ready},
};
use tokio::sync::watch;

use crate::headers::Told;

/// The longest sleep towards an expiry, so that a step of the wall clock is noticed.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// How a task may stand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may be used.
    Active,
    /// Nothing more may be done under it until it is resumed.
    Suspended,
    /// Its time is over.
    Expired,
    /// Its work was said to be done.
    Closed,
    /// Its authority was taken back.
    Revoked,
}

impl State {
    /// The word for records, metrics and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Closed => "closed",
            Self::Revoked => "revoked",
        }
    }
}

/// How a call came to its task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// The call carried the task's token.
    Token,
    /// The task is bound to the listener the call came in by.
    Current,
    /// The call has no task.
    None,
}

impl Source {
    /// The word for records and policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Current => "current",
            Self::None => "none",
        }
    }
}

/// The task's budget of calls is spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the task's budget of calls is spent")]
pub struct BudgetExhausted;

/// What a task says when it is opened; nothing of it changes later.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The ID that records and `task show` use.
    pub id: Arc<str>,
    /// The ID of its token (`jti`, RFC 7519 §4.1.7).
    pub token_id: Arc<str>,
    /// Who vouches for it (`iss`).
    pub issuer: Arc<str>,
    /// The principal acted for (`sub`).
    pub subject: Arc<str>,
    /// Who acts, nearest first; the first is this agent (`act`, RFC 8693 §4.1).
    pub actors: Vec<Arc<str>>,
    /// What the work is for: a declared identifier.
    pub intent: Arc<str>,
    /// The tools it may use; `None` leaves that to the intent.
    pub tools: Option<Vec<Pattern>>,
    /// The highest class of data it may touch; `None` leaves that to the intent.
    pub max_classification: Option<Level>,
    /// How many calls it may make; `None` is not counted against anything.
    pub budget: Option<u64>,
    /// When it was opened.
    pub opened: Timestamp,
    /// The first moment at which it is over.
    pub expires: Timestamp,
    /// The task it was derived from.
    pub parent: Option<Arc<str>>,
    /// Who opened it, such as `uid:1000`.
    pub opened_by: Arc<str>,
}

/// The final word on a task, if one was spoken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    NotYet,
    Closed,
    Revoked,
}

/// One task: its terms, which are read as fields, and what became of it so far.
#[derive(Debug)]
pub struct Task {
    terms: Terms,
    /// Its actors, ready for policy.
    pub chain: Ready<Vec<ActorFacts>>,
    /// The tools it names, ready for policy.
    pub scope: Option<Ready<Patterns>>,
    /// When it is over, ready for policy.
    pub over: Moment,
    /// What upstreams are told of it.
    pub told: TaskTold,
    end: watch::Sender<End>,
    used: AtomicU64,
    high_water: AtomicU8,
}

/// What upstreams are told of a task, ready for their headers.
#[derive(Debug)]
pub struct TaskTold {
    /// The principal acted for.
    pub subject: Told,
    /// The task's ID.
    pub id: Told,
    /// What the work is for.
    pub intent: Told,
}

impl std::ops::Deref for Task {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl Task {
    /// Starts a task on these terms, with nothing spent.
    pub fn new(terms: Terms) -> Self {
        let actor = |id: &Arc<str>| ActorFacts { id: Arc::clone(id) };
        let scope = |tools: &Vec<Pattern>| Ready::new(tools.iter().cloned().collect());
        Self {
            chain: Ready::new(terms.actors.iter().map(actor).collect()),
            scope: terms.tools.as_ref().map(scope),
            over: terms.expires.into(),
            told: TaskTold {
                subject: Told::new(Arc::clone(&terms.subject)),
                id: Told::new(Arc::clone(&terms.id)),
                intent: Told::new(Arc::clone(&terms.intent)),
            },
            terms,
            end: watch::Sender::new(End::NotYet),
            used: AtomicU64::new(0),
            high_water: AtomicU8::new(0),
        }
    }

    /// How the task stands at `now`. What was said about it outweighs the clock.
    pub fn state(&self, now: Timestamp) -> State {
        match *self.end.borrow() {
            End::Revoked => State::Revoked,
            End::Closed => State::Closed,
            End::NotYet if now >= self.expires => State::Expired,
            End::NotYet => State::Active,
        }
    }

    /// Says that the work is done. Returns whether that changed anything.
    pub fn close(&self) -> bool {
        self.end_with(End::Closed)
    }

    /// Takes the authority back, also from a closed task. Returns whether that changed anything.
    pub fn revoke(&self) -> bool {
        self.end_with(End::Revoked)
    }

    /// Ends only ever grow harder: a revoked task stays revoked.
    fn end_with(&self, end: End) -> bool {
        self.end.send_if_modified(|now| {
            let harder = *now < end;
            if harder {
                *now = end;
            }
            harder
        })
    }

    /// How many calls were spent.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    /// Spends one call and returns how many are spent now.
    ///
    /// # Errors
    /// [`BudgetExhausted`] when the budget has none left; then nothing is spent. However many
    /// calls ask at once, never more than the budget are admitted.
    pub fn spend(&self) -> Result<u64, BudgetExhausted> {
        let budget = self.budget.unwrap_or(u64::MAX);
        let one_more = |used: u64| {
            if used < budget {
                used.checked_add(1)
            } else {
                None
            }
        };
        match self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
        {
            Ok(before) => Ok(before.saturating_add(1)),
            Err(_) => Err(BudgetExhausted),
        }
    }

    /// Whether a further [`spend`](Self::spend) would be refused.
    pub fn exhausted(&self) -> bool {
        self.budget.is_some_and(|budget| self.used() >= budget)
    }

    /// Notes that data of this level was touched.
    pub fn raise_high_water(&self, level: Level) {
        self.high_water.fetch_max(rank(level), Ordering::AcqRel);
    }

    /// The highest level that was touched so far.
    pub fn high_water(&self) -> Level {
        level(self.high_water.load(Ordering::Acquire))
    }

    /// Waits until the task is closed, revoked or expired, and says which.
    ///
    /// Any runtime may wait on a task that another one ends.
    pub async fn ended(&self) -> State {
        self.ended_by(Timestamp::now).await
    }

    /// [`ended`](Self::ended) by a given wall clock.
    pub async fn ended_by(&self, clock: impl Fn() -> Timestamp) -> State {
        let mut end = self.end.subscribe();
        loop {
            let now = clock();
            let state = self.state(now);
            if !matches!(state, State::Active | State::Suspended) {
                return state;
            }
            let left = Duration::try_from(self.expires.duration_since(now)).unwrap_or_default();
            // The sender lives as long as `self`, so only the state can end either wait.
            if let Ok(Err(_)) = tokio::time::timeout(left.min(CLOCK_CHECK), end.changed()).await {
                return State::Revoked;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn task(budget: Option<u64>, expires: Timestamp) -> Task {
        Task::new(Terms {
            id: "t".into(),
            token_id: "j".into(),
            issuer: "outrider:i".into(),
            subject: "uid:1".into(),
            actors: vec!["spiffe://example.org/a".into()],
            intent: "ticket.triage".into(),
            tools: None,
            max_classification: None,
            budget,
            opened: at(0),
            expires,
            parent: None,
            opened_by: "uid:1".into(),
        })
    }

    #[test]
    fn a_task_is_over_in_the_very_second_of_its_expiry() {
        let task = task(None, at(100));
        assert_eq!(task.state(at(99)), State::Active);
        assert_eq!(task.state(at(100)), State::Expired);
    }

    #[test]
    fn a_revoked_task_cannot_be_closed_into_something_milder() {
        let task = task(None, at(100));
        assert!(task.close());
        assert_eq!(task.state(at(1)), State::Closed);
        assert!(task.revoke());
        assert!(!task.close());
        assert!(!task.revoke());
        assert_eq!(task.state(at(1000)), State::Revoked);
    }

    #[test]
    fn a_budget_of_zero_permits_nothing() {
        let task = task(Some(0), at(100));
        assert!(task.exhausted());
        assert_eq!(task.spend(), Err(BudgetExhausted));
        assert_eq!(task.used(), 0);
    }

    #[test]
    fn many_threads_together_never_spend_more_than_the_budget() {
        let task = task(Some(1000), at(100));
        let spent: usize = std::thread::scope(|scope| {
            let spend = || (0..400).filter(|_| task.spend().is_ok()).count();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(spend)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(spent, 1000);
        assert_eq!(task.used(), 1000);
        assert!(task.exhausted());
    }

    #[test]
    fn without_a_budget_calls_are_counted_all_the_same() {
        let task = task(None, at(100));
        assert_eq!(task.spend(), Ok(1));
        assert_eq!(task.spend(), Ok(2));
        assert!(!task.exhausted());
    }

    #[test]
    fn the_high_water_mark_only_rises() {
        let task = task(None, at(100));
        assert_eq!(task.high_water(), Level::Public);
        task.raise_high_water(Level::Confidential);
        task.raise_high_water(Level::Internal);
        assert_eq!(task.high_water(), Level::Confidential);
    }

    #[test]
    fn a_revocation_on_one_runtime_wakes_a_wait_on_another() {
        let task = Arc::new(task(None, at(i64::from(i32::MAX))));
        let waiting = Arc::clone(&task);
        let (started, start) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            runtime.unwrap().block_on(async move {
                let mut end = Box::pin(waiting.ended_by(|| at(1)));
                assert!(futures_poll_once(&mut end).await.is_none());
                started.send(()).unwrap();
                end.await
            })
        });
        start.recv().unwrap();
        assert!(task.revoke());
        assert_eq!(waiter.join().unwrap(), State::Revoked);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_wait_ends_when_the_clock_reaches_the_expiry() {
        let now = Timestamp::now();
        let task = task(None, now + Duration::from_millis(30));
        assert_eq!(task.ended().await, State::Expired);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_wait_on_a_closed_task_is_over_at_once() {
        let task = task(None, at(i64::from(i32::MAX)));
        task.close();
        assert_eq!(task.ended().await, State::Closed);
    }

    /// Polls once: `Some` when the future was ready.
    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
