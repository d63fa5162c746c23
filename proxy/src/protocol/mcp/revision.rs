//! Which revision a message is of, and with it its era (MCP 2026-07-28 versioning).
//!
//! Modern messages tell their revision in header and body, both the same. Legacy ones tell it in a
//! header once `initialize` has settled it, or not at all.

use http::HeaderMap;
use outrider_policy::Value;

use super::{
    envelope::{Asks, params},
    headers,
};
use crate::{
    protocol::rpc::{member, text},
    rejection::{Malformed, Rejection},
};

/// The modern revision that is served.
pub const MODERN: &str = "2026-07-28";

/// The legacy revisions that are served, the newest first.
pub const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// Where a modern message tells its revision, in `_meta`.
pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// The two ways in which MCP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// Each message stands for itself.
    Modern,
    /// `initialize` opens a session.
    Legacy,
}

/// Which era a request or notification is of.
pub(super) fn era(headers: &HeaderMap, asks: &Asks<'_>) -> Result<Era, Rejection> {
    let header = headers::once(headers, headers::VERSION)?;
    let meta = asks.meta();
    let body = meta.and_then(|meta| text(meta, VERSION_KEY));
    if body.is_none() && meta.is_some_and(|meta| member(meta, VERSION_KEY).is_some()) {
        return Err(params(
            "`io.modelcontextprotocol/protocolVersion` in `_meta` is a text",
        ));
    }
    match (header, body) {
        (Some(header), Some(body)) if header != body => Err(headers::mismatch(headers::VERSION)),
        (None, Some(_)) => Err(headers::mismatch(headers::VERSION)),
        (Some(MODERN), None) if asks.id.is_none() => Ok(Era::Modern),
        (Some(MODERN), None) => Err(params(
            "`_meta` lacks `io.modelcontextprotocol/protocolVersion`",
        )),
        (Some(MODERN), Some(_)) => complete(asks, meta).map(|()| Era::Modern),
        (Some(told), Some(_)) => Err(unserved(told)),
        (header, None) => legacy(header).map(|()| Era::Legacy),
    }
}

/// A message without `_meta` is of a legacy revision; which one it says may differ from what its
/// session settled, as it does for official clients.
pub(super) fn legacy(header: Option<&str>) -> Result<(), Rejection> {
    match header {
        Some(told) if !LEGACY.contains(&told) => Err(unserved(told)),
        _ => Ok(()),
    }
}

fn complete(asks: &Asks<'_>, meta: Option<&Value>) -> Result<(), Rejection> {
    let capabilities = meta.and_then(|meta| member(meta, CAPABILITIES_KEY));
    if asks.id.is_some() && !matches!(capabilities, Some(Value::Object(_))) {
        return Err(params(
            "`_meta` lacks `io.modelcontextprotocol/clientCapabilities`",
        ));
    }
    Ok(())
}

fn unserved(told: &str) -> Rejection {
    Rejection::CallMalformed(Malformed::Revision {
        requested: told.chars().take(32).collect(),
    })
}
