//! Rates, counted in this process by the generic cell rate algorithm. The only user of governor.
//!
//! A key that has nothing spent needs no memory, so [`Buckets::sweep`] drops it. Between sweeps
//! the number of keys is capped, and a key beyond the cap is refused: forgetting somebody who
//! has spent their quota would be the same as giving it back.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock as _,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{
        StateStore,
        keyed::{DashMapStateStore, ShrinkableKeyedStateStore},
    },
};

use super::{Clock, Rate};

/// The most keys one limit remembers.
pub const MAX_KEYS: usize = 1_000_000;

/// What a caller is told whose key is beyond the cap.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The counts of one rate, by key.
pub(super) struct Buckets {
    limiter: RateLimiter<u128, Store, Ticks, StateInformationMiddleware>,
    store: Store,
    clock: Ticks,
    interval: Duration,
    most: usize,
}

impl Buckets {
    /// Starts with nothing spent.
    pub(super) fn new(rate: Rate, burst: NonZeroU32, clock: Clock) -> Self {
        Self::with_most(rate, burst, clock, MAX_KEYS)
    }

    pub(super) fn with_most(rate: Rate, burst: NonZeroU32, clock: Clock, most: usize) -> Self {
        let interval = rate.interval();
        let quota = Quota::with_period(interval)
            .unwrap_or_else(|| Quota::per_hour(NonZeroU32::MIN))
            .allow_burst(burst);
        let (store, clock) = (Store::default(), Ticks(clock));
        let limiter = RateLimiter::new(quota, store.clone(), clock.clone());
        Self {
            limiter,
            store,
            clock,
            interval,
            most,
        }
    }

    /// Spends one; returns what is left, or how long to wait.
    pub(super) fn spend(&self, key: u128) -> Result<u32, Duration> {
        if self.store.len() >= self.most && !self.store.knows(key) {
            return Err(FULL_RETRY_AFTER);
        }
        match self.limiter.check_key(&key) {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(until) => Err(until.wait_time_from(self.clock.now())),
        }
    }

    /// Whole seconds after which one more can be spent, rounded up.
    pub(super) fn more_after_s(&self) -> u64 {
        let whole = self.interval.as_secs();
        whole + u64::from(self.interval.subsec_nanos() > 0)
    }

    /// Drops the keys that have nothing spent.
    pub(super) fn sweep(&self) {
        self.limiter.retain_recent();
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.store.0.buckets.len()
    }
}

/// The clock, as governor wants it.
#[derive(Clone)]
struct Ticks(Clock);

impl governor::clock::Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

/// The buckets with a count of them: asking the map itself would lock all of it.
#[derive(Clone, Default)]
struct Store(Arc<Counted>);

#[derive(Default)]
struct Counted {
    buckets: DashMapStateStore<u128>,
    /// The number of buckets, within the few that threads add at the same moment.
    count: AtomicUsize,
}

impl Store {
    fn knows(&self, key: u128) -> bool {
        self.0.buckets.contains_key(&key)
    }
}

impl StateStore for Store {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.buckets.measure_and_replace(key, |state| {
            if state.is_none() {
                self.0.count.fetch_add(1, Ordering::Relaxed);
            }
            decide(state)
        })
    }
}

impl ShrinkableKeyedStateStore<u128> for Store {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.buckets.retain_recent(drop_below);
        self.0.count.store(self.0.buckets.len(), Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
