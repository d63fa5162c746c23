//! The `x-mcp-header` annotations of an input schema (MCP 2026-07-28, header mirroring).
//!
//! An annotation in a place where it means nothing makes the whole tool invalid, for a client
//! and so for us: otherwise the header and the argument could disagree unseen.

use serde_json::{Map, Value};

use crate::walk::{Place, TooDeep, walk};

const KEYWORD: &str = "x-mcp-header";

/// The prefix of every mirrored header, lower-case.
const PREFIX: &str = "mcp-param-";

/// An argument that travels in a header as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamHeader {
    /// The header's name, lower-case: `mcp-param-region`.
    pub name: String,
    /// The property names that lead to the argument from the root.
    pub path: Vec<String>,
    /// What the argument is.
    pub kind: Kind,
}

/// The types an argument in a header may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sent as it is, or encoded if it must be.
    String,
    /// Sent in decimal; within ±(2^53 - 1).
    Integer,
    /// Sent as `true` or `false`.
    Boolean,
}

/// A header annotation that invalidates its tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`x-mcp-header` at `{pointer}` {reason}")]
pub struct BadHeader {
    /// The schema that carries it (RFC 6901).
    pub pointer: String,
    /// What is wrong.
    pub reason: BadHeaderReason,
}

/// What is wrong with a header annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeaderReason {
    /// Not a string of header name characters (RFC 9110 §5.6.2).
    #[error("is not a header name")]
    NotAToken,
    /// The same name twice, in any case and with `_` for `-`.
    #[error("repeats a name of this schema")]
    Repeated,
    /// On something that has no single text form.
    #[error("is not on a `string`, `integer` or `boolean`")]
    Type,
    /// Where more than a chain of `properties` leads.
    #[error("is not reached by `properties` alone")]
    Unreachable,
    /// Deeper than anything is read.
    #[error("or another part is nested too deep")]
    TooDeep,
}

impl From<TooDeep> for BadHeader {
    fn from(_: TooDeep) -> Self {
        Self {
            pointer: String::new(),
            reason: BadHeaderReason::TooDeep,
        }
    }
}

/// Collects the mirrored arguments of an input schema.
///
/// # Errors
///
/// The first annotation that is not valid.
pub(super) fn headers(schema: &Value) -> Result<Vec<ParamHeader>, BadHeader> {
    let mut found: Vec<ParamHeader> = Vec::new();
    walk(schema, |place| {
        let Some(annotation) = place.object.get(KEYWORD).filter(|_| place.is_schema) else {
            return Ok(());
        };
        let bad = |reason| BadHeader {
            pointer: place.pointer.to_owned(),
            reason,
        };
        let header = header(annotation, place).map_err(bad)?;
        let loose = |name: &str| name.replace('_', "-");
        let twin = |other: &ParamHeader| loose(&other.name) == loose(&header.name);
        if found.iter().any(twin) {
            return Err(bad(BadHeaderReason::Repeated));
        }
        found.push(header);
        Ok(())
    })?;
    Ok(found)
}

fn header(annotation: &Value, place: &Place<'_>) -> Result<ParamHeader, BadHeaderReason> {
    let path = place.properties.filter(|path| !path.is_empty());
    let path = path.ok_or(BadHeaderReason::Unreachable)?;
    let token = annotation.as_str().filter(|name| is_token(name));
    let token = token.ok_or(BadHeaderReason::NotAToken)?;
    Ok(ParamHeader {
        name: format!("{PREFIX}{}", token.to_ascii_lowercase()),
        path: path.iter().map(|&name| name.to_owned()).collect(),
        kind: kind(place.object)?,
    })
}

fn kind(schema: &Map<String, Value>) -> Result<Kind, BadHeaderReason> {
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => Ok(Kind::String),
        Some("integer") => Ok(Kind::Integer),
        Some("boolean") => Ok(Kind::Boolean),
        _ => Err(BadHeaderReason::Type),
    }
}

/// `token` of RFC 9110 §5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
