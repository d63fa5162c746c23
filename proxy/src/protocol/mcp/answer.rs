//! One message of an answer: checked against what it answers, cleaned, filtered.

use std::{borrow::Cow, collections::HashSet};

use bytes::Bytes;
use outrider_policy::Value;
use outrider_schemas::{json, lock::Section};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Mcp, revision, scrub};
use crate::{
    protocol::{
        Exchange, Form, Held, Listed, Passed, Session,
        rpc::{id_text, member, text},
    },
    rejection::Rejection,
    session::Changes,
};

/// Entries that one page of a list may have.
const MOST_LISTED: usize = 10_000;

impl Mcp {
    /// Checks one whole message and gives what may pass on.
    pub(super) fn inspected(
        &self,
        exchange: &Exchange,
        message: Bytes,
        held: &Held<'_>,
    ) -> Result<Passed, Rejection> {
        let tree = json::parse(&message).map_err(|malformed| match malformed.reason {
            json::Reason::TooMany => refused("the service's answer has too many values"),
            _ => refused("the service's answer is not strict JSON"),
        })?;
        match sort(&tree)? {
            Sort::Request(method) => Ok(self.asked(method, &tree, message, held)),
            Sort::Notification => Ok(Passed::Interim(scrub::scrub(message))),
            Sort::Response => self.answered(exchange, &tree, message, held),
        }
    }

    /// A request of the service passes where the configuration names its method, in a session in
    /// which its answer will be known again.
    fn asked(&self, method: &str, tree: &Value, message: Bytes, held: &Held<'_>) -> Passed {
        let named = self.server_requests.iter().any(|named| named == method);
        let kept = || {
            let id = member(tree, "id").and_then(id_text)?;
            Some(held.session?.asks(id))
        };
        if named && kept() == Some(true) {
            Passed::Interim(scrub::scrub(message))
        } else {
            Passed::Dropped
        }
    }

    /// A response passes to the request it answers: that of this exchange, or, on the stream of a
    /// session, one that is still unanswered there.
    fn answered(
        &self,
        exchange: &Exchange,
        tree: &Value,
        message: Bytes,
        held: &Held<'_>,
    ) -> Result<Passed, Rejection> {
        if exchange.form == Form::Feed {
            let id = member(tree, "id").and_then(id_text);
            let known = id.and_then(|id| Some((held.session?.unanswered(&id)?, id)));
            let Some((pending, id)) = known else {
                return Ok(Passed::Dropped);
            };
            let asked = Exchange {
                id: Some(id),
                form: pending.form,
                ..exchange.clone()
            };
            let held = Held {
                call: pending.call.as_ref(),
                ..*held
            };
            let passed = self.finish(&asked, tree, message, &held)?;
            if let (Some(session), Some(id)) = (held.session, &asked.id) {
                session.answered(id);
            }
            return Ok(Passed::Interim(passed));
        }
        if is_nameless_error(tree) && exchange.id.is_some() {
            return Ok(adopted(exchange, &message).map_or(Passed::Dropped, Passed::Final));
        }
        if !answers(tree, exchange) {
            return Ok(Passed::Dropped);
        }
        self.finish(exchange, tree, message, held)
            .map(Passed::Final)
    }

    fn finish(
        &self,
        exchange: &Exchange,
        tree: &Value,
        message: Bytes,
        held: &Held<'_>,
    ) -> Result<Bytes, Rejection> {
        let message = scrub::scrub(message);
        let result = member(tree, "result");
        let message = match (exchange.form, result) {
            (Form::List(listed), Some(_)) => self.filter(listed, &message, held.shown)?,
            (Form::ToolResult, Some(result)) => {
                if let Some(id) = work(result) {
                    (held.goes_on)(id, held.call);
                }
                message
            }
            (Form::Opening, Some(result)) => {
                settle(result, held.session)?;
                message
            }
            _ => message,
        };
        Ok(message)
    }

    /// The operation for which an entry of a list stands.
    fn operation<'a>(&self, listed: Listed, entry: &'a Entry) -> Option<Cow<'a, str>> {
        match listed {
            Listed::Tools => {
                let name = entry.name.as_deref()?;
                Section::Tools.admit(name).ok()?;
                Some(name.into())
            }
            Listed::Prompts => Some(format!("prompt:{}", entry.name.as_ref()?).into()),
            Listed::Templates => Some(format!("resource:{}", entry.template.as_ref()?).into()),
            Listed::Resources => {
                let operation = self.resource(entry.uri.as_ref()?)?;
                Some(operation.to_string().into())
            }
        }
    }

    /// Takes out what this task may not use; what stays keeps its bytes and its order.
    fn filter(
        &self,
        listed: Listed,
        message: &Bytes,
        shown: &dyn Fn(&str) -> bool,
    ) -> Result<Bytes, Rejection> {
        let bad = |_| refused("the service's list could not be read");
        let mut whole: Members<'_> = serde_json::from_slice(message).map_err(bad)?;
        let result = whole
            .get("result")
            .ok_or(refused("the service's list could not be read"))?;
        let mut result: Members<'_> = serde_json::from_str(result.get()).map_err(bad)?;
        let entries = result
            .get(member_of(listed))
            .ok_or(refused("the service's list lacks what it lists"))?;
        let entries: Vec<&RawValue> = serde_json::from_str(entries.get()).map_err(bad)?;
        if entries.len() > MOST_LISTED {
            return Err(refused("the service's list is too long"));
        }
        let mut seen = HashSet::new();
        let mut stays = |entry: &&RawValue| {
            let entry: Option<Entry> = serde_json::from_str(entry.get()).ok();
            entry.is_some_and(|entry| {
                let operation = self.operation(listed, &entry);
                // A name that comes twice is asked about once, and only its first entry passes.
                let first = |name: &String| seen.insert(name.clone());
                entry.key(listed).is_some_and(first) && operation.is_some_and(|name| shown(&name))
            })
        };
        let kept: Vec<&RawValue> = entries
            .iter()
            .copied()
            .filter(|entry| stays(entry))
            .collect();
        if kept.len() == entries.len() {
            return Ok(message.clone());
        }
        let kept = serde_json::value::to_raw_value(&kept).map_err(bad)?;
        let private = RawValue::from_string("\"private\"".into()).map_err(bad)?;
        result.insert(member_of(listed).into(), &kept);
        result.insert("cacheScope".into(), &private);
        let result = serde_json::value::to_raw_value(&result).map_err(bad)?;
        whole.insert("result".into(), &result);
        serde_json::to_vec(&whole).map(Bytes::from).map_err(bad)
    }
}

/// What the agent is told on a stream that it keeps open, when what it may use has changed.
pub(super) fn changed(exchange: &Exchange, session: Option<&Session>) -> Vec<Bytes> {
    let (changes, meta) = match (exchange.form, &exchange.id) {
        (Form::Listening(changes), Some(id)) => (
            changes,
            format!(r#","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#),
        ),
        (Form::Feed, _) => (
            session.map(Session::changes).unwrap_or_default(),
            String::new(),
        ),
        _ => return Vec::new(),
    };
    let lists = [
        (changes.tools, "tools"),
        (changes.prompts, "prompts"),
        (changes.resources, "resources"),
    ];
    let note = |list| {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"{meta}}}"#).into()
    };
    let wanted = lists.into_iter().filter(|(wanted, _)| *wanted);
    wanted.map(|(_, list)| note(list)).collect()
}

/// An error that the service could not tie to the request, tied to it; after a notification, to
/// nothing.
pub(super) fn adopted(exchange: &Exchange, message: &Bytes) -> Option<Bytes> {
    json::parse(message).ok()?;
    let whole: Members<'_> = serde_json::from_slice(message).ok()?;
    let error = whole
        .get("error")
        .filter(|error| error.get().starts_with('{'))?;
    let message = match (&exchange.id, exchange.form) {
        (Some(id), _) => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#),
        (None, Form::Notification) => format!(r#"{{"jsonrpc":"2.0","error":{error}}}"#),
        (None, _) => return None,
    };
    Some(scrub::scrub(message.into()))
}

/// What `initialize` settled.
fn settle(result: &Value, session: Option<&Session>) -> Result<(), Rejection> {
    let revision = text(result, "protocolVersion").unwrap_or_default();
    if !revision::LEGACY.contains(&revision) {
        return Err(refused(
            "the service answered with a protocol revision that is not served",
        ));
    }
    let capabilities = member(result, "capabilities");
    let changes = |list| {
        let declared = capabilities.and_then(|all| member(member(all, list)?, "listChanged"));
        matches!(declared, Some(Value::Bool(true)))
    };
    if let Some(session) = session {
        session.settle(Changes {
            tools: changes("tools"),
            prompts: changes("prompts"),
            resources: changes("resources"),
        });
    }
    Ok(())
}

/// The name of an MCP task that a call's answer leaves behind: of the extension, or of 2025-11-25.
fn work(result: &Value) -> Option<&str> {
    if text(result, "resultType") == Some("task") {
        return text(result, "taskId");
    }
    text(member(result, "task")?, "taskId")
}

enum Sort<'a> {
    Request(&'a str),
    Notification,
    Response,
}

/// Tells the three kinds of JSON-RPC message apart; anything between them is refused.
fn sort(tree: &Value) -> Result<Sort<'_>, Rejection> {
    let has = |name| member(tree, name).is_some();
    if text(tree, "jsonrpc") != Some("2.0") {
        return Err(refused("the service's answer is not one JSON-RPC message"));
    }
    match (text(tree, "method"), has("id"), has("result"), has("error")) {
        (Some(method), true, false, false) => Ok(Sort::Request(method)),
        (Some(_), false, false, false) => Ok(Sort::Notification),
        (None, _, true, false) if matches!(member(tree, "result"), Some(Value::Object(_))) => {
            Ok(Sort::Response)
        }
        (None, _, false, true) if matches!(member(tree, "error"), Some(Value::Object(_))) => {
            Ok(Sort::Response)
        }
        _ => Err(refused("the service's answer is not one JSON-RPC message")),
    }
}

/// An error whose request the service could not name.
fn is_nameless_error(tree: &Value) -> bool {
    let nameless = matches!(member(tree, "id"), None | Some(Value::Null));
    nameless && member(tree, "error").is_some()
}

/// Whether a response is for this exchange. A notification has no answer but an error.
fn answers(tree: &Value, exchange: &Exchange) -> bool {
    match (member(tree, "id"), &exchange.id) {
        (None | Some(Value::Null), _) => is_nameless_error(tree),
        (Some(id), Some(asked)) => id.to_json_str().is_ok_and(|id| id == **asked),
        (Some(_), None) => false,
    }
}

/// What names an entry of a list.
#[derive(Deserialize)]
struct Entry {
    name: Option<String>,
    uri: Option<String>,
    #[serde(rename = "uriTemplate")]
    template: Option<String>,
}

impl Entry {
    fn key(&self, listed: Listed) -> Option<&String> {
        match listed {
            Listed::Tools | Listed::Prompts => self.name.as_ref(),
            Listed::Resources => self.uri.as_ref(),
            Listed::Templates => self.template.as_ref(),
        }
    }
}

fn member_of(listed: Listed) -> &'static str {
    match listed {
        Listed::Tools => "tools",
        Listed::Resources => "resources",
        Listed::Templates => "resourceTemplates",
        Listed::Prompts => "prompts",
    }
}

type Members<'a> = std::collections::BTreeMap<String, &'a RawValue>;

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
        let mcp = Mcp {
            contract: std::sync::Arc::default(),
            server_requests: Box::default(),
            stdio: false,
        };
        let passed = mcp.filter(Listed::Tools, &message.to_string().into(), &shown)?;
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
        let names = (0..MOST_LISTED).map(|n| if n < 3 { n.to_string() } else { "again".into() });
        assert_eq!(filtered(names).unwrap(), (4, 4));
    }

    #[test]
    fn policy_is_not_asked_about_a_list_that_is_too_long() {
        let names = |count: usize| (0..count).map(|n| n.to_string());
        assert_eq!(
            filtered(names(MOST_LISTED)).unwrap(),
            (MOST_LISTED, MOST_LISTED)
        );
        assert!(filtered(names(MOST_LISTED + 1)).is_err());
    }
}
