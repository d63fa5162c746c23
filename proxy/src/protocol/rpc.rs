//! What all protocols over JSON-RPC 2.0 share: members and IDs of messages, and refusals as errors.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use outrider_policy::Value;
use serde_json::{Map, json};

use super::{Refusal, uncoded};
use crate::{
    call::DecisionId,
    json::whole,
    rejection::{Malformed, Rejection, Retry},
};

/// Our own code for a refused request; outside the ranges of JSON-RPC and MCP.
pub(super) const REFUSED: i32 = 4030;

/// Admits a body of identity-coded JSON.
///
/// # Errors
/// Another media type, or a content coding.
pub(super) fn json_body(head: &Parts) -> Result<(), Rejection> {
    uncoded(head)?;
    let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(one), None) if is_json(one.as_bytes()) => Ok(()),
        _ => Err(Rejection::MediaTypeRefused(
            "send one `Content-Type: application/json`",
        )),
    }
}

/// `application/json`, at most with the one character set that JSON has (RFC 8259 §8.1).
fn is_json(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else {
        return false;
    };
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let charset = parameters.trim().to_ascii_lowercase();
    essence.trim().eq_ignore_ascii_case("application/json")
        && matches!(charset.as_str(), "" | "charset=utf-8" | "charset=\"utf-8\"")
}

/// Members among which a name is looked for without making a text of it.
const FEW: usize = 16;

/// The member `name` of an object.
pub(super) fn member<'a>(tree: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Object(members) = tree else {
        return None;
    };
    if members.len() > FEW {
        return members.get(&Value::from(name));
    }
    let is_it = |key: &Value| matches!(key, Value::String(key) if **key == *name);
    let found = members.iter().find(|(key, _)| is_it(key));
    found.map(|(_, value)| value)
}

/// The text at `name`.
pub(super) fn text<'a>(tree: &'a Value, name: &str) -> Option<&'a str> {
    match member(tree, name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// A string or an integer, kept as the JSON text in which an answer must repeat it; none for a
/// notification (JSON-RPC 2.0 §4). An ID of `null` or with a fraction, which §4 discourages, is
/// refused: not everybody reads it alike.
///
/// # Errors
/// An ID that is neither.
pub(super) fn request_id(tree: &Value) -> Result<Option<Arc<str>>, Rejection> {
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
        Value::Number(_) => whole(id).map(|number| number.to_string().into()),
        _ => None,
    }
}

/// JSON that is not one message: `-32600`.
pub(super) fn invalid(why: &'static str) -> Rejection {
    Rejection::CallMalformed(Malformed::Message(why))
}

/// A refusal of that status and JSON body.
pub(super) fn reply(status: StatusCode, body: String) -> Refusal {
    Refusal {
        status,
        media_type: "application/json",
        headers: HeaderMap::new(),
        body: Bytes::from(body),
    }
}

/// A response without an ID where there is none. The ID is written as the JSON text in which it
/// came.
pub(super) fn envelope(id: Option<&str>, member: &str, body: &serde_json::Value) -> String {
    match id {
        Some(id) => format!(r#"{{"jsonrpc":"2.0","id":{id},"{member}":{body}}}"#),
        None => format!(r#"{{"jsonrpc":"2.0","{member}":{body}}}"#),
    }
}

/// The decision as an object: `{id, code, retry, retry_after_s?, violations?}`.
pub(super) fn decision(rejection: &Rejection, id: DecisionId) -> Map<String, serde_json::Value> {
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
pub(super) fn sentence(rejection: &Rejection, id: DecisionId) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_in_its_one_character_set_is_admitted() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(is_json(good.as_bytes()), "{good}");
        }
        for bad in [
            "text/json",
            "application/json; charset=utf-16le",
            "application/x+json",
            "application/json, text/plain",
            "",
        ] {
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn an_id_is_repeated_exactly_or_refused() {
        let told = |id: &str| id_text(&outrider_schemas::json::parse(id.as_bytes()).unwrap());
        assert_eq!(
            told("18446744073709551615").as_deref(),
            Some("18446744073709551615")
        );
        assert_eq!(
            told("9223372036854775808.0").as_deref(),
            Some("9223372036854775808")
        );
        assert_eq!(
            told("18446744073709551616"),
            None,
            "a double that no 64 bits hold"
        );
        assert_eq!(told("0.5"), None);
    }
}
