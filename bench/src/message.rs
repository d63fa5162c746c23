//! The call that is measured: a `tools/call` of about 1 KiB, or larger, and the schema it satisfies.

use serde_json::{Value, json};

/// The tool that is called.
pub(crate) const TOOL: &str = "update_ticket";

/// The published schema of every tool of the catalogue: strings with bounds and patterns, enums,
/// integers, a nested object, an array of objects.
pub(crate) fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["ticket", "status", "comment", "customer"],
        "additionalProperties": false,
        "properties": {
            "ticket": {"type": "string", "pattern": "^[A-Z]{2,8}-[0-9]{1,8}$"},
            "status": {"type": "string", "enum": ["open", "pending", "solved", "closed"]},
            "priority": {"type": "integer", "minimum": 1, "maximum": 5},
            "comment": {"type": "string", "minLength": 1, "maxLength": 4000},
            "internal": {"type": "boolean"},
            "tags": {"type": "array", "maxItems": 20, "items": {"type": "string", "maxLength": 40}},
            "attachments": {"type": "array", "items": {"type": "string", "maxLength": 4000}},
            "customer": {
                "type": "object",
                "required": ["id", "name"],
                "properties": {
                    "id": {"type": "string"},
                    "name": {"type": "string"},
                    "plan": {"enum": ["free", "team", "enterprise"]},
                },
            },
            "actions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["kind", "target"],
                    "properties": {"kind": {"type": "string"}, "target": {"type": "string"}},
                },
            },
        },
    })
}

/// The arguments of the call.
pub(crate) fn arguments() -> Value {
    json!({
        "ticket": "SUP-204511",
        "status": "pending",
        "priority": 3,
        "comment": "The customer reports that exports have been failing since Tuesday morning; the \
            log shows a time-out of the object store at 09:14 and again at 09:31. I have asked for \
            the export ID and raised the retry limit for this account until the fix is rolled out.",
        "internal": false,
        "tags": ["export", "object-store", "timeout", "waiting-for-customer"],
        "customer": {"id": "C-88120", "name": "Example Manufacturing", "plan": "enterprise"},
        "actions": [
            {"kind": "notify", "target": "storage-on-call"},
            {"kind": "link", "target": "INC-7719"},
        ],
    })
}

/// The same with attachments of about that many bytes in all, a kilobyte each.
pub(crate) fn arguments_of(bytes: usize) -> Value {
    const LINE: &str = "2026-11-25T09:31:07Z storage-3 export 88120 timed out after 30000 ms; ";
    let page = LINE.repeat(1000 / LINE.len());
    let pages = bytes / (page.len() + 3);
    let mut arguments = arguments();
    if let Some(arguments) = arguments.as_object_mut().filter(|_| pages > 0) {
        arguments.insert("attachments".to_owned(), json!(vec![page; pages]));
    }
    arguments
}
