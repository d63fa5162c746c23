//! Overload: a worker that cannot keep up refuses what comes, at the price of a head and a line.
//!
//! What counts is the *delay* of its event loop: how long something that is ready waits for its
//! turn. A probe that stands at the end of the queue measures it, at most once a millisecond and
//! only while calls come. Calls that wait for a slow service and streams that are open delay
//! nothing and are no overload. As with `CoDel` (RFC 8289) a delay that stands for a whole
//! [`INTERVAL`] counts, a shorter one is a burst; from then on calls are refused while the delay
//! is above its bound, the newest first, and those that were begun are finished.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::sync::Notify;

use crate::{units::Period, workers::Tasks};

/// How long a delay must stand to count, and be gone to be forgotten.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two probes.
const PAUSE: Duration = Duration::from_millis(1);
/// Calls that may come while a probe is on its way, whatever the delay: so few are no flood, and a
/// worker that is slow with them is held up by something else.
const FEW: usize = 32;

/// The `overload` section of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The delay of a worker's event loop above which it refuses calls, once it stands.
    pub max_delay: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_delay: Period(Duration::from_millis(5)),
        }
    }
}

/// More comes than this worker can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker cannot keep up")]
pub struct Overloaded;

/// How much one worker has to do.
#[derive(Debug, Clone, Default)]
pub struct Load(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The probe that is on its way: when it was sent, and the bound it is judged by.
    probe: Cell<Option<(Instant, Duration)>>,
    /// Calls that came since.
    came: Cell<usize>,
    wanted: Notify,
    gauge: Cell<Option<Gauge>>,
}

impl Load {
    /// Starts to watch a worker's event loop.
    pub fn watch(tasks: &Tasks) -> Self {
        let load = Self::default();
        tasks.background(load.clone().probe());
        load
    }

    /// Admits a call that arrived at `now`.
    ///
    /// # Errors
    /// The worker cannot keep up.
    pub fn admit(&self, config: Config, now: Instant) -> Result<(), Overloaded> {
        let (shared, bound) = (&self.0, config.max_delay.0);
        shared.came.set(shared.came.get() + 1);
        let gauge = shared.gauge.get();
        if gauge.is_none_or(|gauge| now.duration_since(gauge.at) >= PAUSE) {
            shared.send(now, bound);
        }
        let Some(gauge) = gauge else { return Ok(()) };
        let sent = shared.probe.get().map_or(now, |(sent, _)| sent);
        let told = gauge.told(sent);
        let delay = told.delay.max(now.duration_since(sent));
        let came = told.came.max(shared.came.get());
        if gauge.is_late() && delay > bound && came > FEW {
            Err(Overloaded)
        } else {
            Ok(())
        }
    }

    /// Goes to the end of the queue whenever it is asked to, and notes how long it took to its turn.
    async fn probe(self) {
        let shared = &self.0;
        loop {
            shared.wanted.notified().await;
            if let Some((sent, bound)) = shared.probe.take() {
                let turn = Turn {
                    delay: sent.elapsed(),
                    came: shared.came.get(),
                };
                let gauge = Gauge::next(shared.gauge.get(), sent, turn, bound);
                shared.gauge.set(Some(gauge));
            }
        }
    }
}

impl Shared {
    /// Sends the probe, unless it is on its way.
    fn send(&self, now: Instant, bound: Duration) {
        if self.probe.get().is_none() {
            self.probe.set(Some((now, bound)));
            self.came.set(0);
            self.wanted.notify_one();
        }
    }
}

/// One turn of a worker's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Turn {
    /// How long it took.
    delay: Duration,
    /// Calls that came meanwhile.
    came: usize,
}

/// What the probes have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gauge {
    /// When the last one came back.
    at: Instant,
    turn: Turn,
    standing: Standing,
}

/// How long the delay has been above its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is not.
    Calm,
    /// Since then, which may be a burst.
    Rising(Instant),
    /// For long enough; then for the last time.
    Late(Instant),
}

impl Gauge {
    /// What a probe adds that was sent then and saw that turn.
    fn next(before: Option<Self>, sent: Instant, turn: Turn, bound: Duration) -> Self {
        // What was long ago says nothing about now.
        let recent = before.filter(|before| sent.duration_since(before.at) <= INTERVAL);
        let standing = recent.map_or(Standing::Calm, |before| before.standing);
        let at = sent + turn.delay;
        let stood = |since| at.duration_since(since) >= INTERVAL;
        let standing = match (standing, turn.delay > bound) {
            (Standing::Calm, true) => Standing::Rising(sent),
            (Standing::Rising(since), true) if !stood(since) => Standing::Rising(since),
            (Standing::Rising(_) | Standing::Late(_), true) => Standing::Late(at),
            (Standing::Late(last), false) if !stood(last) => Standing::Late(last),
            (_, false) => Standing::Calm,
        };
        Self { at, turn, standing }
    }

    /// The last turn, if that was just before then: a flood leaves no pause.
    fn told(&self, then: Instant) -> Turn {
        if then.duration_since(self.at) <= 10 * PAUSE {
            self.turn
        } else {
            Turn::default()
        }
    }

    /// Whether the delay has stood for long enough, and is not forgotten.
    fn is_late(&self) -> bool {
        matches!(self.standing, Standing::Late(_))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(5);

    /// What probes tell that were sent at those milliseconds and took so many.
    fn after(probes: impl IntoIterator<Item = (u64, u64)>) -> Gauge {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let gauge = probes.into_iter().fold(None, |gauge, (sent, took)| {
            let turn = Turn {
                delay: ms(took),
                came: 0,
            };
            Some(Gauge::next(gauge, start + ms(sent), turn, BOUND))
        });
        gauge.unwrap()
    }

    #[test]
    fn a_delay_counts_once_it_has_stood_for_an_interval() {
        assert!(!after([(0, 6)]).is_late());
        assert!(!after((0..9).map(|n| (n * 10, 6))).is_late());
        assert!(after((0..11).map(|n| (n * 10, 6))).is_late());
        assert!(after([(0, 150), (151, 150)]).is_late());
    }

    #[test]
    fn one_quick_turn_shows_that_a_delay_was_a_burst() {
        let burst = (0..20).map(|n| (n * 10, if n % 9 == 8 { 1 } else { 9 }));
        assert!(!after(burst).is_late());
    }

    #[test]
    fn a_flood_that_goes_on_is_let_in_by_no_second_burst() {
        let flood = (0..20).map(|n| (n * 10, 9));
        assert!(after(flood.clone().chain([(200, 1)])).is_late());
        let calm = flood.clone().chain((0..11).map(|n| (200 + n * 10, 1)));
        assert!(!after(calm.clone()).is_late());
        assert!(!after(calm.chain([(310, 6)])).is_late());
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let flood = (0..20).map(|n| (n * 10, 9));
        assert!(!after(flood.chain([(1_000, 9)])).is_late());
        assert!(!after([(0, 6), (1_000, 6)]).is_late());
    }

    /// A worker whose queue is late, to whom so many calls came.
    fn late(came: usize) -> (Load, Instant) {
        let load = Load::default();
        let now = Instant::now();
        load.0.gauge.set(Some(Gauge {
            at: now,
            turn: Turn {
                delay: BOUND * 2,
                came,
            },
            standing: Standing::Late(now),
        }));
        (load, now)
    }

    #[test]
    fn few_calls_are_never_refused() {
        let (load, now) = late(FEW);
        assert_eq!(load.admit(Config::default(), now), Ok(()));
        let (load, now) = late(FEW + 1);
        assert_eq!(load.admit(Config::default(), now), Err(Overloaded));
    }

    #[test]
    fn calls_are_admitted_while_the_delay_is_below_its_bound() {
        let (load, now) = late(FEW + 1);
        let bound = |delay| Config {
            max_delay: Period(delay),
        };
        assert_eq!(load.admit(bound(BOUND * 2), now), Ok(()));
        // What is on its way for longer counts.
        load.admit(bound(BOUND * 2), now + PAUSE).unwrap();
        let later = now + PAUSE + BOUND * 3;
        assert_eq!(load.admit(bound(BOUND * 2), later), Err(Overloaded));
    }

    #[test]
    fn the_first_call_after_a_flood_is_admitted() {
        let (load, now) = late(FEW + 1);
        let later = now + 11 * PAUSE;
        assert_eq!(load.admit(Config::default(), later), Ok(()));
    }

    #[test]
    fn one_probe_is_sent_at_a_time() {
        let (load, now) = late(0);
        load.admit(Config::default(), now).unwrap();
        assert_eq!(load.0.probe.get(), None);
        load.admit(Config::default(), now + PAUSE).unwrap();
        load.admit(Config::default(), now + PAUSE * 5).unwrap();
        assert_eq!(load.0.probe.get(), Some((now + PAUSE, BOUND)));
        assert_eq!(load.0.came.get(), 1);
    }
}
