//! MCP over streamable HTTP, revision 2026-07-28, for tools.
//!
//! In: the head and body of one POST. Out: a [`Message`], or a refusal which official clients
//! understand. The body is the truth; mirrored headers are only checked against it.

mod answer;
mod headers;
mod refusal;
mod request;
mod scrub;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use outrider_policy::Problem;
use outrider_schemas::{
    catalogue::{Contract, Tool},
    lock::Lock,
};

use super::{
    Answers, Asked, BodyManner, Exchange, Manner, Message, Passed, Protocol, Published, Refusal,
    Row, Shown, Spoken, Target, Unreadable,
};
use crate::{
    call::{DecisionId, ToolCall},
    listen::path::EncodedSlash,
    rejection::Rejection,
};

/// The protocol's line in the table.
pub const ROW: Row = Row { name: "mcp", load };

/// The revision that is served.
pub const REVISION: &str = "2026-07-28";

/// MCP 2026-07-28.
#[derive(Debug)]
pub struct Mcp;

fn load(published: &mut Published<'_>) -> Result<Spoken, Vec<Problem>> {
    let document = published.document()?;
    let lock = Lock::parse(document.text.as_bytes())
        .map_err(|bad| vec![document.problem(bad.to_string())])?;
    let contract = Contract::compile(lock).map_err(|bad| {
        let problems = bad.iter().map(|tool| document.problem(tool.to_string()));
        problems.collect::<Vec<_>>()
    })?;
    Ok(Spoken {
        protocol: Arc::new(Mcp),
        contract: Arc::new(contract),
        notes: Vec::new(),
    })
}

impl Protocol for Mcp {
    fn name(&self) -> &'static str {
        ROW.name
    }

    fn manner(&self) -> Manner {
        Manner {
            target: Target::Fixed,
            encoded_slash: EncodedSlash::Refused,
            body: BodyManner::Buffered,
            answers: Answers::Messages,
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        headers::admit(asked.head)
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        request::read(asked.head, asked.body)
    }

    fn agree(&self, head: &Parts, call: &ToolCall, tool: &Tool) -> Result<(), Rejection> {
        headers::parameters_agree(&head.headers, &call.arguments, &tool.headers)
    }

    fn refuse(
        &self,
        exchange: &Exchange,
        rejection: &Rejection,
        id: DecisionId,
    ) -> Option<Refusal> {
        Some(refusal::say(exchange, rejection, id))
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
