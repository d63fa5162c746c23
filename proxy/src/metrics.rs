//! Every metric family on one page.
//!
//! Facts of closed entries and of the edges come in; Prometheus text (0.0.4) or `OpenMetrics` (1.0.0)
//! goes out. Label values come from configuration, catalogue and our own fixed words only: no task,
//! decision, subject, path or argument. Handles are prepared at load, so that a call touches no map.

mod format;
mod handles;
mod labels;
pub(crate) mod page;
mod sources;
mod timed;

use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

pub use format::Format;
pub use handles::{InFlight, LimitMetrics, ListenerMetrics, ServiceMetrics, ToolMetrics};
pub use labels::{Direction, Stage};
pub use sources::{StoreNumbers, StoreSource};

use crate::call::Trace;
use format::to_prometheus;
use labels::{
    BuildLabels, CallLabels, LimitLabels, ListenerLabels, PolicyLabels, ReasonLabels, ResultLabels,
    ServiceLabels, SignalLabels, SourceLabels, StageLabels, TelemetryLabels, ToolLabels,
    ViolationLabels,
};
pub use sources::{CredentialSample, CredentialSamples};
use sources::{Credentials, Expiry, Fed, IssuerKeys, PolicyInfo, StoreFamilies};
use timed::{Exemplified, Timed};

/// The label of a service or tool that configuration and catalogue do not know.
pub const OTHER: &str = "_other";

/// Bounds of whole calls and of upstreams, in seconds.
const CALL_SECONDS: [f64; 14] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// Bounds of what the sidecar itself takes, in seconds.
const OWN_SECONDS: [f64; 13] = [
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.002_5,
    0.01,
    0.1,
];

type Times<L> = Family<L, Exemplified, fn() -> Exemplified>;

fn call_seconds() -> Exemplified {
    Exemplified::new(CALL_SECONDS.into_iter())
}

fn own_seconds() -> Exemplified {
    Exemplified::new(OWN_SECONDS.into_iter())
}

fn times<L: Clone + std::hash::Hash + Eq>(make: fn() -> Exemplified) -> Times<L> {
    Family::new_with_constructor(make)
}

/// Numbers that somebody else keeps, by state, read when the page is.
pub type States = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// By issuer: how many keys serve, and how old that is; read when the page is.
pub type Issuers = Box<dyn Fn() -> Vec<(Arc<str>, usize, Option<Duration>)> + Send + Sync>;

/// When something expires, in seconds since the epoch, and of which source it is; read when the page is.
pub type Expires = Box<dyn Fn() -> Option<(Option<&'static str>, i64)> + Send + Sync>;

/// All families.
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    call_duration: Times<ToolLabels>,
    violations: Family<ViolationLabels, Counter>,
    upstream_duration: Times<ServiceLabels>,
    overhead: [Timed; Stage::ALL.len()],
    limit_rejections: Family<LimitLabels, Counter>,
    policy_eval: Timed,
    policy: Arc<PolicyInfo>,
    policy_loaded: Gauge,
    telemetry: Family<TelemetryLabels, Counter>,
    telemetry_lag: Family<SignalLabels, Gauge>,
    policy_reload: Family<ResultLabels, Counter>,
    revocations: Family<SourceLabels, Counter>,
    log_written: Counter,
    log_refused: Counter,
    in_flight: Family<ListenerLabels, Gauge>,
    connection_errors: Family<ReasonLabels, Counter>,
    tasks: Arc<Fed>,
    approvals: Arc<Fed>,
    store: Arc<StoreFamilies>,
    issuers: Arc<IssuerKeys>,
    agent_expiry: Arc<Expiry>,
    identity_expiry: Arc<Expiry>,
    credentials: Arc<Credentials>,
    log_queue: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Makes the families for a build `version` under an `isolation` of `exec`, `uid`, `declared`
    /// or `none`.
    pub fn new(version: &str, isolation: &str) -> Self {
        let stages: Times<StageLabels> = times(own_seconds);
        let records: Family<ResultLabels, Counter> = Family::default();
        let result = |result: &str| ResultLabels {
            result: result.into(),
        };
        let mut metrics = Self {
            registry: Registry::with_prefix("outrider"),
            calls: Family::default(),
            call_duration: times(call_seconds),
            violations: Family::default(),
            upstream_duration: times(call_seconds),
            overhead: Stage::ALL.map(|stage| {
                Timed::new(stages.get_or_create_owned(&StageLabels {
                    stage: stage.as_str().into(),
                }))
            }),
            limit_rejections: Family::default(),
            policy_eval: Timed::new(own_seconds()),
            policy: Arc::default(),
            policy_loaded: Gauge::default(),
            telemetry: Family::default(),
            telemetry_lag: Family::default(),
            policy_reload: Family::default(),
            revocations: Family::default(),
            log_written: records.get_or_create_owned(&result("written")),
            log_refused: records.get_or_create_owned(&result("refused")),
            in_flight: Family::default(),
            connection_errors: Family::default(),
            tasks: Fed::new("tasks", "Tasks known to this sidecar, by state"),
            approvals: Fed::new("approvals", "Held calls, by state"),
            store: Arc::default(),
            issuers: Arc::default(),
            agent_expiry: Expiry::new(
                "agent_expiry_timestamp_seconds",
                "When the agent's entry in the inventory expires",
            ),
            identity_expiry: Expiry::new(
                "identity_expiry_timestamp_seconds",
                "When what proves the agent's identity expires",
            ),
            credentials: Arc::default(),
            log_queue: Gauge::default(),
        };
        let build = Info::new(BuildLabels {
            version: version.into(),
            isolation: isolation.into(),
        });
        // There from the start: the first that fails is a change of it.
        drop(metrics.policy_reload.get_or_create(&result("failed")));
        metrics.register_calls(stages);
        metrics.register_edges(records, build);
        metrics
    }

    fn register_calls(&mut self, stages: Times<StageLabels>) {
        let to = &mut self.registry;
        to.register("calls", "Calls, by tool and decision", self.calls.clone());
        to.register(
            "call_duration_seconds",
            "From request to the end of the answer",
            self.call_duration.clone(),
        );
        to.register(
            "overhead_seconds",
            "What the sidecar itself takes, by stage",
            stages,
        );
        to.register(
            "upstream_duration_seconds",
            "Waiting for the upstream",
            self.upstream_duration.clone(),
        );
        to.register(
            "schema_violations",
            "Messages against the published schema",
            self.violations.clone(),
        );
        to.register(
            "limit_rejections",
            "Calls over a limit",
            self.limit_rejections.clone(),
        );
        to.register(
            "policy_eval_seconds",
            "One evaluation of the policy",
            self.policy_eval.family(),
        );
    }

    fn register_edges(&mut self, records: Family<ResultLabels, Counter>, build: Info<BuildLabels>) {
        let to = &mut self.registry;
        to.register_collector(Box::new(Arc::clone(&self.policy)));
        to.register(
            "policy_reload",
            "Attempts to load the policy",
            self.policy_reload.clone(),
        );
        to.register(
            "policy_loaded_timestamp_seconds",
            "When the policy in force was loaded",
            self.policy_loaded.clone(),
        );
        to.register(
            "telemetry_records",
            "Records told to others, by what became of them",
            self.telemetry.clone(),
        );
        to.register(
            "telemetry_lag_bytes",
            "Bytes of a log that were not told yet",
            self.telemetry_lag.clone(),
        );
        to.register_collector(Box::new(Arc::clone(&self.tasks)));
        to.register(
            "revocations",
            "Revocations received, by source",
            self.revocations.clone(),
        );
        to.register_collector(Box::new(Arc::clone(&self.approvals)));
        to.register_collector(Box::new(Arc::clone(&self.store)));
        to.register_collector(Box::new(Arc::clone(&self.issuers)));
        to.register_collector(Box::new(Arc::clone(&self.agent_expiry)));
        to.register_collector(Box::new(Arc::clone(&self.identity_expiry)));
        to.register_collector(Box::new(Arc::clone(&self.credentials)));
        to.register("decision_log_records", "Lines of the decision log", records);
        to.register(
            "decision_log_queue",
            "Lines waiting to be written",
            self.log_queue.clone(),
        );
        to.register(
            "in_flight",
            "Calls under way, by listener",
            self.in_flight.clone(),
        );
        to.register(
            "connection_errors",
            "Bytes that were no HTTP request",
            self.connection_errors.clone(),
        );
        to.register("build", "This build and what keeps the agent out", build);
    }

    /// Prepares the handles of one tool of the catalogue, or of [`OTHER`]; done at load.
    pub fn tool(&self, service: &str, tool: &str) -> Arc<ToolMetrics> {
        let labels = ToolLabels {
            service: service.into(),
            tool: tool.into(),
        };
        let ok = self.calls.get_or_create_owned(&labels.call("allow", "ok"));
        let duration = self.call_duration.get_or_create_owned(&labels);
        let violations = [Direction::Request, Direction::Response].map(|direction| {
            self.violations
                .get_or_create_owned(&labels.violation(direction))
        });
        Arc::new(ToolMetrics {
            labels,
            calls: self.calls.clone(),
            ok,
            duration: Timed::new(duration),
            violations,
        })
    }

    /// Prepares the histogram of one upstream, `outrider_upstream_duration_seconds{service}`.
    pub fn service(&self, service: &str) -> ServiceMetrics {
        let labels = ServiceLabels {
            service: service.into(),
        };
        ServiceMetrics(Timed::new(
            self.upstream_duration.get_or_create_owned(&labels),
        ))
    }

    /// Prepares the gauge of one listener.
    pub fn listener(&self, listener: &str) -> ListenerMetrics {
        let labels = ListenerLabels {
            listener: listener.into(),
        };
        ListenerMetrics(self.in_flight.get_or_create_owned(&labels))
    }

    /// Prepares the counter of one configured limit.
    pub fn limit(&self, limit: &str) -> LimitMetrics {
        LimitMetrics(self.limit_rejections.get_or_create_owned(&LimitLabels {
            limit: limit.into(),
        }))
    }

    /// Notes what a stage took, of a call of that trace.
    pub fn overhead(&self, stage: Stage, took: Duration, trace: Option<&Trace>) {
        if let Some(histogram) = self.overhead.get(stage as usize) {
            histogram.observe(took, trace);
        }
    }

    /// Notes what one evaluation of the policy took, for a call of that trace.
    pub fn policy_evaluated(&self, took: Duration, trace: Option<&Trace>) {
        self.policy_eval.observe(took, trace);
    }

    /// Counts records of a signal that were told: `sent`, `dropped`, or `failed` for now.
    pub fn telemetry(&self, signal: &'static str, result: &'static str, records: u64) {
        let labels = TelemetryLabels { signal, result };
        self.telemetry.get_or_create(&labels).inc_by(records);
    }

    /// States how many bytes of a log were not told yet.
    pub fn telemetry_lag(&self, signal: &'static str, bytes: u64) {
        let labels = SignalLabels { signal };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.telemetry_lag.get_or_create(&labels).set(bytes);
    }

    /// States the policy in force: its revision, and `enforce` or `shadow`.
    pub fn policy_in_force(&self, revision: &str, mode: &'static str) {
        let labels = PolicyLabels {
            revision: revision.into(),
            mode: mode.into(),
        };
        *self.policy.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(labels);
        self.policy_loaded.set(Timestamp::now().as_second());
    }

    /// Counts an attempt to load the policy.
    pub fn policy_reloaded(&self, result: &'static str) {
        self.policy_reload
            .get_or_create(&ResultLabels {
                result: result.into(),
            })
            .inc();
    }

    /// Counts a revocation; `source` is, for instance, `control`.
    pub fn revoked(&self, source: &'static str) {
        self.revocations
            .get_or_create(&SourceLabels {
                source: source.into(),
            })
            .inc();
    }

    /// Counts a line that is in the decision log.
    pub fn record_written(&self) {
        self.log_written.inc();
    }

    /// Counts a line that could not be written.
    pub fn record_refused(&self) {
        self.log_refused.inc();
    }

    /// The gauge of lines waiting to be written; stays 0 while lines are written at once.
    pub fn log_queue(&self) -> &Gauge {
        &self.log_queue
    }

    /// Counts a connection that did not bring an HTTP request.
    pub fn connection_error(&self, reason: &'static str) {
        self.connection_errors
            .get_or_create(&ReasonLabels {
                reason: reason.into(),
            })
            .inc();
    }

    /// Says where the numbers of `outrider_tasks{state}` come from; only the first time counts.
    pub fn feed_tasks(&self, source: States) {
        self.tasks.feed(source);
    }

    /// Says where the numbers of `outrider_approvals{state}` come from; only the first time counts.
    pub fn feed_approvals(&self, source: States) {
        self.approvals.feed(source);
    }

    /// Says where the numbers of a fleet's store come from; only the first time counts.
    pub fn feed_store(&self, source: StoreSource) {
        self.store.feed(source);
    }

    /// Says where the numbers of `outrider_issuer_keys{issuer}` come from; only the first time
    /// counts.
    pub fn feed_issuers(&self, source: Issuers) {
        if self.issuers.0.set(source).is_err() {
            tracing::debug!("already fed");
        }
    }

    /// Says where `outrider_agent_expiry_timestamp_seconds` comes from; only the first time counts.
    pub fn feed_agent_expiry(&self, source: Expires) {
        self.agent_expiry.feed(source);
    }

    /// Says where `outrider_identity_expiry_timestamp_seconds{source}` comes from; only the first time
    /// counts.
    pub fn feed_identity_expiry(&self, source: Expires) {
        self.identity_expiry.feed(source);
    }

    /// Says where the numbers of credentials come from; only the first time counts.
    pub fn feed_credentials(&self, source: CredentialSamples) {
        if self.credentials.0.set(source).is_err() {
            tracing::debug!("credentials are fed already");
        }
    }

    /// The whole page in `format`.
    pub fn page(&self, format: Format) -> String {
        written(&self.registry, format)
    }
}

/// Every family of a registry, in `format`.
pub(crate) fn written(registry: &Registry, format: Format) -> String {
    let mut page = String::with_capacity(16 * 1024);
    if encode(&mut page, registry).is_err() {
        // A `String` takes everything; only a collector could fail, and ours do not.
        tracing::error!("the metrics page is incomplete");
    }
    match format {
        Format::OpenMetrics => page,
        Format::Prometheus => to_prometheus(&page),
    }
}

#[cfg(test)]
mod tests;
