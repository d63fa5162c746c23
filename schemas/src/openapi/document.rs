//! Reads a description from any format that serde reads, strictly: one name once, within bounds.

use std::{cell::Cell, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, map::Entry};

/// The most values of one file of a description.
pub const MAX_DOCUMENT_VALUES: usize = 2_000_000;

/// The most containers of a description that may be open at once.
pub const MAX_DOCUMENT_DEPTH: usize = 120;

/// A file of a description: JSON or YAML, without a name that stands twice in one object.
///
/// Texts that only people read (`description`, `summary`) are dropped while reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Document(pub Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let left = Cell::new(MAX_DOCUMENT_VALUES);
        let part = Part {
            depth: 0,
            left: &left,
            keep: false,
        };
        part.deserialize(reader).map(Self)
    }
}

/// One value at one depth.
#[derive(Clone, Copy)]
struct Part<'a> {
    depth: usize,
    left: &'a Cell<usize>,
    /// Below a keyword whose value is data that counts, text is kept.
    keep: bool,
}

impl Part<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DOCUMENT_DEPTH {
            return Err(E::custom(format!(
                "nested deeper than {MAX_DOCUMENT_DEPTH} levels"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn below(self, key: &str) -> Self {
        Self {
            keep: self.keep || matches!(key, "const" | "enum"),
            ..self
        }
    }

    fn is_prose(self, key: &str, value: &Value) -> bool {
        !self.keep && value.is_string() && matches!(key, "description" | "summary")
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(D::Error::custom(format!(
                "more than {MAX_DOCUMENT_VALUES} values"
            )));
        };
        self.left.set(left);
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        values.shrink_to_fit();
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            match object.entry(key) {
                Entry::Occupied(_) => return Err(A::Error::custom("duplicate object key")),
                Entry::Vacant(place) => {
                    let inner = inner.below(place.key());
                    let value = members.next_value_seed(inner)?;
                    if inner.is_prose(place.key(), &value) {
                        place.insert(Value::Null);
                    } else {
                        place.insert(value);
                    }
                }
            }
        }
        object.retain(|key, value| {
            inner.keep || !value.is_null() || !matches!(key.as_str(), "description" | "summary")
        });
        Ok(Value::Object(object))
    }
}
