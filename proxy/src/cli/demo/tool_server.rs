//! A small, real tool server on its own thread: MCP of both eras over streamable HTTP, and a REST API.
//!
//! It trusts nobody and enforces nothing: that is the sidecar's work.

mod http1;
mod tools;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::protocol::mcp::{LEGACY, MODERN};

/// Tools on one page of a list: fewer than there are, so that clients must turn pages.
const PAGE: usize = 3;

/// A running tool server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ToolServer {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    /// Dropped to stop.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ToolServer {
    /// Starts a server at that address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(crate) fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let calls = Arc::new(AtomicUsize::new(0));
        let server = Arc::new(Server {
            listed: tools::listed()?,
            calls: Arc::clone(&calls),
        });
        let thread = std::thread::Builder::new()
            .name("tool-server".into())
            .spawn(move || {
                runtime.block_on(http1::serve(listener, server, stopped));
            })?;
        Ok(Self {
            address,
            calls,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Its MCP endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Scheme and authority, where the REST API is.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many calls have reached it.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Waits until it ends, which it does with the process.
    pub(crate) fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A server that panicked has ended as well.
            drop(thread.join());
        }
    }
}

impl Drop for ToolServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What it knows.
#[derive(Debug)]
struct Server {
    listed: Vec<Value>,
    calls: Arc<AtomicUsize>,
}

/// The answer to one message.
#[derive(Debug)]
enum Answer {
    /// Nothing to say: it was a notification.
    Accepted,
    /// A result.
    Result(Value),
    /// A result that opens a session.
    Session(Value),
    /// Progress first, then a result.
    Stream(Vec<Value>, Value),
    /// An error: HTTP status, code, message, data.
    Error(u16, i64, &'static str, Value),
}

/// What the headers say, which must be what the body says.
#[derive(Debug, Clone, Copy, Default)]
struct Mirrored<'a> {
    revision: Option<&'a str>,
    method: Option<&'a str>,
    name: Option<&'a str>,
}

impl Server {
    /// Answers one message.
    fn answer(&self, mirrored: Mirrored<'_>, message: &Value) -> Answer {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let (Some("2.0"), Some(method)) = (text("/jsonrpc"), text("/method")) else {
            return Answer::Error(400, -32600, "not a JSON-RPC request", Value::Null);
        };
        if message.get("id").is_none() {
            return Answer::Accepted;
        }
        let revision = text("/params/_meta/io.modelcontextprotocol~1protocolVersion");
        let legacy = mirrored.revision.is_none_or(|told| LEGACY.contains(&told));
        if revision.is_none() && legacy {
            return self.answer_legacy(method, message);
        }
        if revision != Some(MODERN) || mirrored.revision != Some(MODERN) {
            let requested = revision.or(mirrored.revision).unwrap_or_default();
            let data = json!({"supported": [MODERN], "requested": requested});
            return Answer::Error(400, -32022, "unsupported protocol version", data);
        }
        let name = text("/params/name");
        if mirrored.method != Some(method) || (method == "tools/call" && mirrored.name != name) {
            return Answer::Error(400, -32020, "headers and body differ", Value::Null);
        }
        match method {
            "server/discover" => Answer::Result(discovered()),
            "ping" => Answer::Result(json!({"resultType": "complete"})),
            "tools/list" => self.page(text("/params/cursor")),
            "tools/call" => self.call(name.unwrap_or_default(), message),
            _ => Answer::Error(404, -32601, "unknown method", Value::Null),
        }
    }

    /// Answers one message of a client that begins with `initialize`.
    fn answer_legacy(&self, method: &str, message: &Value) -> Answer {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        match method {
            "initialize" => {
                let asked = text("/params/protocolVersion").unwrap_or_default();
                let known = LEGACY.into_iter().find(|known| *known == asked);
                Answer::Session(initialized(known.unwrap_or(LEGACY[0])))
            }
            "ping" => Answer::Result(json!({})),
            "tools/list" => self.page(text("/params/cursor")),
            "tools/call" => self.call(text("/params/name").unwrap_or_default(), message),
            _ => Answer::Error(200, -32601, "unknown method", Value::Null),
        }
    }

    /// A customer, as the REST API gives it.
    fn customer(&self, id: &str) -> Value {
        self.calls.fetch_add(1, Ordering::SeqCst);
        json!({"id": id, "name": "Ada", "plan": "basic"})
    }

    fn page(&self, cursor: Option<&str>) -> Answer {
        let start = cursor.map_or(Some(0), |cursor| cursor.parse().ok());
        let Some(start) = start.filter(|start: &usize| *start < self.listed.len()) else {
            return Answer::Error(200, -32602, "unknown cursor", Value::Null);
        };
        let tools: Vec<&Value> = self.listed.iter().skip(start).take(PAGE).collect();
        let mut result = Map::from_iter([
            ("resultType".to_owned(), json!("complete")),
            ("tools".to_owned(), json!(tools)),
            ("ttlMs".to_owned(), json!(0)),
            ("cacheScope".to_owned(), json!("public")),
        ]);
        let next = start.saturating_add(PAGE);
        if next < self.listed.len() {
            result.insert("nextCursor".to_owned(), json!(next.to_string()));
        }
        Answer::Result(result.into())
    }

    fn call(&self, name: &str, message: &Value) -> Answer {
        let arguments = message.pointer("/params/arguments").unwrap_or(&Value::Null);
        let Some(done) = tools::call(name, arguments) else {
            return Answer::Error(200, -32602, "unknown tool", Value::Null);
        };
        self.calls.fetch_add(1, Ordering::SeqCst);
        let result =
            json!({"resultType": "complete", "content": [{"type": "text", "text": done.text}]});
        match message.pointer("/params/_meta/progressToken") {
            Some(token) if done.steps > 0 => {
                let progress = (1..=done.steps)
                    .map(|step| progress(token, step, done.steps))
                    .collect();
                Answer::Stream(progress, result)
            }
            _ => Answer::Result(result),
        }
    }
}

fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": [MODERN],
        "capabilities": {"tools": {}},
        "ttlMs": 0,
        "cacheScope": "public",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "outrider-demo", "version": env!("CARGO_PKG_VERSION")}},
    })
}

fn initialized(revision: &str) -> Value {
    json!({
        "protocolVersion": revision,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "outrider-demo", "version": env!("CARGO_PKG_VERSION")},
    })
}

fn progress(token: &Value, step: usize, of: usize) -> Value {
    let params = json!({"progressToken": token, "progress": step, "total": of});
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
}

#[cfg(test)]
mod tests;
