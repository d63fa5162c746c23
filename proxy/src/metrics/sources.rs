//! Families whose numbers somebody else keeps, read when the page is.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
};

use super::{
    Issuers, States,
    labels::{IssuerLabels, PolicyLabels, ResultLabels, StateLabels},
};

/// `outrider_policy_info`: one sample, of the policy in force.
#[derive(Debug, Default)]
pub(super) struct PolicyInfo(pub(super) Mutex<Option<PolicyLabels>>);

impl Collector for PolicyInfo {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let labels = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(labels) = labels else { return Ok(()) };
        let encoder =
            encoder.encode_descriptor("policy", "The policy in force", None, MetricType::Info)?;
        Info::new(labels).encode(encoder)
    }
}

/// A gauge by state whose numbers somebody else keeps.
pub(super) struct Fed {
    name: &'static str,
    help: &'static str,
    source: OnceLock<States>,
}

impl Fed {
    pub(super) fn new(name: &'static str, help: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            help,
            source: OnceLock::new(),
        })
    }

    pub(super) fn feed(&self, source: States) {
        if self.source.set(source).is_err() {
            tracing::debug!(family = self.name, "already fed");
        }
    }
}

impl fmt::Debug for Fed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Fed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encoder =
            encoder.encode_descriptor(self.name, self.help, None, MetricType::Gauge)?;
        for (state, number) in self.source.get().map(|read| read()).unwrap_or_default() {
            let labels = StateLabels {
                state: state.into(),
            };
            ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX))
                .encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// `outrider_issuer_keys` and `outrider_issuer_keys_age_seconds`.
#[derive(Default)]
pub(super) struct IssuerKeys(pub(super) OnceLock<Issuers>);

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("issuer_keys")
    }
}

impl Collector for IssuerKeys {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let issuers = self.0.get().map(|read| read()).unwrap_or_default();
        let labels = |issuer: &str| IssuerLabels {
            issuer: issuer.into(),
        };
        let mut keys = encoder.encode_descriptor(
            "issuer_keys",
            "Keys of an issuer that verify task tokens; 0 when they are too old",
            None,
            MetricType::Gauge,
        )?;
        for (issuer, count, _) in &issuers {
            let count = ConstGauge::new(i64::try_from(*count).unwrap_or(i64::MAX));
            count.encode(keys.encode_family(&labels(issuer))?)?;
        }
        let mut ages = encoder.encode_descriptor(
            "issuer_keys_age_seconds",
            "Since an issuer's keys are not known to be those it publishes",
            None,
            MetricType::Gauge,
        )?;
        for (issuer, _, age) in &issuers {
            if let Some(age) = age {
                let age = ConstGauge::new(age.as_secs_f64());
                age.encode(ages.encode_family(&labels(issuer))?)?;
            }
        }
        Ok(())
    }
}

/// How a fleet's store stands, for the metrics page.
#[derive(Clone, Debug, Default)]
pub struct StoreNumbers {
    /// Whether calls are counted there.
    pub up: bool,
    /// Seconds since the last sign of life; none before the first.
    pub age: Option<f64>,
    /// Questions of calls, by result.
    pub questions: Vec<(&'static str, u64)>,
    /// Changes that others told of, by result.
    pub changes: Vec<(&'static str, u64)>,
}

/// Tells [`StoreNumbers`].
pub type StoreSource = Box<dyn Fn() -> StoreNumbers + Send + Sync>;

/// The families of a fleet's store; without a fleet there are none.
#[derive(Default)]
pub(super) struct StoreFamilies(OnceLock<StoreSource>);

impl StoreFamilies {
    pub(super) fn feed(&self, source: StoreSource) {
        if self.0.set(source).is_err() {
            tracing::debug!("the store's families are fed already");
        }
    }
}

impl fmt::Debug for StoreFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFamilies")
    }
}

impl Collector for StoreFamilies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(read) = self.0.get() else {
            return Ok(());
        };
        let numbers = read();
        let mut gauge = |name, help, value: f64| {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(encoder)
        };
        let up = f64::from(u8::from(numbers.up));
        gauge(
            "state_up",
            "Whether calls are counted in the fleet's store",
            up,
        )?;
        if let Some(age) = numbers.age {
            gauge(
                "state_age_seconds",
                "Since the store's last sign of life",
                age,
            )?;
        }
        let mut counter = |name, help, values: &[(&'static str, u64)]| {
            let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (result, value) in values {
                let labels = ResultLabels {
                    result: (*result).into(),
                };
                ConstCounter::new(*value).encode(encoder.encode_family(&labels)?)?;
            }
            Ok(())
        };
        counter(
            "state_questions",
            "Questions of calls to the store",
            &numbers.questions,
        )?;
        counter(
            "state_changes",
            "Changes of authority from the store",
            &numbers.changes,
        )
    }
}
