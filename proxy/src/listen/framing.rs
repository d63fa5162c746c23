//! Where one request ends and the next begins, read by the narrowest rules there are.
//!
//! Bytes come in as they arrive, split anywhere; out comes how many of them belong to the
//! current message, or the first byte that two readers could read differently (RFC 9112 §§5, 6,
//! 7.1, 11.2). The HTTP engine refuses control bytes, folds and bad names by itself; here is
//! refused what it would let pass: a bare LF as line end, a second or a conflicting length, a
//! transfer coding other than `chunked`, and loose chunk framing.

use memchr::memchr;

/// Bytes of a line kept when it arrives in pieces; the framing headers must fit.
const KEPT: usize = 64;
/// Bytes of one chunk extension that are tolerated (RFC 9112 §7.1.1 asks for a limit).
const EXTENSION_MAX: u16 = 256;
/// Bytes of a trailer section that are tolerated.
const TRAILER_MAX: usize = 16 * 1024;
/// Digits of a `Content-Length`: up to 10^18 bytes.
const LENGTH_DIGITS: usize = 18;
/// Hexadecimal digits of a chunk size: they fill a `u64`.
const CHUNK_DIGITS: u8 = 16;

/// What a stretch of bytes amounted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// All of it belongs to the current message, which goes on.
    More,
    /// The message ends after this many bytes; the rest is the next one.
    End(usize),
    /// The byte at this position makes the head ambiguous.
    BadHead(usize),
    /// The byte at this position makes the body's framing ambiguous.
    BadBody(usize),
}

/// Where in a message the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two messages: not one byte of a head has been seen.
    Idle,
    /// Inside a head.
    Head,
    /// Past a head, inside its body.
    Body,
}

#[derive(Debug)]
enum State {
    Idle,
    Head,
    Length(u64),
    Chunk(Chunk),
    Trailer(usize),
}

#[derive(Debug, Clone, Copy)]
enum Chunk {
    Size { digits: u8, size: u64 },
    Extension { length: u16, size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
}

/// The length that a head declares for its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    None,
    Bytes(u64),
    Chunked,
}

/// The scanner of one connection's request bytes.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    line: Line,
    first_line: bool,
    length: Length,
    heads: u64,
}

/// The line in progress, when it did not arrive whole.
#[derive(Debug)]
struct Line {
    kept: [u8; KEPT],
    length: usize,
    last: u8,
}

/// A line that makes a head ambiguous.
struct Ambiguous;

/// A line as far as framing needs it.
enum Text<'a> {
    Whole(&'a [u8]),
    /// Longer than [`KEPT`]: its beginning.
    Beginning(&'a [u8]),
}

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            state: State::Idle,
            line: Line::new(),
            first_line: true,
            length: Length::None,
            heads: 0,
        }
    }

    /// Where the scanner stands.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Idle => Phase::Idle,
            State::Head => Phase::Head,
            State::Length(_) | State::Chunk(_) | State::Trailer(_) => Phase::Body,
        }
    }

    /// How many complete heads have gone by on this connection.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Reads `bytes`, which follow what was read before, up to the end of the current message.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let step = match &mut self.state {
                State::Idle | State::Head => self.head(rest),
                State::Length(left) => {
                    let taken = portion(rest, *left);
                    *left -= taken as u64;
                    if *left == 0 {
                        Step::End(taken)
                    } else {
                        Step::On(taken)
                    }
                }
                State::Chunk(_) => self.chunk(rest),
                State::Trailer(_) => self.trailer(rest),
            };
            match step {
                Step::On(taken) => at += taken,
                Step::End(taken) => {
                    self.state = State::Idle;
                    return Scan::End(at + taken);
                }
                Step::BadHead(offset) => return Scan::BadHead(at + offset),
                Step::BadBody(offset) => return Scan::BadBody(at + offset),
            }
        }
        Scan::More
    }

    /// Reads lines of the head until it or `bytes` ends.
    fn head(&mut self, bytes: &[u8]) -> Step {
        if matches!(self.state, State::Idle) {
            self.state = State::Head;
            self.first_line = true;
            self.length = Length::None;
            self.line.clear();
        }
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && let Some(lf) = memchr(b'\n', rest)
        {
            let part = rest.get(..lf).unwrap_or_default();
            let ended = match self.head_line(part) {
                Ok(ended) => ended,
                Err(Ambiguous) => return Step::BadHead(at + lf),
            };
            at += lf + 1;
            if ended {
                self.heads += 1;
                return self.after_head(at);
            }
        }
        self.line.push(bytes.get(at..).unwrap_or_default());
        Step::On(bytes.len())
    }

    /// Judges one line of the head; `Ok(true)` is its end.
    fn head_line(&mut self, part: &[u8]) -> Result<bool, Ambiguous> {
        let (first, known) = (self.first_line, self.length);
        let (ended, length) = match self.line.finish(part)? {
            Text::Whole([]) if first => return Err(Ambiguous),
            Text::Whole([]) => (true, known),
            Text::Whole(_) | Text::Beginning(_) if first => (false, known),
            Text::Whole(line) => (false, declare(known, line)?),
            Text::Beginning(line) if folded(line) || frames(line) => return Err(Ambiguous),
            Text::Beginning(_) => (false, known),
        };
        self.first_line = false;
        self.length = length;
        self.line.clear();
        Ok(ended)
    }

    /// What follows a head that ended after `taken` bytes.
    fn after_head(&mut self, taken: usize) -> Step {
        match self.length {
            Length::None | Length::Bytes(0) => Step::End(taken),
            Length::Bytes(left) => {
                self.state = State::Length(left);
                Step::On(taken)
            }
            Length::Chunked => {
                self.state = State::Chunk(Chunk::START);
                Step::On(taken)
            }
        }
    }

    /// Reads chunk framing and skips chunk data.
    fn chunk(&mut self, bytes: &[u8]) -> Step {
        let State::Chunk(chunk) = &mut self.state else {
            return Step::BadBody(0);
        };
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Chunk::Data { left } = chunk {
                let taken = portion(bytes.get(at..).unwrap_or_default(), *left);
                *left -= taken as u64;
                if *left == 0 {
                    *chunk = Chunk::DataCr;
                }
                at += taken;
                continue;
            }
            match chunk.next(byte) {
                Some(next) => *chunk = next,
                None => return Step::BadBody(at),
            }
            at += 1;
            if let Chunk::Data { left: 0 } = chunk {
                self.state = State::Trailer(0);
                self.line.clear();
                return Step::On(at);
            }
        }
        Step::On(at)
    }

    /// Reads the trailer section: lines ended by CRLF, the empty one ends the message.
    fn trailer(&mut self, bytes: &[u8]) -> Step {
        let State::Trailer(seen) = &mut self.state else {
            return Step::BadBody(0);
        };
        let lf = memchr(b'\n', bytes);
        let part = bytes.get(..lf.unwrap_or(bytes.len())).unwrap_or_default();
        *seen += part.len() + 1;
        if *seen > TRAILER_MAX {
            return Step::BadBody(0);
        }
        let Some(lf) = lf else {
            self.line.push(part);
            return Step::On(bytes.len());
        };
        let empty = match self.line.finish(part) {
            Ok(text) => matches!(text, Text::Whole([])),
            Err(Ambiguous) => return Step::BadBody(lf),
        };
        self.line.clear();
        if empty {
            Step::End(lf + 1)
        } else {
            Step::On(lf + 1)
        }
    }
}

/// One step of the scanner, counted in bytes taken.
enum Step {
    On(usize),
    End(usize),
    BadHead(usize),
    BadBody(usize),
}

impl Chunk {
    const START: Self = Self::Size { digits: 0, size: 0 };

    /// The state after `byte`; `None` when it does not fit RFC 9112 §7.1. `Data { left: 0 }`
    /// is the last chunk.
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(byte).to_digit(16)?);
                if digits >= CHUNK_DIGITS {
                    return None;
                }
                Self::Size {
                    digits: digits + 1,
                    size: (size << 4) | digit,
                }
            }
            (Self::Size { digits: 1.., size } | Self::Extension { size, .. }, b'\r') => {
                Self::SizeLf { size }
            }
            (Self::Size { digits: 1.., size }, b';') => Self::Extension { length: 0, size },
            (Self::Extension { length, size }, b'\t' | b' '..=b'~') if length < EXTENSION_MAX => {
                Self::Extension {
                    length: length + 1,
                    size,
                }
            }
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            _ => return None,
        })
    }
}

impl Line {
    fn new() -> Self {
        Self {
            kept: [0; KEPT],
            length: 0,
            last: 0,
        }
    }

    fn clear(&mut self) {
        self.length = 0;
        self.last = 0;
    }

    /// Keeps the beginning of a line whose end has not arrived.
    fn push(&mut self, part: &[u8]) {
        let Some(&last) = part.last() else { return };
        let room = self.kept.get_mut(self.length..).unwrap_or_default();
        let taken = room.len().min(part.len());
        if let (Some(to), Some(from)) = (room.get_mut(..taken), part.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.length += part.len();
        self.last = last;
    }

    /// The line that ends with `part`, without its CR.
    fn finish<'a>(&'a mut self, part: &'a [u8]) -> Result<Text<'a>, Ambiguous> {
        if self.length == 0 {
            return match part.split_last() {
                Some((b'\r', line)) => Ok(Text::Whole(line)),
                _ => Err(Ambiguous),
            };
        }
        self.push(part);
        if self.last != b'\r' {
            return Err(Ambiguous);
        }
        let line = self.length - 1;
        Ok(match self.kept.get(..line) {
            Some(line) => Text::Whole(line),
            None => Text::Beginning(&self.kept),
        })
    }
}

/// The length known after `line`, a header line.
fn declare(known: Length, line: &[u8]) -> Result<Length, Ambiguous> {
    match line.first() {
        Some(b'c' | b'C' | b't' | b'T') => declare_length(known, line),
        _ if folded(line) => Err(Ambiguous),
        _ => Ok(known),
    }
}

fn declare_length(known: Length, line: &[u8]) -> Result<Length, Ambiguous> {
    if !frames(line) {
        return Ok(known);
    }
    let (name, value) = line.split_at(memchr(b':', line).ok_or(Ambiguous)?);
    if known != Length::None || line.len() > KEPT {
        return Err(Ambiguous);
    }
    let value = value.get(1..).unwrap_or_default().trim_ascii();
    if name.eq_ignore_ascii_case(b"content-length") {
        digits(value).map(Length::Bytes).ok_or(Ambiguous)
    } else if ends_chunked(value) {
        Ok(Length::Chunked)
    } else {
        Err(Ambiguous)
    }
}

/// Whether the last coding is `chunked`, and that only once: the framing is then certain, and
/// what a coding before it means is for the call to be refused by.
fn ends_chunked(value: &[u8]) -> bool {
    let mut codings = value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    codings.next().is_some_and(chunked)
        && codings.all(|coding| !coding.is_empty() && !chunked(coding))
}

/// Whether a line continues the one before (obs-fold, RFC 9112 §5.2).
fn folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// Whether a line names one of the framing headers.
fn frames(line: &[u8]) -> bool {
    let name = line
        .get(..memchr(b':', line).unwrap_or(line.len()))
        .unwrap_or_default();
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// The number that plain decimal digits write.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > LENGTH_DIGITS {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}

/// How many of `bytes` fall within `left`.
fn portion(bytes: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
mod tests {
    use std::{cell::RefCell, convert::Infallible, rc::Rc};

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How a stream falls into messages: the length of each, and how it ends.
    #[derive(Debug, PartialEq, Eq)]
    enum End {
        Clean,
        Unfinished,
        Head,
        Body,
    }

    fn split(pieces: &[&[u8]]) -> (Vec<usize>, End) {
        let mut framing = Framing::new();
        let (mut messages, mut length) = (vec![], 0);
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                match framing.scan(rest) {
                    Scan::More => {
                        length += rest.len();
                        rest = &[];
                    }
                    Scan::End(taken) => {
                        messages.push(length + taken);
                        length = 0;
                        rest = &rest[taken..];
                    }
                    Scan::BadHead(_) => return (messages, End::Head),
                    Scan::BadBody(_) => return (messages, End::Body),
                }
            }
        }
        let end = if framing.phase() == Phase::Idle {
            End::Clean
        } else {
            End::Unfinished
        };
        (messages, end)
    }

    fn verdict(stream: &str) -> (usize, End) {
        let (messages, end) = split(&[stream.as_bytes()]);
        (messages.len(), end)
    }

    #[test]
    fn messages_end_where_their_length_says() {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let post = "POST / HTTP/1.1\r\ncontent-LENGTH:\t 5 \r\n\r\nGET /";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: CHUNKED\r\n\r\n5;a=\"b\"\r\nGET /\r\n0A\r\n0123456789\r\n000\r\nX: y\r\n\r\n";
        let stream = [get, post, chunked, get].concat();
        let lengths: Vec<_> = [get, post, chunked, get].map(str::len).into();
        assert_eq!(split(&[stream.as_bytes()]), (lengths, End::Clean));
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost"), (0, End::Unfinished));
        assert_eq!(
            verdict("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            (1, End::Clean)
        );
    }

    #[test]
    fn what_frames_ambiguously_is_bad_at_that_byte() {
        let long = format!("Content-Length: {}5\r\n", " ".repeat(80));
        for (line, end) in [
            ("Content-Length: 1\nX: y\r\n", End::Head),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", End::Head),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                End::Head,
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
                End::Head,
            ),
            ("Transfer-Encoding: chunked, chunked\r\n", End::Head),
            ("Transfer-Encoding: xchunked\r\n", End::Head),
            ("Transfer-Encoding:\r\n", End::Head),
            ("Content-Length:\r\n", End::Head),
            ("Content-Length: 1,1\r\n", End::Head),
            ("Content-Length: 1e3\r\n", End::Head),
            ("Content-Length: 1000000000000000000\r\n", End::Head),
            ("X: y\r\n folded\r\n", End::Head),
            ("X: y\r\n\tfolded\r\n", End::Head),
            (&long, End::Head),
            ("Transfer-Encoding: chunked\r\n\r\n\n", End::Body),
            ("Transfer-Encoding: chunked\r\n\r\n1\n", End::Body),
            ("Transfer-Encoding: chunked\r\n\r\n1 \r\n", End::Body),
            ("Transfer-Encoding: chunked\r\n\r\n1\r\nab", End::Body),
            ("Transfer-Encoding: chunked\r\n\r\n1\r\na\n", End::Body),
            ("Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n", End::Body),
        ] {
            let head = format!("POST / HTTP/1.1\r\n{line}");
            let bytes = head.as_bytes();
            assert_eq!(split(&[bytes]), (vec![], end), "{line:?}");
        }
        assert_eq!(verdict("\r\nGET / HTTP/1.1\r\n\r\n"), (0, End::Head));
        assert_eq!(verdict("\nGET / HTTP/1.1\r\n\r\n"), (0, End::Head));
    }

    #[test]
    fn trailers_have_a_largest_size() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let lines = "X: 0123456789\r\n".repeat(2000);
        assert_eq!(verdict(&format!("{head}{lines}")), (0, End::Body));
    }

    /// What the engine reads from a stream: the body of each request, `None` for one that broke.
    fn engine(stream: &[u8]) -> Vec<Option<Bytes>> {
        let seen = Rc::new(RefCell::new(vec![]));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut agent, server) = tokio::io::duplex(1 << 16);
            agent.write_all(stream).await.unwrap();
            agent.shutdown().await.unwrap();
            let answer = service_fn(|request: Request<Incoming>| {
                let seen = Rc::clone(&seen);
                async move {
                    let body = request.into_body().collect().await;
                    seen.borrow_mut()
                        .push(body.ok().map(http_body_util::Collected::to_bytes));
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                }
            });
            let mut engine = http1::Builder::new();
            engine.half_close(true);
            let http = engine.serve_connection(TokioIo::new(server), answer);
            let mut answers = vec![];
            drop(tokio::join!(http, agent.read_to_end(&mut answers)));
        });
        Rc::try_unwrap(seen).unwrap().into_inner()
    }

    fn header() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "X-[A-Z]: [a-z ]{0,90}\r\n",
            2 => "(Content-Length|content-length|CONTENT-LENGTH ?):[ \t]{0,2}[0-9]{1,2}[ ,]?\r\n",
            2 => "(Transfer-Encoding|TE|transfer-encoding): ?(chunked|Chunked |gzip, chunked|identity)\r\n",
            1 => "[XCT][a-z]{0,3}[ :\t\r\n]{1,3}",
        ]
    }

    fn body() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]{0,12}",
            "([0-9a-f]{1,2}(;[a-z]{0,3})?\r?\n[a-z]{0,12}\r\n){0,2}0\r\n(X: y\r\n)?\r\n",
            "(1\r\na\r\n|2;x\r\nab\r\n|0003\r\nabc\r\n){0,3}0\r\n(X: y\r\n)?\r\n",
        ]
    }

    fn stream() -> impl Strategy<Value = String> {
        let message =
            (proptest::collection::vec(header(), 0..4), body()).prop_map(|(headers, body)| {
                format!("POST / HTTP/1.1\r\n{}\r\n{body}", headers.concat())
            });
        proptest::collection::vec(message, 1..4).prop_map(|messages| messages.concat())
    }

    /// Cuts bytes out, doubles and replaces some.
    fn spoilt() -> impl Strategy<Value = Vec<u8>> {
        let spots = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        (stream(), spots).prop_map(|(stream, spots)| {
            let mut bytes = stream.into_bytes();
            for (spot, byte) in spots {
                let at = spot.index(bytes.len());
                match byte % 4 {
                    0 => bytes.insert(at, b'\n'),
                    1 => bytes.insert(at, b'\r'),
                    2 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes[at] = byte,
                }
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn any_splitting_gives_the_same_verdict(bytes in spoilt(), at in any::<prop::sample::Index>()) {
            let whole = split(&[&bytes]);
            let (before, after) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(&split(&[before, after]), &whole);
            let single: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(&split(&single), &whole);
        }

        #[test]
        fn what_passes_is_framed_by_the_engine_alike(bytes in spoilt()) {
            let (messages, _) = split(&[&bytes]);
            let passed: usize = messages.iter().sum();
            let seen = engine(&bytes[..passed]);
            // The engine may refuse more; what it reads it reads as the same messages.
            prop_assert!(seen.len() <= messages.len());
            let mut at = 0;
            for (body, length) in seen.iter().zip(&messages) {
                let message = &bytes[at..at + length];
                at += length;
                let head = message.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                let Some(body) = body else { continue };
                let raw = &message[head..];
                let chunked = raw.len() != body.len();
                prop_assert!(chunked || raw == &body[..], "{:?}", message.escape_ascii().to_string());
                prop_assert!(!chunked || raw.ends_with(b"\r\n\r\n"));
            }
        }
    }
}
