//! What the tools are, and what they do.

use std::io;

use serde_json::{Value, json};

use crate::cli::init::TOOLS;

/// What a call did.
#[derive(Debug)]
pub(super) struct Done {
    /// What it says.
    pub(super) text: String,
    /// In how many steps.
    pub(super) steps: usize,
}

/// Calls a tool; nothing when there is none of that name.
pub(super) fn call(name: &str, arguments: &Value) -> Option<Done> {
    let given = |key: &str| {
        arguments
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    let id = || given("id");
    let (text, steps) = match name {
        "search_tickets" => (format!("T-7 and T-8 mention {}", given("query")), 0),
        "read_ticket" => (
            format!("{}: the printer on the second floor is on fire", id()),
            0,
        ),
        "backlog_report" => ("first line 4, second line 2, nobody 1".to_owned(), 3),
        "update_ticket" => (format!("{}: noted", id()), 0),
        "close_ticket" => (format!("{}: closed as {}", id(), given("resolution")), 0),
        "delete_ticket" => (format!("{}: gone", id()), 0),
        "export_customers" => ("ada@example.org, grace@example.org".to_owned(), 0),
        _ => return None,
    };
    Some(Done { text, steps })
}

/// The tools as the server lists them: those of the starter's lock file, less what the operator
/// added there.
///
/// # Errors
/// When that file is no lock file.
pub(super) fn listed() -> io::Result<Vec<Value>> {
    let lock: Value = serde_json::from_str(TOOLS)?;
    let tools = lock
        .get("tools")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    Ok(tools.map(|(name, tool)| list(name, tool)).collect())
}

fn list(name: &str, tool: &Value) -> Value {
    let member = |key: &str| tool.get(key).cloned().unwrap_or_default();
    let hint = |key: &str| {
        tool.pointer(&format!("/annotations/{key}"))
            .cloned()
            .unwrap_or_default()
    };
    json!({
        "name": name,
        "title": member("title"),
        "description": member("description"),
        "inputSchema": member("inputSchema"),
        "annotations": {
            "readOnlyHint": hint("read_only"),
            "destructiveHint": hint("destructive"),
            "idempotentHint": hint("idempotent"),
            "openWorldHint": hint("open_world"),
        },
    })
}
