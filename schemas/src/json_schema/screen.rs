//! What a schema document must be before it is compiled.

use std::io;

use serde_json::{Map, Value};

use super::{
    BadSchema, Dialect, mixed,
    reach::{self, Reach},
    shown,
    survey::Survey,
};
use crate::walk::{Place, TooDeep, walk};

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

/// The host of the dialects' names, which no document may take, nor refer to save its own dialect.
const RESERVED: &str = "//json-schema.org";

/// The scheme of the name that the validator gives to a document without one.
const NAMELESS: &str = "json-schema:";

/// What the screen found out.
pub(super) struct Screened {
    /// The dialect of the document.
    pub(super) dialect: Dialect,
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

/// Checks dialects, references and size of `document`.
///
/// # Errors
///
/// [`BadSchema`] for the first thing that is refused.
pub(super) fn screen(document: &Value) -> Result<Screened, BadSchema> {
    let mut count = Count::default();
    // INVARIANT: the depth is known to be bounded before anything else recurses.
    walk::<BadSchema, _>(document, |place| {
        let dialect = count.dialect(place)?;
        if place.is_schema {
            count.schema(place, dialect)
        } else {
            Ok(())
        }
    })?;
    size(document)?;
    let survey = Survey::of(document);
    count.check(document, &survey)?;
    let mut reach = reach::measure(document).ok_or(BadSchema::TooMany)?;
    if !survey.resources.is_empty() && survey.pointers > 0 {
        reach = Reach::Open;
    }
    Ok(Screened {
        dialect: Dialect::of(document).unwrap_or_default(),
        subschemas: count.subschemas,
        patterns: count.patterns,
        reach,
    })
}

/// A place from which on another dialect holds.
pub(super) struct Change {
    /// Where.
    pointer: String,
    /// Which.
    dialect: Dialect,
    /// [`mixed::address`] of the schema.
    pub(super) address: usize,
}

impl Change {
    /// Why it is not served.
    pub(super) fn refused(&self) -> BadSchema {
        BadSchema::Embedded {
            pointer: shown(&self.pointer),
            dialect: self.dialect.uri(),
        }
    }
}

/// What is counted over the whole document.
#[derive(Default)]
struct Count {
    subschemas: u64,
    patterns: usize,
    /// The first reference to another resource.
    beyond: Option<String>,
    /// Whether the root, or anything in it, names itself.
    identified: bool,
    /// The changes of dialect that lead to the place that is visited.
    inside: Vec<(String, Dialect)>,
    /// All changes of dialect.
    changes: Vec<Change>,
    /// The first keyword that looks through schemas of other dialects.
    through: Option<(&'static str, String)>,
}

impl Count {
    /// Says which dialect holds at a place. A `$schema` counts wherever it stands: a reference may
    /// lead into data.
    fn dialect(&mut self, place: &Place<'_>) -> Result<Dialect, BadSchema> {
        let below = |(pointer, _): &(String, Dialect)| {
            let rest = place.pointer.strip_prefix(pointer.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        while self.inside.pop_if(|change| !below(change)).is_some() {}
        let around = self
            .inside
            .last()
            .map_or_else(Dialect::default, |(_, d)| *d);
        let own = named(place)?.unwrap_or(around);
        if own != around {
            self.change(place, own)?;
        }
        Ok(own)
    }

    fn change(&mut self, place: &Place<'_>, dialect: Dialect) -> Result<(), BadSchema> {
        self.inside.push((place.pointer.to_owned(), dialect));
        if place.pointer.is_empty() {
            return Ok(());
        }
        let change = Change {
            pointer: place.pointer.to_owned(),
            dialect,
            address: mixed::address(place.object),
        };
        if !place.is_schema || dialect.name_of(place.object).is_none() {
            return Err(change.refused());
        }
        self.changes.push(change);
        Ok(())
    }

    fn schema(&mut self, place: &Place<'_>, dialect: Dialect) -> Result<(), BadSchema> {
        self.subschemas += 1;
        self.patterns += count_patterns(place.object)?;
        if self.through.is_none() {
            self.through = mixed::looks_through(place);
        }
        if let Some(id) = text(place.object, "$id") {
            self.identify(place, dialect, id)?;
        }
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(reference) = text(place.object, keyword) {
                self.refer(place, dialect, keyword, reference)?;
            }
        }
        Ok(())
    }

    fn identify(&mut self, place: &Place<'_>, dialect: Dialect, id: &str) -> Result<(), BadSchema> {
        let bad = |bad: fn(String, String) -> BadSchema| bad(shown(place.pointer), shown(id));
        if is_reserved(id) {
            return Err(bad(|pointer, id| BadSchema::ReservedId { pointer, id }));
        }
        let (name, anchor) = id.split_once('#').unwrap_or((id, ""));
        if !anchor.is_empty() && (!name.is_empty() || dialect.is_silenced(place.object)) {
            return Err(bad(|pointer, id| BadSchema::AnchorId { pointer, id }));
        }
        self.identified |= !name.is_empty();
        Ok(())
    }

    fn refer(
        &mut self,
        place: &Place<'_>,
        dialect: Dialect,
        keyword: &str,
        reference: &str,
    ) -> Result<(), BadSchema> {
        let resource = reference.split('#').next().unwrap_or_default();
        let is_own = resource == dialect.uri();
        let refused = |bad: fn(String) -> BadSchema| Err(bad(shown(reference)));
        if is_reserved(resource) && !is_own {
            return refused(|reference| BadSchema::Remote { reference });
        }
        if !resource.is_empty() && !is_own && self.beyond.is_none() {
            self.beyond = Some(shown(reference));
        }
        // The validator takes each of these for a schema that allows everything.
        let itself = reference == "#" && keyword == "$ref" && place.pointer.is_empty();
        let dynamic = keyword == "$recursiveRef" && reference != "#" && resource.is_empty();
        if reference.is_empty() || itself || dynamic {
            return refused(|reference| BadSchema::Reference { reference });
        }
        Ok(())
    }

    fn check(&mut self, document: &Value, survey: &Survey<'_>) -> Result<(), BadSchema> {
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
        let pointers = usize::from(!survey.resources.is_empty()) * survey.pointers;
        if self.subschemas > MAX_SUBSCHEMAS || survey.names + pointers > MAX_UNMEASURED {
            return Err(BadSchema::TooMany);
        }
        if survey.recurses_unevenly(document) {
            return Err(BadSchema::Uneven);
        }
        if self.changes.is_empty() {
            return Ok(());
        }
        if let Some((keyword, pointer)) = self.through.take() {
            return Err(BadSchema::Through { pointer, keyword });
        }
        mixed::check(document, survey, &self.changes)
    }
}

/// The dialect that a place names.
fn named(place: &Place<'_>) -> Result<Option<Dialect>, BadSchema> {
    let name = match place.object.get("$schema") {
        Some(Value::String(name)) => name,
        Some(_) if place.is_schema => "something that is not a string",
        _ => return Ok(None),
    };
    let bad = || BadSchema::Dialect {
        pointer: shown(place.pointer),
        dialect: shown(name),
    };
    Dialect::named(name).ok_or_else(bad).map(Some)
}

fn is_reserved(uri: &str) -> bool {
    let uri = uri.to_ascii_lowercase();
    uri.contains(RESERVED) || uri.starts_with(NAMELESS)
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
