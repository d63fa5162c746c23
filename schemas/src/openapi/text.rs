//! Text of a request: percent-encoding, and values of a declared type.

use std::borrow::Cow;

use regorus::Value;

use super::shape::Types;
use crate::json;

/// What a `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    /// Itself (RFC 3986).
    Literal,
    /// A space, as forms have it and practically every server reads a query.
    Space,
}

/// Decodes percent-encoding once; `None` where it is invalid, not UTF-8, or hides a NUL.
pub(super) fn percent(text: &str, plus: Plus) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|b| matches!(b, b'%' | b'+' | 0)) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    if decoded.contains(&0) {
        return None;
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Reads text as a value of one of `types`; text that is of none of them stays a string, which
/// the schema then refuses.
pub(super) fn typed(text: &str, types: Types) -> Value {
    let number = (types.number && text.len() <= 64 || types.integer && is_integer(text))
        .then(|| json::parse(text.as_bytes()).ok())
        .flatten()
        .filter(|value| matches!(value, Value::Number(_)) && exact(text));
    match (number, text) {
        (Some(number), _) => number,
        (None, "true") if types.boolean => Value::Bool(true),
        (None, "false") if types.boolean => Value::Bool(false),
        (None, text) => Value::from(text),
    }
}

/// Whether this is how an integer is written that every server reads as the same one.
fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|n| n.to_string() == text)
        || text.parse::<u64>().is_ok_and(|n| n.to_string() == text)
}

/// Whether no digit of a whole number is lost in a double; and white space is no part of one.
fn exact(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    !text.contains([' ', '\t', '\n', '\r']) && (!whole || is_integer(text))
}
