//! What a line of a log says, as far as it is told or counted; nothing is proved by it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

/// A line of the decision log or of the security log. What is not there is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) decision_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) timestamp: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) trace_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) span_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) parent_span_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) trace_flags: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) outcome: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) code: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) tool: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) service: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) agent: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) task: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) intent: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) classification: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) method: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) protocol: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) protocol_version: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) listener: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) ended: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) policy: Policy<'a>,
    #[serde(borrow)]
    pub(crate) response: Response<'a>,
    #[serde(borrow)]
    pub(crate) input: Input<'a>,
    pub(crate) metrics: Timers,
    pub(crate) count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Policy<'a> {
    #[serde(borrow)]
    pub(crate) revision: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) rule: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) duration_ms: u64,
    #[serde(borrow)]
    pub(crate) error: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Input<'a> {
    #[serde(borrow)]
    pub(crate) call: Call<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Call<'a> {
    #[serde(borrow)]
    pub(crate) host: Cow<'a, str>,
    pub(crate) port: u16,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "as the members are called")]
pub(crate) struct Timers {
    pub(crate) timer_parse_ns: u64,
    pub(crate) timer_schema_ns: u64,
    pub(crate) timer_limit_ns: u64,
    pub(crate) timer_rego_query_eval_ns: u64,
    pub(crate) timer_server_handler_ns: u64,
}

impl<'a> Line<'a> {
    /// Reads a line; nothing of what is none.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// When it was, in nanoseconds since the epoch.
    pub(crate) fn time(&self) -> u64 {
        let time = self.timestamp.parse::<Timestamp>();
        time.map_or(0, |time| {
            u64::try_from(time.as_nanosecond()).unwrap_or_default()
        })
    }
}

/// The bytes that hex stands for; none of what is no hex.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    bytes.collect::<Option<_>>().unwrap_or_default()
}
