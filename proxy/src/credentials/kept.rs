//! What is held for whom, what is under way, and what failed: the memory of one service's
//! credentials. It holds no lock and waits for nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Fault, Want,
    fault::Concerns,
    lifetime::{Backoff, Span},
};
use crate::task::{State, Task};

/// Tasks and scopes for which one service's credentials are kept.
const MOST: usize = 4096;

/// Between two credentials of one task that are given up because the upstream refused them.
const SPURN: Duration = Duration::from_secs(30);

/// The memory of one service's credentials.
#[derive(Default)]
pub(super) struct Kept {
    slots: HashMap<Key, Slot>,
    clock: u64,
    trouble: Option<Trouble>,
    last: Option<(Fault, Timestamp)>,
}

/// For whom a credential is: a task, or the service as a whole; with which scope.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    task: Option<Holder>,
    scope: Option<Arc<str>>,
}

/// A task, as one of its tokens has it: another token may speak for somebody else.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Holder {
    issuer: Arc<str>,
    task: Arc<str>,
    token: Arc<str>,
    subject: Arc<str>,
}

#[derive(Default)]
struct Slot {
    task: Option<Arc<Task>>,
    held: Option<Held>,
    flight: Option<Flight>,
    trouble: Option<Trouble>,
    spurned: Option<Timestamp>,
    touched: u64,
}

/// What is known of a failure until it may be tried again.
#[derive(Clone)]
struct Trouble {
    fault: Fault,
    backoff: Backoff,
}

/// A credential.
#[derive(Clone)]
struct Held {
    value: HeaderValue,
    serial: u64,
    span: Span,
}

/// A fetch under way.
struct Flight {
    serial: u64,
    outcome: Waits,
}

/// How a fetch ended.
pub(super) type Outcome = Result<Lease, Fault>;

/// Where those wait who want what is being fetched.
pub(super) type Waits = watch::Receiver<Option<Outcome>>;

/// What is there for whoever asks.
pub(super) enum Looked {
    /// A good one.
    Held(Lease),
    /// A good one, for which another is to be fetched.
    Stale(Lease),
    /// One that is being fetched.
    Waits(Waits),
    /// None, and none is fetched now.
    Failed(Fault),
    /// None: it is to be fetched.
    Due,
}

/// A credential that is put into one request.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) value: HeaderValue,
    serial: u64,
}

impl Key {
    pub(super) fn of(want: &Want) -> Self {
        let holder = |task: &Arc<Task>| Holder {
            issuer: Arc::clone(&task.issuer),
            task: Arc::clone(&task.id),
            token: Arc::clone(&task.token_id),
            subject: Arc::clone(&task.subject),
        };
        Self {
            task: want.task.as_ref().map(holder),
            scope: want.scope.clone(),
        }
    }
}

/// How a service's credentials stand.
#[derive(Debug)]
pub(super) struct Standing {
    /// How many are good.
    pub(super) held: usize,
    /// When the oldest of them was fetched.
    pub(super) oldest: Option<Timestamp>,
    /// When the first of them expires.
    pub(super) expires: Option<Timestamp>,
    /// Whether the source failed and was not better since.
    pub(super) failing: bool,
    /// For how many tasks and scopes the last answer was no.
    pub(super) refused: usize,
    /// The last failure.
    pub(super) last: Option<(Fault, Timestamp)>,
}

/// Where a fetch comes down.
pub(super) struct Landing {
    key: Key,
    serial: u64,
    done: watch::Sender<Option<Outcome>>,
}

impl Landing {
    /// Tells those who wait how it ended.
    pub(super) fn tell(&self, outcome: Outcome) {
        self.done.send_replace(Some(outcome));
    }
}

impl Kept {
    /// What is there for this key, or whether to begin a fetch.
    pub(super) fn look(&mut self, key: &Key, now: Timestamp) -> Looked {
        let clock = self.tick();
        let failed = self.trouble(key, now);
        if let Some(slot) = self.slots.get_mut(key) {
            slot.touched = clock;
            if let Some(held) = slot.held.as_ref().filter(|held| held.span.is_good(now)) {
                let lease = held.lease();
                return if held.span.is_stale(now) && failed.is_none() {
                    Looked::Stale(lease)
                } else {
                    Looked::Held(lease)
                };
            }
            if let Some(flight) = slot.flight.as_ref().filter(|flight| flight.is_alive()) {
                return Looked::Waits(flight.outcome.clone());
            }
        }
        match failed {
            Some(fault) => Looked::Failed(fault),
            None if self.make_room(key) => Looked::Due,
            None => Looked::Failed(Fault::Busy),
        }
    }

    /// Whether a fetch is due for this key, whoever asks.
    pub(super) fn is_due(&self, key: &Key, now: Timestamp) -> bool {
        let held = self.slots.get(key).and_then(|slot| slot.held.as_ref());
        let fresh = held.is_some_and(|held| !held.span.is_stale(now));
        !fresh && self.trouble(key, now).is_none()
    }

    /// Begins a fetch, unless one is under way: where it comes down, and who waits for it.
    pub(super) fn begin(&mut self, key: Key, want: &Want) -> (Option<Landing>, Waits) {
        let serial = self.tick();
        let slot = self.slots.entry(key.clone()).or_default();
        if let Some(flight) = slot.flight.as_ref().filter(|flight| flight.is_alive()) {
            return (None, flight.outcome.clone());
        }
        let (done, outcome) = watch::channel(None);
        slot.flight = Some(Flight {
            serial,
            outcome: outcome.clone(),
        });
        slot.task.clone_from(&want.task);
        slot.touched = serial;
        (Some(Landing { key, serial, done }), outcome)
    }

    /// Gives up a credential that an upstream refused, if the last one that was is not too young.
    pub(super) fn spurn(&mut self, key: &Key, lease: &Lease, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(key) else {
            return;
        };
        let held = slot.held.as_ref();
        let same = held.is_some_and(|held| held.serial == lease.serial);
        let lately = slot.spurned.is_some_and(|at| passed(at, now) < SPURN);
        if same && !lately {
            slot.held = None;
            slot.spurned = Some(now);
        }
    }

    /// Forgets what tasks hold that `over` says are over; fetches under way bring nothing then.
    pub(super) fn forget(&mut self, over: impl Fn(&Task) -> bool) {
        let over = |slot: &Slot| slot.task.as_ref().is_some_and(|task| over(task));
        self.slots.retain(|_, slot| !over(slot));
    }

    /// Forgets everything.
    pub(super) fn forget_all(&mut self) {
        self.slots.clear();
    }

    /// Forgets what is of no use any more.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        self.slots.retain(|_, slot| slot.is_of_use(now));
    }

    /// How things stand.
    pub(super) fn standing(&self, now: Timestamp) -> Standing {
        let held = self.slots.values().filter_map(|slot| slot.held.as_ref());
        let good = held.map(|held| held.span).filter(|span| span.is_good(now));
        let spans: Vec<Span> = good.collect();
        let failing = |slot: &&Slot| slot.trouble.is_some();
        Standing {
            held: spans.len(),
            oldest: spans.iter().map(|span| span.got).min(),
            expires: spans.iter().map(|span| span.expires).min(),
            failing: self.trouble.is_some(),
            refused: self.slots.values().filter(failing).count(),
            last: self.last.clone(),
        }
    }

    /// Whether what was taken at that moment was a failure that is remembered.
    pub(super) fn has_failed_at(&self, now: Timestamp) -> bool {
        self.last.as_ref().is_some_and(|(_, at)| *at == now)
    }

    /// Why nothing is fetched from the source at all now.
    pub(super) fn failing(&self, now: Timestamp) -> Option<Fault> {
        let lasting = self
            .trouble
            .iter()
            .find(|trouble| trouble.backoff.lasts(now));
        lasting.map(|trouble| trouble.fault.clone())
    }

    /// Why nothing is fetched for this key now.
    fn trouble(&self, key: &Key, now: Timestamp) -> Option<Fault> {
        let own = self.slots.get(key).and_then(|slot| slot.trouble.as_ref());
        let lasting = own.filter(|trouble| trouble.backoff.lasts(now));
        let own = || lasting.map(|trouble| trouble.fault.clone());
        self.failing(now).or_else(own)
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Leaves room for one more; the one that was not asked for longest goes, but none that is
    /// waited for.
    fn make_room(&mut self, key: &Key) -> bool {
        if self.slots.len() < MOST || self.slots.contains_key(key) {
            return true;
        }
        let idle = self.slots.iter().filter(|(_, slot)| slot.flight.is_none());
        let oldest = idle.min_by_key(|(_, slot)| slot.touched);
        let oldest = oldest.map(|(key, _)| key.clone());
        oldest.is_some_and(|oldest| self.slots.remove(&oldest).is_some())
    }

    /// Takes what a fetch brought.
    pub(super) fn take(
        &mut self,
        landing: &Landing,
        want: &Want,
        made: Result<(HeaderValue, Span), Fault>,
        now: Timestamp,
    ) -> Outcome {
        let over = want
            .task
            .as_ref()
            .is_some_and(|task| task.state(now) != State::Active);
        let expected = self.slots.get_mut(&landing.key).filter(|slot| {
            let flight = slot.flight.as_ref();
            flight.is_some_and(|flight| flight.serial == landing.serial)
        });
        // Forgotten meanwhile: the authority for it may be gone.
        let Some(slot) = expected.filter(|_| !over) else {
            return Err(Fault::Ended);
        };
        slot.flight = None;
        match made {
            Ok((value, span)) => {
                let held = Held {
                    value,
                    serial: landing.serial,
                    span,
                };
                let lease = held.lease();
                slot.held = Some(held);
                slot.trouble = None;
                self.trouble = None;
                Ok(lease)
            }
            Err(fault) => {
                let trouble = match fault.concerns() {
                    Concerns::All => &mut self.trouble,
                    Concerns::One => &mut slot.trouble,
                    Concerns::Nobody => return Err(fault),
                };
                let before = trouble.as_ref().map(|trouble| trouble.backoff);
                if before.is_some_and(|before| before.lasts(now)) {
                    // Others failed at the same time: that is one failure.
                    return Err(fault);
                }
                *trouble = Some(Trouble {
                    fault: fault.clone(),
                    backoff: Backoff::after(before, now),
                });
                self.last = Some((fault.clone(), now));
                Err(fault)
            }
        }
    }
}

impl Slot {
    fn is_of_use(&self, now: Timestamp) -> bool {
        let held = self
            .held
            .as_ref()
            .is_some_and(|held| held.span.is_good(now));
        let flies = self.flight.as_ref().is_some_and(Flight::is_alive);
        let fails = self
            .trouble
            .as_ref()
            .is_some_and(|trouble| trouble.backoff.is_recent(now));
        held || flies || fails || self.spurned.is_some_and(|at| passed(at, now) < SPURN)
    }
}

impl Held {
    fn lease(&self) -> Lease {
        Lease {
            value: self.value.clone(),
            serial: self.serial,
        }
    }
}

impl Flight {
    /// Whether somebody is still to say how it ended.
    fn is_alive(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }
}

/// The time since then, none if the clock was set back.
fn passed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key {
            task: None,
            scope: Some(number.to_string().into()),
        }
    }

    fn full() -> Kept {
        let mut kept = Kept::default();
        for number in 0..MOST {
            let touched = number as u64;
            let slot = Slot {
                touched,
                ..Slot::default()
            };
            kept.slots.insert(key(number), slot);
        }
        kept
    }

    #[test]
    fn what_was_not_asked_for_longest_gives_way_and_never_what_is_waited_for() {
        let mut kept = full();
        let (_done, outcome) = watch::channel(None);
        kept.slots.get_mut(&key(0)).unwrap().flight = Some(Flight { serial: 1, outcome });
        assert!(kept.make_room(&key(MOST)));
        assert_eq!(kept.slots.len(), MOST - 1);
        assert!(kept.slots.contains_key(&key(0)) && !kept.slots.contains_key(&key(1)));
        assert!(full().make_room(&key(7)), "it has its place already");
    }

    #[test]
    fn when_all_are_waited_for_there_is_no_room() {
        let mut kept = full();
        let (_done, outcome) = watch::channel(None);
        for slot in kept.slots.values_mut() {
            let outcome = outcome.clone();
            slot.flight = Some(Flight { serial: 1, outcome });
        }
        assert!(!kept.make_room(&key(MOST)));
        assert_eq!(kept.slots.len(), MOST);
    }
}
