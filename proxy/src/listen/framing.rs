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
        Self { state: State::Idle, line: Line::new(), first_line: true, length: Length::None, heads: 0 }
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
                    if *left == 0 { Step::End(taken) } else { Step::On(taken) }
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
        let State::Chunk(chunk) = &mut self.state else { return Step::BadBody(0) };
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
        let State::Trailer(seen) = &mut self.state else { return Step::BadBody(0) };
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
        if empty { Step::End(lf + 1) } else { Step::On(lf + 1) }
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
                Self::Size { digits: digits + 1, size: (size << 4) | digit }
            }
            (Self::Size { digits: 1.., size }, b'\r') => Self::SizeLf { size },
            (Self::Size { digits: 1.., size }, b';') => Self::Extension { length: 0, size },
            (Self::Extension { size, .. }, b'\r') => Self::SizeLf { size },
            (Self::Extension { length, size }, b'\t' | b' '..=b'~') if length < EXTENSION_MAX => {
                Self::Extension { length: length + 1, size }
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
        Self { kept: [0; KEPT], length: 0, last: 0 }
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
    } else if value.eq_ignore_ascii_case(b"chunked") {
        Ok(Length::Chunked)
    } else {
        Err(Ambiguous)
    }
}

/// Whether a line continues the one before (obs-fold, RFC 9112 §5.2).
fn folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// Whether a line names one of the framing headers.
fn frames(line: &[u8]) -> bool {
    let name = line.get(..memchr(b':', line).unwrap_or(line.len())).unwrap_or_default();
    name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding")
}

/// The number that plain decimal digits write.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > LENGTH_DIGITS {
        return None;
    }
    value.iter().try_fold(0_u64, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
    })
}

/// How many of `bytes` fall within `left`.
fn portion(bytes: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}
