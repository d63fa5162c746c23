//! What a call says. A [`Protocol`] reads a request into a [`Message`], says a refusal in the
//! words of its clients, and checks the answer on its way back.
//!
//! Another protocol is one more implementation and one more line in [`PROTOCOLS`].

pub mod mcp;
pub mod sse;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{StatusCode, request::Parts};

use crate::{
    call::{DecisionId, ToolCall, Trace},
    rejection::Rejection,
};
use outrider_schemas::catalogue::Tool;

/// Every protocol a service can speak, by its name in the configuration.
pub static PROTOCOLS: &[(&str, &dyn Protocol)] = &[("mcp", &mcp::Mcp)];

/// One protocol between agent and service.
pub trait Protocol: fmt::Debug + Send + Sync {
    /// The name in configuration, policy input and records.
    fn name(&self) -> &'static str;

    /// Refuses by the head alone, before a body is read.
    ///
    /// # Errors
    /// A method, path, media type or encoding which the protocol does not take.
    fn admit(&self, head: &Parts) -> Result<(), Rejection>;

    /// Reads one message; well-formed, nothing proved.
    ///
    /// # Errors
    /// The refusal, with as much of the exchange as was readable.
    fn read(&self, head: &Parts, body: &[u8]) -> Result<Message, Unreadable>;

    /// Checks what can only be checked once the tool is known.
    ///
    /// # Errors
    /// A mirrored header that differs from the arguments.
    fn agree(&self, head: &Parts, call: &ToolCall, tool: &Tool) -> Result<(), Rejection>;

    /// Says a refusal in the form which this protocol's clients understand.
    fn refuse(&self, exchange: &Exchange, rejection: &Rejection, id: DecisionId) -> Refusal;

    /// Checks one whole message of the answer and gives what may pass on.
    ///
    /// # Errors
    /// Why the message may not reach the agent.
    fn inspect(
        &self,
        exchange: &Exchange,
        message: Bytes,
        shown: &Shown<'_>,
    ) -> Result<Passed, Rejection>;
}

/// Whether a tool, by its operation's name, may be shown to this task.
pub type Shown<'a> = dyn Fn(&str) -> bool + 'a;

/// What a message is and how it wants to be answered.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The request's ID as JSON text; absent for a notification and where it could not be read.
    pub id: Option<Arc<str>>,
    /// How an answer is said.
    pub form: Form,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A tool's result: refusals are results which the model reads.
    ToolResult,
    /// A list of tools: hidden ones are taken out.
    ToolList,
    /// Any other request.
    Request,
    /// Nothing but a status.
    Notification,
}

/// One message as the agent sent it.
#[derive(Debug)]
pub struct Message {
    /// How to answer it.
    pub exchange: Exchange,
    /// The method, which is one of those the protocol serves.
    pub method: &'static str,
    /// What it asks for.
    pub kind: Kind,
    /// The trace it continues, when it says so itself.
    pub trace: Option<Trace>,
}

/// What a message asks for.
#[derive(Debug)]
pub enum Kind {
    /// The use of a tool: the whole pipeline.
    Call(ToolCall),
    /// What could be used: needs a task; the answer is filtered.
    List,
    /// Housekeeping of the protocol: needs an agent only.
    Plain,
}

/// A message that could not be read.
#[derive(Debug)]
pub struct Unreadable {
    /// As much as was readable.
    pub exchange: Exchange,
    /// Why.
    pub rejection: Rejection,
}

/// A refusal in the words of a protocol.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The media type of the body.
    pub media_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// A message of an answer after inspection.
#[derive(Debug)]
pub enum Passed {
    /// It goes to the agent and others may follow.
    Interim(Bytes),
    /// It goes to the agent and ends the exchange.
    Final(Bytes),
    /// It is not for the agent and is left out.
    Dropped,
}
