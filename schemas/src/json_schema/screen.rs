//! What a schema document must be before it is compiled.

use std::io;

use serde_json::{Map, Value};

use super::{
    BadSchema,
    reach::{self, Reach},
    shown,
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

/// The most references that cannot be measured before they are compiled. Each could double what a
/// validator visits only together with another one.
const MAX_UNMEASURED: usize = 32;

/// The host of the dialects' names, which no document may take or refer to, save [`DIALECT`].
const RESERVED: &str = "//json-schema.org";

/// What the screen found out.
pub(super) struct Screened {
    /// The number of subschemas as written.
    pub(super) subschemas: u64,
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
    let mut count = Count::default();
    // INVARIANT: the depth is known to be bounded before anything else recurses.
    walk::<BadSchema, _>(document, |place| {
        dialect(place)?;
        if place.is_schema {
            count.schema(place)
        } else {
            Ok(())
        }
    })?;
    size(document)?;
    count.check()?;
    let mut reach = reach::measure(document).ok_or(BadSchema::TooMany)?;
    if count.compound && count.pointers > 0 {
        reach = Reach::Open;
    }
    Ok(Screened {
        subschemas: count.subschemas,
        patterns: count.patterns,
        reach,
    })
}

/// What is counted over the whole document.
#[derive(Default)]
struct Count {
    subschemas: u64,
    patterns: usize,
    /// References by pointer from the root of their resource.
    pointers: usize,
    /// References to an anchor or to another resource.
    names: usize,
    /// The first reference to another resource.
    beyond: Option<String>,
    /// Whether the root, or anything in it, names itself.
    identified: bool,
    /// Whether the document holds further resources (core §4.3.5).
    compound: bool,
}

impl Count {
    fn schema(&mut self, place: &Place<'_>) -> Result<(), BadSchema> {
        self.subschemas += 1;
        self.patterns += count_patterns(place.object)?;
        if let Some(id) = text(place.object, "$id") {
            self.identify(place, id)?;
        }
        for keyword in ["$ref", "$dynamicRef"] {
            if let Some(reference) = text(place.object, keyword) {
                self.refer(keyword, reference)?;
            }
        }
        Ok(())
    }

    fn identify(&mut self, place: &Place<'_>, id: &str) -> Result<(), BadSchema> {
        if is_reserved(id) {
            let pointer = shown(place.pointer);
            return Err(BadSchema::ReservedId {
                pointer,
                id: shown(id),
            });
        }
        self.identified = true;
        self.compound |= !place.pointer.is_empty();
        Ok(())
    }

    fn refer(&mut self, keyword: &str, reference: &str) -> Result<(), BadSchema> {
        let resource = reference.split('#').next().unwrap_or_default();
        if is_reserved(resource) && resource != DIALECT {
            return Err(BadSchema::Remote {
                reference: shown(reference),
            });
        }
        if keyword == "$ref" && (reference == "#" || reference.starts_with("#/")) {
            self.pointers += 1;
        } else {
            self.names += 1;
        }
        if !resource.is_empty() && resource != DIALECT && self.beyond.is_none() {
            self.beyond = Some(shown(reference));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), BadSchema> {
        // Where nothing has a name, a reference by name leads out. Else the compiler resolves it.
        if !self.identified
            && let Some(reference) = self.beyond.take()
        {
            return Err(BadSchema::Remote { reference });
        }
        if self.patterns > MAX_PATTERNS {
            return Err(BadSchema::Patterns);
        }
        // Pointers are measured from the root, which in a compound document they may not mean.
        let unmeasured = self.names + if self.compound { self.pointers } else { 0 };
        if self.subschemas > MAX_SUBSCHEMAS || unmeasured > MAX_UNMEASURED {
            return Err(BadSchema::TooMany);
        }
        Ok(())
    }
}

/// A `$schema` counts wherever it stands: a reference may lead into data.
fn dialect(place: &Place<'_>) -> Result<(), BadSchema> {
    let name = match place.object.get("$schema") {
        Some(Value::String(name)) => name,
        Some(_) if place.is_schema => "something that is not a string",
        _ => return Ok(()),
    };
    if name.trim_end_matches('#') == DIALECT {
        return Ok(());
    }
    Err(BadSchema::Dialect {
        pointer: shown(place.pointer),
        dialect: shown(name),
    })
}

fn is_reserved(uri: &str) -> bool {
    uri.to_ascii_lowercase().contains(RESERVED)
}

fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn count_patterns(object: &Map<String, Value>) -> Result<usize, BadSchema> {
    let own = text(object, "pattern");
    let names = object.get("patternProperties").and_then(Value::as_object);
    let all = own
        .into_iter()
        .chain(names.into_iter().flatten().map(|(name, _)| name.as_str()));
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
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::FileTooLarge)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    serde_json::to_writer(Room(MAX_BYTES), document).map_err(|_| BadSchema::TooLarge)
}
