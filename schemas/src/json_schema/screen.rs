//! What a schema document must be before it is compiled.

use std::io;

use serde_json::{Map, Value};

use super::{
    BadSchema,
    reach::{self, Reach},
};
use crate::walk::{Place, TooDeep, walk};

/// The one dialect that is read (JSON Schema 2020-12).
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The most bytes of one schema, written compactly.
pub const MAX_BYTES: usize = 256 << 10;

/// The most subschemas of one schema, counted each time a reference leads to them.
pub const MAX_SUBSCHEMAS: u64 = 10_000;

/// The most patterns of one schema.
pub const MAX_PATTERNS: usize = 256;

/// The most bytes of one pattern.
const MAX_PATTERN: usize = 1024;

/// The names of the dialects, which no document may take or refer to, save [`DIALECT`].
const RESERVED: &str = "json-schema.org/";

/// What the screen found out.
pub(super) struct Screened {
    /// The number of patterns.
    pub(super) patterns: usize,
    /// How far explanations may go.
    pub(super) reach: Reach,
}

impl From<TooDeep> for BadSchema {
    fn from(_: TooDeep) -> Self {
        Self::TooDeep
    }
}

/// Checks dialect, references and size of `document`.
///
/// # Errors
///
/// [`BadSchema`] for the first thing that is refused.
pub(super) fn screen(document: &Value) -> Result<Screened, BadSchema> {
    let mut patterns = 0;
    let mut subschemas = 0;
    // INVARIANT: the depth is known to be bounded before anything else recurses.
    walk::<BadSchema, _>(document, |place| {
        dialect(place)?;
        if place.is_schema {
            subschemas += 1;
            identifiers(place)?;
            patterns += count_patterns(place.object)?;
        }
        Ok(())
    })?;
    if patterns > MAX_PATTERNS {
        return Err(BadSchema::Patterns);
    }
    size(document)?;
    if subschemas > MAX_SUBSCHEMAS {
        return Err(BadSchema::TooMany);
    }
    let reach = reach::measure(document).ok_or(BadSchema::TooMany)?;
    Ok(Screened { patterns, reach })
}

/// A `$schema` counts wherever it stands: a reference may lead into data.
fn dialect(place: &Place<'_>) -> Result<(), BadSchema> {
    match place.object.get("$schema") {
        None => Ok(()),
        Some(Value::String(name)) if name.trim_end_matches('#') == DIALECT => Ok(()),
        Some(other) => Err(BadSchema::Dialect {
            pointer: place.pointer.to_owned(),
            dialect: other.as_str().unwrap_or("something that is not a string").to_owned(),
        }),
    }
}

fn identifiers(place: &Place<'_>) -> Result<(), BadSchema> {
    if let Some(id) = text(place.object, "$id")
        && id.contains(RESERVED)
    {
        return Err(BadSchema::ReservedId { pointer: place.pointer.to_owned(), id: id.to_owned() });
    }
    for keyword in ["$ref", "$dynamicRef"] {
        if let Some(reference) = text(place.object, keyword)
            && reference.contains(RESERVED)
            && reference.split('#').next() != Some(DIALECT)
        {
            return Err(BadSchema::Remote { reference: reference.to_owned() });
        }
    }
    Ok(())
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn count_patterns(object: &Map<String, Value>) -> Result<usize, BadSchema> {
    let own = text(object, "pattern");
    let names = object.get("patternProperties").and_then(Value::as_object);
    let all = own.into_iter().chain(names.into_iter().flatten().map(|(name, _)| name.as_str()));
    let mut count = 0;
    for pattern in all {
        if pattern.len() > MAX_PATTERN {
            return Err(BadSchema::Patterns);
        }
        count += 1;
    }
    Ok(count)
}

/// Counts the bytes of the compact form without keeping them.
fn size(document: &Value) -> Result<(), BadSchema> {
    struct Room(usize);
    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Room(MAX_BYTES), document).map_err(|_| BadSchema::TooLarge)
}
