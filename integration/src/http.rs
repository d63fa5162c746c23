//! Raw HTTP/1.1 over a socket (RFC 9112): what was sent is what the test wrote, and what came back
//! is kept as it came.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

/// How long any wait of the harness may last before the test is given up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The `Host` that an agent naturally sends to this address.
    pub fn host(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

#[derive(Debug)]
pub(crate) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    fn connect(address: &Address) -> io::Result<Self> {
        let wire = match address {
            Address::Tcp(address) => Self::Tcp(TcpStream::connect(address)?),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        };
        if let Self::Tcp(stream) = &wire {
            stream.set_nodelay(true)?;
        }
        wire.patience(PATIENCE)?;
        Ok(wire)
    }

    fn patience(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first line and the header fields of a message, in the order and spelling of the wire.
#[derive(Debug, Clone, Default)]
pub struct Head {
    /// The request or status line.
    pub line: String,
    /// Name and value of each field.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The values of every field of that name, in any case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        let fields = self.fields.iter().filter(named);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of the only field of that name.
    ///
    /// # Panics
    /// When there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "several `{name}` fields: {all:?}");
        all.first().copied()
    }

    /// The names of the fields that begin with `prefix`, in lower case, sorted.
    pub fn names_with(&self, prefix: &str) -> Vec<String> {
        let names = self
            .fields
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    }

    /// Reads a head up to its empty line; `None` when the peer closed before its first byte.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(line) = read_line(from)? else {
            return Ok(None);
        };
        let mut head = Self {
            line,
            fields: Vec::new(),
        };
        loop {
            let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(head));
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            head.fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    while matches!(line.last(), Some(b'\r' | b'\n')) {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    Done,
}

impl Framing {
    /// The framing of a message's body; `absent` is what no framing header means.
    pub(crate) fn of(head: &Head, absent: Self) -> Self {
        let chunked = |value: &str| value.eq_ignore_ascii_case("chunked");
        if head.get("transfer-encoding").is_some_and(chunked) {
            return Self::Chunked;
        }
        match head.get("content-length") {
            Some(length) => Self::Length(length.parse().unwrap()),
            None => absent,
        }
    }

    /// Reads the next piece of the body; `None` at its proper end.
    pub(crate) fn next(&mut self, from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
        let piece = match *self {
            Self::Done | Self::Length(0) => None,
            Self::Length(left) => {
                let piece = read_some(from, left)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                *self = Self::Length(left - piece.len());
                Some(piece)
            }
            Self::UntilClose => read_some(from, 65_536)?,
            Self::Chunked => read_chunk(from)?,
        };
        if piece.is_none() {
            *self = Self::Done;
        }
        Ok(piece)
    }
}

fn read_some(from: &mut impl BufRead, most: usize) -> io::Result<Option<Vec<u8>>> {
    let ready = from.fill_buf()?;
    let piece = ready[..ready.len().min(most)].to_vec();
    from.consume(piece.len());
    Ok((!piece.is_empty()).then_some(piece))
}

fn read_chunk(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut piece = vec![0; size];
    from.read_exact(&mut piece)?;
    if size == 0 {
        while !read_line(from)?
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .is_empty()
        {}
        return Ok(None);
    }
    read_line(from)?;
    Ok(Some(piece))
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Status line and header fields.
    pub head: Head,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Whether the body ended as its framing promised; false: the peer broke off.
    pub complete: bool,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; of an event stream, its last event.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        let text = self.text();
        let stream = self
            .head
            .get("content-type")
            .is_some_and(|t| t.starts_with("text/event-stream"));
        let data = if stream {
            events(&text).pop().unwrap_or_default()
        } else {
            text.clone()
        };
        serde_json::from_str(&data).unwrap_or_else(|e| panic!("{} {text:?}: {e}", self.head.line))
    }

    /// The decision object in whichever place this form of answer has it; null when in none.
    pub fn decision(&self) -> Value {
        let body = self.json();
        let places = ["/result/_meta/outrider~1decision", "/error/data"];
        let inner = places.iter().find_map(|place| body.pointer(place).cloned());
        match inner {
            Some(decision) => decision,
            None if body.get("code").is_some() => body,
            None => Value::Null,
        }
    }

    /// The decision's code, empty when there is no decision in the body.
    pub fn code(&self) -> String {
        self.decision()["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The decision ID of the answer's header.
    pub fn decision_id(&self) -> String {
        self.head
            .get("outrider-decision-id")
            .unwrap_or_default()
            .to_owned()
    }

    /// The text of the first content block of a tool result.
    pub fn tool_text(&self) -> String {
        let body = self.json();
        body.pointer("/result/content/0/text")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Whether it is a tool result that is no error.
    pub fn is_tool_success(&self) -> bool {
        let body = self.json();
        self.status == 200
            && body["result"]["content"].is_array()
            && body["result"]["isError"] != true
    }
}

/// Splits an event stream into the data of its events (WHATWG HTML §9.2.6).
pub(crate) fn events(stream: &str) -> Vec<String> {
    let blocks = stream.split("\n\n");
    blocks
        .map(data_of)
        .filter(|data| !data.is_empty())
        .collect()
}

fn data_of(block: &str) -> String {
    let data = block.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(str::trim_start).collect::<Vec<_>>().join("\n")
}

/// One connection to a server, with what was read ahead.
#[derive(Debug)]
pub struct Connection {
    wire: BufReader<Wire>,
    framing: Framing,
    pending: String,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn open(address: &Address) -> io::Result<Self> {
        let wire = BufReader::new(Wire::connect(address)?);
        Ok(Self {
            wire,
            framing: Framing::Done,
            pending: String::new(),
        })
    }

    pub(crate) fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let wire = Wire::Tcp(stream);
        wire.patience(PATIENCE)?;
        Ok(Self {
            wire: BufReader::new(wire),
            framing: Framing::Done,
            pending: String::new(),
        })
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the peer has gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.get_mut().write_all(bytes)
    }

    /// Reads the next head that is not an interim one (1xx); `None` when the peer closed.
    ///
    /// # Errors
    /// When the peer broke off or sent no HTTP, or nothing came in time.
    pub fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            let Some(head) = Head::read(&mut self.wire)? else {
                return Ok(None);
            };
            let status = status_of(&head);
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bodiless = matches!(status, 204 | 304);
            let absent = if bodiless {
                Framing::Done
            } else {
                Framing::UntilClose
            };
            self.framing = Framing::of(&head, absent);
            return Ok(Some(head));
        }
    }

    /// Reads the data of the next event of the running answer; `None` at the stream's end.
    /// Comments are passed over.
    ///
    /// # Errors
    /// When the stream broke off.
    pub fn event(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some((block, rest)) = self.pending.split_once("\n\n") {
                let data = data_of(block);
                self.pending = rest.to_owned();
                if data.is_empty() {
                    continue;
                }
                return Ok(Some(data));
            }
            let Some(piece) = self.framing.next(&mut self.wire)? else {
                return Ok(None);
            };
            self.pending.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    /// Reads what is left of the running answer's body, and whether it ended properly.
    pub fn rest(&mut self) -> (Vec<u8>, bool) {
        let mut body = std::mem::take(&mut self.pending).into_bytes();
        loop {
            match self.framing.next(&mut self.wire) {
                Ok(Some(piece)) => body.extend(piece),
                Ok(None) => return (body, true),
                Err(_) => return (body, false),
            }
        }
    }

    /// Reads a whole answer; `None` when the peer closed without one.
    ///
    /// # Errors
    /// When no head came.
    pub fn answer(&mut self) -> io::Result<Option<Answer>> {
        let Some(head) = self.head()? else {
            return Ok(None);
        };
        let (body, complete) = self.rest();
        Ok(Some(Answer {
            status: status_of(&head),
            head,
            body,
            complete,
        }))
    }

    /// Reads the head of a request, on the serving side; `None` when the peer closed.
    ///
    /// # Errors
    /// When the peer broke off or sent no HTTP, or nothing came in time.
    pub fn request(&mut self) -> io::Result<Option<Head>> {
        let head = Head::read(&mut self.wire)?;
        if let Some(head) = &head {
            self.framing = Framing::of(head, Framing::Done);
        }
        Ok(head)
    }

    /// Reads the next piece of the running body; `None` at its proper end.
    ///
    /// # Errors
    /// When the peer broke off.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.framing.next(&mut self.wire)
    }

    /// Ends our half of the connection and keeps reading possible.
    pub fn finish(&self) {
        self.wire.get_ref().shutdown(Shutdown::Write).ok();
    }

    /// Says that nothing more comes, and waits until the peer has noticed and closed its side too.
    pub fn leave(mut self) {
        self.wire.get_ref().shutdown(Shutdown::Write).ok();
        let mut rest = Vec::new();
        // A reset says the same.
        self.wire.read_to_end(&mut rest).ok();
    }

    /// Hangs up.
    pub fn hang_up(self) {
        self.wire.get_ref().shutdown(Shutdown::Both).ok();
    }
}

pub(crate) fn status_of(head: &Head) -> u16 {
    let code = head
        .line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no status line: {}", head.line))
}
