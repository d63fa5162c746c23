//! The agent's end: sends what it is given and reads what comes back.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::parts::Sent;
use crate::text::cut;

/// How long an answer is waited for before the agent goes away.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long the sidecar may take to close a connection whose agent has gone.
const HANG: Duration = Duration::from_secs(20);

/// How much of some bytes one message is.
pub enum Framed {
    /// It is one whole request, with that body.
    Whole(Vec<u8>),
    /// It is one that lacks its end, or something stands behind it.
    Other,
}

impl Framed {
    pub fn of(bytes: &[u8]) -> Self {
        let (head, body) = cut(bytes, b"\r\n\r\n");
        if head.len() == bytes.len() {
            return Self::Other;
        }
        let lines = fields(head);
        let chunked = lines.iter().any(|(name, _)| name == "transfer-encoding");
        let length = lines.iter().find(|(name, _)| name == "content-length");
        let body = match (chunked, length) {
            (true, _) => unchunked(body),
            (false, None) => body.is_empty().then(Vec::new),
            (false, Some((_, length))) => (length.parse() == Ok(body.len())).then(|| body.to_vec()),
        };
        body.map_or(Self::Other, Self::Whole)
    }
}

/// The header lines of a head, names in lower case.
pub fn fields(head: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(head);
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    text.split("\r\n").skip(1).filter_map(field).collect()
}

/// The body that chunks carry, if they are whole and nothing follows.
pub fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (line, after) = cut(rest, b"\r\n");
        let size = std::str::from_utf8(line).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            // Trailers, of which the first empty line is the end.
            let end = match after.starts_with(b"\r\n") {
                true => 2,
                false => cut(after, b"\r\n\r\n").0.len() + 4,
            };
            return (after.len() == end).then_some(body);
        }
        let (chunk, after) = after.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn decision(&self) -> Option<&str> {
        self.header("outrider-decision-id")
    }

    /// Another one follows (RFC 9110 §15.2); a switch of protocols would be the last.
    fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Everything that was answered to the requests of one input.
pub struct Conversation {
    pub answers: Vec<Answer>,
    /// Every request was one whole request, and each was answered.
    pub whole: bool,
}

impl Conversation {
    pub fn hold(socket: &Path, requests: &[Sent]) -> Self {
        let mut talk = Self {
            answers: Vec::new(),
            whole: true,
        };
        let mut line = Line::open(socket);
        for request in requests {
            if line.closed {
                talk.answers.extend(line.hang_up());
                line = Line::open(socket);
            }
            line.send(&request.bytes);
            let answer = match request.framed {
                Framed::Whole(_) => line.answer(request.bytes.starts_with(b"HEAD ")),
                Framed::Other => None,
            };
            match answer {
                Some(answer) => talk.answers.push(answer),
                None => {
                    talk.whole = false;
                    line.closed = true;
                }
            }
        }
        talk.answers.extend(line.hang_up());
        talk
    }
}

/// One connection.
struct Line {
    stream: UnixStream,
    read: Vec<u8>,
    closed: bool,
    over: bool,
}

impl Line {
    fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the sidecar listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        stream.set_write_timeout(Some(HANG)).expect("a time");
        Self {
            stream,
            read: Vec::new(),
            closed: false,
            over: false,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        // A sidecar that has refused already need not read the rest.
        self.stream.write_all(bytes).ok();
    }

    /// Reads more; false when nothing comes.
    fn more(&mut self) -> bool {
        if self.over {
            return false;
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.over = true,
                Ok(count) => {
                    self.read.extend_from_slice(&buffer[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.over = true,
            }
            return false;
        }
    }

    /// The next answer, if it comes.
    fn answer(&mut self, to_head: bool) -> Option<Answer> {
        loop {
            if let Some((answer, taken)) = parse(&self.read, to_head, self.over) {
                self.read.drain(..taken);
                if answer.is_interim() {
                    continue;
                }
                self.closed |= self.over
                    || answer
                        .header("connection")
                        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
                return Some(answer);
            }
            let was_over = self.over;
            if !self.more() && (was_over || !self.over) {
                return None;
            }
        }
    }

    /// Goes away, and reads what was on its way.
    fn hang_up(&mut self) -> Vec<Answer> {
        self.stream.shutdown(Shutdown::Write).ok();
        self.stream.set_read_timeout(Some(HANG)).expect("a time");
        while self.more() {}
        assert!(
            self.over,
            "the sidecar holds a connection whose agent has gone"
        );
        let mut answers = Vec::new();
        while let Some((answer, taken)) = parse(&self.read, false, false) {
            self.read.drain(..taken);
            answers.extend(Some(answer).filter(|answer| !answer.is_interim()));
        }
        answers
    }
}

/// The answer at the start of some bytes and how long it is; one without a length ends with the
/// connection.
fn parse(bytes: &[u8], to_head: bool, over: bool) -> Option<(Answer, usize)> {
    let (head, rest) = cut(bytes, b"\r\n\r\n");
    if head.len() == bytes.len() {
        return None;
    }
    let status = std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?;
    let headers = fields(head);
    let find = |name: &str| headers.iter().find(|(known, _)| known == name);
    let start = head.len() + 4;
    let (body, end) = if to_head || status < 200 || matches!(status, 204 | 304) {
        (Vec::new(), start)
    } else if find("transfer-encoding").is_some() {
        match (1..=rest.len()).find_map(|end| whole_chunks(&rest[..end]).map(|body| (body, end))) {
            Some((body, length)) => (body, start + length),
            // An end that is cut is no end.
            None if over => (rest.to_vec(), bytes.len()),
            None => return None,
        }
    } else if let Some((_, length)) = find("content-length") {
        let length: usize = length.parse().expect("a length");
        match rest.get(..length) {
            Some(body) => (body.to_vec(), start + length),
            None if over => (rest.to_vec(), bytes.len()),
            None => return None,
        }
    } else if over {
        (rest.to_vec(), bytes.len())
    } else {
        return None;
    };
    let answer = Answer {
        status,
        headers,
        body,
    };
    Some((answer, end))
}

fn whole_chunks(bytes: &[u8]) -> Option<Vec<u8>> {
    bytes.ends_with(b"\r\n\r\n").then(|| unchunked(bytes))?
}
