//! The `limits` section of the configuration.

use std::{collections::HashSet, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use serde::Deserialize;

use outrider_policy::Level;

use super::{Policy, Subjects, ToolTraits};

/// The longest time a spent burst may take to come back whole.
const MAX_REFILL: Duration = Duration::from_hours(366 * 24);

/// The most calls per second at a steady rate.
const MAX_PER_SECOND: u64 = 1_000_000;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Config {
    /// Its name, in refusals, headers and metrics.
    pub name: LimitName,
    /// Whose calls are counted together; not empty, no part twice.
    pub key: Vec<KeyPart>,
    /// What is counted.
    pub measure: Measure,
    /// To which tools it applies.
    pub when: When,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Calls over time.
    Rate {
        /// The steady rate.
        rate: Rate,
        /// Calls that may come at once after a pause.
        burst: NonZeroU32,
    },
    /// Calls at once.
    Concurrency(NonZeroU32),
}

/// An identity of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// The agent.
    Agent,
    /// On whose behalf it acts.
    Subject,
    /// The task.
    Task,
    /// The service.
    Service,
    /// The tool.
    Tool,
}

impl KeyPart {
    pub(super) fn of<'a>(self, who: &Subjects<'a>) -> &'a str {
        match self {
            Self::Agent => who.agent,
            Self::Subject => who.subject,
            Self::Task => who.task,
            Self::Service => who.service,
            Self::Tool => who.tool,
        }
    }
}

/// A limit that makes no sense as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLimit {
    /// Not a name.
    #[error("expected a limit's name: letters, digits, `-`, `_` and `.`, at most 63")]
    Name,
    /// No identity to count by.
    #[error("`key` is empty; expected some of agent, subject, task, service, tool")]
    NoKey,
    /// An identity twice.
    #[error("`key` names a part twice")]
    KeyTwice,
    /// Both measures, or none.
    #[error("expected exactly one of `rate` and `concurrency`")]
    Measure,
    /// A burst of places.
    #[error("`burst` goes with `rate` only")]
    Burst,
    /// Not a rate.
    #[error("expected a rate such as `60/min`; units s, min, h, d")]
    Rate,
    /// Faster than can be counted.
    #[error("a rate is at most 1000000/s")]
    TooFast,
    /// A burst that never comes back.
    #[error("a spent `burst` must come back within a year at the limit's rate")]
    TooSlow,
}

/// The keys as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: LimitName,
    key: Vec<KeyPart>,
    rate: Option<Rate>,
    burst: Option<NonZeroU32>,
    concurrency: Option<NonZeroU32>,
    #[serde(default)]
    when: When,
}

impl TryFrom<Written> for Config {
    type Error = BadLimit;

    fn try_from(written: Written) -> Result<Self, BadLimit> {
        let measure = written.measure()?;
        let Written {
            name, key, when, ..
        } = written;
        if key.is_empty() {
            return Err(BadLimit::NoKey);
        }
        if (1..key.len()).any(|end| key.iter().take(end).any(|part| key.get(end) == Some(part))) {
            return Err(BadLimit::KeyTwice);
        }
        Ok(Self {
            name,
            key,
            measure,
            when,
        })
    }
}

impl Written {
    fn measure(&self) -> Result<Measure, BadLimit> {
        match (self.rate, self.burst, self.concurrency) {
            (Some(rate), burst, None) => {
                let burst = burst.unwrap_or(rate.count);
                let refill = rate.interval().checked_mul(burst.get());
                if refill.is_none_or(|refill| refill > MAX_REFILL) {
                    return Err(BadLimit::TooSlow);
                }
                Ok(Measure::Rate { rate, burst })
            }
            (None, None, Some(most)) => Ok(Measure::Concurrency(most)),
            (None, Some(_), Some(_)) => Err(BadLimit::Burst),
            (Some(_), _, Some(_)) | (None, _, None) => Err(BadLimit::Measure),
        }
    }
}

impl Config {
    /// What the limit allows, as a header says it.
    pub(super) fn policy(&self) -> Policy {
        match self.measure {
            Measure::Rate { rate, .. } => Policy {
                quota: rate.count.get(),
                window_s: Some(rate.unit.seconds()),
            },
            Measure::Concurrency(most) => Policy {
                quota: most.get(),
                window_s: None,
            },
        }
    }
}

/// Finds a name that two limits bear; headers and metrics could not tell them apart.
pub fn repeated_name(configs: &[Config]) -> Option<&LimitName> {
    let mut seen = HashSet::new();
    configs
        .iter()
        .map(|config| &config.name)
        .find(|&name| !seen.insert(name))
}

/// The name of a limit: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct LimitName(Arc<str>);

impl LimitName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl TryFrom<String> for LimitName {
    type Error = BadLimit;

    fn try_from(name: String) -> Result<Self, BadLimit> {
        let fits = name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if fits {
            Ok(Self(name.into()))
        } else {
            Err(BadLimit::Name)
        }
    }
}

impl fmt::Debug for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number of calls per unit of time, such as `60/min`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    /// Calls per unit.
    pub count: NonZeroU32,
    /// The unit.
    pub unit: Unit,
}

/// The unit of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `s`
    Second,
    /// `min`
    Minute,
    /// `h`
    Hour,
    /// `d`, 24 hours
    Day,
}

impl Unit {
    /// Its length in seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

impl Rate {
    /// The time between two calls at this rate, rounded up to a nanosecond so that the rate is
    /// never exceeded.
    pub fn interval(self) -> Duration {
        let unit = self.unit.seconds() * 1_000_000_000;
        Duration::from_nanos(unit.div_ceil(u64::from(self.count.get())))
    }
}

impl TryFrom<String> for Rate {
    type Error = BadLimit;

    fn try_from(text: String) -> Result<Self, BadLimit> {
        let (count, unit) = text.split_once('/').ok_or(BadLimit::Rate)?;
        let unit = match unit {
            "s" => Unit::Second,
            "min" => Unit::Minute,
            "h" => Unit::Hour,
            "d" => Unit::Day,
            _ => return Err(BadLimit::Rate),
        };
        if !count.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadLimit::Rate);
        }
        let count: NonZeroU32 = count.parse().map_err(|_| BadLimit::Rate)?;
        if u64::from(count.get()) > unit.seconds() * MAX_PER_SECOND {
            return Err(BadLimit::TooFast);
        }
        Ok(Self { count, unit })
    }
}

/// The facts of a tool that must all be as written for a limit to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The tool changes nothing.
    pub read_only: Option<bool>,
    /// The tool may destroy or overwrite.
    pub destructive: Option<bool>,
    /// The same call twice has the effect of one.
    pub idempotent: Option<bool>,
    /// The tool reaches beyond the service's own data.
    pub open_world: Option<bool>,
    /// The tool's level is exactly this.
    pub classification: Option<Level>,
}

impl When {
    pub(super) fn applies(self, tool: ToolTraits) -> bool {
        let flag = |wanted: Option<bool>, is| wanted.is_none_or(|wanted| wanted == is);
        flag(self.read_only, tool.read_only)
            && flag(self.destructive, tool.destructive)
            && flag(self.idempotent, tool.idempotent)
            && flag(self.open_world, tool.open_world)
            && self
                .classification
                .is_none_or(|level| level == tool.classification)
    }
}
