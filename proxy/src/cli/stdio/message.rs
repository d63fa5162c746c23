//! What the wrapper has to know of a message to bring it where it belongs. Whether it may pass is
//! not asked here: the sidecar reads it strictly, and refuses what two readers could read in two ways.

use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use crate::protocol::mcp::VERSION_KEY;

/// The ID of a request, by its JSON text: `1` is not `"1"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Id(String);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What leads a message to where it belongs.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) id: Option<Id>,
    pub(super) method: Option<String>,
    /// The revision that it tells itself, as all do from 2026-07-28 on.
    pub(super) version: Option<String>,
    /// By what its sender ties what comes before the answer to it, or what this is tied by.
    pub(super) progress: Option<Id>,
    /// The request on whose stream it belongs.
    pub(super) subscription: Option<Id>,
    /// The request that it cancels.
    pub(super) cancels: Option<Id>,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Notification,
    Answer,
}

impl Message {
    /// Reads one; none where it is no JSON object.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let Ok(tree @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else {
            return None;
        };
        let id = |value: &Value| (!value.is_null()).then(|| Id(value.to_string()));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let params = tree.get("params");
        let param = |name: &str| params.and_then(|params| params.get(name));
        let meta = |name: &str| param("_meta").and_then(|meta| meta.get(name));
        Some(Self {
            id: tree.get("id").and_then(id),
            method: tree.get("method").and_then(text),
            version: meta(VERSION_KEY).and_then(text),
            progress: meta("progressToken")
                .or_else(|| param("progressToken"))
                .and_then(id),
            subscription: meta("io.modelcontextprotocol/subscriptionId").and_then(id),
            cancels: param("requestId").and_then(id),
        })
    }

    pub(super) fn kind(&self) -> Kind {
        match (&self.method, &self.id) {
            (Some(_), Some(_)) => Kind::Request,
            (Some(_), None) => Kind::Notification,
            (None, _) => Kind::Answer,
        }
    }

    pub(super) fn is(&self, method: &str) -> bool {
        self.method.as_deref() == Some(method)
    }
}

/// A JSON text on one line: outside texts an end of line is but space (RFC 8259 §2).
pub(super) fn on_one_line(text: Bytes) -> Bytes {
    let ends = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if text.iter().any(ends) {
        let spaced = |byte: &u8| if ends(byte) { b' ' } else { *byte };
        text.iter().map(spaced).collect::<Vec<_>>().into()
    } else {
        text
    }
}

/// What says that a request is no longer wanted.
pub(super) fn cancelled(id: &Id) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    )
    .into()
}

/// An error in place of an answer that is not to be had.
pub(super) fn failed(id: Option<&Id>, message: &str, data: Option<Value>) -> Bytes {
    let mut error = serde_json::json!({"code": -32603, "message": message});
    if let (Some(data), Some(error)) = (data, error.as_object_mut()) {
        error.insert("data".into(), data);
    }
    let id = id.map_or("null", |id| &*id.0);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_a_message_to_its_place_is_read_and_nothing_else() {
        let kind = |text: &str| Message::read(text.as_bytes()).map(|message| message.kind());
        assert_eq!(kind(r#"{"id":1,"method":"ping"}"#), Some(Kind::Request));
        assert_eq!(
            kind(r#"{"method":"notifications/initialized"}"#),
            Some(Kind::Notification)
        );
        assert_eq!(kind(r#"{"id":1,"result":{}}"#), Some(Kind::Answer));
        assert_eq!(kind("[1]"), None);
        assert_eq!(kind("{"), None);
        let id = |text: &str| Message::read(text.as_bytes()).and_then(|message| message.id);
        assert_ne!(id(r#"{"id":1}"#), id(r#"{"id":"1"}"#));
        assert_eq!(id(r#"{"id":null}"#), None);
    }

    #[test]
    fn an_error_and_a_cancellation_are_json_on_one_line() {
        let id = Message::read(br#"{"id":"a\nb"}"#).and_then(|message| message.id);
        let error = failed(id.as_ref(), "no \"answer\"", Some(Value::from(1)));
        insta::assert_snapshot!(
            String::from_utf8_lossy(&error),
            @r#"{"jsonrpc":"2.0","id":"a\nb","error":{"code":-32603,"data":1,"message":"no \"answer\""}}"#
        );
        let cancelled = id.map(|id| cancelled(&id)).unwrap_or_default();
        assert!(serde_json::from_slice::<Value>(&cancelled).is_ok());
        let spread = Bytes::from("{\r\n\"a\": \"b\\n\"\n}");
        assert_eq!(on_one_line(spread), "{  \"a\": \"b\\n\" }");
    }
}
