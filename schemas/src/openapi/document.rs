//! Reads a description from any format that serde reads, strictly: one name once, within bounds.

use std::{cell::Cell, collections::HashSet, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, map::Entry};

use super::reach::Reach;

/// The most values of one file of a description.
pub const MAX_DOCUMENT_VALUES: usize = 2_000_000;

/// The most containers of a description that may be open at once.
pub const MAX_DOCUMENT_DEPTH: usize = 120;

/// A file of a description: JSON or YAML, without a name that stands twice in one object.
///
/// What no request is judged by is dropped while reading, so that a large description takes little
/// memory: texts for people (`description`, `summary`), responses and examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Document(pub Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let left = Cell::new(MAX_DOCUMENT_VALUES);
        let part = Part {
            depth: 0,
            left: &left,
            keep: false,
            at: At::Root,
            wanted: None,
        };
        part.deserialize(reader).map(Self)
    }
}

impl Document {
    /// Reads JSON, without the schemas that no request refers to. They are most of a large
    /// description, so the text is gone through twice to find out which.
    ///
    /// # Errors
    ///
    /// Where the text is not strict JSON, or more than the bounds of a description.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let wanted = Reach::of(bytes)?.wanted();
        let left = Cell::new(MAX_DOCUMENT_VALUES);
        let part = Part {
            depth: 0,
            left: &left,
            keep: false,
            at: At::Root,
            wanted: wanted.as_ref(),
        };
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let value = part.deserialize(&mut reader)?;
        reader.end()?;
        Ok(Self(value))
    }
}

/// One value at one depth.
#[derive(Clone, Copy)]
struct Part<'a> {
    depth: usize,
    left: &'a Cell<usize>,
    /// Below a keyword whose value is data that counts, text is kept.
    keep: bool,
    at: At,
    /// The named schemas that are kept; all where nothing is said.
    wanted: Option<&'a HashSet<String>>,
}

/// What object of a description this is, as far as that matters for what is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Root,
    Paths,
    Item,
    Operation,
    Components,
    Schemas,
    Webhooks,
    Elsewhere,
}

impl At {
    pub(super) fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Components, "schemas") => Self::Schemas,
            (Self::Root, "paths") => Self::Paths,
            (Self::Root, "components") => Self::Components,
            (Self::Root, "webhooks") => Self::Webhooks,
            (Self::Paths, _) => Self::Item,
            (Self::Item, "parameters" | "servers") => Self::Elsewhere,
            (Self::Item, _) => Self::Operation,
            _ => Self::Elsewhere,
        }
    }

    pub(super) fn drops(self, key: &str) -> bool {
        match self {
            Self::Root => key.starts_with("x-") && key != "x-outrider",
            Self::Operation => key == "responses",
            Self::Components => matches!(key, "responses" | "examples" | "headers" | "links"),
            _ => false,
        }
    }
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
            at: self.at.below(key),
            ..self
        }
    }

    /// Whether a member is nothing that a request is judged by.
    fn drops(self, key: &str, value: &Value) -> bool {
        let prose = value.is_string() && matches!(key, "description" | "summary");
        let unwanted = self.at == At::Schemas && self.wanted.is_some_and(|all| !all.contains(key));
        self.at.drops(key) || unwanted || !self.keep && prose
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
        let mut dropped = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            if dropped.contains(&key) {
                return Err(A::Error::custom("duplicate object key"));
            }
            match object.entry(key) {
                Entry::Occupied(_) => return Err(A::Error::custom("duplicate object key")),
                Entry::Vacant(place) => {
                    let value = members.next_value_seed(inner.below(place.key()))?;
                    if self.at == At::Webhooks {
                        // Only their number is told.
                        place.insert(Value::Null);
                    } else if self.drops(place.key(), &value) {
                        dropped.push(place.key().clone());
                    } else {
                        place.insert(value);
                    }
                }
            }
        }
        Ok(Value::Object(object))
    }
}
