//! Says where arguments fail, within bounds, and never what they are.
//!
//! The validator collects errors through every branch of every alternative, which is
//! exponential where alternatives refer to themselves. So it is only asked for a schema whose
//! references end, of known expanded size, and for a value of modest size. A schema that refers
//! to itself gets the arguments that fail, without what is in them; everything else one
//! sentence about the whole.

use jsonschema::{
    Validator,
    error::{TypeKind, ValidationError, ValidationErrorKind},
    paths::{Location, LocationSegment},
};
use regorus::Value;

use super::{node::Tree, outline::Outline};
use crate::walk::push;

/// The most violations that are ever reported.
pub const MOST_VIOLATIONS: usize = 8;

/// The longest pointer that is reported; a longer one is cut back to a place above.
const MAX_POINTER: usize = 256;

/// Subschemas times nodes of the value up to which the validator is asked.
const MAX_WORK: u64 = 200_000;

/// One place at which a value fails its schema.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// The place in the value (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What is wrong, in words of the schema; never a part of the value.
    pub message: String,
}

/// How far an explanation goes.
pub(super) enum Depth {
    /// To each place that fails; the schema has so many subschemas, references followed.
    Full(u64),
    /// To the arguments that fail.
    Arguments(Outline),
    /// Nowhere.
    Whole,
}

/// Explains why `value`, known to be invalid, fails.
pub(super) fn explain(
    validator: &Validator<Tree>,
    depth: &Depth,
    value: &Value,
    most: usize,
) -> Vec<Violation> {
    let most = most.clamp(1, MOST_VIOLATIONS);
    let mut found = match depth {
        Depth::Full(size) => full(validator, *size, value, most),
        Depth::Arguments(outline) => outline.violations(value, most),
        Depth::Whole => Vec::new(),
    };
    if found.is_empty() {
        found.push(whole());
    }
    found
}

fn full(validator: &Validator<Tree>, size: u64, value: &Value, most: usize) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut room = usize::try_from(MAX_WORK / size.max(1)).unwrap_or(usize::MAX);
    if fits(value, &mut room) {
        for error in validator.iter_errors(value) {
            violations(&error, most, &mut found);
            if found.len() >= most {
                break;
            }
        }
    }
    found
}

fn whole() -> Violation {
    Violation {
        pointer: String::new(),
        message: "does not satisfy the tool's schema".to_owned(),
    }
}

/// Whether `value` has no more nodes than `room`.
fn fits(value: &Value, room: &mut usize) -> bool {
    let Some(rest) = room.checked_sub(1) else {
        return false;
    };
    *room = rest;
    match value {
        Value::Array(items) => items.iter().all(|item| fits(item, room)),
        Value::Object(members) => members.iter().all(|(_, value)| fits(value, room)),
        _ => true,
    }
}

fn violations(error: &ValidationError<'_>, most: usize, found: &mut Vec<Violation>) {
    let place = pointer(error.instance_path());
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            found.push(violation(below(&place, name), "is required"));
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let room = most.saturating_sub(found.len());
            found.extend(unexpected.iter().take(room).map(|name| {
                violation(
                    below(&place, name),
                    "is a property that the schema does not define",
                )
            }));
        }
        kind => found.push(violation(place, message(kind))),
    }
}

pub(super) fn violation(pointer: String, message: impl Into<String>) -> Violation {
    Violation {
        pointer,
        message: message.into(),
    }
}

/// Writes a location as a pointer, cut back to the deepest place that is short enough.
fn pointer(location: &Location) -> String {
    let mut pointer = String::new();
    for segment in location.segments() {
        let before = match segment {
            LocationSegment::Property(name) => push(&mut pointer, &name),
            LocationSegment::Index(index) => push(&mut pointer, &index.to_string()),
        };
        if pointer.len() > MAX_POINTER {
            pointer.truncate(before);
            break;
        }
    }
    pointer
}

/// The place of a member, or of its object where the name is too long to repeat.
pub(super) fn below(place: &str, name: &str) -> String {
    let mut pointer = place.to_owned();
    let before = push(&mut pointer, name);
    if pointer.len() > MAX_POINTER {
        pointer.truncate(before);
    }
    pointer
}

/// What a kind of error means, in words of the schema.
fn message(kind: &ValidationErrorKind) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Type {
            kind: TypeKind::Single(one),
        } => format!("must be of type {one}"),
        Kind::Type {
            kind: TypeKind::Multiple(many),
        } => {
            let names: Vec<_> = many.iter().map(|one| one.to_string()).collect();
            format!("must be of type {}", names.join(" or "))
        }
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} properties"),
        other => plain(other).to_owned(),
    }
}

/// The messages that need no number.
fn plain(kind: &ValidationErrorKind) -> &'static str {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Enum { .. } => "must be one of the values the schema lists",
        Kind::Constant { .. } => "must be the one value the schema names",
        Kind::Pattern { .. } => "must match the schema's pattern",
        Kind::PropertyNames { .. } => "has a property whose name the schema does not allow",
        Kind::UniqueItems => "must not have equal items",
        Kind::Contains => "must contain items as the schema says, in the number it says",
        Kind::AdditionalItems { .. } | Kind::UnevaluatedItems { .. } => {
            "has more items than the schema defines"
        }
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            "matches none of the schema's alternatives"
        }
        Kind::OneOfMultipleValid { .. } => "matches more than one of the schema's alternatives",
        Kind::Not { .. } => "matches what the schema excludes",
        Kind::FalseSchema => "is not allowed here",
        _ => "does not satisfy the schema",
    }
}
