//! Every metric family on one page.
//!
//! Facts of closed entries and of the edges come in; Prometheus text (0.0.4) or OpenMetrics (1.0.0)
//! goes out. Label values come from configuration, catalogue and our own fixed words only: no task,
//! decision, subject, path or argument. Handles are prepared at load, so that a call touches no map.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text::encode},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

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

/// A part of the pipeline whose time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading and understanding the message.
    Parse,
    /// Agent and task.
    Identify,
    /// Schema.
    Validate,
    /// Rate limits and budgets.
    Limit,
    /// Content.
    Classify,
    /// Input, evaluation, decision.
    Policy,
    /// The decision log.
    Record,
    /// Identity headers, assertion, credentials.
    Tag,
    /// The answer's schema and content.
    Respond,
    /// All of them.
    Total,
}

impl Stage {
    /// All stages, in the order of the pipeline.
    pub const ALL: [Self; 10] = [
        Self::Parse,
        Self::Identify,
        Self::Validate,
        Self::Limit,
        Self::Classify,
        Self::Policy,
        Self::Record,
        Self::Tag,
        Self::Respond,
        Self::Total,
    ];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Identify => "identify",
            Self::Validate => "validate",
            Self::Limit => "limit",
            Self::Classify => "classify",
            Self::Policy => "policy",
            Self::Record => "record",
            Self::Tag => "tag",
            Self::Respond => "respond",
            Self::Total => "total",
        }
    }
}

/// Which side broke the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The agent's arguments.
    Request,
    /// The upstream's answer.
    Response,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// Declares label sets: all values are text.
macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),+ })+) => { $(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $kind),+ }
    )+ };
}

labels! {
    CallLabels { service: Text, tool: Text, outcome: Text, code: Text }
    ToolLabels { service: Text, tool: Text }
    ServiceLabels { service: Text }
    StageLabels { stage: Text }
    ViolationLabels { service: Text, tool: Text, direction: Text }
    LimitLabels { limit: Text }
    ResultLabels { result: Text }
    SourceLabels { source: Text }
    StateLabels { state: Text }
    ListenerLabels { listener: Text }
    ReasonLabels { reason: Text }
    PolicyLabels { revision: Text, mode: Text }
    BuildLabels { version: Text, isolation: Text }
}

/// A label's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Text(Arc<str>);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl prometheus_client::encoding::EncodeLabelValue for Text {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> fmt::Result {
        prometheus_client::encoding::EncodeLabelValue::encode(&&*self.0, encoder)
    }
}

type Times<L> = Family<L, Histogram, fn() -> Histogram>;

fn call_seconds() -> Histogram {
    Histogram::new(CALL_SECONDS)
}

fn own_seconds() -> Histogram {
    Histogram::new(OWN_SECONDS)
}

fn times<L: Clone + std::hash::Hash + Eq>(make: fn() -> Histogram) -> Times<L> {
    Family::new_with_constructor(make)
}

/// Numbers that somebody else keeps, by state, read when the page is.
pub type States = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// All families.
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    call_duration: Times<ToolLabels>,
    violations: Family<ViolationLabels, Counter>,
    upstream_duration: Times<ServiceLabels>,
    overhead: [Histogram; Stage::ALL.len()],
    limit_rejections: Family<LimitLabels, Counter>,
    policy_eval: Histogram,
    policy: Arc<PolicyInfo>,
    policy_reload: Family<ResultLabels, Counter>,
    revocations: Family<SourceLabels, Counter>,
    log_written: Counter,
    log_refused: Counter,
    in_flight: Family<ListenerLabels, Gauge>,
    connection_errors: Family<ReasonLabels, Counter>,
    tasks: Arc<Fed>,
    approvals: Arc<Fed>,
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
                stages.get_or_create_owned(&StageLabels {
                    stage: stage.as_str().into(),
                })
            }),
            limit_rejections: Family::default(),
            policy_eval: own_seconds(),
            policy: Arc::default(),
            policy_reload: Family::default(),
            revocations: Family::default(),
            log_written: records.get_or_create_owned(&result("written")),
            log_refused: records.get_or_create_owned(&result("refused")),
            in_flight: Family::default(),
            connection_errors: Family::default(),
            tasks: Fed::new("tasks", "Tasks known to this sidecar, by state"),
            approvals: Fed::new("approvals", "Held calls, by state"),
            log_queue: Gauge::default(),
        };
        let build = Info::new(BuildLabels {
            version: version.into(),
            isolation: isolation.into(),
        });
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
            self.policy_eval.clone(),
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
        to.register_collector(Box::new(Arc::clone(&self.tasks)));
        to.register(
            "revocations",
            "Revocations received, by source",
            self.revocations.clone(),
        );
        to.register_collector(Box::new(Arc::clone(&self.approvals)));
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
            duration,
            violations,
        })
    }

    /// Prepares the histogram of one upstream, `outrider_upstream_duration_seconds{service}`.
    pub fn service(&self, service: &str) -> ServiceMetrics {
        let labels = ServiceLabels {
            service: service.into(),
        };
        ServiceMetrics(self.upstream_duration.get_or_create_owned(&labels))
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

    /// Notes what a stage took.
    pub fn overhead(&self, stage: Stage, took: Duration) {
        if let Some(histogram) = self.overhead.get(stage as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Notes what one evaluation of the policy took.
    pub fn policy_evaluated(&self, took: Duration) {
        self.policy_eval.observe(took.as_secs_f64());
    }

    /// States the policy in force: its revision, and `enforce` or `shadow`.
    pub fn policy_in_force(&self, revision: &str, mode: &'static str) {
        let labels = PolicyLabels {
            revision: revision.into(),
            mode: mode.into(),
        };
        *self.policy.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(labels);
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

    /// The whole page in `format`.
    pub fn page(&self, format: Format) -> String {
        let mut page = String::with_capacity(16 * 1024);
        if encode(&mut page, &self.registry).is_err() {
            // A `String` takes everything; only a collector could fail, and ours do not.
            tracing::error!("the metrics page is incomplete");
        }
        match format {
            Format::OpenMetrics => page,
            Format::Prometheus => to_prometheus(&page),
        }
    }
}

impl ToolLabels {
    fn call(&self, outcome: &'static str, code: &'static str) -> CallLabels {
        let Self { service, tool } = self.clone();
        CallLabels {
            service,
            tool,
            outcome: outcome.into(),
            code: code.into(),
        }
    }

    fn violation(&self, direction: Direction) -> ViolationLabels {
        let Self { service, tool } = self.clone();
        ViolationLabels {
            service,
            tool,
            direction: direction.as_str().into(),
        }
    }
}

/// The handles of one tool.
#[derive(Debug)]
pub struct ToolMetrics {
    labels: ToolLabels,
    calls: Family<CallLabels, Counter>,
    ok: Counter,
    duration: Histogram,
    violations: [Counter; 2],
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
    pub fn ended(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a message against the schema.
    pub fn violated(&self, direction: Direction) {
        if let Some(counter) = self.violations.get(direction as usize) {
            counter.inc();
        }
    }
}

/// The handle of one upstream.
#[derive(Debug, Clone)]
pub struct ServiceMetrics(Histogram);

impl ServiceMetrics {
    /// Notes how long the upstream took.
    pub fn answered(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

/// The handle of one limit.
#[derive(Debug, Clone)]
pub struct LimitMetrics(Counter);

impl LimitMetrics {
    /// Counts a call over the limit.
    pub fn rejected(&self) {
        self.0.inc();
    }
}

/// The handle of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics(Gauge);

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
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// `outrider_policy_info`: one sample, of the policy in force.
#[derive(Debug, Default)]
struct PolicyInfo(Mutex<Option<PolicyLabels>>);

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
struct Fed {
    name: &'static str,
    help: &'static str,
    source: OnceLock<States>,
}

impl Fed {
    fn new(name: &'static str, help: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            help,
            source: OnceLock::new(),
        })
    }

    fn feed(&self, source: States) {
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

/// How the page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The format an `Accept` header prefers (RFC 9110 §12.5.1); Prometheus text when it is silent.
    pub fn accepted(accept: Option<&str>) -> Self {
        let (mut open, mut text) = (0.0, 0.0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let weight = match parts
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
                .as_str()
            {
                "application/openmetrics-text" => &mut open,
                "text/plain" | "text/*" | "*/*" => &mut text,
                _ => continue,
            };
            let quality = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(Ok(1.0), str::parse::<f32>);
            *weight = f32::max(*weight, quality.unwrap_or_default());
        }
        if open > 0.0 && open >= text {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The page's media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Rewrites an OpenMetrics page as Prometheus text: there the family of a counter carries its
/// suffix, an info is a gauge, and there is neither unit nor end mark.
fn to_prometheus(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + 256);
    let mut help = None;
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ').map(|(_, text)| text);
        } else if let Some((family, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let help = help.take().unwrap_or_default();
            out.push_str(&format!(
                "# HELP {family}{suffix} {help}\n# TYPE {family}{suffix} {kind}\n"
            ));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Everything that can be counted, counted once.
    fn used() -> Metrics {
        let metrics = Metrics::new("0.1.0", "uid");
        let tool = metrics.tool("tickets", "create \"x\"\n");
        tool.decided("allow", "ok");
        tool.decided("deny", "policy_denied");
        tool.ended(Duration::from_millis(3));
        tool.violated(Direction::Request);
        metrics.tool(OTHER, OTHER).decided("deny", "tool_unknown");
        metrics
            .service("tickets")
            .answered(Duration::from_millis(2));
        metrics.limit("per-agent").rejected();
        Stage::ALL
            .iter()
            .for_each(|&stage| metrics.overhead(stage, Duration::from_micros(20)));
        metrics.policy_evaluated(Duration::from_micros(3));
        metrics.policy_in_force("r0", "shadow");
        metrics.policy_in_force("r1", "enforce");
        metrics.policy_reloaded("ok");
        metrics.revoked("control");
        metrics.record_written();
        metrics.record_refused();
        metrics.connection_error("parse");
        metrics.feed_tasks(Box::new(|| vec![("active", 2), ("suspended", 1)]));
        metrics.feed_approvals(Box::new(|| vec![("pending", 1)]));
        metrics
    }

    const FAMILIES: [(&str, &str); 17] = [
        ("outrider_calls_total", "counter"),
        ("outrider_call_duration_seconds", "histogram"),
        ("outrider_overhead_seconds", "histogram"),
        ("outrider_upstream_duration_seconds", "histogram"),
        ("outrider_schema_violations_total", "counter"),
        ("outrider_limit_rejections_total", "counter"),
        ("outrider_policy_eval_seconds", "histogram"),
        ("outrider_policy_info", "gauge"),
        ("outrider_policy_reload_total", "counter"),
        ("outrider_tasks", "gauge"),
        ("outrider_revocations_total", "counter"),
        ("outrider_approvals", "gauge"),
        ("outrider_decision_log_records_total", "counter"),
        ("outrider_decision_log_queue", "gauge"),
        ("outrider_in_flight", "gauge"),
        ("outrider_connection_errors_total", "counter"),
        ("outrider_build_info", "gauge"),
    ];

    #[test]
    fn every_family_is_on_the_page_under_its_name_and_no_other() {
        let metrics = used();
        let _call = metrics.listener("reverse").enter();
        let page = metrics.page(Format::Prometheus);
        for (family, kind) in FAMILIES {
            assert!(
                page.contains(&format!("# TYPE {family} {kind}\n")),
                "{family}\n{page}"
            );
            assert!(page.contains(&format!("# HELP {family} ")), "{family}");
        }
        assert_eq!(page.matches("# TYPE ").count(), FAMILIES.len());
        assert!(!page.contains("# EOF") && !page.contains("# UNIT"));
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let metrics = used();
        let samples = |format| {
            let page = metrics.page(format);
            page.lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(samples(Format::Prometheus), samples(Format::OpenMetrics));
        let page = metrics.page(Format::OpenMetrics);
        assert!(page.contains("# TYPE outrider_calls counter\n") && page.ends_with("# EOF\n"));
        assert!(page.contains("# TYPE outrider_build info\n"));
    }

    #[test]
    fn samples_carry_the_labels_of_the_contract() {
        let metrics = used();
        let call = metrics.listener("reverse").enter();
        let page = metrics.page(Format::Prometheus);
        for sample in [
            r#"outrider_calls_total{service="tickets",tool="create \"x\"\n",outcome="allow",code="ok"} 1"#,
            r#"outrider_calls_total{service="tickets",tool="create \"x\"\n",outcome="deny",code="policy_denied"} 1"#,
            r#"outrider_calls_total{service="_other",tool="_other",outcome="deny",code="tool_unknown"} 1"#,
            r#"outrider_schema_violations_total{service="tickets",tool="create \"x\"\n",direction="request"} 1"#,
            r#"outrider_upstream_duration_seconds_count{service="tickets"} 1"#,
            r#"outrider_limit_rejections_total{limit="per-agent"} 1"#,
            r#"outrider_overhead_seconds_count{stage="total"} 1"#,
            "outrider_policy_eval_seconds_count 1",
            r#"outrider_policy_info{revision="r1",mode="enforce"} 1"#,
            r#"outrider_policy_reload_total{result="ok"} 1"#,
            r#"outrider_tasks{state="suspended"} 1"#,
            r#"outrider_revocations_total{source="control"} 1"#,
            r#"outrider_approvals{state="pending"} 1"#,
            r#"outrider_decision_log_records_total{result="written"} 1"#,
            r#"outrider_decision_log_records_total{result="refused"} 1"#,
            "outrider_decision_log_queue 0",
            r#"outrider_in_flight{listener="reverse"} 1"#,
            r#"outrider_connection_errors_total{reason="parse"} 1"#,
            r#"outrider_build_info{version="0.1.0",isolation="uid"} 1"#,
        ] {
            assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
        }
        assert!(!page.contains("r0"), "one policy is in force");
        drop(call);
        assert!(
            metrics
                .page(Format::Prometheus)
                .contains("outrider_in_flight{listener=\"reverse\"} 0\n")
        );
    }

    #[test]
    fn the_accept_header_chooses() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (None, Format::Prometheus),
            (Some(""), Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("text/html"), Format::Prometheus),
            (Some(prometheus), Format::OpenMetrics),
            (Some("Application/OpenMetrics-Text"), Format::OpenMetrics),
            (
                Some("application/openmetrics-text; q=0, text/plain"),
                Format::Prometheus,
            ),
            (
                Some("application/openmetrics-text;q=0.2, text/plain;q=0.9"),
                Format::Prometheus,
            ),
            (Some("application/openmetrics-text;q=x"), Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept:?}");
        }
    }
}
