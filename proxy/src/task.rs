//! The unit of authority: for one piece of work, what an agent may use, how often and until when.
//!
//! A [`Task`] is what one token, or a binding to a listener, stands for: its [`Terms`] never change.
//! What changes is its [`Life`]: whether it goes on, what it has spent, what it has touched. All
//! tokens of a task share one life, and a task that was derived from another lives no longer than
//! that one.

mod life;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use outrider_policy::{
    Level, Pattern, Patterns,
    input::{ActorFacts, Moment, Ready},
};

pub use self::life::{
    BudgetExhausted, Confidence, Cyclic, End, Life, NotAConfidence, Snapshot, Stand,
};
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

/// What names a task: its ID is unique only where its issuer vouches for it.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct TaskKey {
    /// Who vouches for it.
    pub issuer: Arc<str>,
    /// Its ID there.
    pub id: Arc<str>,
}

impl TaskKey {
    /// Both in one text, for what counts by task.
    pub fn joined(&self) -> Arc<str> {
        // No issuer and no ID has a control character.
        format!("{}\n{}", self.issuer, self.id).into()
    }
}

/// What a token says of its task; nothing of it changes later.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Terms {
    /// The ID that records and `task show` use.
    pub id: Arc<str>,
    /// The ID of its token (`jti`, RFC 7519 §4.1.7).
    pub token_id: Arc<str>,
    /// Who vouches for it (`iss`).
    pub issuer: Arc<str>,
    /// The ID of the key that signed its token.
    pub key: Arc<str>,
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
    /// When it was opened, or its token issued.
    pub opened: Timestamp,
    /// The first moment at which it is over.
    pub expires: Timestamp,
    /// The task it was derived from, by the same issuer.
    pub parent: Option<Arc<str>>,
    /// Who opened it, such as `uid:1000`.
    pub opened_by: Arc<str>,
}

impl Terms {
    /// The task's name.
    pub fn task(&self) -> TaskKey {
        TaskKey {
            issuer: Arc::clone(&self.issuer),
            id: Arc::clone(&self.id),
        }
    }

    /// The name of the task it was derived from.
    pub fn derived_from(&self) -> Option<TaskKey> {
        let id = self.parent.clone()?;
        let issuer = Arc::clone(&self.issuer);
        Some(TaskKey { issuer, id })
    }
}

/// One token of a task: its terms, which are read as fields, and the task's life.
#[derive(Debug)]
pub struct Task {
    terms: Terms,
    life: Arc<Life>,
    /// What was said of this token alone, or of its task.
    own: Arc<Life>,
    /// The task it was derived from, where that is known here: it reaches no further.
    parent: Option<Arc<Task>>,
    /// Its actors, ready for policy.
    pub chain: Ready<Vec<ActorFacts>>,
    /// The tools it names, ready for policy.
    pub scope: Option<Ready<Patterns>>,
    /// When it is over, ready for policy.
    pub over: Moment,
    /// What upstreams are told of it.
    pub told: TaskTold,
    /// Issuer and ID in one text, for what counts by task.
    pub counted: Arc<str>,
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
        Self::of(terms, Arc::default(), None)
    }

    /// One more token of a task that lives already, or of one that was derived from `parent`.
    pub fn of(mut terms: Terms, life: Arc<Life>, parent: Option<Arc<Self>>) -> Self {
        if let Some(parent) = &parent {
            terms.expires = terms.expires.min(parent.expires);
        }
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
            counted: terms.task().joined(),
            own: Life::below(&life),
            terms,
            life,
            parent,
        }
    }

    /// What the token says.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What became of the task.
    pub fn life(&self) -> &Arc<Life> {
        &self.life
    }

    /// The tasks it was derived from, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.parent.as_deref(), |task| task.parent.as_deref())
    }

    /// How the task stands at `now`. What was said about it outweighs the clock.
    pub fn state(&self, now: Timestamp) -> State {
        match self.own.stand() {
            Stand {
                end: End::Revoked, ..
            } => State::Revoked,
            Stand {
                end: End::Closed, ..
            } => State::Closed,
            _ if now >= self.expires => State::Expired,
            Stand {
                suspended: true, ..
            } => State::Suspended,
            Stand {
                suspended: false, ..
            } => State::Active,
        }
    }

    /// Says that the work is done. Returns whether that changed anything.
    pub fn close(&self) -> bool {
        self.life.end(End::Closed)
    }

    /// Takes the authority back, also from a closed task. Returns whether that changed anything.
    pub fn revoke(&self) -> bool {
        self.life.end(End::Revoked)
    }

    /// Takes back what this token gives; other tokens of the task stay. Returns whether that changed
    /// anything.
    pub fn void(&self) -> bool {
        self.own.end(End::Revoked)
    }

    /// How many calls were spent.
    pub fn used(&self) -> u64 {
        self.life.used()
    }

    /// Spends one call, of the tasks it was derived from too, and returns how many are spent now.
    ///
    /// # Errors
    /// [`BudgetExhausted`] when one of the budgets has none left; then nothing is spent. However
    /// many calls ask at once, never more than the budget are admitted.
    pub fn spend(&self) -> Result<u64, BudgetExhausted> {
        let used = self.life.spend(self.budget)?;
        if let Some(parent) = &self.parent {
            parent.spend().inspect_err(|_| self.life.give_back())?;
        }
        Ok(used)
    }

    /// Whether a further [`spend`](Self::spend) would be refused.
    pub fn exhausted(&self) -> bool {
        self.budget.is_some_and(|budget| self.used() >= budget)
            || self
                .parent
                .as_ref()
                .is_some_and(|parent| parent.exhausted())
    }

    /// Notes that data of this level was touched. Returns whether it is the highest so far.
    pub fn raise_high_water(&self, level: Level) -> bool {
        let raised = self.life.raise_high_water(level);
        match &self.parent {
            Some(parent) => parent.raise_high_water(level) || raised,
            None => raised,
        }
    }

    /// The highest level that was touched so far.
    pub fn high_water(&self) -> Level {
        self.life.high_water()
    }

    /// Whether an issuer elsewhere vouches for it.
    pub fn is_from_elsewhere(&self) -> bool {
        !self.issuer.starts_with("outrider:")
    }

    /// Waits until the task is suspended, closed, revoked or expired, and says which.
    ///
    /// Any runtime may wait on a task that another one ends.
    pub async fn ended(&self) -> State {
        self.ended_by(Timestamp::now).await
    }

    /// [`ended`](Self::ended) by a given wall clock.
    pub async fn ended_by(&self, clock: impl Fn() -> Timestamp) -> State {
        let mut changes = self.own.changes();
        loop {
            let now = clock();
            let state = self.state(now);
            if state != State::Active {
                return state;
            }
            let left = Duration::try_from(self.expires.duration_since(now)).unwrap_or_default();
            // The sender lives as long as `self`, so only the state can end either wait.
            if let Ok(Err(_)) = tokio::time::timeout(left.min(CLOCK_CHECK), changes.changed()).await
            {
                return State::Revoked;
            }
        }
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
            key: "k".into(),
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
