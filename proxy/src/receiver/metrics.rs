//! The receiver's metrics. Labels come from configuration and from fixed words only.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::metrics::{Format, written};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabels {
    transmitter: Arc<str>,
    event: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    transmitter: Arc<str>,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TransmitterLabels {
    transmitter: Arc<str>,
}

/// All families.
pub struct Metrics {
    registry: Mutex<Registry>,
    events: Family<EventLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    polls: Family<TokenLabels, Counter>,
    keys: Family<TransmitterLabels, Gauge>,
    up: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("outrider_receiver")),
            events: Family::default(),
            tokens: Family::default(),
            polls: Family::default(),
            keys: Family::default(),
            up: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut to = self
            .registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        to.register(
            "events",
            "Events of accepted tokens, by what was done",
            self.events.clone(),
        );
        to.register(
            "tokens",
            "Security event tokens, by what became of them",
            self.tokens.clone(),
        );
        to.register("polls", "Requests to transmitters", self.polls.clone());
        to.register("keys", "Keys that serve", self.keys.clone());
        to.register(
            "state_up",
            "Whether the fleet's store, or every sidecar, can be told",
            self.up.clone(),
        );
    }

    /// Counts an event.
    pub fn event(&self, transmitter: &Arc<str>, event: &'static str, result: &'static str) {
        let labels = EventLabels {
            transmitter: Arc::clone(transmitter),
            event,
            result,
        };
        self.events.get_or_create(&labels).inc();
    }

    /// Counts a token.
    pub fn token(&self, transmitter: &Arc<str>, result: &'static str) {
        let labels = TokenLabels {
            transmitter: Arc::clone(transmitter),
            result,
        };
        self.tokens.get_or_create(&labels).inc();
    }

    /// Counts a request to a transmitter.
    pub fn poll(&self, transmitter: &Arc<str>, result: &'static str) {
        let labels = TokenLabels {
            transmitter: Arc::clone(transmitter),
            result,
        };
        self.polls.get_or_create(&labels).inc();
    }

    /// States how many keys of a transmitter serve.
    pub fn keys(&self, transmitter: &Arc<str>, keys: usize) {
        let labels = TransmitterLabels {
            transmitter: Arc::clone(transmitter),
        };
        let keys = i64::try_from(keys).unwrap_or(i64::MAX);
        self.keys.get_or_create(&labels).set(keys);
    }

    /// States whether the fleet's store, or every sidecar, can be told.
    pub fn state_up(&self, up: bool) {
        self.up.set(up.into());
    }

    /// The whole page.
    pub fn page(&self, format: Format) -> String {
        let registry = self
            .registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        written(&registry, format)
    }
}
