//! How a server of the revisions before 2026-07-28 answers, as far as nobody scripts it.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{Exchange, LEGACY_REVISION};

/// The result of `initialize` with those capabilities.
pub fn initialized(capabilities: &Value) -> Value {
    json!({
        "protocolVersion": LEGACY_REVISION,
        "capabilities": capabilities,
        "serverInfo": {"name": "harness", "version": "1"},
    })
}

/// Answers what belongs to sessions; false for anything else.
pub(crate) fn answer(exchange: &mut Exchange<'_>, opened: &AtomicUsize) -> bool {
    let verb = exchange
        .request()
        .head
        .line
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    match (verb.as_str(), exchange.request().method().as_str()) {
        ("GET", _) => exchange.answer(405, "text/plain", &[], b""),
        ("DELETE", _) => exchange.answer(200, "text/plain", &[], b""),
        (_, "initialize") => {
            let number = opened.fetch_add(1, Ordering::SeqCst) + 1;
            let session = format!("s-{number}");
            exchange.opened(
                &session,
                &initialized(&json!({"tools": {"listChanged": true}})),
            );
        }
        (_, "") => exchange.accepted(),
        _ => return false,
    }
    true
}

impl Exchange<'_> {
    /// Answers `initialize` with that result, and opens a session of that name.
    pub fn opened(&mut self, session: &str, result: &Value) {
        let id = self.request().json()["id"].clone();
        let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
        let fields = [("Mcp-Session-Id", session)];
        self.answer(200, "application/json", &fields, body.as_bytes());
    }
}
