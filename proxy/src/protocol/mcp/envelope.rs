//! The JSON-RPC envelope of one message of the agent (JSON-RPC 2.0 §4, §5).

use std::sync::Arc;

use outrider_policy::Value;

use crate::{
    protocol::rpc::{invalid, member, request_id, text},
    rejection::{Malformed, Rejection},
};

/// What one message is.
pub(super) enum Envelope<'a> {
    /// A request, or a notification.
    Asks(Asks<'a>),
    /// An answer to a request of the service: its ID as JSON text.
    Answers(Arc<str>),
}

/// The members of a request or notification.
pub(super) struct Asks<'a> {
    /// The request's ID as JSON text; none for a notification.
    pub(super) id: Option<Arc<str>>,
    pub(super) method: &'a str,
    pub(super) params: Option<&'a Value>,
}

impl<'a> Envelope<'a> {
    pub(super) fn open(tree: &'a Value) -> Result<Self, Rejection> {
        let Value::Object(members) = tree else {
            return Err(invalid(
                "expected one JSON-RPC message; arrays are not served",
            ));
        };
        if text(tree, "jsonrpc") != Some("2.0") {
            return Err(invalid("expected `jsonrpc` to be \"2.0\""));
        }
        let only = |known: &[&str]| {
            members
                .keys()
                .all(|name| matches!(name, Value::String(name) if known.contains(&&**name)))
        };
        let has = |name| member(tree, name).is_some();
        if !has("method") && (has("result") != has("error")) {
            return match request_id(tree)? {
                Some(id) if only(&["jsonrpc", "id", "result", "error"]) => Ok(Self::Answers(id)),
                _ => Err(invalid("expected an answer to have `id`, and nothing else")),
            };
        }
        if !only(&["jsonrpc", "id", "method", "params"]) {
            return Err(invalid(
                "expected no members but `jsonrpc`, `id`, `method` and `params`",
            ));
        }
        Asks::open(tree).map(Self::Asks)
    }
}

impl<'a> Asks<'a> {
    fn open(tree: &'a Value) -> Result<Self, Rejection> {
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

    pub(super) fn meta(&self) -> Option<&'a Value> {
        self.params.and_then(|params| member(params, "_meta"))
    }
}

/// The object at `name`, an empty one when it is absent.
pub(super) fn object(tree: &Value, name: &str) -> Result<Value, Rejection> {
    match member(tree, name) {
        None => Ok(Value::new_object()),
        Some(object @ Value::Object(_)) => Ok(object.clone()),
        Some(_) => Err(params("`arguments` and `inputResponses` are objects")),
    }
}

pub(super) fn params(why: &'static str) -> Rejection {
    Rejection::CallMalformed(Malformed::Params(why))
}
