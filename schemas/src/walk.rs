//! Walks a JSON Schema document and says of each object in it what it is.
//!
//! The walk knows where schemas stand (JSON Schema 2020-12 core §10) and where plain data does.
//! Under a keyword nobody knows it assumes schemas, because a `$ref` can make them so.

use serde_json::{Map, Value};

use crate::json::MAX_DEPTH;

/// Keywords whose values are data: whatever looks like a keyword in there is none.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// Keywords whose values are names and lists of names.
const NAMES: [&str; 4] = ["$vocabulary", "dependentRequired", "required", "type"];

/// Keywords that map names to schemas; `definitions` and `dependencies` are older spellings.
pub(crate) const MAPS: [&str; 6] = [
    "$defs",
    "definitions",
    "dependencies",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// One object of a schema document.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The object itself.
    pub(crate) object: &'a Map<String, Value>,
    /// Its place in the document (RFC 6901).
    pub(crate) pointer: &'a str,
    /// The property names from the root, where only `properties` lead here.
    pub(crate) properties: Option<&'a [&'a str]>,
    /// Whether this is a schema; otherwise an object among data.
    pub(crate) is_schema: bool,
}

/// The document nests deeper than [`MAX_DEPTH`].
#[derive(Debug)]
pub(crate) struct TooDeep;

/// Calls `visit` for every object of `document`, parents first, until it refuses.
///
/// # Errors
///
/// What `visit` returns, or [`TooDeep`].
pub(crate) fn walk<E, F>(document: &Value, visit: F) -> Result<(), E>
where
    E: From<TooDeep>,
    F: FnMut(&Place<'_>) -> Result<(), E>,
{
    Walk {
        visit,
        pointer: String::new(),
        names: Vec::new(),
        depth: 0,
    }
    .value(document, Kind::Property)
}

/// What a value is taken for.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A schema that only `properties` lead to.
    Property,
    /// Any other schema, or an array of schemas.
    Schema,
    /// Names to schemas; `true` where the map is `properties` of a `Property`.
    Map { chained: bool },
    /// Data.
    Data,
}

impl Kind {
    fn below(self, keyword: &str) -> Self {
        match self {
            Self::Data => Self::Data,
            Self::Map { chained: true } => Self::Property,
            Self::Property | Self::Schema if is_data(keyword) => Self::Data,
            Self::Property | Self::Schema if MAPS.contains(&keyword) => Self::Map {
                chained: self == Self::Property && keyword == "properties",
            },
            Self::Map { chained: false } | Self::Property | Self::Schema => Self::Schema,
        }
    }
}

fn is_data(keyword: &str) -> bool {
    DATA.contains(&keyword) || NAMES.contains(&keyword)
}

struct Walk<'a, F> {
    visit: F,
    pointer: String,
    names: Vec<&'a str>,
    depth: usize,
}

impl<'a, F> Walk<'a, F> {
    fn value<E>(&mut self, value: &'a Value, kind: Kind) -> Result<(), E>
    where
        E: From<TooDeep>,
        F: FnMut(&Place<'_>) -> Result<(), E>,
    {
        if self.depth > MAX_DEPTH {
            return Err(TooDeep.into());
        }
        self.depth += 1;
        let walked = match value {
            Value::Object(object) => self.object(object, kind),
            Value::Array(items) => self.items(items, kind),
            _ => Ok(()),
        };
        self.depth -= 1;
        walked
    }

    fn object<E>(&mut self, object: &'a Map<String, Value>, kind: Kind) -> Result<(), E>
    where
        E: From<TooDeep>,
        F: FnMut(&Place<'_>) -> Result<(), E>,
    {
        if !matches!(kind, Kind::Map { .. }) {
            (self.visit)(&Place {
                object,
                pointer: &self.pointer,
                properties: (kind == Kind::Property).then_some(self.names.as_slice()),
                is_schema: kind != Kind::Data,
            })?;
        }
        for (key, value) in object {
            let length = push(&mut self.pointer, key);
            let named = kind == Kind::Map { chained: true };
            if named {
                self.names.push(key);
            }
            self.value(value, kind.below(key))?;
            if named {
                self.names.pop();
            }
            self.pointer.truncate(length);
        }
        Ok(())
    }

    fn items<E>(&mut self, items: &'a [Value], kind: Kind) -> Result<(), E>
    where
        E: From<TooDeep>,
        F: FnMut(&Place<'_>) -> Result<(), E>,
    {
        let kind = if kind == Kind::Data {
            Kind::Data
        } else {
            Kind::Schema
        };
        for (index, item) in items.iter().enumerate() {
            let length = push(&mut self.pointer, &index.to_string());
            self.value(item, kind)?;
            self.pointer.truncate(length);
        }
        Ok(())
    }
}

/// Appends one reference token (RFC 6901 §4) and returns the length before it.
pub(crate) fn push(pointer: &mut String, token: &str) -> usize {
    let length = pointer.len();
    pointer.push('/');
    for c in token.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
    length
}
