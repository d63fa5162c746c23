//! Credentials that are fetched, kept to shortly before they expire.
//!
//! One fetch at a time for each task and scope; whoever waits shares its result, on any worker.
//! What failed is not tried again at once. What a task held ends with it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{
    Fault, Got, Setting, Source, Want,
    keeper::{Fetching, Job},
    kept::{Kept, Key, Landing, Lease, Looked, Standing, Waits},
    lifetime::Span,
    template::{Places, Template},
};
use crate::task::{State, Task};

/// Fetches for one service at the same time.
const AT_ONCE: usize = 8;

/// The credentials of one service.
pub(super) struct Fetched {
    pub(super) source: Source,
    pub(super) value: Template,
    pub(super) setting: Setting,
    pub(super) counts: Arc<Counts>,
    pub(super) places: Semaphore,
    kept: Mutex<Kept>,
}

/// How often a service's credentials were fetched, over reloads.
#[derive(Default, Debug)]
pub(super) struct Counts {
    pub(super) ok: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Fetched {
    pub(super) fn new(
        source: Source,
        value: Template,
        setting: Setting,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            source,
            value,
            setting,
            counts,
            places: Semaphore::new(AT_ONCE),
            kept: Mutex::default(),
        }
    }

    /// The credential for `want`: the one that is held, or the one that is fetched now.
    pub(super) async fn obtain(
        self: &Arc<Self>,
        want: &Want,
        fetching: &Fetching,
    ) -> Result<Lease, Fault> {
        let mut waits = match self.look(want, fetching) {
            Ok(Looked::Held(lease) | Looked::Stale(lease)) => return Ok(lease),
            Ok(Looked::Waits(waits)) => waits,
            Ok(Looked::Failed(fault)) | Err(fault) => return Err(fault),
            Ok(Looked::Due) => return Err(Fault::Stopped),
        };
        let outcome = waits.wait_for(Option::is_some).await;
        let outcome = outcome.map_err(|_| Fault::Stopped)?.clone();
        outcome.unwrap_or(Err(Fault::Stopped))
    }

    /// What is there, once a fetch that is due has begun.
    fn look(self: &Arc<Self>, want: &Want, fetching: &Fetching) -> Result<Looked, Fault> {
        let mut kept = self.kept();
        let key = Key::of(want);
        let looked = kept.look(&key, Timestamp::now());
        match looked {
            Looked::Due => Ok(Looked::Waits(self.start(&mut kept, key, want, fetching)?)),
            Looked::Stale(_) => {
                // Whether or not another comes, this one is still good.
                self.start(&mut kept, key, want, fetching).ok();
                Ok(looked)
            }
            Looked::Held(_) | Looked::Waits(_) | Looked::Failed(_) => Ok(looked),
        }
    }

    fn start(
        self: &Arc<Self>,
        kept: &mut Kept,
        key: Key,
        want: &Want,
        fetching: &Fetching,
    ) -> Result<Waits, Fault> {
        let (landing, waits) = kept.begin(key, want);
        let Some(landing) = landing else {
            return Ok(waits);
        };
        let started = fetching.start(Job {
            source: Arc::clone(self),
            want: want.clone(),
            landing,
        });
        if started {
            Ok(waits)
        } else {
            Err(Fault::Stopped)
        }
    }

    /// Why a fetch that is about to begin need not: its source has failed meanwhile.
    pub(super) fn failing(&self, now: Timestamp) -> Option<Fault> {
        self.kept().failing(now)
    }

    /// Takes what a fetch brought, for those who wait and those who come. It was asked for at
    /// `asked`: from then on its time runs.
    pub(super) fn land(
        &self,
        landing: &Landing,
        want: &Want,
        asked: Timestamp,
        got: Result<Got, Fault>,
    ) {
        let made = got.and_then(|got| {
            let places = Places {
                base: &self.setting.base,
                env: &|name| std::env::var(name).ok(),
                token: Some(&got.secret),
            };
            let ends = want.task.as_ref().map(|task| task.expires);
            let span = Span::new(asked, got.lifetime, ends);
            Ok((self.value.header_value(&places)?, span))
        });
        let now = Timestamp::now();
        let (outcome, noted) = {
            let mut kept = self.kept();
            let outcome = kept.take(landing, want, made, now);
            (outcome, kept.has_failed_at(now))
        };
        match &outcome {
            Ok(_) => drop(self.counts.ok.fetch_add(1, Ordering::Relaxed)),
            // What failed with another one is that one's failure.
            Err(fault) if noted => {
                let service = &self.setting.service;
                tracing::warn!(%service, "a credential could not be fetched: {fault}");
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        landing.tell(outcome);
    }

    /// The upstream refused the credential: the next call fetches another.
    pub(super) fn spurn(&self, want: &Want, lease: &Lease, now: Timestamp) {
        self.kept().spurn(&Key::of(want), lease, now);
    }

    /// Forgets what tasks hold that `over` says are over; fetches under way bring nothing then.
    pub(super) fn forget(&self, over: impl Fn(&Task) -> bool) {
        self.kept().forget(over);
    }

    /// Forgets what tasks hold that are not active.
    pub(super) fn tidy(&self, now: Timestamp) {
        self.forget(|task| task.state(now) != State::Active);
    }

    /// Forgets everything.
    pub(super) fn forget_all(&self) {
        self.kept().forget_all();
    }

    /// Does what is due: drops what is over, and fetches what is everybody's before it is asked for.
    pub(super) fn tend(self: &Arc<Self>, fetching: &Fetching, now: Timestamp) {
        self.tidy(now);
        let mut kept = self.kept();
        kept.sweep(now);
        let Some(want) = self.want_of_all() else {
            return;
        };
        let key = Key::of(&want);
        if kept.is_due(&key, now) {
            // Without a keeper nobody tends.
            self.start(&mut kept, key, &want, fetching).map(drop).ok();
        }
    }

    /// What is wanted for whatever message, if that is the same for all.
    pub(super) fn want_of_all(&self) -> Option<Want> {
        self.source.want_of_all(&self.setting.service)
    }

    /// How things stand, without any secret.
    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        self.kept().standing(now)
    }

    // Nothing panics while it holds the lock, and each change is whole before it is given back.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
