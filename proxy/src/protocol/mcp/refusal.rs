//! A refusal in the words of an MCP client.
//!
//! A refused tool call is a tool result: the only form that reaches the model in every official
//! SDK and leaves the session alive. Other requests get a JSON-RPC error.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::revision::{LEGACY, MODERN};
use crate::{
    call::DecisionId,
    protocol::{Exchange, Form, Refusal},
    rejection::{Malformed, Rejection, Retry, Unknown},
};

/// Our own code for a refused request; outside the ranges of JSON-RPC and MCP.
const REFUSED: i32 = 4030;

/// Says a refusal; nothing of a request that is no message.
pub(super) fn say(exchange: &Exchange, rejection: &Rejection, id: DecisionId) -> Option<Refusal> {
    let (status, code) = form(exchange, rejection);
    Some(match (exchange.form, code) {
        (Form::Feed | Form::Ending, _) => return None,
        (Form::Notification, _) => {
            reply(status, error(None, code.unwrap_or(REFUSED), rejection, id))
        }
        (Form::ToolResult, None) => reply(StatusCode::OK, result(exchange, rejection, id)),
        (_, code) => reply(
            status,
            error(
                exchange.id.as_deref(),
                code.unwrap_or(REFUSED),
                rejection,
                id,
            ),
        ),
    })
}

fn reply(status: StatusCode, body: String) -> Refusal {
    Refusal {
        status,
        media_type: "application/json",
        body: Bytes::from(body),
    }
}

/// Status and JSON-RPC code; no code where the usual form of the exchange serves.
fn form(exchange: &Exchange, rejection: &Rejection) -> (StatusCode, Option<i32>) {
    let bad = StatusCode::BAD_REQUEST;
    match rejection {
        Rejection::HeaderMismatch(_) => (bad, Some(-32020)),
        Rejection::CallMalformed(Malformed::Json(_)) => (bad, Some(-32700)),
        Rejection::CallMalformed(Malformed::Params(_)) => (bad, Some(-32602)),
        Rejection::CallMalformed(Malformed::Revision { .. }) => (bad, Some(-32022)),
        Rejection::CallMalformed(_) => (rejection.row().status, Some(-32600)),
        Rejection::ToolUnknown(Unknown::Method) => (StatusCode::NOT_FOUND, Some(-32601)),
        Rejection::ToolUnknown(Unknown::Tool | Unknown::Work) => (StatusCode::OK, Some(-32602)),
        _ if exchange.form == Form::Notification => (rejection.row().status, None),
        _ => (StatusCode::OK, None),
    }
}

fn result(exchange: &Exchange, rejection: &Rejection, id: DecisionId) -> String {
    let body = json!({
        "resultType": "complete",
        "isError": true,
        "content": [{"type": "text", "text": text(rejection, id)}],
        "_meta": {"outrider/decision": decision(rejection, id)},
    });
    envelope(exchange.id.as_deref(), "result", &body)
}

fn error(id: Option<&str>, code: i32, rejection: &Rejection, decision_id: DecisionId) -> String {
    let mut data = decision(rejection, decision_id);
    if let Rejection::CallMalformed(Malformed::Revision { requested }) = rejection {
        let supported: Vec<&str> = [MODERN].into_iter().chain(LEGACY).collect();
        data.insert("supported".into(), json!(supported));
        data.insert("requested".into(), json!(requested));
    }
    let body = json!({"code": code, "message": text(rejection, decision_id), "data": data});
    envelope(id, "error", &body)
}

/// The ID is written as the JSON text in which it came.
fn envelope(id: Option<&str>, member: &str, body: &Value) -> String {
    match id {
        Some(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"{member}":{body}}}"#),
        None => format!(r#"{{"jsonrpc":"2.0","{member}":{body}}}"#),
    }
}

/// The decision as an object: `{id, code, retry, retry_after_s?, violations?}`.
fn decision(rejection: &Rejection, id: DecisionId) -> Map<String, Value> {
    let row = rejection.row();
    let mut told = Map::new();
    told.insert("id".into(), id.to_string().into());
    told.insert("code".into(), row.code.as_str().into());
    told.insert("retry".into(), row.retry.as_str().into());
    if let Some(seconds) = rejection.retry_after_s() {
        told.insert("retry_after_s".into(), seconds.into());
    }
    if !rejection.violations().is_empty() {
        told.insert("violations".into(), json!(rejection.violations()));
    }
    told
}

/// One or two sentences for the model: what was refused and whether a retry can help.
fn text(rejection: &Rejection, id: DecisionId) -> String {
    let row = rejection.row();
    let detail = rejection.detail();
    let colon = if detail.is_empty() { "" } else { ": " };
    let advice = match row.retry {
        Retry::No => "Do not retry this call.".into(),
        Retry::WithChange => "Change the call before you retry it.".into(),
        Retry::WithNewTask => {
            "Only another task can make this call; do not retry it under this one.".into()
        }
        Retry::WithApproval => "Do not retry it until a person has approved it.".into(),
        Retry::After => match rejection.retry_after_s() {
            Some(seconds) => format!("You may retry after {seconds} s."),
            None => "Do not retry it within this task.".to_owned(),
        },
    };
    let detail = detail.trim_end_matches('.');
    format!(
        "Refused by Outrider: {}{colon}{detail}. {advice} (code {}, decision {id})",
        row.title,
        row.code.as_str()
    )
}
