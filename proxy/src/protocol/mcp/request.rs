//! Body and headers of one POST → one [`Message`] (MCP 2026-07-28 transports; JSON-RPC 2.0).

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, request::Parts};
use outrider_policy::Value;
use outrider_schemas::json;

use super::{REVISION, headers};
use crate::{
    call::{ToolCall, Trace},
    protocol::{
        Exchange, Form, Kind, Message, Unreadable,
        rpc::{invalid, member, request_id, text},
    },
    rejection::{Malformed, Rejection, Unknown},
};

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// Reads one message.
///
/// # Errors
/// Anything but exactly one request or notification of the served revision whose mirrored headers
/// equal its body.
pub(super) fn read(head: &Parts, body: &[u8]) -> Result<Message, Unreadable> {
    let mut exchange = Exchange {
        id: None,
        form: Form::Request,
        operation: None,
    };
    match message(head, body, &mut exchange) {
        Ok((method, kind, trace)) => Ok(Message {
            exchange,
            method: Cow::Borrowed(method),
            kind,
            trace,
        }),
        Err(rejection) => Err(Unreadable {
            exchange,
            rejection,
        }),
    }
}

type Read = (&'static str, Kind, Option<Trace>);

fn message(head: &Parts, body: &[u8], exchange: &mut Exchange) -> Result<Read, Rejection> {
    let tree = json::parse(body)
        .map_err(|malformed| Rejection::CallMalformed(Malformed::Json(malformed)))?;
    let envelope = Envelope::open(&tree)?;
    exchange.id.clone_from(&envelope.id);
    exchange.form = envelope.form();
    let meta = envelope.meta();
    headers::no_twins(&head.headers)?;
    revision(&head.headers, &envelope, meta)?;
    headers::method_agrees(&head.headers, envelope.method, exchange.form)?;
    let method = served(envelope.method, exchange.form)?;
    let trace = meta
        .and_then(|meta| text(meta, "traceparent"))
        .and_then(Trace::parse);
    Ok((method, kind(method, &head.headers, &envelope)?, trace))
}

/// The members of a JSON-RPC request or notification.
struct Envelope<'a> {
    id: Option<Arc<str>>,
    method: &'a str,
    params: Option<&'a Value>,
}

impl<'a> Envelope<'a> {
    fn open(tree: &'a Value) -> Result<Self, Rejection> {
        let Value::Object(members) = tree else {
            return Err(invalid(
                "expected one JSON-RPC message; arrays are not served",
            ));
        };
        let known = |name: &Value| matches!(name, Value::String(name) if matches!(&**name, "jsonrpc" | "id" | "method" | "params"));
        if text(tree, "jsonrpc") != Some("2.0") {
            return Err(invalid("expected `jsonrpc` to be \"2.0\""));
        }
        if !members.keys().all(known) {
            return Err(invalid(
                "expected no members but `jsonrpc`, `id`, `method` and `params`",
            ));
        }
        let method = text(tree, "method").ok_or(invalid("expected a `method`"))?;
        let params = member(tree, "params");
        if !matches!(params, None | Some(Value::Object(_))) {
            return Err(invalid("expected `params` to be an object"));
        }
        Ok(Self {
            id: request_id(tree)?,
            method,
            params,
        })
    }

    fn form(&self) -> Form {
        match (&self.id, self.method) {
            (None, _) => Form::Notification,
            (Some(_), "tools/call") => Form::ToolResult,
            (Some(_), "tools/list") => Form::ToolList,
            (Some(_), _) => Form::Request,
        }
    }

    fn meta(&self) -> Option<&'a Value> {
        self.params.and_then(|params| member(params, "_meta"))
    }
}

/// Which revision the message is of: the one that is served, told alike by header and body.
fn revision(
    headers: &HeaderMap,
    envelope: &Envelope<'_>,
    meta: Option<&Value>,
) -> Result<(), Rejection> {
    let header = headers::once(headers, headers::VERSION)?;
    let body = meta.and_then(|meta| text(meta, VERSION_KEY));
    match (header, body) {
        (Some(header), Some(body)) if header != body => Err(headers::mismatch(headers::VERSION)),
        (None, Some(_)) => Err(headers::mismatch(headers::VERSION)),
        (Some(REVISION), None) if envelope.id.is_none() => Ok(()),
        (Some(REVISION), None) => Err(params(
            "`_meta` lacks `io.modelcontextprotocol/protocolVersion`",
        )),
        (Some(REVISION), Some(_)) => complete(envelope, meta),
        (header, _) => Err(unserved(header, envelope)),
    }
}

fn complete(envelope: &Envelope<'_>, meta: Option<&Value>) -> Result<(), Rejection> {
    let capabilities = meta.and_then(|meta| member(meta, CAPABILITIES_KEY));
    if envelope.id.is_some() && !matches!(capabilities, Some(Value::Object(_))) {
        return Err(params(
            "`_meta` lacks `io.modelcontextprotocol/clientCapabilities`",
        ));
    }
    Ok(())
}

/// An older era: what it asked for is in the header, in `initialize`, or implied.
fn unserved(header: Option<&str>, envelope: &Envelope<'_>) -> Rejection {
    let told = header.or_else(|| {
        envelope
            .params
            .and_then(|params| text(params, "protocolVersion"))
    });
    let requested: String = told.unwrap_or("2025-03-26").chars().take(32).collect();
    Rejection::CallMalformed(Malformed::Revision { requested })
}

/// The methods of this revision that are served; each has one direction and one form.
fn served(method: &str, form: Form) -> Result<&'static str, Rejection> {
    const REQUESTS: &[&str] = &["tools/call", "tools/list", "server/discover", "ping"];
    const NOTIFICATIONS: &[&str] = &[
        "notifications/cancelled",
        "notifications/progress",
        "notifications/initialized",
        "notifications/roots/list_changed",
    ];
    let (mine, other) = match form {
        Form::Notification => (NOTIFICATIONS, REQUESTS),
        _ => (REQUESTS, NOTIFICATIONS),
    };
    if other.contains(&method) {
        return Err(invalid("requests carry an `id`, notifications do not"));
    }
    mine.iter()
        .find(|known| **known == method)
        .copied()
        .ok_or(Rejection::ToolUnknown(Unknown::Method))
}

fn kind(
    method: &'static str,
    headers: &HeaderMap,
    envelope: &Envelope<'_>,
) -> Result<Kind, Rejection> {
    match method {
        "tools/call" => tool_call(headers, envelope).map(Kind::Call),
        "tools/list" => Ok(Kind::List),
        _ => Ok(Kind::Plain),
    }
}

fn tool_call(headers: &HeaderMap, envelope: &Envelope<'_>) -> Result<ToolCall, Rejection> {
    let given = envelope.params.ok_or(params("`params` is missing"))?;
    let name = text(given, "name").ok_or(params("`params.name` is missing"))?;
    headers::name_agrees(headers, name)?;
    Ok(ToolCall {
        operation: name.into(),
        arguments: object(given, "arguments")?,
        input_responses: object(given, "inputResponses")?,
        opaque: false,
    })
}

/// The object at `name`, an empty one when it is absent.
fn object(tree: &Value, name: &str) -> Result<Value, Rejection> {
    match member(tree, name) {
        None => Ok(Value::new_object()),
        Some(object @ Value::Object(_)) => Ok(object.clone()),
        Some(_) => Err(params("`arguments` and `inputResponses` are objects")),
    }
}

fn params(why: &'static str) -> Rejection {
    Rejection::CallMalformed(Malformed::Params(why))
}
