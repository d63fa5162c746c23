//! Where the entries of a process write: one decision log, one security log, one set of metrics.

use std::{collections::HashMap, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::{
    chain::Log,
    compose,
    digest::DigestKey,
    entry::{Distrusted, Entry, Ruling},
    refusals::{Counted, Likeness, Refusals},
    security::{SecurityEvent, SecurityKind, SecurityLog},
};
use crate::{
    call::DecisionId,
    limit::Rate,
    metrics::{
        Direction, LimitMetrics, ListenerMetrics, Metrics, OTHER, ServiceMetrics, Stage,
        ToolMetrics,
    },
    rejection::{Code, Rejection},
};

/// Shared by all workers.
#[derive(Debug)]
pub struct Recorder {
    /// The decision log.
    pub log: Log,
    /// What was attempted, and changes of authority.
    pub security: SecurityLog,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Under which values are digested.
    pub digests: DigestKey,
    /// The agent beside us.
    pub agent: Arc<str>,
    refusals: Refusals,
    handles: ArcSwap<Handles>,
    /// `labels` as JSON text, the same in every line.
    pub(super) labels: String,
    /// `exec`, `uid`, `declared` or `none`.
    pub(super) isolation: String,
}

/// What is the same in every line.
#[derive(Debug)]
pub struct Standing<'a> {
    /// The agent beside us.
    pub agent: &'a str,
    /// The configured environment.
    pub environment: &'a str,
    /// `exec`, `uid`, `declared` or `none`.
    pub isolation: &'a str,
}

impl Recorder {
    /// Joins the two logs and the metrics.
    pub fn new(
        log: Log,
        security: SecurityLog,
        metrics: Arc<Metrics>,
        digests: DigestKey,
        standing: &Standing<'_>,
    ) -> Self {
        let labels = serde_json::json!({
            "agent": standing.agent,
            "environment": standing.environment,
            "version": env!("CARGO_PKG_VERSION"),
            "instance": &**log.instance(),
        });
        Self {
            labels: labels.to_string(),
            isolation: standing.isolation.to_owned(),
            agent: standing.agent.into(),
            refusals: Refusals::default(),
            handles: ArcSwap::from_pointee(Handles::new(&metrics, &Labels::default())),
            log,
            security,
            metrics,
            digests,
        }
    }

    /// Sets beyond which rate refusals that are alike share a line; 100/s unless it is set.
    #[must_use]
    pub fn sharing(mut self, beyond: Rate) -> Self {
        self.refusals = Refusals::beyond(beyond);
        self
    }

    /// Does what is due on the logs; called several times a second.
    pub fn tick(&self, now: Timestamp) {
        self.write_counted(self.refusals.due(Instant::now()), now);
        self.log.tick(now);
        self.security.tick(now);
        let waiting = i64::try_from(self.log.waiting()).unwrap_or(i64::MAX);
        self.metrics.log_queue().set(waiting);
    }

    /// Writes what is left to write, and nothing more after that.
    pub fn close(&self, now: Timestamp) {
        self.write_counted(self.refusals.rest(Instant::now()), now);
        self.log.close(now);
    }

    /// The last lines for a successor to write: see [`Log::take_waiting`].
    pub fn take_last(&self, now: Timestamp) -> Vec<u8> {
        self.write_counted(self.refusals.rest(Instant::now()), now);
        self.log.take_last()
    }

    /// The decision whose line a refusal shares, if it is to have none of its own. While the log
    /// cannot be written nothing is shared.
    pub(super) fn share(&self, entry: &Entry, ruling: &Ruling) -> Option<DecisionId> {
        let likeness = Likeness::of(entry, ruling).filter(|_| self.log.healthy())?;
        let compose = |line: &mut Vec<u8>| compose::decision(entry, ruling, line);
        self.refusals
            .share(likeness, Instant::now(), entry.id(), compose)
    }

    fn write_counted(&self, lines: Vec<Counted>, now: Timestamp) {
        for line in lines {
            match self.log.defer(&line.members) {
                Ok(()) => self.metrics.record_written(),
                Err(_) => self.metrics.record_refused(),
            }
            let (count, window) = (line.count.to_string(), line.window_ms.to_string());
            let likeness = &line.likeness;
            let event = SecurityEvent {
                kind: SecurityKind::RepeatedRefusals,
                agent: Some(&self.agent),
                decision_id: Some(line.id),
                listener: Some(&likeness.listener),
                what: &[
                    ("code", likeness.code.as_str()),
                    (
                        "tool",
                        likeness.tool.as_ref().map_or("", |tool| tool.as_str()),
                    ),
                    ("count", &count),
                    ("window_ms", &window),
                ],
            };
            self.security.write(&event, now);
        }
    }

    /// Makes ready the labels that configuration and catalogue know.
    pub fn prepare(&self, labels: &Labels) {
        self.handles
            .store(Arc::new(Handles::new(&self.metrics, labels)));
    }

    /// Tells security of what a call attempted.
    pub(super) fn notice(&self, entry: &Entry, ruling: &Ruling) {
        self.forgeries(entry);
        let tool = entry.facts.tool.as_ref().map_or("", |tool| tool.as_str());
        let (mut kind, mut why) = (None, "");
        if let Some(distrusted) = &entry.facts.distrusted {
            (kind, why) = match distrusted {
                Distrusted::Token(why) => (Some(SecurityKind::TokenRefused), why),
                Distrusted::Widened(why) => (Some(SecurityKind::DelegationWidened), why),
            };
        }
        let kind = match &ruling.refusal {
            Some(Rejection::SchemaViolation(_)) => SecurityKind::SchemaViolation,
            Some(Rejection::HeaderMismatch(_)) => SecurityKind::HeaderForgery,
            Some(Rejection::TaskInvalid) => kind.unwrap_or(SecurityKind::TokenRefused),
            Some(Rejection::ScopeExceeded) if ruling.widens() => SecurityKind::DelegationWidened,
            Some(Rejection::DestinationRefused(_)) => SecurityKind::DestinationRefused,
            _ => return,
        };
        let what = [
            ("code", ruling.code().as_str()),
            ("tool", tool),
            ("why", why),
        ];
        let said = what.len() - usize::from(why.is_empty());
        self.attempt(entry, kind, what.get(..said).unwrap_or_default());
    }

    /// Tells security of headers of ours that the agent sent.
    pub(super) fn forgeries(&self, entry: &Entry) {
        for name in &entry.facts.forged {
            self.attempt(
                entry,
                SecurityKind::HeaderForgery,
                &[("header", name.as_str())],
            );
        }
    }

    fn attempt(&self, entry: &Entry, kind: SecurityKind, what: &[(&'static str, &str)]) {
        let event = SecurityEvent {
            kind,
            agent: Some(&self.agent),
            decision_id: Some(entry.id()),
            listener: Some(&entry.listener),
            what,
        };
        self.security.write(&event, entry.time);
    }

    /// Notes what is not one call's: a connection error, a change of authority.
    pub fn event(&self, kind: SecurityKind, listener: Option<&str>, what: &[(&'static str, &str)]) {
        let event = SecurityEvent {
            kind,
            agent: Some(&self.agent),
            decision_id: None,
            listener,
            what,
        };
        self.security.write(&event, Timestamp::now());
    }

    /// Counts a call as under way.
    pub(super) fn enter(&self, listener: &str) -> Option<crate::metrics::InFlight> {
        self.handles
            .load()
            .listeners
            .get(listener)
            .map(ListenerMetrics::enter)
    }

    /// Counts what was decided on a call.
    pub(super) fn decided(&self, entry: &Entry, ruling: &Ruling) {
        let handles = self.handles.load();
        let (timers, trace) = (&entry.timers, entry.facts.trace.as_ref());
        for (stage, took) in [
            (Stage::Parse, timers.parse),
            (Stage::Validate, timers.schema),
            (Stage::Limit, timers.limit),
            (Stage::Policy, timers.policy),
            (Stage::Tag, timers.tag),
            (Stage::Record, timers.record),
            (Stage::Total, timers.decided),
        ] {
            // What a refused call did not come to has taken nothing, which is no observation.
            if stage == Stage::Total || !took.is_zero() {
                self.metrics.overhead(stage, took, trace);
            }
        }
        if ruling.decision.is_some() {
            self.metrics.policy_evaluated(timers.policy, trace);
        }
        match &ruling.refusal {
            Some(Rejection::SchemaViolation(_)) => handles.tool(entry).violated(Direction::Request),
            Some(Rejection::RateLimited(spent)) => {
                if let Some(limit) = handles.limits.get(&spent.limit) {
                    limit.rejected();
                }
            }
            _ => {}
        }
    }

    /// Counts a call that has ended.
    pub(super) fn count(&self, entry: &Entry, refused: bool) {
        let handles = self.handles.load();
        let outcome = match (refused, entry.code()) {
            (false, _) => "allow",
            (true, Code::ApprovalRequired) => "hold",
            (true, _) => "deny",
        };
        let tool = handles.tool(entry);
        tool.decided(outcome, entry.code().as_str());
        let trace = entry.facts.trace.as_ref();
        tool.ended(entry.opened.elapsed(), trace);
        let service = entry
            .facts
            .service
            .as_ref()
            .and_then(|service| handles.services.get(service.as_str()));
        if let Some(service) = service.filter(|_| !refused) {
            service.answered(entry.timers.upstream, trace);
        }
    }
}

/// What configuration and catalogue name; nothing else becomes a label.
#[derive(Debug, Default)]
pub struct Labels {
    /// Listeners.
    pub listeners: Vec<String>,
    /// Limits.
    pub limits: Vec<String>,
    /// Services and the operations of each.
    pub services: Vec<(String, Vec<String>)>,
}

/// Ready handles: a call looks up, it does not build.
#[derive(Debug)]
struct Handles {
    listeners: HashMap<String, ListenerMetrics>,
    limits: HashMap<Arc<str>, LimitMetrics>,
    services: HashMap<String, ServiceMetrics>,
    tools: HashMap<String, Arc<ToolMetrics>>,
    others: HashMap<String, Arc<ToolMetrics>>,
    nowhere: Arc<ToolMetrics>,
}

impl Handles {
    fn new(metrics: &Metrics, labels: &Labels) -> Self {
        let services = || labels.services.iter();
        let tools =
            services().flat_map(|(service, tools)| tools.iter().map(move |tool| (service, tool)));
        Self {
            listeners: labels
                .listeners
                .iter()
                .map(|name| (name.clone(), metrics.listener(name)))
                .collect(),
            limits: labels
                .limits
                .iter()
                .map(|name| (name.as_str().into(), metrics.limit(name)))
                .collect(),
            services: services()
                .map(|(name, _)| (name.clone(), metrics.service(name)))
                .collect(),
            tools: tools
                .map(|(service, tool)| (format!("{service}/{tool}"), metrics.tool(service, tool)))
                .collect(),
            others: services()
                .map(|(name, _)| (name.clone(), metrics.tool(name, OTHER)))
                .collect(),
            nowhere: metrics.tool(OTHER, OTHER),
        }
    }

    fn tool(&self, entry: &Entry) -> &Arc<ToolMetrics> {
        let facts = &entry.facts;
        let known = facts
            .tool
            .as_ref()
            .and_then(|tool| self.tools.get(tool.as_str()));
        let other = || {
            facts
                .service
                .as_ref()
                .and_then(|service| self.others.get(service.as_str()))
        };
        known.or_else(other).unwrap_or(&self.nowhere)
    }
}
