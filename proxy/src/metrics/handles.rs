//! Handles that are prepared at load, so that a call touches atomics only.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use super::{
    labels::{CallLabels, Direction, ToolLabels},
    timed::Timed,
};
use crate::call::Trace;

/// The handles of one tool.
#[derive(Debug)]
pub struct ToolMetrics {
    pub(super) labels: ToolLabels,
    pub(super) calls: Family<CallLabels, Counter>,
    pub(super) ok: Counter,
    pub(super) duration: Timed,
    pub(super) violations: [Counter; 2],
}

impl ToolMetrics {
    /// Counts a decision: outcome `allow`, `deny`, `hold` or `shadow_deny` with its code.
    pub fn decided(&self, outcome: &'static str, code: &'static str) {
        if outcome == "allow" && code == "ok" {
            self.ok.inc();
        } else {
            self.calls
                .get_or_create(&self.labels.call(outcome, code))
                .inc();
        }
    }

    /// Notes how long a call took, from request to the end of the answer.
    pub fn ended(&self, took: Duration, trace: Option<&Trace>) {
        self.duration.observe(took, trace);
    }

    /// Counts a message against the schema.
    pub fn violated(&self, direction: Direction) {
        if let Some(counter) = self.violations.get(direction as usize) {
            counter.inc();
        }
    }
}

/// The handle of one upstream.
#[derive(Debug)]
pub struct ServiceMetrics(pub(super) Timed);

impl ServiceMetrics {
    /// Notes how long the upstream took.
    pub fn answered(&self, took: Duration, trace: Option<&Trace>) {
        self.0.observe(took, trace);
    }
}

/// The handle of one limit.
#[derive(Debug, Clone)]
pub struct LimitMetrics(pub(super) Counter);

impl LimitMetrics {
    /// Counts a call over the limit.
    pub fn rejected(&self) {
        self.0.inc();
    }
}

/// The handle of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics(pub(super) Gauge);

impl ListenerMetrics {
    /// Counts a call as under way until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.0.inc();
        InFlight(self.0.clone())
    }
}

/// One call under way.
#[derive(Debug)]
#[must_use = "the call counts as under way until this is dropped"]
pub struct InFlight(pub(super) Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
