//! Where the entries of a process write: one decision log, one security log, one set of metrics.

use std::sync::Arc;

use super::{
    chain::Log,
    digest::DigestKey,
    entry::{Entry, Ruling},
    security::{Event, SecurityLog},
};
use crate::{
    metrics::Metrics,
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
    /// `,"labels":{…}`, the same in every line.
    pub(super) labels: String,
    /// `,"durable":…,"isolation":…`, the same in every line.
    pub(super) durability: String,
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
    pub fn new(log: Log, security: SecurityLog, metrics: Arc<Metrics>, digests: DigestKey, standing: &Standing<'_>) -> Self {
        let labels = serde_json::json!({
            "agent": standing.agent,
            "environment": standing.environment,
            "version": env!("CARGO_PKG_VERSION"),
            "instance": &**log.instance(),
        });
        Self {
            labels: format!(",\"labels\":{labels}"),
            durability: format!(",\"durable\":true,\"isolation\":{}", serde_json::json!(standing.isolation)),
            agent: standing.agent.into(),
            log,
            security,
            metrics,
            digests,
        }
    }

    /// Tells security of what a call attempted.
    pub(super) fn notice(&self, entry: &Entry, ruling: &Ruling) {
        for name in &entry.facts.forged {
            self.attempt(entry, "header_forgery", name.as_str());
        }
        if matches!(ruling.refusal, Some(Rejection::SchemaViolation(_) | Rejection::HeaderMismatch(_) | Rejection::TaskInvalid)) {
            self.attempt(entry, ruling.code().as_str(), entry.facts.tool.as_ref().map_or("", |tool| tool.as_str()));
        }
    }

    /// Notes an attempt of the agent.
    pub fn attempt(&self, entry: &Entry, what: &str, detail: &str) {
        self.security.write(&Event::attempt(what, &self.agent, Some(entry.id()), &entry.listener, detail));
    }

    /// Counts a call that has ended.
    pub(super) fn count(&self, entry: &Entry, refused: bool) {
        let facts = &entry.facts;
        let service = facts.service.as_ref().map_or("", |service| service.as_str());
        let tool = facts.tool.as_ref().map_or("", |tool| tool.operation());
        let outcome = match (refused, entry.code()) {
            (false, _) => "allow",
            (true, Code::ApprovalRequired) => "hold",
            (true, _) => "deny",
        };
        self.metrics.call(service, tool, outcome, entry.code().as_str(), entry.opened.elapsed(), &entry.timers);
    }
}
