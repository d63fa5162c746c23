//! Why a text is not strict JSON: it is read again, by the common reader, which knows the place.
//!
//! What this reader takes and the deciding one does not is still refused.

use std::{
    cell::Cell,
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use regorus::Value;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{MAX_DEPTH, Malformed, Reason, room::Room};

/// The reason and the place of what was refused.
#[cold]
pub(super) fn refusal(text: &str, room: &Room) -> Malformed {
    match read(text, room) {
        Err(malformed) => malformed,
        Ok(_) => Malformed {
            reason: Reason::Syntax,
            offset: 0,
        },
    }
}

/// Reads one text as strictly as the deciding reader.
pub(super) fn read(text: &str, room: &Room) -> Result<Value, Malformed> {
    let found = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict {
        depth: 0,
        found: &found,
        room,
    }
    .deserialize(&mut reader)
    .map_err(|error| malformed(text, &error, found.get()))?;
    reader
        .end()
        .map_err(|error| malformed(text, &error, Some(Reason::TrailingBytes)))?;
    Ok(value)
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
    fn held<E: serde::de::Error>(self, room: Option<()>) -> Result<(), E> {
        room.ok_or_else(|| self.refuse(Reason::TooMany))
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
        let mut object = BTreeMap::new();
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
