//! The service behind the sidecar: notes what reaches it, holds it against the log at once, and
//! answers as it is told.

use std::{
    collections::{HashSet, VecDeque},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    agent::{Framed, fields},
    journal::Journal,
    parts::Sent,
    room::SECRET,
};
use crate::{fixture::AGENT, text::cut};

/// Our headers, all of which a request has once.
const OURS: [&str; 8] = [
    "outrider-agent",
    "outrider-assertion",
    "outrider-classification",
    "outrider-decision-id",
    "outrider-intent",
    "outrider-subject",
    "outrider-task",
    "outrider-tool",
];

/// What no agent may say.
const CLAIMS: [&str; 8] = [
    "cookie",
    "proxy-authorization",
    "forwarded",
    "x-forwarded-for",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "te",
];

/// A server on a port of its own.
pub struct Service {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    journal: Mutex<Option<Arc<Mutex<Journal>>>>,
    answers: Mutex<VecDeque<Vec<u8>>>,
    received: Mutex<Vec<Received>>,
    seen: Mutex<HashSet<String>>,
    stopped: AtomicBool,
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if own.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&own);
                let Ok(stream) = stream else { continue };
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The log in which every request must stand before it is here.
    pub fn reads(&self, journal: &Arc<Mutex<Journal>>) {
        *open(&self.shared.journal) = Some(Arc::clone(journal));
    }

    /// What is answered to the next requests.
    pub fn expect(&self, answers: &[Vec<u8>]) {
        *open(&self.shared.answers) = answers.iter().cloned().collect();
    }

    /// What came since the last time.
    pub fn received(&self) -> Vec<Received> {
        std::mem::take(&mut open(&self.shared.received))
    }

    pub fn stop(self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).ok();
        let mut read = Vec::new();
        while let Some(head) = until(&mut stream, &mut read, b"\r\n\r\n") {
            let headers = fields(&head);
            self.permitted(&headers);
            let Some(body) = body(&mut stream, &mut read, &headers) else {
                return;
            };
            let first = cut(&head, b"\r\n").0;
            let received = Received {
                first: String::from_utf8(first.to_vec()).expect("a request line is text"),
                headers,
                body,
            };
            let own = received.answer();
            open(&self.received).push(received);
            let told = open(&self.answers).pop_front();
            let last = told.is_some();
            if stream.write_all(&told.unwrap_or(own)).is_err() || last {
                return;
            }
        }
    }

    /// The permission is in the log before the head is here, and is used once.
    fn permitted(&self, headers: &[(String, String)]) {
        let id = headers
            .iter()
            .find(|(name, _)| name == "outrider-decision-id");
        let (_, id) = id.expect("a request without a decision");
        let journal = open(&self.journal).clone().expect("a log");
        let mut journal = open(&journal);
        journal.refresh();
        assert!(
            journal.allows(id),
            "forwarded without a recorded permission"
        );
        assert!(open(&self.seen).insert(id.clone()), "forwarded twice");
    }
}

/// Reads up to and with an end.
fn until(stream: &mut TcpStream, read: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        let found = read.windows(end.len()).position(|window| window == end);
        if let Some(at) = found {
            return Some(read.drain(..at + end.len()).collect());
        }
        more(stream, read)?;
    }
}

fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
    read.extend_from_slice(&buffer[..count]);
    Some(())
}

fn exactly(stream: &mut TcpStream, read: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while read.len() < length {
        more(stream, read)?;
    }
    Some(read.drain(..length).collect())
}

fn body(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    headers: &[(String, String)],
) -> Option<Vec<u8>> {
    let all =
        |name: &str| -> Vec<_> { headers.iter().filter(|(known, _)| known == name).collect() };
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Some(Vec::new()),
        ([(_, length)], []) => exactly(stream, read, length.parse().expect("a length")),
        ([], [(_, coding)]) if coding == "chunked" => {
            let mut body = Vec::new();
            loop {
                let line = until(stream, read, b"\r\n")?;
                let line = std::str::from_utf8(&line)
                    .expect("a size is text")
                    .trim_end();
                let size = usize::from_str_radix(line, 16).expect("a size");
                let chunk = exactly(stream, read, size + 2)?;
                assert!(chunk.ends_with(b"\r\n"), "a chunk without its end");
                body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    return Some(body);
                }
            }
        }
        _ => panic!("a body that two readers read differently: {headers:?}"),
    }
}

/// A request that reached the service.
#[derive(Debug)]
pub struct Received {
    first: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = lines
            .next()
            .unwrap_or_else(|| panic!("no {name}: {self:?}"));
        assert!(lines.next().is_none(), "{name} twice: {self:?}");
        value
    }

    /// What an honest server would say.
    fn answer(&self) -> Vec<u8> {
        let asked: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let (status, body) = match asked.get("id") {
            Some(id) => {
                let result = json!({
                    "resultType": "complete", "content": [], "tools": [{"name": "echo"}, {"name": "other"}],
                    "protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": true}},
                });
                let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
                ("200 OK", answer.to_string())
            }
            None => ("202 Accepted", String::new()),
        };
        let opens = asked["method"] == "initialize";
        let session = if opens { "Mcp-Session-Id: s\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Holds it against what we promise of every request.
    pub fn check(&self) {
        self.check_headers();
        self.check_assertion();
    }

    /// Its body is what the agent sent.
    pub fn carries(&self, sent: &Sent) {
        if let Framed::Whole(body) = &sent.framed {
            assert_eq!(*body, self.body, "another body: {self:?}");
        }
    }

    /// The decision by which it is here.
    pub fn decision(&self) -> &str {
        self.header("outrider-decision-id")
    }

    fn check_headers(&self) {
        for (name, _) in &self.headers {
            let loose = name.replace('_', "-");
            if loose.starts_with("outrider-") {
                assert!(OURS.contains(&name.as_str()), "in our name: {self:?}");
            }
            assert!(!CLAIMS.contains(&loose.as_str()), "a claim: {self:?}");
        }
        assert_eq!(self.header("outrider-agent"), AGENT);
        let secret = self
            .headers
            .iter()
            .find(|(name, _)| name == "authorization");
        let tools = self.path() == "/tools";
        assert_eq!(
            secret.map(|(_, value)| value.as_str()),
            tools.then_some(SECRET),
            "{self:?}"
        );
        let known = ["/tools", "/rest", "/rpc", "/plain", "/flow"];
        assert!(
            known.iter().any(|base| self.path().starts_with(base)),
            "{self:?}"
        );
    }

    fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    fn target(&self) -> &str {
        self.first.split(' ').nth(1).expect("a target")
    }

    /// The assertion is about this request.
    fn check_assertion(&self) {
        let assertion = self.header("outrider-assertion");
        let claims = assertion.split('.').nth(1).expect("claims");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
        let claims: Value = serde_json::from_slice(&claims).expect("claims");
        assert_eq!(claims["txn"], self.decision());
        assert_eq!(
            claims["htm"],
            self.first.split(' ').next().expect("a method")
        );
        let url = format!("http://{}{}", self.header("host"), self.target());
        assert_eq!(claims["htu"], url.as_str());
        if let Some(hash) = claims["bsh"].as_str() {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.body);
            assert_eq!(hash, URL_SAFE_NO_PAD.encode(digest), "another body");
        } else {
            assert!(
                self.path().starts_with("/flow"),
                "no hash of the body: {self:?}"
            );
        }
    }
}
