//! Strict JSON: one pass from bytes to a [`Value`], refusing whatever two readers might read apart.
//!
//! RFC 8259 leaves duplicate names, a byte order mark, the range of numbers and the depth to
//! the reader. A proxy that judges one reading while the server acts on another has judged
//! nothing, so all of those are refused here. I-JSON (RFC 7493) draws nearly the same line.

mod room;

use std::{cell::Cell, collections::btree_map::Entry, fmt, sync::Arc};

use regorus::Value;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

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
    let text = utf8(bytes)?;
    let found = Cell::new(None);
    let room = Room::default();
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict {
        depth: 0,
        found: &found,
        room: &room,
    }
    .deserialize(&mut reader)
    .map_err(|error| malformed(text, &error, found.get()))?;
    reader
        .end()
        .map_err(|error| malformed(text, &error, Some(Reason::TrailingBytes)))?;
    Ok(value)
}

/// Reads one JSON text as strictly as [`parse`], into the value schemas are written in.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_document(bytes: &[u8]) -> Result<serde_json::Value, Malformed> {
    parse(bytes)?;
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

#[cold]
fn malformed(text: &str, error: &serde_json::Error, found: Option<Reason>) -> Malformed {
    let offset = offset_of(text, error.line(), error.column());
    Malformed {
        reason: found.unwrap_or_else(|| reason_of(error)),
        offset,
    }
}

/// Sorts the reader's own errors; it tells them apart by text only.
fn reason_of(error: &serde_json::Error) -> Reason {
    if error.is_eof() {
        return Reason::Truncated;
    }
    let text = error.to_string();
    if text.starts_with("number out of range") {
        Reason::NumberRange
    } else if text.contains("surrogate") || text.contains("end of hex escape") {
        Reason::LoneSurrogate
    } else {
        Reason::Syntax
    }
}

/// Turns line and column, both counted from 1 and in bytes, into an offset.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// One value at one depth. The reason of a refusal travels in `found`, because the reader's
/// error carries text only.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    found: &'a Cell<Option<Reason>>,
    room: &'a Room,
}

impl Strict<'_> {
    fn refuse<E: serde::de::Error>(self, reason: Reason) -> E {
        self.found.set(Some(reason));
        E::custom("refused")
    }

    /// Passes on what there is room for.
    fn held<E: serde::de::Error>(self, room: Result<(), Reason>) -> Result<(), E> {
        room.map_err(|reason| self.refuse(reason))
    }

    fn text<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.held(self.room.text(text.len()))?;
        Ok(Value::String(Arc::from(text)))
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.refuse(Reason::TooDeep));
        }
        self.held(self.room.container())?;
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        self.held(self.room.value())?;
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a json value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.is_finite() {
            Ok(Value::from(value))
        } else {
            Err(self.refuse(Reason::NumberRange))
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            self.held(self.room.item())?;
            values.push(value);
        }
        Ok(Value::from(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = std::collections::BTreeMap::new();
        while let Some(key) = members.next_key_seed(Key(self))? {
            self.held(self.room.member(object.len()))?;
            match object.entry(key) {
                Entry::Occupied(_) => return Err(self.refuse(Reason::DuplicateKey)),
                Entry::Vacant(place) => place.insert(members.next_value_seed(inner)?),
            };
        }
        Ok(Value::from(object))
    }
}

/// The name of a member, unescaped.
struct Key<'a>(Strict<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.text(text)
    }
}

#[cfg(test)]
mod tests;
