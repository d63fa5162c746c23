//! An input: requests, and what the service answers to them.

use super::agent::Framed;
use crate::text::cut;

/// What stands between the parts.
const BETWEEN: &[u8] = b"\n%%%\n";

/// The header value that stands for the length of the body.
const LENGTH: &[u8] = b"Content-Length: *";

/// The parts of one input.
pub struct Parts {
    /// What the agent sends.
    pub requests: Vec<Sent>,
    /// What the service answers, first to last; its own answer after that.
    pub answers: Vec<Vec<u8>>,
}

/// A request as it goes over the wire.
pub struct Sent {
    pub bytes: Vec<u8>,
    /// How a reader takes it that believes everything.
    pub framed: Framed,
}

impl Parts {
    /// The most parts of one input that are looked at.
    const MOST: usize = 6;

    pub fn read(data: &[u8]) -> Self {
        let (mut requests, mut answers) = (Vec::new(), Vec::new());
        let mut rest = data;
        while !rest.is_empty() && requests.len() + answers.len() < Self::MOST {
            let (part, after) = cut(rest, BETWEEN);
            rest = after;
            let bytes = wire(part);
            if part.starts_with(b"HTTP/") {
                answers.push(bytes);
            } else if !part.is_empty() {
                let framed = Framed::of(&bytes);
                requests.push(Sent { bytes, framed });
            }
        }
        Self { requests, answers }
    }
}

/// Lines of a head that end with LF get their CR; the length is filled in.
fn wire(part: &[u8]) -> Vec<u8> {
    let (head, body) = if part.contains(&b'\r') {
        cut(part, b"\r\n\r\n")
    } else {
        cut(part, b"\n\n")
    };
    if head.len() == part.len() {
        return part.to_vec();
    }
    let mut bytes = Vec::with_capacity(part.len() + 64);
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line == LENGTH {
            bytes.extend_from_slice(format!("Content-Length: {}", body.len()).as_bytes());
        } else {
            bytes.extend_from_slice(line);
        }
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}
