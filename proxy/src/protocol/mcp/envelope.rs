//! The JSON-RPC envelope of one message of the agent (JSON-RPC 2.0 §4, §5).

use std::sync::Arc;

use outrider_policy::Value;

use crate::rejection::{Malformed, Rejection};

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

/// A string or an integer, kept as the JSON text in which an answer must repeat it.
fn request_id(tree: &Value) -> Result<Option<Arc<str>>, Rejection> {
    match member(tree, "id") {
        None => Ok(None),
        Some(id) => id_text(id)
            .map(Some)
            .ok_or(invalid("expected `id` to be a string or an integer")),
    }
}

/// The JSON text of an ID that is a string or an integer.
pub(super) fn id_text(id: &Value) -> Option<Arc<str>> {
    match id {
        Value::String(_) => id.to_json_str().ok().map(Into::into),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Some(number.to_string().into()),
            (_, Some(number)) => Some(number.to_string().into()),
            _ => None,
        },
        _ => None,
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

/// The member `name` of an object.
pub(super) fn member<'a>(tree: &'a Value, name: &str) -> Option<&'a Value> {
    match tree {
        Value::Object(members) => members.get(&Value::from(name)),
        _ => None,
    }
}

/// The text at `name`.
pub(super) fn text<'a>(tree: &'a Value, name: &str) -> Option<&'a str> {
    match member(tree, name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

pub(super) fn invalid(why: &'static str) -> Rejection {
    Rejection::CallMalformed(Malformed::Message(why))
}

pub(super) fn params(why: &'static str) -> Rejection {
    Rejection::CallMalformed(Malformed::Params(why))
}
