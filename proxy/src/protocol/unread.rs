//! What protocols share that look at a method and at nothing behind it.

use std::borrow::Cow;

use http::Method;
use outrider_policy::Value;
use outrider_schemas::{catalogue::Tool, json_schema::Schema};

use super::{Exchange, Kind, Message, Unreadable};
use crate::{
    call::ToolCall,
    rejection::{Rejection, Unknown},
};

/// A method whose bodies nobody looks into, whether it is safe, and whether idempotent (RFC 9110 §9.2).
pub(super) type Unread = (&'static str, bool, bool);

/// What is published of such a method: its name.
pub(super) fn tool(&(method, safe, idempotent): &Unread) -> Option<Tool> {
    published(method, safe, idempotent)
}

/// What is published of a method of that name.
pub(super) fn published(method: &str, safe: bool, idempotent: bool) -> Option<Tool> {
    Some(Tool {
        operation: method.into(),
        owner: "".into(),
        version: "".into(),
        digest: "".into(),
        classification: None,
        labels: Vec::new(),
        read_only: safe,
        destructive: !safe,
        idempotent,
        open_world: true,
        // Never absent: any value satisfies `true`.
        input: Schema::compile(&serde_json::Value::Bool(true)).ok()?,
        output: None,
        headers: Vec::new(),
    })
}

/// The use of such a method, if it is one of these.
pub(super) fn call(method: &Method, known: &[Unread]) -> Result<Message, Unreadable> {
    let (name, ..) = known
        .iter()
        .find(|(name, ..)| *name == method.as_str())
        .ok_or_else(|| Unreadable {
            exchange: Exchange::opaque(),
            rejection: Rejection::ToolUnknown(Unknown::Tool),
        })?;
    Ok(used(Cow::Borrowed(name)))
}

/// The use of what is called so.
pub(super) fn used(name: Cow<'static, str>) -> Message {
    Message {
        exchange: Exchange::opaque(),

        kind: Kind::Call(ToolCall {
            operation: (&*name).into(),
            arguments: Value::new_object(),
            input_responses: Value::new_object(),
            opaque: true,
            unread: Vec::new(),
        }),
        trace: None,
        session: None,
        method: name,
    }
}
