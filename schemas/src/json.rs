//! Strict JSON: one pass from bytes to a [`Value`], refusing whatever two readers might read apart.
//!
//! RFC 8259 leaves duplicate names, a byte order mark, the range of numbers and the depth to
//! the reader. A proxy that judges one reading while the server acts on another has judged
//! nothing, so all of those are refused here. I-JSON (RFC 7493) draws nearly the same line.

mod explain;
mod plain;
mod reader;
mod room;

pub use plain::plain;

use regorus::Value;

use self::room::Room;
pub use self::room::memory;

/// The most containers that may be open at once.
pub const MAX_DEPTH: usize = 64;

/// The most values of one text.
pub const MAX_VALUES: usize = 250_000;

/// The most bytes that the values of one text may take in memory, where a value takes up to ninety
/// times its bytes.
pub const MAX_MEMORY: usize = 32 << 20;

/// Bytes that are not one strict JSON text. Its text never repeats what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct Malformed {
    /// What is wrong.
    pub reason: Reason,
    /// Where reading stopped, in bytes from the start.
    pub offset: usize,
}

impl Malformed {
    /// Whether the bytes are no JSON at all (JSON-RPC 2.0 §5.1, -32700), as opposed to JSON
    /// that is refused for what it contains (-32600).
    pub fn is_syntax(&self) -> bool {
        match self.reason {
            Reason::NotUtf8
            | Reason::ByteOrderMark
            | Reason::Syntax
            | Reason::Truncated
            | Reason::TrailingBytes
            | Reason::LoneSurrogate => true,
            Reason::DuplicateKey | Reason::TooDeep | Reason::TooMany | Reason::NumberRange => false,
        }
    }
}

/// Why bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not UTF-8 (RFC 8259 §8.1).
    #[error("invalid utf-8")]
    NotUtf8,
    /// A byte order mark in front (RFC 8259 §8.1).
    #[error("byte order mark")]
    ByteOrderMark,
    /// Not the grammar of RFC 8259.
    #[error("invalid json")]
    Syntax,
    /// The text ends inside a value.
    #[error("unexpected end of json")]
    Truncated,
    /// Something follows the value.
    #[error("bytes after the json value")]
    TrailingBytes,
    /// An escape that names half of a surrogate pair (RFC 8259 §8.2).
    #[error("lone surrogate in a string")]
    LoneSurrogate,
    /// One name twice in one object, compared after unescaping.
    #[error("duplicate object key")]
    DuplicateKey,
    /// More than [`MAX_DEPTH`] containers open at once.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than [`MAX_VALUES`] values, or more than [`MAX_MEMORY`] for them.
    #[error("more than {MAX_VALUES} values, or {} MiB of them in memory", MAX_MEMORY >> 20)]
    TooMany,
    /// A number that no IEEE 754 double can hold.
    #[error("number out of range")]
    NumberRange,
}

/// Reads one JSON text.
///
/// # Errors
///
/// [`Malformed`] for anything but UTF-8 without a byte order mark holding exactly one value, with
/// unique object keys, at most [`MAX_DEPTH`] levels, numbers within the range of a double and
/// whole surrogate pairs.
pub fn parse(bytes: &[u8]) -> Result<Value, Malformed> {
    read(bytes, Room::default)
}

fn read(bytes: &[u8], room: fn() -> Room) -> Result<Value, Malformed> {
    let text = utf8(bytes)?;
    reader::read(text, room()).ok_or_else(|| explain::refusal(text, &room()))
}

/// Reads one JSON text as strictly as [`parse`], into the value schemas are written in. What its
/// values take in memory is not bounded: an operator's document is no agent's body.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_document(bytes: &[u8]) -> Result<serde_json::Value, Malformed> {
    read(bytes, Room::of_document)?;
    serde_json::from_slice(bytes).map_err(|_| Malformed {
        reason: Reason::Syntax,
        offset: bytes.len(),
    })
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| Malformed {
        reason: Reason::NotUtf8,
        offset: error.valid_up_to(),
    })?;
    if text.starts_with('\u{feff}') {
        return Err(Malformed {
            reason: Reason::ByteOrderMark,
            offset: 0,
        });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
