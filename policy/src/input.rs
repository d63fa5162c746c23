//! What a policy is asked about: the documented `input`.
//!
//! Every documented field is always present. An absent scalar has a typed value that refuses (the empty string, level
//! `restricted`, confidence 0, the epoch), never null: null sorts below everything, so `input.x <= 100` would hold.
//!
//! What does not change from call to call (agent, tool, subject, most of the task) is made into a [`Value`] once; a call
//! then costs one object for [`CallFacts`] and one for the whole.

mod facts;
mod fields;

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use regorus::Value;

pub use facts::{
    ActorFacts, AgentFacts, Budget, LimitFacts, SubjectFacts, TaskFacts, TaskState, ToolFacts,
    actors, limits,
};
pub use fields::{Kind, field_exists, json_schema, kind_of};

use crate::Level;
use crate::value::{Shape, level, shared};

/// The call itself.
#[derive(Debug, Clone)]
pub struct CallFacts {
    /// The decision ID, a `UUIDv7`.
    pub id: Arc<str>,
    /// When it was received, RFC 3339.
    pub time: Arc<str>,
    /// The same, in nanoseconds since 1970.
    pub time_ns: i64,
    /// `mcp`, `openapi`, `jsonrpc` or `http`.
    pub protocol: Arc<str>,
    /// The HTTP method; the method of the message for stdio.
    pub method: Arc<str>,
    /// The path as it is sent, without the query.
    pub path: Arc<str>,
    /// The host it is for.
    pub host: Arc<str>,
    /// The port it is for.
    pub port: u16,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The arguments as the strict JSON reader built them; an empty object where there are none.
    pub arguments: Value,
    /// Their size in bytes, as received.
    pub arguments_bytes: u64,
    /// The body's SHA-256, lower-case hex; empty when the body is streamed.
    pub body_sha256: Arc<str>,
    /// `inputResponses` of an MCP request; an empty object where there are none.
    pub input_responses: Value,
    /// The W3C trace ID.
    pub trace_id: Arc<str>,
}

/// What the content is, as far as it is known.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its level, at least the tool's; `restricted` when unknown.
    pub classification: Level,
    /// Labels such as `pii.email`: an array of strings.
    pub labels: Value,
    /// What detectors found: an array of `{pointer, label}`.
    pub findings: Value,
    /// Whether nobody looked into it: it is streamed.
    pub opaque: bool,
}

/// Why the policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// May this call be made?
    Call,
    /// Could this tool be called with some arguments?
    List,
}

/// Everything a policy is asked about.
#[derive(Debug, Clone)]
pub struct Input {
    /// The call itself.
    pub call: CallFacts,
    /// From [`AgentFacts::to_value`].
    pub agent: Value,
    /// From [`SubjectFacts::to_value`].
    pub subject: Value,
    /// From [`actors`].
    pub actors: Value,
    /// From [`TaskFacts::to_value`].
    pub task: Value,
    /// From [`ToolFacts::to_value`].
    pub tool: Value,
    /// The content.
    pub content: Content,
    /// From [`limits`].
    pub limits: Value,
    /// Why the policy is asked.
    pub phase: Phase,
    /// The exceptions whose `max_uses` are used up. Not part of the documented input.
    pub spent: Vec<Arc<str>>,
}

static CALL: LazyLock<Shape> = LazyLock::new(|| {
    Shape::new(&[
        "arguments",
        "arguments_bytes",
        "body_sha256",
        "host",
        "id",
        "input_responses",
        "listener",
        "method",
        "path",
        "phase",
        "port",
        "protocol",
        "time",
        "time_ns",
        "trace_id",
    ])
});

static CONTENT: LazyLock<Shape> =
    LazyLock::new(|| Shape::new(&["classification", "findings", "labels", "opaque"]));

static INPUT: LazyLock<Shape> = LazyLock::new(|| {
    Shape::new(&[
        "actors", "agent", "call", "content", "limits", "subject", "task", "tool",
    ])
});

static ASKED: LazyLock<Shape> = LazyLock::new(|| {
    Shape::new(&[
        "actors", "agent", "call", "content", "internal", "limits", "subject", "task", "tool",
    ])
});

static PHASES: LazyLock<[Value; 2]> = LazyLock::new(|| ["call", "list"].map(Value::from));

impl Input {
    /// The documented `input`, for the record.
    pub fn to_value(&self) -> Value {
        self.documented_with(self.call.to_value(self.phase), self.content.to_value())
    }

    /// What the library reads: the documented input and what it alone reads.
    pub(crate) fn asked(&self, internal: Value) -> Value {
        let (call, content) = (self.call.to_value(self.phase), self.content.to_value());
        self.asked_with(call, content, internal)
    }

    /// The documented input, and what the library reads, with its parts in common.
    pub(crate) fn both(&self, internal: Value) -> (Value, Value) {
        let (call, content) = (self.call.to_value(self.phase), self.content.to_value());
        let documented = self.documented_with(call.clone(), content.clone());
        (documented, self.asked_with(call, content, internal))
    }

    fn documented_with(&self, call: Value, content: Value) -> Value {
        INPUT.fill([
            self.actors.clone(),
            self.agent.clone(),
            call,
            content,
            self.limits.clone(),
            self.subject.clone(),
            self.task.clone(),
            self.tool.clone(),
        ])
    }

    fn asked_with(&self, call: Value, content: Value, internal: Value) -> Value {
        ASKED.fill([
            self.actors.clone(),
            self.agent.clone(),
            call,
            content,
            internal,
            self.limits.clone(),
            self.subject.clone(),
            self.task.clone(),
            self.tool.clone(),
        ])
    }
}

impl CallFacts {
    fn to_value(&self, phase: Phase) -> Value {
        let [call, list] = &*PHASES;
        let phase = match phase {
            Phase::Call => call,
            Phase::List => list,
        };
        CALL.fill([
            self.arguments.clone(),
            Value::from(self.arguments_bytes),
            shared(&self.body_sha256),
            shared(&self.host),
            shared(&self.id),
            self.input_responses.clone(),
            shared(&self.listener),
            shared(&self.method),
            shared(&self.path),
            phase.clone(),
            Value::from(u64::from(self.port)),
            shared(&self.protocol),
            shared(&self.time),
            Value::from(self.time_ns),
            shared(&self.trace_id),
        ])
    }
}

impl Content {
    fn to_value(&self) -> Value {
        CONTENT.fill([
            level(self.classification),
            self.findings.clone(),
            self.labels.clone(),
            Value::from(self.opaque),
        ])
    }
}

/// Nanoseconds since 1970, held at the ends of 64 bits (the years 1677 and 2262).
pub fn nanoseconds(time: Timestamp) -> i64 {
    let at = time.as_nanosecond();
    i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX })
}
