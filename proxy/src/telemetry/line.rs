//! What is read of a log's line: only what is told of it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

/// A line of the decision log or of the security log. What is not there is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) decision_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) timestamp: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) trace_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) span_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) parent_span_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) trace_flags: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) outcome: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) code: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) tool: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) service: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) agent: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) task: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) intent: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) classification: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) protocol: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) protocol_version: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) listener: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) ended: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) policy: Policy<'a>,
    #[serde(borrow)]
    pub(super) response: Response<'a>,
    #[serde(borrow)]
    pub(super) input: Input<'a>,
    pub(super) metrics: Timers,
    pub(super) count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Policy<'a> {
    #[serde(borrow)]
    pub(super) revision: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) rule: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) bytes: u64,
    #[serde(borrow)]
    pub(super) error: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Input<'a> {
    #[serde(borrow)]
    pub(super) call: Call<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    pub(super) host: Cow<'a, str>,
    pub(super) port: u16,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct Timers {
    pub(super) timer_parse_ns: u64,
    pub(super) timer_schema_ns: u64,
    pub(super) timer_limit_ns: u64,
    pub(super) timer_rego_query_eval_ns: u64,
    pub(super) timer_server_handler_ns: u64,
}

impl<'a> Line<'a> {
    /// Reads a line; nothing of what is none.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// When it was, in nanoseconds since the epoch.
    pub(super) fn time(&self) -> u64 {
        let time = self.timestamp.parse::<Timestamp>();
        time.map_or(0, |time| {
            u64::try_from(time.as_nanosecond()).unwrap_or_default()
        })
    }
}

/// The bytes that hex stands for; none of what is no hex.
pub(super) fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    bytes.collect::<Option<_>>().unwrap_or_default()
}
