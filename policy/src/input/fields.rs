//! The table of documented fields: the linter refuses what is not in it, and the JSON Schema is made from it.

use serde_json::{Value as Json, json};

/// What a documented field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An object with documented members.
    Object,
    /// A string.
    Text,
    /// One of the levels.
    Level,
    /// An RFC 3339 time.
    Time,
    /// An integer.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// An array of strings.
    Texts,
    /// An array of objects with documented members (`[]` in the table).
    List,
    /// The call's own data: any shape.
    Free,
}

/// Every documented path below `input`, with what it holds and what it means. `[]` stands for any element.
const FIELDS: &[(&str, Kind, &str)] = &[
    ("call", Kind::Object, "the call"),
    ("call.id", Kind::Text, "the decision ID, a UUIDv7"),
    ("call.time", Kind::Time, "when it was received"),
    (
        "call.time_ns",
        Kind::Integer,
        "the same in nanoseconds since 1970",
    ),
    ("call.protocol", Kind::Text, "mcp, openapi, jsonrpc or http"),
    (
        "call.phase",
        Kind::Text,
        "call, or list while tools are listed (arguments are then {})",
    ),
    ("call.method", Kind::Text, "the HTTP method"),
    (
        "call.path",
        Kind::Text,
        "the path as it is sent, without the query",
    ),
    ("call.host", Kind::Text, "the host it is for"),
    ("call.port", Kind::Integer, "the port it is for"),
    ("call.listener", Kind::Text, "the listener's name"),
    ("call.arguments", Kind::Free, "the arguments"),
    (
        "call.arguments_bytes",
        Kind::Integer,
        "their size as received",
    ),
    (
        "call.body_sha256",
        Kind::Text,
        "the body's SHA-256 in hex, empty when streamed",
    ),
    (
        "call.input_responses",
        Kind::Free,
        "inputResponses of an MCP request",
    ),
    ("call.trace_id", Kind::Text, "the W3C trace ID"),
    ("agent", Kind::Object, "the agent that calls"),
    ("agent.id", Kind::Text, "its URI"),
    ("agent.attested_by", Kind::Text, "how it was identified"),
    (
        "agent.environment",
        Kind::Text,
        "the configured environment",
    ),
    ("agent.owner", Kind::Text, "who answers for it"),
    ("agent.purpose", Kind::Text, "what it is for"),
    ("agent.roles", Kind::Texts, "its roles"),
    (
        "agent.expires",
        Kind::Time,
        "when its entry ends, the epoch when absent",
    ),
    (
        "agent.state",
        Kind::Text,
        "active, suspended, revoked or unknown",
    ),
    ("subject", Kind::Object, "the principal acted for"),
    ("subject.id", Kind::Text, "its ID, empty without a task"),
    (
        "actors",
        Kind::List,
        "the chain of delegation, nearest first",
    ),
    ("actors.[]", Kind::Object, "an actor"),
    ("actors.[].id", Kind::Text, "its ID"),
    ("task", Kind::Object, "the task"),
    ("task.id", Kind::Text, "its ID, empty without a task"),
    ("task.source", Kind::Text, "where it came from"),
    (
        "task.intent",
        Kind::Text,
        "its intent, empty without a task",
    ),
    ("task.tools", Kind::Texts, "the patterns of its tools"),
    (
        "task.max_classification",
        Kind::Level,
        "the highest level it may touch",
    ),
    ("task.budget", Kind::Object, "how many calls it may make"),
    ("task.budget.calls", Kind::Integer, "in all"),
    ("task.budget.used", Kind::Integer, "so far"),
    (
        "task.expires",
        Kind::Time,
        "when it ends, the epoch when absent",
    ),
    (
        "task.expires_ns",
        Kind::Integer,
        "the same in nanoseconds since 1970",
    ),
    (
        "task.state",
        Kind::Text,
        "active, suspended, revoked, closed, expired or none",
    ),
    ("task.confidence", Kind::Number, "0 to 1; 1 when never set"),
    (
        "task.parent",
        Kind::Text,
        "the task it was split from, or empty",
    ),
    (
        "task.high_water",
        Kind::Level,
        "the highest level it has touched",
    ),
    (
        "tool",
        Kind::Object,
        "the tool, from the operator's catalogue",
    ),
    ("tool.id", Kind::Text, "service/operation"),
    ("tool.service", Kind::Text, "its service"),
    ("tool.operation", Kind::Text, "its operation"),
    ("tool.kind", Kind::Text, "tool or model"),
    ("tool.owner", Kind::Text, "who answers for it"),
    ("tool.version", Kind::Text, "its version"),
    (
        "tool.schema_digest",
        Kind::Text,
        "the digest of its schemas",
    ),
    ("tool.classification", Kind::Level, "its level"),
    ("tool.labels", Kind::Texts, "its labels"),
    ("tool.read_only", Kind::Bool, "it changes nothing"),
    (
        "tool.destructive",
        Kind::Bool,
        "what it does cannot be undone",
    ),
    ("tool.idempotent", Kind::Bool, "twice is once"),
    (
        "tool.open_world",
        Kind::Bool,
        "it reaches beyond a closed set of things",
    ),
    ("content", Kind::Object, "what the arguments hold"),
    (
        "content.classification",
        Kind::Level,
        "their level, restricted when unknown",
    ),
    ("content.labels", Kind::Texts, "labels such as pii.email"),
    ("content.findings", Kind::List, "what detectors found"),
    ("content.findings.[]", Kind::Object, "a finding"),
    (
        "content.findings.[].pointer",
        Kind::Text,
        "where, a JSON Pointer (RFC 6901)",
    ),
    ("content.findings.[].label", Kind::Text, "what"),
    (
        "content.opaque",
        Kind::Bool,
        "nobody looked: it is streamed",
    ),
    ("limits", Kind::List, "what the limits have left"),
    ("limits.[]", Kind::Object, "a limit"),
    ("limits.[].name", Kind::Text, "its name"),
    (
        "limits.[].remaining",
        Kind::Integer,
        "how many calls it admits now",
    ),
    (
        "limits.[].reset_s",
        Kind::Integer,
        "in how many seconds it is full again",
    ),
];

/// What is at a path below `input`, such as `["call", "arguments", "to"]`; `None` for what cannot exist.
///
/// `[]` stands for an index that is not written out. What is below [`Kind::Free`] is [`Kind::Free`].
pub fn kind_of<S: AsRef<str>>(path: &[S]) -> Option<Kind> {
    let mut known = String::new();
    let mut kind = Kind::Object;
    for part in path {
        match kind {
            Kind::Free => return Some(Kind::Free),
            Kind::Texts if part.as_ref() == "[]" => {
                kind = Kind::Text;
                known.push_str(".[]");
                continue;
            }
            Kind::Object | Kind::List => {}
            _ => return None,
        }
        if !known.is_empty() {
            known.push('.');
        }
        known.push_str(part.as_ref());
        kind = FIELDS.iter().find(|(field, ..)| *field == known)?.1;
    }
    Some(kind)
}

/// Whether a path below `input` can exist.
pub fn field_exists<S: AsRef<str>>(path: &[S]) -> bool {
    kind_of(path).is_some()
}

/// The JSON Schema (2020-12) of the documented `input`.
pub fn json_schema() -> Json {
    let mut schema = object_at("");
    if let Json::Object(members) = &mut schema {
        members.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        members.insert("title".to_owned(), json!("the input of a decision"));
    }
    schema
}

fn object_at(parent: &str) -> Json {
    let mut properties = serde_json::Map::new();
    for (path, kind, meaning) in FIELDS {
        let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
        if above == parent && name != "[]" {
            properties.insert(name.to_owned(), described(schema_of(path, *kind), meaning));
        }
    }
    let required: Vec<_> = properties.keys().cloned().collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn schema_of(path: &str, kind: Kind) -> Json {
    match kind {
        Kind::Object => object_at(path),
        Kind::Text => json!({"type": "string"}),
        Kind::Level => json!({"enum": crate::Level::ALL.map(crate::Level::as_str)}),
        Kind::Time => json!({"type": "string", "format": "date-time"}),
        Kind::Integer => json!({"type": "integer"}),
        Kind::Number => json!({"type": "number"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::List => json!({"type": "array", "items": object_at(&format!("{path}.[]"))}),
        Kind::Free => json!({}),
    }
}

fn described(mut schema: Json, meaning: &str) -> Json {
    if let Json::Object(members) = &mut schema {
        members.insert("description".to_owned(), json!(meaning));
    }
    schema
}
