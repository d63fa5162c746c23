//! REST under an OpenAPI description: a call is an operation, found by method and path as sent.
//!
//! What the description says of a request's parts is how they are read, and nothing else passes:
//! an undeclared or repeated parameter is a violation like a wrong value.

use std::{borrow::Cow, sync::Arc};

use outrider_policy::{Problem, Value};
use outrider_schemas::{
    catalogue::Contract,
    openapi::{Api, Reason, Request, Undecodable},
};

use super::{
    Answers, Asked, BodyManner, Exchange, Kind, Manner, Message, Protocol, Published, Row, Spoken,
    Target, Unreadable, uncoded,
};
use crate::{
    call::ToolCall,
    headers::{begins_loosely, no_twins},
    listen::path::EncodedSlash,
    rejection::{Malformed, Rejection, Unknown},
};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "openapi",
    keys: &[],
    load,
};

/// REST as one description has it.
#[derive(Debug)]
pub struct OpenApi {
    api: Api,
    encoded_slash: EncodedSlash,
}

fn load(published: &mut Published<'_>) -> Result<Spoken, Vec<Problem>> {
    let document = published.document()?;
    let loaded = document.description()?;
    if loaded.api.operations().next().is_none() {
        return Err(vec![document.problem(
            "none of its operations can be served: `outrider schemas import` says why".into(),
        )]);
    }
    let left_out = loaded.report.left_out().count();
    let mut notes = loaded.report.notes.clone();
    if left_out > 0 {
        notes.push(format!(
            "{left_out} of {} operations are left out: `outrider schemas import` says why",
            loaded.report.operations.len()
        ));
    }
    // An encoded slash is judged variable by variable where one of them may hold it.
    let slash = loaded
        .api
        .operations()
        .any(|one| one.allows_encoded_slash());
    let contract = Arc::new(Contract::of_api(&loaded.api));
    Ok(Spoken {
        protocol: Arc::new(OpenApi {
            api: loaded.api,
            encoded_slash: if slash {
                EncodedSlash::Allowed
            } else {
                EncodedSlash::Refused
            },
        }),
        contract,
        notes,
    })
}

impl Protocol for OpenApi {
    fn name(&self) -> &'static str {
        ROW.name
    }

    fn manner(&self) -> Manner {
        Manner {
            target: Target::Appended,
            encoded_slash: self.encoded_slash,
            body: BodyManner::Buffered,
            answers: Answers::Opaque,
            websocket: false,
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        no_twins(&asked.head.headers, may_be_read)?;
        uncoded(asked.head)
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        let (name, call) = self.call(asked).map_err(|rejection| Unreadable {
            exchange: Exchange::opaque(),
            rejection,
        })?;
        Ok(Message {
            exchange: Exchange::opaque(),
            method: Cow::Owned(name.to_string()),
            kind: Kind::Call(call),
            trace: None,
            session: None,
        })
    }
}

impl OpenApi {
    /// The operation's method, and the call of it.
    fn call(&self, asked: &Asked<'_>) -> Result<(Arc<str>, ToolCall), Rejection> {
        let (operation, variables) = self
            .api
            .find(asked.head.method.as_str(), asked.rest)
            .map_err(|_| Rejection::ToolUnknown(Unknown::Tool))?;
        let headers: Vec<(&str, &[u8])> = asked
            .head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let decoded = operation.decode(&Request {
            variables: &variables,
            query: asked.query,
            headers: &headers,
            body: asked.body,
        });
        let (arguments, unread) = match decoded {
            Ok(arguments) => (arguments, Vec::new()),
            Err(undecodable) => (Value::new_object(), vec![unread(&undecodable)?]),
        };
        let judged = matches!(&arguments, Value::Object(all) if all.get(&"body".into()).is_some());
        let call = ToolCall {
            operation: Arc::clone(&operation.tool.operation),
            arguments,
            input_responses: Value::new_object(),
            opaque: !asked.body.is_empty() && !judged,
            unread,
        };
        Ok((Arc::clone(&operation.method), call))
    }
}

/// What could not be read is a violation of the contract, unless it is no body at all.
fn unread(
    undecodable: &Undecodable,
) -> Result<outrider_schemas::json_schema::Violation, Rejection> {
    match undecodable.reason {
        Reason::Json(malformed) => Err(Rejection::CallMalformed(Malformed::Json(malformed))),
        Reason::MediaType | Reason::NoMediaType | Reason::Charset | Reason::ContentEncoding => {
            Err(Rejection::MediaTypeRefused(
                "send the body in a media type that the operation declares",
            ))
        }
        _ => Ok(undecodable.violation()),
    }
}

/// Whether a header may be one that the service reads. Which ones those are is not known here.
fn may_be_read(name: &str) -> bool {
    begins_loosely(name, "content-") || begins_loosely(name, "x-")
}
