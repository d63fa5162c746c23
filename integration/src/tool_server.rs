//! A tool server that counts what reached it: MCP 2026-07-28 over streamable HTTP, one thread per
//! connection, each request kept.

use std::{
    collections::BTreeMap,
    fmt,
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use crate::{
    Exchange, PATIENCE, Received,
    exchange::Counted,
    http::{Framing, Head},
    until,
};

type Act = dyn Fn(&mut Exchange<'_>) + Send + Sync;

/// A tool: what the server publishes of it, and what it does.
#[derive(Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its published definition without `name`; at least `inputSchema`.
    pub definition: Value,
    act: Arc<Act>,
}

impl fmt::Debug for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tool").field(&self.name).finish()
    }
}

impl Tool {
    /// A tool of that input schema.
    pub fn new(
        name: &str,
        input_schema: &Value,
        act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static,
    ) -> Self {
        let definition = json!({"inputSchema": input_schema});
        Self {
            name: name.to_owned(),
            definition,
            act: Arc::new(act),
        }
    }

    /// A tool that answers with its `message`.
    pub fn echo(name: &str) -> Self {
        Self::new(name, &message_schema(), |exchange| {
            let message = exchange.arguments()["message"].clone();
            exchange.result(&text_result(message.as_str().unwrap_or_default()));
        })
    }

    /// A tool with the schema of [`message_schema`] that does as told.
    pub fn doing(name: &str, act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> Self {
        Self::new(name, &message_schema(), act)
    }
}

/// An object with a required string `message`; further keys are allowed.
pub fn message_schema() -> Value {
    json!({"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]})
}

/// A complete tool result of one text.
pub fn text_result(text: &str) -> Value {
    json!({"resultType": "complete", "content": [{"type": "text", "text": text}]})
}

struct Shared {
    tools: BTreeMap<String, Tool>,
    received: Mutex<Vec<Received>>,
    bytes: Arc<AtomicUsize>,
    connections: AtomicUsize,
    every: Option<Box<Act>>,
}

/// A running tool server on a port of its own. Its threads end with the process.
#[derive(Clone)]
pub struct ToolServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl fmt::Debug for ToolServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ToolServer").field(&self.address).finish()
    }
}

impl ToolServer {
    /// Starts a server of those tools.
    pub fn start(tools: Vec<Tool>) -> Self {
        Self::launch(tools, None)
    }

    /// Starts a server that treats every request alike, whatever it is.
    pub fn answering(act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> Self {
        Self::launch(Vec::new(), Some(Box::new(act)))
    }

    /// Starts a server of those tools, sessions and all, as MCP was before 2026-07-28. `script` is
    /// asked first, and says whether it has answered; otherwise: `initialize` opens the session
    /// `s-1`, then `s-2` and so on, `DELETE` ends any, `GET` is not allowed, everything else is as
    /// in [`start`](Self::start). The names of sessions are never checked.
    pub fn legacy(
        tools: Vec<Tool>,
        script: impl Fn(&mut Exchange<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let opened = AtomicUsize::new(0);
        let usual = Shared {
            tools: by_name(tools.clone()),
            received: Mutex::default(),
            bytes: Arc::default(),
            connections: AtomicUsize::new(0),
            every: None,
        };
        let every = move |exchange: &mut Exchange<'_>| {
            if !script(exchange) && !crate::legacy::answer(exchange, &opened) {
                usual.answer(exchange);
            }
        };
        Self::launch(tools, Some(Box::new(every)))
    }

    fn launch(tools: Vec<Tool>, every: Option<Box<Act>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            tools: by_name(tools),
            received: Mutex::default(),
            bytes: Arc::default(),
            connections: AtomicUsize::new(0),
            every,
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its MCP endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// The published definitions by name.
    pub fn definitions(&self) -> BTreeMap<String, Value> {
        let tools = self.shared.tools.iter();
        tools
            .map(|(name, tool)| (name.clone(), tool.definition.clone()))
            .collect()
    }

    /// Everything that reached it so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The calls of tools that reached it so far.
    pub fn calls(&self) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|request| request.method() == "tools/call");
        received
    }

    /// Waits until that many requests have reached it, and returns them.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        until("requests to reach the tool server", || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }

    /// How many bytes ever reached it: also of what was no request.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::SeqCst)
    }
}

fn by_name(tools: Vec<Tool>) -> BTreeMap<String, Tool> {
    let named = tools.into_iter().map(|tool| (tool.name.clone(), tool));
    named.collect()
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            let number = self.connections.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.serve(stream, number));
        }
    }

    fn serve(&self, stream: TcpStream, number: usize) {
        stream.set_nodelay(true).ok();
        let mut wire = BufReader::new(Counted {
            stream,
            bytes: Arc::clone(&self.bytes),
        });
        while let Some(request) = read(&mut wire, number) {
            self.received.lock().unwrap().push(request.clone());
            wire.get_ref().stream.set_read_timeout(Some(PATIENCE)).ok();
            let mut exchange = Exchange {
                wire: &mut wire,
                request: &request,
                keep: true,
            };
            self.answer(&mut exchange);
            if !exchange.keep {
                return;
            }
            wire.get_ref().stream.set_read_timeout(None).ok();
        }
    }

    fn answer(&self, exchange: &mut Exchange<'_>) {
        if let Some(act) = &self.every {
            return act(exchange);
        }
        match exchange.request().method().as_str() {
            "server/discover" => exchange.result(&discovered()),
            "tools/list" => exchange.result(&self.listed()),
            "ping" => exchange.result(&json!({})),
            "tools/call" => match self.tools.get(&exchange.request().tool()) {
                Some(tool) => (tool.act)(exchange),
                None => exchange.error(-32602, "Unknown tool"),
            },
            notification if notification.starts_with("notifications/") => {
                exchange.raw(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
            }
            _ => exchange.error(-32601, "Method not found"),
        }
    }

    fn listed(&self) -> Value {
        let tools = self.tools.iter().map(|(name, tool)| {
            let mut tool = tool.definition.clone();
            tool["name"] = json!(name);
            tool
        });
        let tools: Vec<_> = tools.collect();
        json!({"resultType": "complete", "tools": tools, "ttlMs": 60_000, "cacheScope": "public"})
    }
}

fn read(wire: &mut BufReader<Counted>, connection: usize) -> Option<Received> {
    let head = Head::read(wire).ok()??;
    let mut framing = Framing::of(&head, Framing::Done);
    let mut body = Vec::new();
    while let Some(piece) = framing.next(wire).ok()? {
        body.extend(piece);
    }
    Some(Received {
        head,
        body,
        connection,
    })
}

fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": [crate::REVISION],
        "capabilities": {"tools": {}},
        "ttlMs": 60_000,
        "cacheScope": "public",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "harness", "version": "1"}},
    })
}
