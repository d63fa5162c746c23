//! Documents in which a resource has a dialect of its own.
//!
//! The validator serves them, except where one dialect looks into another: those places are
//! refused by name.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{BadSchema, Dialect, pointer, screen::Change, shown, survey::Survey};
use crate::walk::Place;

/// Keywords that look through the schemas they meet, whatever their dialect.
const THROUGH: [&str; 4] = [
    "$dynamicRef",
    "$recursiveRef",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// The first keyword of a schema that looks through others.
pub(super) fn looks_through(place: &Place<'_>) -> Option<(&'static str, String)> {
    let keyword = THROUGH
        .into_iter()
        .find(|key| place.object.contains_key(*key))?;
    Some((keyword, shown(place.pointer)))
}

/// Identifies an object of the document while it is screened.
pub(super) fn address(object: &Map<String, Value>) -> usize {
    std::ptr::from_ref(object).addr()
}

/// Checks a document in which `changes` have another dialect than the schema around them.
///
/// # Errors
///
/// [`BadSchema::Embedded`] and [`BadSchema::Across`].
pub(super) fn check(
    document: &Value,
    survey: &Survey<'_>,
    changes: &[Change],
) -> Result<(), BadSchema> {
    let mut reached = HashSet::new();
    reach(
        document,
        Dialect::of(document).unwrap_or_default(),
        &mut reached,
    );
    for change in changes {
        if !reached.contains(&change.address) {
            return Err(change.refused());
        }
    }
    across(document, survey, &reached)
}

/// Collects the changes of dialect that the validator sees: those where the keywords of the
/// dialect around them expect a schema.
fn reach(schema: &Value, dialect: Dialect, reached: &mut HashSet<usize>) {
    for below in dialect.draft().subresources_of(schema) {
        let own = Dialect::of(below).unwrap_or(dialect);
        if own != dialect
            && let Some(object) = below.as_object()
        {
            reached.insert(address(object));
        }
        reach(below, own, reached);
    }
}

/// A pointer that passes into a resource of another dialect would be read in the wrong one.
fn across(
    document: &Value,
    survey: &Survey<'_>,
    changes: &HashSet<usize>,
) -> Result<(), BadSchema> {
    let enters = |value: Option<&Value>| {
        let object = value.and_then(Value::as_object);
        object.is_some_and(|object| changes.contains(&address(object)))
    };
    for reference in &survey.references {
        let Some(pointer) = reference
            .split_once('#')
            .and_then(|(_, f)| pointer::decoded(f))
        else {
            continue;
        };
        // Which resource is meant does not matter: none has such a pointer to be followed.
        let mut bases = std::iter::once(document).chain(survey.resources.iter().copied());
        if bases.any(|base| pointer::path(base, &pointer).any(enters)) {
            return Err(BadSchema::Across {
                reference: shown(reference),
            });
        }
    }
    Ok(())
}
