//! What the targets load: a service of every kind.

use std::sync::LazyLock;

use outrider::{
    call::ServiceName,
    protocol::{Document, Published, Settings, Spoken, row},
};
use outrider_policy::Problem;
use outrider_schemas::{lock::digest, openapi::Loaded};
use serde_json::{Value, json};

/// Whom the services are offered to.
pub const AGENT: &str = "spiffe://example.org/agent/fuzz";

/// A lock file with entries of every section, one argument mirrored in a header.
pub fn lock_file() -> String {
    let echo = json!({"type": "object", "properties": {
        "message": {"type": "string", "maxLength": 64},
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "minimum": 0, "x-mcp-header": "Count"},
    }, "required": ["message"]});
    let any = json!({"type": "object"});
    let uri = json!({"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"],
        "additionalProperties": false});
    json!({
        "outrider_lock": 1,
        "protocol": "mcp",
        "tools": {"echo": entry(&echo), "drop": entry(&any)},
        "resources": {"file:///notes/{name}": entry(&uri), "file:///readme": entry(&uri)},
        "prompts": {"greet": entry(&any)},
        "methods": {"completion/complete": entry(&any), "subscriptions/listen": entry(&any),
            "resources/subscribe": entry(&any)},
    })
    .to_string()
}

fn entry(input: &Value) -> Value {
    json!({
        "inputSchema": input,
        "annotations": {"read_only": true, "destructive": false, "idempotent": true, "open_world": false},
        "labels": [], "owner": "owner@example.org", "version": "1", "digest": digest(input, None),
    })
}

/// A catalogue of JSON-RPC methods.
pub fn catalogue() -> String {
    json!({"outrider_catalogue": 1, "protocol": "jsonrpc", "methods": {
        "sum": {"params": {"type": "array", "items": {"type": "number"}}, "owner": "owner@example.org", "version": "1"},
        "get": {"params": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
            "owner": "owner@example.org", "version": "1"},
        "now": {"owner": "owner@example.org", "version": "1"},
    }})
    .to_string()
}

/// The MCP service of [`lock_file`], which may ask the agent to sample.
pub static MCP: LazyLock<Spoken> = LazyLock::new(|| spoken("mcp", lock_file()));

/// The JSON-RPC service of [`catalogue`].
pub static JSONRPC: LazyLock<Spoken> = LazyLock::new(|| spoken("jsonrpc", catalogue()));

fn spoken(protocol: &str, text: String) -> Spoken {
    let service = ServiceName::try_from("tools".to_owned()).expect("a name");
    let load = row(protocol).expect("a protocol").load;
    let published = &mut Published {
        service: &service,
        settings: Settings {
            server_requests: vec!["sampling/createMessage".into()],
            ..Settings::default()
        },
        document: Some(&mut Text(text)),
    };
    load(published).expect("a service")
}

struct Text(String);

impl Document for Text {
    fn text(&mut self) -> Result<String, Vec<Problem>> {
        Ok(self.0.clone())
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Vec<Problem>> {
        self.text().map(String::into_bytes)
    }

    fn description(&mut self) -> Result<Loaded, Vec<Problem>> {
        Err(vec![self.problem("it is none".into())])
    }

    fn problem(&self, message: String) -> Problem {
        Problem {
            file: "fixture".into(),
            line: 0,
            column: 0,
            message,
        }
    }
}
