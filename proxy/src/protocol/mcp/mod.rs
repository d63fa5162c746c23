//! MCP over streamable HTTP, revision 2026-07-28, for tools.
//!
//! In: the head and body of one POST. Out: a [`Message`], or a refusal which official clients
//! understand. The body is the truth; mirrored headers are only checked against it.

mod answer;
mod headers;
mod refusal;
mod request;
mod scrub;

use bytes::Bytes;
use http::request::Parts;
use outrider_schemas::catalogue::Tool;

use super::{Exchange, Message, Passed, Protocol, Refusal, Shown, Unreadable};
use crate::{
    call::{DecisionId, ToolCall},
    rejection::Rejection,
};

/// The revision that is served.
pub const REVISION: &str = "2026-07-28";

/// MCP 2026-07-28.
#[derive(Debug)]
pub struct Mcp;

impl Protocol for Mcp {
    fn name(&self) -> &'static str {
        "mcp"
    }

    fn admit(&self, head: &Parts) -> Result<(), Rejection> {
        headers::admit(head)
    }

    fn read(&self, head: &Parts, body: &[u8]) -> Result<Message, Unreadable> {
        request::read(head, body)
    }

    fn agree(&self, head: &Parts, call: &ToolCall, tool: &Tool) -> Result<(), Rejection> {
        headers::parameters_agree(&head.headers, &call.arguments, &tool.headers)
    }

    fn refuse(&self, exchange: &Exchange, rejection: &Rejection, id: DecisionId) -> Refusal {
        refusal::say(exchange, rejection, id)
    }

    fn inspect(
        &self,
        exchange: &Exchange,
        message: Bytes,
        shown: &Shown<'_>,
    ) -> Result<Passed, Rejection> {
        answer::inspect(exchange, message, shown)
    }
}
