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
/// Calls that a worker takes in hand whatever the delay: so few are slow, but no flood.
const ALWAYS: usize = 64;

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
    in_hand: Cell<usize>,
    /// The probe that is on its way: when it was sent, and the bound it is judged by.
    probe: Cell<Option<(Instant, Duration)>>,
    wanted: Notify,
    gauge: Cell<Option<Gauge>>,
}

/// A call in hand, until this is dropped.
#[derive(Debug)]
pub struct InHand(Rc<Shared>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.set(self.0.in_hand.get().saturating_sub(1));
    }
}

impl Load {
    /// Starts to watch a worker's event loop.
    pub fn watch(tasks: &Tasks) -> Self {
        let load = Self::default();
        tasks.background(load.clone().probe());
        load
    }

    /// Takes a call in hand until its answer begins.
    pub fn enter(&self) -> InHand {
        self.0.in_hand.set(self.0.in_hand.get() + 1);
        InHand(Rc::clone(&self.0))
    }

    /// Admits a call that arrived at `now`.
    ///
    /// # Errors
    /// The worker cannot keep up.
    pub fn admit(&self, config: Config, now: Instant) -> Result<(), Overloaded> {
        let shared = &self.0;
        let (bound, gauge) = (config.max_delay.0, shared.gauge.get());
        let on_its_way = shared.probe.get().map(|(sent, _)| now.duration_since(sent));
        if on_its_way.is_none() && gauge.is_none_or(|gauge| now.duration_since(gauge.at) >= PAUSE) {
            shared.probe.set(Some((now, bound)));
            shared.wanted.notify_one();
        }
        let late = gauge.is_some_and(|gauge| gauge.is_late(on_its_way.unwrap_or_default(), bound));
        if late && shared.in_hand.get() > ALWAYS {
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
                let gauge = Gauge::next(shared.gauge.get(), sent, Instant::now(), bound);
                shared.gauge.set(Some(gauge));
            }
        }
    }
}

/// What the probes have told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gauge {
    at: Instant,
    delay: Duration,
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
    /// What a probe adds that was sent and came back then.
    fn next(before: Option<Self>, sent: Instant, at: Instant, bound: Duration) -> Self {
        // What was long ago says nothing about now.
        let recent = before.filter(|before| sent.duration_since(before.at) <= INTERVAL);
        let standing = recent.map_or(Standing::Calm, |before| before.standing);
        let delay = at.duration_since(sent);
        let stood = |since| at.duration_since(since) >= INTERVAL;
        let standing = match (standing, delay > bound) {
            (Standing::Calm, true) => Standing::Rising(sent),
            (Standing::Rising(since), true) if !stood(since) => Standing::Rising(since),
            (Standing::Rising(_) | Standing::Late(_), true) => Standing::Late(at),
            (Standing::Late(last), false) if !stood(last) => Standing::Late(last),
            (_, false) => Standing::Calm,
        };
        Self {
            at,
            delay,
            standing,
        }
    }

    /// Whether a call that comes now is too much, with a probe that has been on its way for so long.
    fn is_late(&self, on_its_way: Duration, bound: Duration) -> bool {
        matches!(self.standing, Standing::Late(_)) && self.delay.max(on_its_way) > bound
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(5);

    /// The gauge after probes that were sent at those milliseconds and took so many.
    fn after(probes: impl IntoIterator<Item = (u64, u64)>) -> Gauge {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let gauge = probes.into_iter().fold(None, |gauge, (sent, took)| {
            let sent = start + ms(sent);
            Some(Gauge::next(gauge, sent, sent + ms(took), BOUND))
        });
        gauge.unwrap()
    }

    fn is_late(probes: impl IntoIterator<Item = (u64, u64)>) -> bool {
        after(probes).is_late(Duration::ZERO, BOUND)
    }

    #[test]
    fn a_delay_counts_once_it_has_stood_for_an_interval() {
        assert!(!is_late([(0, 6)]));
        assert!(!is_late((0..9).map(|n| (n * 10, 6))));
        assert!(is_late((0..11).map(|n| (n * 10, 6))));
        assert!(is_late([(0, 150), (151, 150)]));
    }

    #[test]
    fn one_quick_turn_shows_that_a_delay_was_a_burst() {
        let burst = (0..20).map(|n| (n * 10, if n % 9 == 8 { 1 } else { 9 }));
        assert!(!is_late(burst));
    }

    #[test]
    fn calls_are_admitted_again_as_soon_as_the_delay_is_gone() {
        let flood = (0..20).map(|n| (n * 10, 9));
        let gauge = after(flood.clone().chain([(200, 1)]));
        assert!(!gauge.is_late(Duration::ZERO, BOUND));
        // Of a flood that goes on no second burst is let in.
        assert!(gauge.is_late(Duration::from_millis(6), BOUND));
        assert!(is_late(flood.clone().chain([(200, 1), (210, 6)])));
        let calm = flood.chain((0..11).map(|n| (200 + n * 10, 1)));
        assert!(!is_late(calm.chain([(310, 6)])));
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let flood = (0..20).map(|n| (n * 10, 9));
        assert!(!is_late(flood.chain([(1_000, 9)])));
        assert!(!is_late([(0, 6), (1_000, 6)]));
    }

    /// A worker whose queue is late: the probe finds it so whenever it is asked.
    fn late() -> (Load, Instant) {
        let load = Load::default();
        let now = Instant::now();
        load.0.gauge.set(Some(Gauge {
            at: now,
            delay: BOUND * 2,
            standing: Standing::Late(now),
        }));
        (load, now)
    }

    #[test]
    fn few_calls_are_never_refused() {
        let (load, now) = late();
        let mut hands: Vec<_> = (0..ALWAYS).map(|_| load.enter()).collect();
        assert_eq!(load.admit(Config::default(), now), Ok(()));
        hands.push(load.enter());
        assert_eq!(load.admit(Config::default(), now), Err(Overloaded));
        hands.pop();
        assert_eq!(load.admit(Config::default(), now), Ok(()));
    }

    #[test]
    fn one_probe_is_sent_at_a_time() {
        let (load, now) = late();
        load.admit(Config::default(), now).unwrap();
        assert_eq!(load.0.probe.get(), None);
        load.admit(Config::default(), now + PAUSE).unwrap();
        load.admit(Config::default(), now + PAUSE * 5).unwrap();
        assert_eq!(load.0.probe.get(), Some((now + PAUSE, BOUND)));
    }
}
