//! One request at a tool server: what arrived, and the pen that writes the answer.

use std::{
    io::{BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::http::Head;

/// A request as it reached a tool server.
#[derive(Debug, Clone)]
pub struct Received {
    /// Request line and header fields.
    pub head: Head,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// Which of the server's connections carried it.
    pub connection: usize,
}

impl Received {
    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The JSON-RPC method, empty if there is none.
    pub fn method(&self) -> String {
        self.json()["method"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The name of the tool called, empty if there is none.
    pub fn tool(&self) -> String {
        self.json()["params"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A stream whose incoming bytes are counted, also those that never become a request.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) stream: TcpStream,
    pub(crate) bytes: Arc<AtomicUsize>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.bytes.fetch_add(read, Ordering::SeqCst);
        Ok(read)
    }
}

/// The answering side of one request.
#[derive(Debug)]
pub struct Exchange<'a> {
    pub(crate) wire: &'a mut BufReader<Counted>,
    pub(crate) request: &'a Received,
    pub(crate) keep: bool,
}

impl Exchange<'_> {
    /// What is being answered.
    pub fn request(&self) -> &Received {
        self.request
    }

    /// The arguments of the call.
    pub fn arguments(&self) -> Value {
        self.request.json()["params"]["arguments"].clone()
    }

    /// Answers with a JSON-RPC result.
    pub fn result(&mut self, result: &Value) {
        let id = self.request.json()["id"].clone();
        self.json(200, &json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    /// Answers with a JSON-RPC error.
    pub fn error(&mut self, code: i64, message: &str) {
        let id = self.request.json()["id"].clone();
        let error = json!({"code": code, "message": message});
        self.json(200, &json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }

    /// Answers with that status and JSON body.
    pub fn json(&mut self, status: u16, body: &Value) {
        self.answer(status, "application/json", &[], body.to_string().as_bytes());
    }

    /// Answers with that status, type, further fields and body.
    pub fn answer(&mut self, status: u16, kind: &str, fields: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\n");
        for (name, value) in fields {
            head.extend([*name, ": ", *value, "\r\n"]);
        }
        head.extend([format!("Content-Length: {}\r\n\r\n", body.len())]);
        self.raw(&[head.as_bytes(), body].concat());
    }

    /// Accepts a notification.
    pub fn accepted(&mut self) {
        self.raw(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    }

    /// Ends an event stream properly, whether or not it has carried an answer.
    pub fn end(&mut self) {
        self.raw(b"0\r\n\r\n");
    }

    /// Begins an event stream.
    pub fn begin_events(&mut self) {
        self.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
              Transfer-Encoding: chunked\r\n\r\n",
        );
    }

    /// Writes one event. Returns false when the peer has gone.
    pub fn event(&mut self, message: &Value) -> bool {
        self.chunk(format!("event: message\ndata: {message}\n\n").as_bytes())
    }

    /// Writes one chunk of a chunked body. Returns false when the peer has gone.
    pub fn chunk(&mut self, bytes: &[u8]) -> bool {
        let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        self.raw(&framed)
    }

    /// Writes the final event of the call and ends the stream.
    pub fn end_events(&mut self, result: &Value) {
        let id = self.request.json()["id"].clone();
        self.event(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
        self.raw(b"0\r\n\r\n");
    }

    /// Writes bytes as they are. Returns false when the peer has gone.
    pub fn raw(&mut self, bytes: &[u8]) -> bool {
        let sent = self.wire.get_mut().stream.write_all(bytes).is_ok();
        self.keep &= sent;
        sent
    }

    /// Closes the connection at once.
    pub fn hang_up(&mut self) {
        self.keep = false;
        self.wire.get_ref().stream.shutdown(Shutdown::Both).ok();
    }

    /// Waits until the peer hangs up. Returns false when it did not in time.
    pub fn wait_until_gone(&mut self) -> bool {
        self.keep = false;
        let mut byte = [0];
        match self.wire.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
