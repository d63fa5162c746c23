//! Builders for MCP requests of revision 2026-07-28 (streamable HTTP), and for raw ones.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// The MCP revision the builders speak.
pub const REVISION: &str = "2026-07-28";

/// The legacy revision that the builders speak unless told otherwise.
pub const LEGACY_REVISION: &str = "2025-06-18";

/// A request under construction: every part can be replaced by a false one.
#[derive(Debug, Clone)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The request target; empty: the agent's own path.
    pub target: String,
    /// Header fields in order, without `Host`, `Content-Length` and `Connection`.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// The `Host` to send instead of the address's own.
    pub host: Option<String>,
}

impl Request {
    /// A `tools/call`, ID 1.
    pub fn call(tool: &str, arguments: &Value) -> Self {
        Self::call_with_id(&json!(1), tool, arguments)
    }

    /// A `tools/call` of that ID.
    pub fn call_with_id(id: &Value, tool: &str, arguments: &Value) -> Self {
        let params = json!({"name": tool, "arguments": arguments});
        Self::message(id, "tools/call", params).field("Mcp-Name", &sentinel(tool))
    }

    /// A `tools/list` of the first page.
    pub fn list() -> Self {
        Self::message(&json!(1), "tools/list", json!({}))
    }

    /// A `server/discover`.
    pub fn discover() -> Self {
        Self::message(&json!(1), "server/discover", json!({}))
    }

    /// Any request with the required `_meta` and headers.
    pub fn message(id: &Value, method: &str, mut params: Value) -> Self {
        params["_meta"] = meta();
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        Self::body(method, &body)
    }

    /// A notification with the required `_meta` and headers.
    pub fn notification(method: &str, mut params: Value) -> Self {
        params["_meta"] = meta();
        Self::body(
            method,
            &json!({"jsonrpc": "2.0", "method": method, "params": params}),
        )
    }

    fn body(method: &str, body: &Value) -> Self {
        Self::raw("POST", "", body.to_string().into_bytes())
            .field("Content-Type", "application/json")
            .field("Accept", "application/json, text/event-stream")
            .field("MCP-Protocol-Version", REVISION)
            .field("Mcp-Method", method)
    }

    /// Any request of a legacy revision, without a session.
    pub fn legacy(id: &Value, method: &str, params: &Value) -> Self {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        Self::legacy_body(&body).field("MCP-Protocol-Version", LEGACY_REVISION)
    }

    /// A legacy `tools/call`, ID 1.
    pub fn legacy_call(tool: &str, arguments: &Value) -> Self {
        let params = json!({"name": tool, "arguments": arguments});
        Self::legacy(&json!(1), "tools/call", &params)
    }

    /// A legacy `initialize`, ID 0, which knows no revision in its header yet.
    pub fn initialize() -> Self {
        let client = json!({"name": "harness", "version": "1"});
        let params = json!({
            "protocolVersion": LEGACY_REVISION, "capabilities": {}, "clientInfo": client,
        });
        Self::legacy(&json!(0), "initialize", &params).without("MCP-Protocol-Version")
    }

    /// A legacy notification.
    pub fn legacy_notification(method: &str, params: &Value) -> Self {
        let body = json!({"jsonrpc": "2.0", "method": method, "params": params});
        Self::legacy_body(&body).field("MCP-Protocol-Version", LEGACY_REVISION)
    }

    /// An answer of the agent to a request of the server.
    pub fn answer(id: &Value, result: &Value) -> Self {
        let body = json!({"jsonrpc": "2.0", "id": id, "result": result});
        Self::legacy_body(&body).field("MCP-Protocol-Version", LEGACY_REVISION)
    }

    /// The opening of a legacy session's own stream.
    pub fn feed(session: &str) -> Self {
        Self::raw("GET", "", Vec::new())
            .field("Accept", "text/event-stream")
            .field("MCP-Protocol-Version", LEGACY_REVISION)
            .session(session)
    }

    /// The end of a legacy session.
    pub fn ending(session: &str) -> Self {
        Self::raw("DELETE", "", Vec::new())
            .field("MCP-Protocol-Version", LEGACY_REVISION)
            .session(session)
    }

    /// Names a session.
    #[must_use]
    pub fn session(self, id: &str) -> Self {
        self.field("Mcp-Session-Id", id)
    }

    fn legacy_body(body: &Value) -> Self {
        Self::raw("POST", "", body.to_string().into_bytes())
            .field("Content-Type", "application/json")
            .field("Accept", "application/json, text/event-stream")
    }

    /// Any HTTP request, without fields.
    pub fn raw(method: &str, target: &str, body: Vec<u8>) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self {
            method,
            target,
            fields: Vec::new(),
            body,
            host: None,
        }
    }

    /// Adds a field, beside those of the same name.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes every field of that name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields
            .retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces every field of that name by one.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        self.without(name).field(name, value)
    }

    /// Sends another `Host`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Sends another target.
    #[must_use]
    pub fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// Sends another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Changes the JSON of the body.
    ///
    /// # Panics
    /// When the body is not JSON.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut body = serde_json::from_slice(&self.body).unwrap();
        change(&mut body);
        self.body = body.to_string().into_bytes();
        self
    }

    /// The bytes for the wire, to that host and that path unless it names others.
    pub fn bytes(&self, host: &str, path: &str) -> Vec<u8> {
        let target = if self.target.is_empty() {
            path
        } else {
            &self.target
        };
        let host = self.host.as_deref().unwrap_or(host);
        let mut text = format!("{} {target} HTTP/1.1\r\nHost: {host}\r\n", self.method);
        for (name, value) in &self.fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        let chunked = self
            .fields
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        if !chunked && (self.method != "GET" || !self.body.is_empty()) {
            text.extend([format!("Content-Length: {}\r\n", self.body.len())]);
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }
}

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "harness", "version": "1"},
    })
}

/// Writes a value as a mirrored header has it: in the base64 sentinel where it is not plain
/// visible ASCII (MCP 2026-07-28, header mirroring).
pub fn sentinel(value: &str) -> String {
    let visible = value.bytes().all(|b| matches!(b, b' '..=b'~'));
    let looks = value.starts_with("=?base64?") && value.ends_with("?=");
    if visible && !looks && value.trim() == value {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(value))
    }
}
