//! A refusal in the words of an MCP client.
//!
//! A refused tool call is a tool result: the only form that reaches the model in every official
//! SDK and leaves the session alive. Other requests get a JSON-RPC error.

use http::StatusCode;
use serde_json::json;

use super::revision::{LEGACY, MODERN};
use crate::{
    call::DecisionId,
    protocol::{
        Exchange, Form, Refusal,
        rpc::{REFUSED, decision, envelope, reply, sentence},
    },
    rejection::{Malformed, Rejection, Unknown},
};

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
        "content": [{"type": "text", "text": sentence(rejection, id)}],
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
    let body = json!({"code": code, "message": sentence(rejection, decision_id), "data": data});
    envelope(id, "error", &body)
}
