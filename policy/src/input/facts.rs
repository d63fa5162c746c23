//! The parts of `input` that are made ready once.

use std::sync::Arc;

use jiff::Timestamp;
use regorus::Value;

use super::{Moment, Part, Ready};
use crate::data::{Agent, AgentState};
use crate::value::{Shape, level, object, shared, strings};
use crate::{Level, Pattern, Patterns, ServiceKind};

/// The agent, as identified and as the inventory knows it.
#[derive(Debug, Clone, Default)]
pub struct AgentFacts {
    /// Its URI.
    pub id: String,
    /// How it was identified: `static`, `spiffe`, `token_file`.
    pub attested_by: String,
    /// The configured environment.
    pub environment: String,
    /// Who answers for it; empty when unknown.
    pub owner: String,
    /// What it is for; empty when unknown.
    pub purpose: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// When its entry ends; the epoch is shown when absent.
    pub expires: Option<Timestamp>,
    /// Its state, a revocation at run time included; `unknown` is shown when absent.
    pub state: Option<AgentState>,
}

impl AgentFacts {
    /// The facts of an agent that the inventory may or may not know.
    pub fn new(id: &str, known: Option<&Agent>) -> Self {
        let Some(agent) = known else {
            return Self {
                id: id.to_owned(),
                ..Self::default()
            };
        };
        Self {
            id: id.to_owned(),
            owner: agent.owner.clone(),
            purpose: agent.purpose.clone(),
            roles: agent.roles.iter().map(ToString::to_string).collect(),
            expires: agent.expires,
            state: Some(agent.state),
            ..Self::default()
        }
    }
}

impl Part for AgentFacts {
    fn to_value(&self) -> Value {
        object([
            ("id", Value::from(self.id.as_str())),
            ("attested_by", Value::from(self.attested_by.as_str())),
            ("environment", Value::from(self.environment.as_str())),
            ("owner", Value::from(self.owner.as_str())),
            ("purpose", Value::from(self.purpose.as_str())),
            ("roles", strings(&self.roles)),
            (
                "expires",
                Value::from(self.expires.unwrap_or(Timestamp::UNIX_EPOCH).to_string()),
            ),
            (
                "state",
                Value::from(self.state.map_or("unknown", AgentState::as_str)),
            ),
        ])
    }
}

/// The principal acted for.
#[derive(Debug, Clone, Default)]
pub struct SubjectFacts {
    /// Its ID; empty without a task.
    pub id: Arc<str>,
}

impl SubjectFacts {
    pub(super) fn to_value(&self) -> Value {
        object([("id", shared(&self.id))])
    }
}

/// One actor of the chain of delegation (RFC 8693 §4.1).
#[derive(Debug, Clone, Default)]
pub struct ActorFacts {
    /// Its `sub`.
    pub id: Arc<str>,
}

impl Part for Vec<ActorFacts> {
    fn to_value(&self) -> Value {
        let actor = |actor: &ActorFacts| object([("id", shared(&actor.id))]);
        Value::from(self.iter().map(actor).collect::<Vec<_>>())
    }
}

impl Part for Patterns {
    fn to_value(&self) -> Value {
        strings(self.all().iter().map(Pattern::as_str))
    }
}

/// Whether a task may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// There is no task.
    None,
    /// It may.
    Active,
    /// Not for now.
    Suspended,
    /// Not any more: taken back.
    Revoked,
    /// Not any more: done.
    Closed,
    /// Not any more: its time is over.
    Expired,
}

impl TaskState {
    /// The state as it is written everywhere: lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
            Self::Expired => "expired",
        }
    }
}

/// How many calls a task may make, and has made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// How many it may make; [`u64::MAX`] when unlimited.
    pub calls: u64,
    /// How many it has made.
    pub used: u64,
}

/// The task.
#[derive(Debug, Clone)]
pub struct TaskFacts {
    /// Its ID; empty without a task.
    pub id: Arc<str>,
    /// Where it came from: `token`, `proxy`, `current`, `local`; empty without a task.
    pub source: &'static str,
    /// Its intent; empty without a task.
    pub intent: Arc<str>,
    /// The patterns of its tools (its intent's when it names none).
    pub tools: Ready<Patterns>,
    /// The highest classification it may touch.
    pub max_classification: Level,
    /// Its budget.
    pub budget: Budget,
    /// When it ends; the epoch is shown when absent.
    pub expires: Option<Moment>,
    /// Whether it may be used.
    pub state: TaskState,
    /// 0 to 1; 1 when never set.
    pub confidence: f64,
    /// The task it was split from.
    pub parent: Option<Arc<str>>,
    /// The highest classification it has touched so far.
    pub high_water: Level,
    /// Whether the tasks it was split from reach the tool. Not part of the documented input.
    pub within: bool,
}

thread_local! {
    static TASK: Shape = Shape::new(&[
        "budget",
        "confidence",
        "expires",
        "expires_ns",
        "high_water",
        "id",
        "intent",
        "max_classification",
        "parent",
        "source",
        "state",
        "tools",
    ]);
    static BUDGET: Shape = Shape::new(&["calls", "used"]);
    static LIMIT: Shape = Shape::new(&["name", "remaining", "reset_s"]);
    static NO_TOOLS: Ready<Patterns> = Ready::new(Patterns::default());
}

impl TaskFacts {
    /// No task, where the configuration lets calls pass without one.
    pub fn none() -> Self {
        Self {
            id: "".into(),
            source: "",
            intent: "".into(),
            tools: NO_TOOLS.with(Clone::clone),
            max_classification: Level::Public,
            budget: Budget::default(),
            expires: None,
            state: TaskState::None,
            confidence: 0.0,
            parent: None,
            high_water: Level::Restricted,
            within: true,
        }
    }

    pub(super) fn to_value(&self) -> Value {
        let budget = [self.budget.calls, self.budget.used].map(Value::from);
        let (expires, expires_ns) = match &self.expires {
            Some(moment) => (shared(&moment.text), moment.ns),
            None => (Value::from(EPOCH), 0),
        };
        TASK.with(|task| {
            task.fill([
                BUDGET.with(|shape| shape.fill(budget)),
                Value::from(self.confidence),
                expires,
                Value::from(expires_ns),
                level(self.high_water),
                shared(&self.id),
                shared(&self.intent),
                level(self.max_classification),
                self.parent.as_ref().map_or_else(|| Value::from(""), shared),
                Value::from(self.source),
                Value::from(self.state.as_str()),
                self.tools.value(),
            ])
        })
    }
}

/// What is shown for an expiry that is absent.
pub const EPOCH: &str = "1970-01-01T00:00:00Z";

/// The tool, from the operator's catalogue; never from the server's own hints.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent annotations that MCP defines as booleans (MCP 2026-07-28, ToolAnnotations)"
)]
pub struct ToolFacts {
    /// `service/operation`.
    pub id: String,
    /// Its service.
    pub service: String,
    /// Its operation.
    pub operation: String,
    /// What its service is.
    pub kind: ServiceKind,
    /// Who answers for it.
    pub owner: String,
    /// Its version.
    pub version: String,
    /// The digest of its schemas.
    pub schema_digest: String,
    /// Its level; `restricted` is shown when absent.
    pub classification: Option<Level>,
    /// Its labels.
    pub labels: Vec<String>,
    /// It changes nothing.
    pub read_only: bool,
    /// What it does cannot be undone.
    pub destructive: bool,
    /// Twice is once.
    pub idempotent: bool,
    /// It reaches beyond a closed set of things.
    pub open_world: bool,
}

impl Part for ToolFacts {
    fn to_value(&self) -> Value {
        object([
            ("id", Value::from(self.id.as_str())),
            ("service", Value::from(self.service.as_str())),
            ("operation", Value::from(self.operation.as_str())),
            ("kind", Value::from(self.kind.as_str())),
            ("owner", Value::from(self.owner.as_str())),
            ("version", Value::from(self.version.as_str())),
            ("schema_digest", Value::from(self.schema_digest.as_str())),
            (
                "classification",
                level(self.classification.unwrap_or(Level::Restricted)),
            ),
            ("labels", strings(&self.labels)),
            ("read_only", Value::from(self.read_only)),
            ("destructive", Value::from(self.destructive)),
            ("idempotent", Value::from(self.idempotent)),
            ("open_world", Value::from(self.open_world)),
        ])
    }
}

/// What a limit has left.
#[derive(Debug, Clone, Default)]
pub struct LimitFacts {
    /// The limit's name.
    pub name: Arc<str>,
    /// How many calls it still admits now.
    pub remaining: u64,
    /// In how many seconds it is full again.
    pub reset_s: u64,
}

impl LimitFacts {
    pub(super) fn to_value(&self) -> Value {
        LIMIT.with(|limit| {
            limit.fill([
                shared(&self.name),
                Value::from(self.remaining),
                Value::from(self.reset_s),
            ])
        })
    }
}
