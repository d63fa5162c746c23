//! What flows: the words every stage shares. Knows nobody.
//!
//! A [`ToolCall`] is well-formed and nothing more. Only `validate` turns it into a
//! [`ValidCall`](crate::validate::ValidCall), and only that type is accepted from there on.

use std::{fmt, sync::Arc};

use outrider_policy::Value;

use outrider_schemas::json_schema::Violation;

use crate::json::write_hex;

/// The ID of one decision: a UUIDv7, minted when the `Entry` opens and carried by every answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId(uuid::Uuid);

impl DecisionId {
    /// Mints the next ID (RFC 9562 §5.7).
    pub fn mint() -> Self {
        Self(uuid::Uuid::now_v7())
    }

    /// Writes the hyphenated lower-case form into `buffer` without allocating.
    pub fn encode<'a>(&self, buffer: &'a mut [u8; 36]) -> &'a str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name that does not have the form its kind asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct BadName {
    expected: &'static str,
}

/// The name of a service: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct ServiceName(Arc<str>);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let mut bytes = name.bytes();
        let fits = name.len() <= 63
            && bytes.next().is_some_and(word)
            && bytes.all(|b| word(b) || b == b'-');
        if fits {
            Ok(Self(name.into()))
        } else {
            Err(BadName {
                expected: "a service name: lower-case letters, digits and `-`, at most 63",
            })
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ID of a tool, `service/operation`; it splits at its first `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ToolId {
    text: Arc<str>,
    slash: usize,
}

impl ToolId {
    /// Joins a service and one of its operations.
    pub fn new(service: &ServiceName, operation: &str) -> Self {
        Self {
            text: format!("{service}/{operation}").into(),
            slash: service.as_str().len(),
        }
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole ID, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The part before the first `/`.
    pub fn service(&self) -> &str {
        self.text.get(..self.slash).unwrap_or_default()
    }

    /// The part after the first `/`.
    pub fn operation(&self) -> &str {
        self.text.get(self.slash + 1..).unwrap_or_default()
    }
}

impl TryFrom<String> for ToolId {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        let bad = BadName {
            expected: "a tool ID: `service/operation`",
        };
        let (service, operation) = text.split_once('/').ok_or_else(|| bad.clone())?;
        let service = ServiceName::try_from(service.to_owned())?;
        if operation.is_empty() {
            return Err(bad);
        }
        Ok(Self::new(&service, operation))
    }
}

impl fmt::Display for ToolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ToolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// W3C trace context of a call, continued or started here (W3C Trace Context §3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The 16 bytes of the trace ID.
    pub trace_id: [u8; 16],
    /// The 8 bytes of our own span.
    pub span_id: [u8; 8],
    /// The span that our own is a part of; none where we started the trace.
    pub parent: Option<[u8; 8]>,
    /// Whether the trace is sampled.
    pub sampled: bool,
}

/// A call as the agent made it: well-formed, nothing proved.
#[derive(Debug)]
pub struct ToolCall {
    /// The operation's name within its service.
    pub operation: Arc<str>,
    /// The arguments policy and schema judge; always an object for MCP.
    pub arguments: Value,
    /// MCP `inputResponses`, else an empty object.
    pub input_responses: Value,
    /// Nobody looked into the body.
    pub opaque: bool,
    /// What of the request could not be read as the operation describes it: such a call is never
    /// valid.
    pub unread: Vec<Violation>,
}

impl Trace {
    /// Reads `traceparent` and gives the same trace with a span of our own; nothing of a header
    /// that breaks the format (W3C Trace Context §3.2.2).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, parent, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = version != "ff" && (version != "00" || parts.next().is_none());
        let (version, trace_id, parent): ([u8; 1], [u8; 16], [u8; 8]) =
            (unhex(version)?, unhex(trace)?, unhex(parent)?);
        let flags: [u8; 1] = unhex(flags)?;
        let _ = version;
        (known && trace_id != [0; 16] && parent != [0; 8]).then(|| Self {
            trace_id,
            span_id: random_span(),
            parent: Some(parent),
            sampled: flags[0] & 1 == 1,
        })
    }

    /// Starts a trace, for somebody who collects it or for nobody.
    pub fn start(sampled: bool) -> Self {
        let random = uuid::Uuid::new_v4();
        Self {
            trace_id: *random.as_bytes(),
            span_id: random_span(),
            parent: None,
            sampled,
        }
    }

    /// The header as we send it on.
    pub fn header(&self) -> String {
        let mut text = Vec::with_capacity(55);
        text.extend_from_slice(b"00-");
        write_hex(&self.trace_id, &mut text);
        text.push(b'-');
        write_hex(&self.span_id, &mut text);
        text.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
        String::from_utf8(text).unwrap_or_default()
    }
}

fn random_span() -> [u8; 8] {
    let random = uuid::Uuid::new_v4();
    random.as_bytes().first_chunk().copied().unwrap_or([1; 8])
}

/// Lower-case hex of exactly `N` bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}
