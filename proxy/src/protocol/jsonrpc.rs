//! JSON-RPC 2.0 over HTTP POST, one call a request, under a catalogue of its methods.
//!
//! A tool is a method. A notification acts as a request does, so it is decided as one.

mod answer;

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{Method, StatusCode};
use outrider_policy::{Problem, Value};
use outrider_schemas::{catalogue::Contract, json, jsonrpc::Catalogue};

use super::{
    Answers, Asked, BodyManner, Exchange, Form, Hangup, Held, Kind, Manner, Message, Passed,
    Protocol, Published, Refusal, Row, Spoken, Target, Unreadable,
    rpc::{
        REFUSED, decision, envelope, invalid, json_body, member, reply, request_id, sentence, text,
    },
};
use crate::{
    call::{DecisionId, ToolCall},
    headers::{begins_loosely, no_twins},
    listen::path::EncodedSlash,
    rejection::{Malformed, Rejection, Unknown},
};

/// The protocol's line in the table.
pub const ROW: Row = Row {
    name: "jsonrpc",
    keys: &[],
    load,
};

/// JSON-RPC 2.0.
#[derive(Debug)]
pub struct JsonRpc {
    contract: Arc<Contract>,
}

fn load(published: &mut Published<'_>) -> Result<Spoken, Vec<Problem>> {
    let document = published.document()?;
    let catalogue = Catalogue::parse(document.text()?.as_bytes())
        .map_err(|bad| vec![document.problem(bad.to_string())])?;
    let contract = catalogue.compile().map_err(|bad| {
        let problems = bad
            .iter()
            .map(|method| document.problem(method.to_string()));
        problems.collect::<Vec<_>>()
    })?;
    let contract = Arc::new(contract);
    Ok(Spoken {
        protocol: Arc::new(JsonRpc {
            contract: Arc::clone(&contract),
        }),
        contract,
        notes: Vec::new(),
    })
}

impl Protocol for JsonRpc {
    fn name(&self) -> &'static str {
        ROW.name
    }

    fn manner(&self) -> Manner {
        Manner {
            target: Target::Fixed,
            encoded_slash: EncodedSlash::Refused,
            body: BodyManner::Buffered,
            answers: Answers::Message,
            websocket: false,
        }
    }

    fn admit(&self, asked: &Asked<'_>) -> Result<(), Rejection> {
        if asked.head.method != Method::POST {
            return Err(Rejection::CallMalformed(Malformed::Method));
        }
        no_twins(&asked.head.headers, |name| begins_loosely(name, "content-"))?;
        json_body(asked.head)
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Message, Unreadable> {
        let mut exchange = Exchange {
            id: None,
            form: Form::Request,
            hangup: Hangup::Cancels,
        };
        let call = match call(asked.body, &mut exchange) {
            Ok(call) => call,
            Err(rejection) => {
                return Err(Unreadable {
                    exchange,
                    rejection,
                });
            }
        };
        let tool = self.contract.tool(&call.operation);
        // A name that nobody published stands in no record and no metric.
        let method = tool.map_or(Cow::Borrowed(""), |tool| {
            Cow::Owned(tool.operation.to_string())
        });
        Ok(Message {
            exchange,
            method,
            kind: Kind::Call(call),
            trace: None,
            session: None,
        })
    }

    fn refuse(
        &self,
        exchange: &Exchange,
        rejection: &Rejection,
        id: DecisionId,
    ) -> Option<Refusal> {
        Some(refusal(exchange, rejection, id))
    }

    fn inspect(
        &self,
        exchange: &Exchange,
        message: Bytes,
        held: &Held<'_>,
    ) -> Result<Passed, Rejection> {
        let tool = held
            .operation
            .and_then(|operation| self.contract.tool(operation));
        let schema = tool.and_then(|tool| tool.output.as_ref());
        answer::check(exchange, &message, schema).map(|()| Passed::Final(message))
    }
}

/// Reads the one request or notification of a body (JSON-RPC 2.0 §4).
fn call(body: &[u8], exchange: &mut Exchange) -> Result<ToolCall, Rejection> {
    let tree = json::parse(body)
        .map_err(|malformed| Rejection::CallMalformed(Malformed::Json(malformed)))?;
    let Value::Object(members) = &tree else {
        return Err(invalid(
            "expected one JSON-RPC message; arrays are not served",
        ));
    };
    exchange.id = request_id(&tree)?;
    let known = |name: &Value| matches!(name, Value::String(name) if matches!(&**name, "jsonrpc" | "id" | "method" | "params"));
    if text(&tree, "jsonrpc") != Some("2.0") {
        return Err(invalid("expected `jsonrpc` to be \"2.0\""));
    }
    if !members.keys().all(known) {
        return Err(invalid(
            "expected no members but `jsonrpc`, `id`, `method` and `params`",
        ));
    }
    let operation = text(&tree, "method").ok_or(invalid("expected a `method`"))?;
    let arguments = match member(&tree, "params") {
        None => Value::new_object(),
        Some(given @ (Value::Object(_) | Value::Array(_))) => given.clone(),
        Some(_) => return Err(invalid("expected `params` to be an object or an array")),
    };
    if exchange.id.is_none() {
        exchange.form = Form::Notification;
    }
    Ok(ToolCall {
        operation: operation.into(),
        arguments,
        input_responses: Value::new_object(),
        opaque: false,
        unread: Vec::new(),
    })
}

/// A JSON-RPC error; without an ID to a notification, with `null` where none could be read
/// (JSON-RPC 2.0 §5).
fn refusal(exchange: &Exchange, rejection: &Rejection, id: DecisionId) -> Refusal {
    let (status, code) = match rejection {
        Rejection::CallMalformed(Malformed::Json(bad)) if bad.is_syntax() => {
            (StatusCode::BAD_REQUEST, -32700)
        }
        Rejection::CallMalformed(_) => (rejection.row().status, -32600),
        Rejection::ToolUnknown(Unknown::Tool | Unknown::Method | Unknown::Work) => {
            (StatusCode::OK, -32601)
        }
        _ => (StatusCode::OK, REFUSED),
    };
    let error = serde_json::json!({
        "code": code,
        "message": sentence(rejection, id),
        "data": decision(rejection, id),
    });
    if exchange.form == Form::Notification {
        return reply(rejection.row().status, envelope(None, "error", &error));
    }
    let asked = exchange.id.as_deref().unwrap_or("null");
    reply(status, envelope(Some(asked), "error", &error))
}
