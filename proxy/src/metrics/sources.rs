//! Families whose numbers somebody else keeps, read when the page is.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge, info::Info},
};

use super::{
    States,
    labels::{PolicyLabels, StateLabels},
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
