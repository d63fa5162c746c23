//! What a policy is asked about: the documented `input`.
//!
//! Every documented field is always present. An absent scalar has a typed value that refuses (the empty string, level
//! `restricted`, confidence 0, the epoch), never null: null sorts below everything, so `input.x <= 100` would hold.
//!
//! It is typed here; policies and other engines read [`Input::to_value`]. What does not change from call to call (agent,
//! tool, the task's tools) is made [`Ready`] once.

mod facts;
mod fields;
mod ready;

use std::sync::Arc;

use jiff::Timestamp;
use regorus::Value;

pub use facts::{
    ActorFacts, AgentFacts, Budget, EPOCH, LimitFacts, SubjectFacts, TaskFacts, TaskState,
    ToolFacts,
};
pub use fields::{Kind, field_exists, json_schema, kind_of};
pub use ready::{Moment, Part, Ready};

use crate::Level;
use crate::value::{Shape, level, shared};

/// The call itself.
#[derive(Debug, Clone)]
pub struct CallFacts {
    /// The decision ID, a `UUIDv7`.
    pub id: Arc<str>,
    /// When it was received.
    pub time: Timestamp,
    /// `mcp`, `openapi`, `jsonrpc` or `http`.
    pub protocol: &'static str,
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
    /// The body's SHA-256; none when the body is streamed.
    pub body_sha256: Option<[u8; 32]>,
    /// `inputResponses` of an MCP request; an empty object where there are none.
    pub input_responses: Value,
    /// The W3C trace ID.
    pub trace_id: Option<[u8; 16]>,
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
    /// Who calls.
    pub agent: Ready<AgentFacts>,
    /// For whom.
    pub subject: SubjectFacts,
    /// The chain of delegation, nearest first.
    pub actors: Ready<Vec<ActorFacts>>,
    /// For what.
    pub task: TaskFacts,
    /// The tool.
    pub tool: Ready<ToolFacts>,
    /// The content.
    pub content: Content,
    /// What the limits that apply have left.
    pub limits: Vec<LimitFacts>,
    /// Why the policy is asked.
    pub phase: Phase,
    /// The exceptions whose `max_uses` are used up. Not part of the documented input.
    pub spent: Vec<Arc<str>>,
}

thread_local! {
    // Of each thread its own: counting references to what is shared is what costs.
    static CALL: Shape = Shape::new(&[
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
    ]);
    static CONTENT: Shape = Shape::new(&["classification", "findings", "labels", "opaque"]);
    static INPUT: Shape = Shape::new(&[
        "actors", "agent", "call", "content", "limits", "subject", "task", "tool",
    ]);
    static ASKED: Shape = Shape::new(&[
        "actors", "agent", "call", "content", "internal", "limits", "subject", "task", "tool",
    ]);
}

impl Input {
    /// The documented `input`.
    pub fn to_value(&self) -> Value {
        let [actors, agent, call, content, limits, subject, task, tool] = self.parts();
        INPUT.with(|shape| shape.fill([actors, agent, call, content, limits, subject, task, tool]))
    }

    /// What the library reads: the documented input and what it alone reads.
    pub(crate) fn asked(&self, internal: Value) -> Value {
        let [actors, agent, call, content, limits, subject, task, tool] = self.parts();
        ASKED.with(|shape| {
            shape.fill([
                actors, agent, call, content, internal, limits, subject, task, tool,
            ])
        })
    }

    fn parts(&self) -> [Value; 8] {
        let limits: Vec<_> = self.limits.iter().map(LimitFacts::to_value).collect();
        [
            self.actors.value(),
            self.agent.value(),
            self.call.to_value(self.phase),
            self.content.to_value(),
            Value::from(limits),
            self.subject.to_value(),
            self.task.to_value(),
            self.tool.value(),
        ]
    }
}

impl Phase {
    /// The word for `call.phase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::List => "list",
        }
    }
}

impl CallFacts {
    fn to_value(&self, phase: Phase) -> Value {
        CALL.with(|shape| {
            shape.fill([
                self.arguments.clone(),
                Value::from(self.arguments_bytes),
                hex(self.body_sha256.as_ref().map_or(&[], |hash| hash)),
                shared(&self.host),
                shared(&self.id),
                self.input_responses.clone(),
                shared(&self.listener),
                shared(&self.method),
                shared(&self.path),
                Value::from(phase.as_str()),
                Value::from(u64::from(self.port)),
                Value::from(self.protocol),
                Value::from(self.time.to_string()),
                Value::from(nanoseconds(self.time)),
                hex(self.trace_id.as_ref().map_or(&[], |id| id)),
            ])
        })
    }
}

impl Content {
    fn to_value(&self) -> Value {
        CONTENT.with(|shape| {
            shape.fill([
                level(self.classification),
                self.findings.clone(),
                self.labels.clone(),
                Value::from(self.opaque),
            ])
        })
    }
}

fn hex(bytes: &[u8]) -> Value {
    Value::from(crate::digest::lower_hex(bytes))
}

/// Nanoseconds since 1970, held at the ends of 64 bits (the years 1677 and 2262).
pub fn nanoseconds(time: Timestamp) -> i64 {
    let at = time.as_nanosecond();
    i64::try_from(at).unwrap_or(if at < 0 { i64::MIN } else { i64::MAX })
}
