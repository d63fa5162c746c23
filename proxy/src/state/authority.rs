//! Who may still act: everything that is known of tasks and revocations, and the one door through
//! which it changes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    NotOpened, Open, Opened, Reach, Revocation, Revocations, Tasks, TokenDigest, TooMany, Used,
    Widened,
    decree::{Decree, Edict, Target},
    widened,
};
use crate::task::{Confidence, End, Life, Snapshot, State, Task, TaskKey, Terms};

/// Whether the agent beside us may still act.
#[derive(Debug, Default)]
pub struct Standing(watch::Sender<bool>);

impl Standing {
    /// Whether its authority was taken back.
    pub fn is_revoked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until its authority is taken back.
    pub async fn revoked(&self) {
        let mut revoked = self.0.subscribe();
        // The sender lives as long as `self`.
        revoked.wait_for(|revoked| *revoked).await.map(drop).ok();
    }
}

/// What a decree changed.
#[derive(Debug, Default)]
pub struct Effect {
    /// Whether anything is other than before.
    pub changed: bool,
    /// How many tasks it ended or stopped.
    pub tasks: usize,
}

/// A decree that could not be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotDone {
    /// There is no room to remember it.
    #[error(transparent)]
    Revocations(#[from] TooMany),
    /// There is no room to remember the task.
    #[error(transparent)]
    Tasks(#[from] NotOpened),
    /// Its task has ended.
    #[error("the task is over")]
    Over,
    /// A task in which nobody trusts does not go on.
    #[error(
        "the task's confidence is below `tasks.min_confidence`: set it first, with `outrider task confidence`"
    )]
    Distrusted,
    /// Nothing of that kind is in force.
    #[error("there is no such revocation: see `outrider revoke list`")]
    NotRevoked,
}

/// A token of another issuer that was not taken in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// It cannot be remembered.
    #[error(transparent)]
    NoRoom(#[from] NotOpened),
    /// It claims more than the task it is derived from has.
    #[error(transparent)]
    Widened(#[from] Widened),
}

/// Tasks and revocations, and who changes them.
#[derive(Debug)]
pub struct Authority {
    agent: Arc<str>,
    /// The tasks.
    pub tasks: Arc<Tasks>,
    /// Whether the agent may still act.
    pub standing: Standing,
    /// Which tokens that serve one call have served it.
    pub used: Used,
    revocations: Revocations,
    least: AtomicU64,
}

impl Authority {
    /// Nothing is taken back yet.
    pub fn new(agent: Arc<str>, tasks: Arc<Tasks>) -> Self {
        Self {
            agent,
            tasks,
            standing: Standing::default(),
            used: Used::default(),
            revocations: Revocations::default(),
            least: AtomicU64::new(0.0_f64.to_bits()),
        }
    }

    /// Below this a task is suspended at once when its confidence is set.
    pub fn least_confidence(&self, least: Option<Confidence>) {
        let least = least.map_or(0.0, Confidence::get);
        self.least.store(least.to_bits(), Ordering::Release);
    }

    fn distrusted(&self, confidence: Confidence) -> bool {
        confidence.get() < f64::from_bits(self.least.load(Ordering::Acquire))
    }

    /// What was taken back, and is.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Opens a task.
    ///
    /// # Errors
    /// [`NotOpened`]; then nothing has changed.
    pub fn open(&self, open: Open, now: Timestamp) -> Result<Opened, NotOpened> {
        let subject = Target::Subject(Arc::clone(&open.subject));
        if self.standing.is_revoked() || self.revocations.cover(&subject, now) {
            return Err(NotOpened::TakenBack);
        }
        let opened = self.tasks.open(open, now)?;
        self.settle(&opened.task);
        Ok(opened)
    }

    /// Takes in a verified token of another issuer. It is ended at once where authority was taken
    /// back from it.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub fn admit(
        &self,
        terms: Terms,
        digest: TokenDigest,
        reach: impl Fn(&str) -> Option<Reach>,
        now: Timestamp,
    ) -> Result<Arc<Task>, NotAdmitted> {
        let parent = terms
            .derived_from()
            .and_then(|parent| self.tasks.newest(&parent));
        if let Some(parent) = parent {
            widened((&terms).into(), &parent, reach)?;
        }
        let task = self.tasks.foreign(terms, digest, now)?;
        self.settle(&task);
        Ok(task)
    }

    /// Ends what was revoked before it was seen. Looked at after the task can be found, so that a
    /// revocation that comes meanwhile finds it or is found.
    pub(super) fn settle(&self, task: &Task) {
        if self.revocations.touch(task.terms()) {
            task.void();
        }
    }

    /// Whether a decree could be carried out now; nothing changes.
    ///
    /// # Errors
    /// [`NotDone`].
    pub fn could(&self, edict: &Edict) -> Result<(), NotDone> {
        match edict {
            Edict::Resume { task } => match self.tasks.newest(task) {
                Some(task) => self.resumable(task.life()),
                None => Ok(()),
            },
            Edict::Lift { target } if !self.revocations.has(target) => Err(NotDone::NotRevoked),
            _ => Ok(()),
        }
    }

    /// Whether somebody may do more after it: then it is to be kept before it is carried out.
    pub fn widens(&self, edict: &Edict) -> bool {
        match edict {
            Edict::Lift { .. } | Edict::Resume { .. } => true,
            Edict::Trust { task, confidence } => {
                let task = self.tasks.newest(task);
                task.is_none_or(|task| *confidence > task.life().confidence())
            }
            Edict::Revoke { .. } | Edict::Close { .. } | Edict::Suspend { .. } => false,
        }
    }

    /// Carries out a decree. When this returns, the next call sees it, and what waits on a task
    /// that it ends or stops is awake.
    ///
    /// # Errors
    /// [`NotDone`]; then nothing has changed, but for what a revocation that could not be
    /// remembered has ended.
    pub fn carry_out(&self, decree: &Decree) -> Result<Effect, NotDone> {
        match &decree.edict {
            Edict::Revoke {
                target,
                issued_before,
            } => {
                let kept = Revocation::of(decree).map_or(Ok(()), |new| self.revocations.add(new));
                let effect = self.take_back(target, *issued_before, decree.at)?;
                kept?;
                Ok(effect)
            }
            Edict::Lift { target } => self.lift(target),
            Edict::Close { task } => self.alter(task, decree.at, |life| Ok(life.end(End::Closed))),
            Edict::Suspend { task } => self.alter(task, decree.at, |life| Ok(life.suspend())),
            Edict::Resume { task } => self.alter(task, decree.at, |life| {
                self.resumable(life)?;
                Ok(life.resume())
            }),
            Edict::Trust { task, confidence } => self.alter(task, decree.at, |life| {
                life.trust(*confidence);
                Ok(self.distrusted(*confidence) && life.suspend())
            }),
        }
    }

    fn resumable(&self, life: &Life) -> Result<(), NotDone> {
        if life.stand().end != End::NotYet {
            return Err(NotDone::Over);
        }
        if self.distrusted(life.confidence()) {
            return Err(NotDone::Distrusted);
        }
        Ok(())
    }

    fn alter(
        &self,
        task: &TaskKey,
        now: Timestamp,
        change: impl FnOnce(&Life) -> Result<bool, NotDone>,
    ) -> Result<Effect, NotDone> {
        let life = self.tasks.life(task, now)?;
        let changed = change(&life)?;
        Ok(Effect {
            changed,
            tasks: usize::from(changed),
        })
    }

    /// Ends every token that a revocation covers; of a task that is named, the task.
    fn take_back(
        &self,
        target: &Target,
        issued_before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Effect, NotDone> {
        let before = self.standing.is_revoked();
        self.stand_anew();
        let issued = |task: &Task| issued_before.is_none_or(|before| task.opened <= before);
        let named = |task: &Task| Target::of(task.terms()).any(|one| one == *target);
        let mut covered = self.tasks.tokens();
        covered.retain(|task| issued(task) && named(task));
        let running =
            |task: &&Arc<Task>| matches!(task.state(now), State::Active | State::Suspended);
        let tasks = covered.iter().filter(running).count();
        if let Target::Task(task) = target {
            self.tasks.life(task, now)?.end(End::Revoked);
        }
        for task in &covered {
            task.void();
        }
        let changed = tasks > 0 || before != self.standing.is_revoked();
        Ok(Effect { changed, tasks })
    }

    fn lift(&self, target: &Target) -> Result<Effect, NotDone> {
        if !self.revocations.lift(target) {
            return Err(NotDone::NotRevoked);
        }
        self.stand_anew();
        Ok(Effect {
            changed: true,
            tasks: 0,
        })
    }

    /// The agent may act unless it is revoked, whenever its tasks were opened.
    fn stand_anew(&self) {
        let agent = Target::Agent(Arc::clone(&self.agent));
        let revoked = self.revocations.cover(&agent, Timestamp::MAX);
        self.standing
            .0
            .send_if_modified(|now| std::mem::replace(now, revoked) != revoked);
    }

    /// How the task of a decree stands once it is carried out; none where it is about no task.
    pub(super) fn after(&self, decree: &Decree) -> Option<Snapshot> {
        let task = decree.edict.task()?;
        let life = self.tasks.life(task, decree.at).ok()?;
        let mut after = life.snapshot();
        match &decree.edict {
            Edict::Resume { .. } => after.stand.suspended = false,
            Edict::Trust { confidence, .. } => {
                after.confidence = *confidence;
                after.stand.suspended |= self.distrusted(*confidence);
            }
            // Carried out already.
            Edict::Revoke { .. }
            | Edict::Lift { .. }
            | Edict::Close { .. }
            | Edict::Suspend { .. } => {}
        }
        Some(after)
    }

    /// Goes on with a token that was kept.
    pub(super) fn resume(&self, digest: TokenDigest, terms: Terms) {
        let opened = terms.opened;
        match self.tasks.foreign(terms, digest, opened) {
            Ok(task) => self.settle(&task),
            Err(error) => tracing::error!(%error, "a task was not resumed"),
        }
    }

    /// Lets a task stand as it was kept.
    pub(super) fn stood(&self, task: &TaskKey, life: Snapshot) {
        match self.tasks.life(task, Timestamp::now()) {
            Ok(known) => known.become_as(life),
            Err(error) => tracing::error!(%error, "a task was not resumed"),
        }
    }

    /// Forgets what no longer matters.
    pub fn sweep(&self, now: Timestamp) {
        self.tasks.sweep(now);
        self.revocations.sweep(now);
        self.used.sweep(now);
    }
}
