//! One message of an answer: checked against the request it answers, cleaned, filtered.

use std::collections::HashSet;

use bytes::Bytes;
use outrider_policy::Value;
use outrider_schemas::json;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::scrub;
use crate::{
    protocol::{
        Exchange, Form, Passed, Shown,
        rpc::{member, text},
    },
    rejection::Rejection,
};

/// Tools that one page of a list may have.
const MOST_TOOLS: usize = 10_000;

/// Checks one whole message and gives what may pass on.
pub(super) fn inspect(
    exchange: &Exchange,
    message: Bytes,
    shown: &Shown<'_>,
) -> Result<Passed, Rejection> {
    let tree = json::parse(&message).map_err(|malformed| match malformed.reason {
        json::Reason::TooMany => refused("the service's answer has too many values"),
        _ => refused("the service's answer is not strict JSON"),
    })?;
    match sort(&tree)? {
        // Servers put no requests on a stream of this revision; none is passed on.
        Sort::Request => Ok(Passed::Dropped),
        Sort::Notification => Ok(Passed::Interim(scrub::scrub(message))),
        Sort::Response if !answers(&tree, exchange) => Ok(Passed::Dropped),
        Sort::Response => finish(exchange, &tree, message, shown),
    }
}

fn finish(
    exchange: &Exchange,
    tree: &Value,
    message: Bytes,
    shown: &Shown<'_>,
) -> Result<Passed, Rejection> {
    let message = scrub::scrub(message);
    match (exchange.form, member(tree, "result")) {
        (Form::ToolList, Some(_)) => filter(&message, shown).map(Passed::Final),
        _ => Ok(Passed::Final(message)),
    }
}

enum Sort {
    Request,
    Notification,
    Response,
}

/// Tells the three kinds of JSON-RPC message apart; anything between them is refused.
fn sort(tree: &Value) -> Result<Sort, Rejection> {
    let has = |name| member(tree, name).is_some();
    if text(tree, "jsonrpc") != Some("2.0") {
        return Err(refused("the service's answer is not one JSON-RPC message"));
    }
    match (
        text(tree, "method").is_some(),
        has("id"),
        has("result"),
        has("error"),
    ) {
        (true, true, false, false) => Ok(Sort::Request),
        (true, false, false, false) => Ok(Sort::Notification),
        (false, _, true, false) if matches!(member(tree, "result"), Some(Value::Object(_))) => {
            Ok(Sort::Response)
        }
        (false, _, false, true) if matches!(member(tree, "error"), Some(Value::Object(_))) => {
            Ok(Sort::Response)
        }
        _ => Err(refused("the service's answer is not one JSON-RPC message")),
    }
}

/// Whether a response is for this exchange. An error may come without the ID it could not read.
fn answers(tree: &Value, exchange: &Exchange) -> bool {
    match (member(tree, "id"), &exchange.id) {
        (None | Some(Value::Null), _) => member(tree, "error").is_some(),
        (Some(id), Some(asked)) => id.to_json_str().is_ok_and(|id| id == **asked),
        (Some(_), None) => false,
    }
}

/// Takes out the tools that this task may not use; what stays keeps its bytes and its order.
fn filter(message: &[u8], shown: &Shown<'_>) -> Result<Bytes, Rejection> {
    let bad = |_| refused("the service's list of tools could not be read");
    let mut whole: Members<'_> = serde_json::from_slice(message).map_err(bad)?;
    let result = whole
        .get("result")
        .ok_or(refused("the service's list of tools could not be read"))?;
    let mut result: Members<'_> = serde_json::from_str(result.get()).map_err(bad)?;
    let tools = result
        .get("tools")
        .ok_or(refused("the service's list of tools has no `tools`"))?;
    let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).map_err(bad)?;
    if tools.len() > MOST_TOOLS {
        return Err(refused("the service's list of tools is too long"));
    }
    let mut seen = HashSet::new();
    let kept: Vec<&RawValue> = tools
        .iter()
        .copied()
        .filter(|tool| {
            named(tool).is_some_and(|name| {
                // A name that comes twice is asked about once, and only its first tool passes.
                let first = seen.insert(name.clone());
                first && shown(&name)
            })
        })
        .collect();
    if kept.len() == tools.len() {
        return Ok(Bytes::copy_from_slice(message));
    }
    let tools = serde_json::value::to_raw_value(&kept).map_err(bad)?;
    let private = RawValue::from_string("\"private\"".into()).map_err(bad)?;
    result.insert("tools".into(), &tools);
    result.insert("cacheScope".into(), &private);
    let result = serde_json::value::to_raw_value(&result).map_err(bad)?;
    whole.insert("result".into(), &result);
    serde_json::to_vec(&whole).map(Bytes::from).map_err(bad)
}

type Members<'a> = std::collections::BTreeMap<String, &'a RawValue>;

fn named(tool: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_str::<Named>(tool.get())
        .ok()
        .map(|tool| tool.name)
}

fn refused(why: &'static str) -> Rejection {
    Rejection::ResponseRefused(why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The length of the list that passed and how often was asked, or that it was refused.
    fn filtered(names: impl Iterator<Item = String>) -> Result<(usize, usize), Rejection> {
        let tools: Vec<_> = names
            .map(|name| serde_json::json!({"name": name}))
            .collect();
        let message = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}});
        let asked = AtomicUsize::new(0);
        let shown = |_: &str| {
            asked.fetch_add(1, Ordering::Relaxed);
            true
        };
        let passed = filter(message.to_string().as_bytes(), &shown)?;
        let passed: serde_json::Value = serde_json::from_slice(&passed).unwrap();
        let count = passed
            .pointer("/result/tools")
            .unwrap()
            .as_array()
            .unwrap()
            .len();
        Ok((count, asked.into_inner()))
    }

    #[test]
    fn policy_is_asked_once_for_a_name_however_often_it_is_listed() {
        let names = (0..MOST_TOOLS).map(|n| if n < 3 { n.to_string() } else { "again".into() });
        assert_eq!(filtered(names).unwrap(), (4, 4));
    }

    #[test]
    fn policy_is_not_asked_about_a_list_that_is_too_long() {
        let names = |count: usize| (0..count).map(|n| n.to_string());
        assert_eq!(
            filtered(names(MOST_TOOLS)).unwrap(),
            (MOST_TOOLS, MOST_TOOLS)
        );
        assert!(filtered(names(MOST_TOOLS + 1)).is_err());
    }
}
