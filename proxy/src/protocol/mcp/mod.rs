//! MCP over streamable HTTP: 2026-07-28, and the legacy revisions from 2025-03-26 on.
//!
//! In: the head and body of one request. Out: a [`Message`], or a refusal which official clients
//! understand. The body is the truth; mirrored headers are only checked against it. Which methods
//! there are stands in `methods`, which era a message is of is told by `revision`.

mod answer;
mod envelope;
mod headers;
mod methods;
mod refusal;
mod request;
mod revision;
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
    Answers, Asked, BodyManner, Exchange, Held, Manner, Message, Passed, Protocol, Published,
    Refusal, Row, Session, Spoken, Target, Unreadable,
};
use crate::{
    call::{DecisionId, ToolCall},
    listen::path::EncodedSlash,
    rejection::Rejection,
};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "mcp",
    keys: &["server_requests"],
    load,
};

use self::revision::Era;
pub use self::revision::{LEGACY, MODERN, VERSION_KEY};

/// MCP, as one service speaks it.
#[derive(Debug)]
pub struct Mcp {
    /// What can be called; it also tells which resource a URI is of.
    contract: Arc<Contract>,
    /// Requests that the service may send to the agent.
    server_requests: Box<[String]>,
    /// Nobody behind us reads headers, and nobody before us writes them.
    stdio: bool,
}

impl Mcp {
    /// The era by whose rules headers mirror the body: those of a message on standard input need
    /// not, as those of a legacy one.
    fn mirrored(&self, era: Era) -> Era {
        if self.stdio { Era::Legacy } else { era }
    }

    /// The operation of a resource, by its URI.
    fn resource(&self, uri: &str) -> Option<Arc<str>> {
        self.contract.resources().find(uri).cloned()
    }
}

fn load(published: &mut Published<'_>) -> Result<Spoken, Vec<Problem>> {
    let server_requests = published.settings.server_requests.clone().into();
    let stdio = published.settings.stdio;
    let document = published.document()?;
    let lock = Lock::parse(document.text()?.as_bytes())
        .map_err(|bad| vec![document.problem(bad.to_string())])?;
    let contract = Contract::compile(lock).map_err(|bad| {
        let problems = bad.iter().map(|tool| document.problem(tool.to_string()));
        problems.collect::<Vec<_>>()
    })?;
    let contract = Arc::new(contract);
    Ok(Spoken {
        protocol: Arc::new(Mcp {
            contract: Arc::clone(&contract),
            server_requests,
            stdio,
        }),
        contract,
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
            websocket: false,
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        headers::admit(asked.head)
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        self.message(asked)
    }

    fn agree(&self, head: &Parts, call: &ToolCall, tool: &Tool) -> Result<(), Rejection> {
        // Header and body told the same revision when the message was read.
        let era = match headers::once(&head.headers, headers::VERSION)? {
            Some(MODERN) => Era::Modern,
            _ => Era::Legacy,
        };
        headers::parameters_agree(
            &head.headers,
            self.mirrored(era),
            &call.arguments,
            &tool.headers,
        )
    }

    fn refuse(
        &self,
        exchange: &Exchange,
        rejection: &Rejection,
        id: DecisionId,
    ) -> Option<Refusal> {
        refusal::say(exchange, rejection, id)
    }

    fn inspect(
        &self,
        exchange: &Exchange,
        message: Bytes,
        held: &Held<'_>,
    ) -> Result<Passed, Rejection> {
        self.inspected(exchange, message, held)
    }

    fn works<'a>(&self, call: &'a ToolCall) -> Result<Vec<&'a str>, Rejection> {
        request::works(call)
    }

    fn adopt(&self, exchange: &Exchange, message: &Bytes) -> Option<Bytes> {
        answer::adopted(exchange, message)
    }

    fn changed(&self, exchange: &Exchange, session: Option<&Session>) -> Vec<Bytes> {
        answer::changed(exchange, session)
    }
}
