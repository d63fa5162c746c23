//! How often: rates and places, spent before anything looks at what a call says.
//!
//! In come the identities of a call and the facts of its tool; out comes [`Admitted`], which
//! holds the call's places until it is dropped, or [`Throttled`].
//!
//! Limits are spent in the order of the file, at the attempt: a call that a later limit, the
//! policy or the server refuses has still spent the earlier ones. The first limit that refuses
//! ends the check, so those after it are not spent.
//!
//! Each limit counts per key, the values of the identities it names. Keys are 128-bit hashes
//! under seeds of this process. Should two keys ever meet, they share one count: that can refuse
//! a call too early, but never admits one too many.

mod concurrency;
mod config;
mod key;
mod local;
pub mod shared;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use outrider_policy::Level;

use self::{concurrency::Place, key::Seeds};
pub use self::{
    config::{BadLimit, Config, KeyPart, LimitName, Measure, Rate, Unit, When, repeated_name},
    local::MAX_KEYS,
};

/// The time since any fixed moment; it never goes back.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Who makes a call, and of what. Each is taken as it is; none is parsed.
#[derive(Debug, Clone, Copy)]
pub struct Subjects<'a> {
    /// The agent's URI.
    pub agent: &'a str,
    /// On whose behalf.
    pub subject: &'a str,
    /// Issuer and ID of the task, joined.
    pub task: &'a str,
    /// The service's name.
    pub service: &'a str,
    /// The tool's ID, `service/operation`.
    pub tool: &'a str,
}

/// The facts of a tool that `when` may ask for.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, named by MCP"
)]
pub struct ToolTraits {
    /// It changes nothing.
    pub read_only: bool,
    /// It may destroy or overwrite.
    pub destructive: bool,
    /// The same call twice has the effect of one.
    pub idempotent: bool,
    /// It reaches beyond the service's own data.
    pub open_world: bool,
    /// Its level.
    pub classification: Level,
}

/// What a limit allows, for `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Calls per window, or calls at once.
    pub quota: u32,
    /// The window in seconds; `None` for calls at once.
    pub window_s: Option<u64>,
}

/// What is left of one limit after a call was admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining {
    /// The limit.
    pub name: Arc<str>,
    /// Calls that would pass now.
    pub remaining: u32,
    /// Seconds after which there is at least one more; 0 where that depends on other calls.
    pub reset_s: u64,
    /// What the limit allows.
    pub policy: Policy,
}

/// A call within its limits. Keep it until the call ends: it holds the call's places.
#[derive(Debug)]
#[must_use = "dropping it gives the places back"]
pub struct Admitted {
    /// What is left, one entry for each limit that applied, in file order.
    pub remaining: Vec<Remaining>,
    /// Held for their drop.
    places: Vec<Place>,
    /// What the fleet's store has to say yet; empty where limits are counted here.
    asked: Vec<shared::Asked>,
}

impl Admitted {
    /// What has to be asked of the store before the call goes on.
    pub fn asked(&self) -> impl ExactSizeIterator<Item = &shared::Cell> {
        self.asked.iter().map(|asked| &asked.cell)
    }

    /// Takes the store's answer.
    ///
    /// # Errors
    /// [`Throttled`] by the first limit that is spent.
    pub fn counted(&mut self, counted: &shared::Counted) -> Result<(), Throttled> {
        let asked = std::mem::take(&mut self.asked);
        for (index, (asked, until)) in asked.iter().zip(&counted.until).enumerate() {
            let Some(left) = self.remaining.get_mut(asked.place) else {
                continue;
            };
            if counted.spent && index + 1 == counted.until.len() {
                return Err(Throttled {
                    limit: Arc::clone(&left.name),
                    retry_after: counted.wait(&asked.cell, *until),
                    policy: left.policy,
                });
            }
            left.remaining = counted.remaining(&asked.cell, *until);
        }
        Ok(())
    }
}

/// A call beyond a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quota `{limit}` is spent, retry in {retry_after:?}")]
pub struct Throttled {
    /// The limit.
    pub limit: Arc<str>,
    /// The earliest time at which another attempt can pass.
    pub retry_after: Duration,
    /// What the limit allows.
    pub policy: Policy,
}

/// All limits, with their counts.
pub struct Limits {
    all: Vec<Limit>,
    seeds: Arc<Seeds>,
    clock: Clock,
    /// How keys are named in the fleet's store; without one, everything is counted here.
    names: Option<shared::Names>,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.all.iter().map(|limit| &limit.config))
            .finish()
    }
}

/// One definition and what it has counted.
struct Limit {
    config: Config,
    policy: Policy,
    counts: Counts,
}

enum Counts {
    Rate(Arc<local::Buckets>),
    Places(Arc<concurrency::Table>),
    Shared(shared::Rate),
}

impl Limits {
    /// Starts counting, on the monotonic clock.
    pub fn new(configs: &[Config]) -> Self {
        let start = Instant::now();
        Self::with_clock(configs, Arc::new(move || start.elapsed()))
    }

    /// Starts counting, on a given clock.
    pub fn with_clock(configs: &[Config], clock: Clock) -> Self {
        Self::counting(configs, clock, None)
    }

    /// Counts rates in a fleet's store, under these names, and places here.
    pub fn shared(configs: &[Config], names: shared::Names) -> Self {
        let start = Instant::now();
        Self::counting(configs, Arc::new(move || start.elapsed()), Some(names))
    }

    fn counting(configs: &[Config], clock: Clock, names: Option<shared::Names>) -> Self {
        Self {
            all: Vec::new(),
            seeds: Arc::default(),
            clock,
            names,
        }
        .renew(configs)
    }

    /// Takes over new definitions. A rate that is defined as before keeps its counts; places stay
    /// taken as long as name and key are the same.
    #[must_use]
    pub fn renew(&self, configs: &[Config]) -> Self {
        let all = configs.iter().map(|config| Limit {
            policy: config.policy(),
            counts: self.kept(config).unwrap_or_else(|| self.fresh(config)),
            config: config.clone(),
        });
        Self {
            all: all.collect(),
            seeds: Arc::clone(&self.seeds),
            clock: Arc::clone(&self.clock),
            names: self.names.clone(),
        }
    }

    fn kept(&self, config: &Config) -> Option<Counts> {
        self.all.iter().find_map(|limit| match &limit.counts {
            Counts::Rate(buckets) => {
                (limit.config == *config).then(|| Counts::Rate(Arc::clone(buckets)))
            }
            Counts::Places(table) => {
                let same = limit.config.name == config.name
                    && limit.config.key == config.key
                    && matches!(config.measure, Measure::Concurrency(_));
                same.then(|| Counts::Places(Arc::clone(table)))
            }
            // The store keeps what is defined as before.
            Counts::Shared(_) => None,
        })
    }

    fn fresh(&self, config: &Config) -> Counts {
        let shared = self.names.as_ref();
        if let Some(rate) = shared.and_then(|names| shared::Rate::of(config, names)) {
            return Counts::Shared(rate);
        }
        match config.measure {
            Measure::Rate { rate, burst } => Counts::Rate(Arc::new(local::Buckets::new(
                rate,
                burst,
                Arc::clone(&self.clock),
            ))),
            Measure::Concurrency(_) => Counts::Places(Arc::default()),
        }
    }

    /// Spends the limits that apply, in file order; of those that a fleet shares it says what to ask
    /// ([`Admitted::asked`]), so places are taken before shared rates are spent.
    ///
    /// # Errors
    ///
    /// [`Throttled`] by the first limit that is spent; the ones before it stay spent, places
    /// taken on the way are given back.
    pub fn check(&self, who: &Subjects<'_>, tool: ToolTraits) -> Result<Admitted, Throttled> {
        let mut admitted = Admitted {
            remaining: Vec::new(),
            places: Vec::new(),
            asked: Vec::new(),
        };
        for limit in self
            .all
            .iter()
            .filter(|limit| limit.config.when.applies(tool))
        {
            let key = || self.seeds.key(&limit.config.key, who);
            limit.spend(key, who, &mut admitted)?;
        }
        Ok(admitted)
    }

    /// Forgets the keys that have nothing spent. Takes tens of milliseconds at a million keys:
    /// call it seldom, and not on a thread that serves calls.
    pub fn sweep(&self) {
        for limit in &self.all {
            if let Counts::Rate(buckets) = &limit.counts {
                buckets.sweep();
            }
        }
    }
}

impl Limit {
    fn spend(
        &self,
        key: impl Fn() -> u128,
        who: &Subjects<'_>,
        admitted: &mut Admitted,
    ) -> Result<(), Throttled> {
        let (remaining, reset_s) = match &self.counts {
            Counts::Shared(rate) => {
                admitted.asked.push(shared::Asked {
                    cell: rate.cell(&self.config.key, who),
                    place: admitted.remaining.len(),
                });
                (0, rate.more_after_s())
            }
            Counts::Rate(buckets) => {
                let remaining = buckets.spend(key()).map_err(|wait| self.throttled(wait))?;
                (remaining, buckets.more_after_s())
            }
            Counts::Places(table) => {
                let taken = table.take(key(), self.policy.quota);
                let (place, remaining) =
                    taken.ok_or_else(|| self.throttled(concurrency::RETRY_AFTER))?;
                admitted.places.push(place);
                (remaining, 0)
            }
        };
        let name = self.config.name.shared();
        admitted.remaining.push(Remaining {
            name,
            remaining,
            reset_s,
            policy: self.policy,
        });
        Ok(())
    }

    fn throttled(&self, retry_after: Duration) -> Throttled {
        Throttled {
            limit: self.config.name.shared(),
            retry_after,
            policy: self.policy,
        }
    }
}

#[cfg(test)]
mod tests;
