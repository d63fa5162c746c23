//! How large a schema is once its references are followed, and whether they end.
//!
//! Twenty definitions that each refer twice to the next are a million subschemas to a validator.
//! Such a document is refused before anything is compiled.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{pointer, screen::MAX_SUBSCHEMAS};
use crate::walk::MAPS;

/// The longest chain of references through references.
const MAX_CHAIN: usize = 64;

/// Keywords that count nothing: data, and definitions, which count where they are referred to.
const NOTHING: [&str; 6] = [
    "$defs",
    "const",
    "default",
    "definitions",
    "enum",
    "examples",
];

/// How far a schema reaches once its references are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The references end: so many subschemas, each counted once for each way to it.
    Finite(u64),
    /// Some reference leads back to itself, or cannot be followed here.
    Open,
}

/// Measures a document whose depth is known to be bounded; `None` if it is too large.
pub(super) fn measure(root: &Value) -> Option<Reach> {
    let mut measure = Measure {
        root,
        known: HashMap::new(),
        chain: 0,
        open: false,
    };
    let size = measure.schema(root);
    (size <= MAX_SUBSCHEMAS).then_some(if measure.open {
        Reach::Open
    } else {
        Reach::Finite(size)
    })
}

struct Measure<'a> {
    root: &'a Value,
    /// What each reference leads to; `None` while it is being measured.
    known: HashMap<&'a str, Option<u64>>,
    chain: usize,
    open: bool,
}

impl<'a> Measure<'a> {
    fn schema(&mut self, value: &'a Value) -> u64 {
        match value {
            Value::Array(items) => sum(items.iter().map(|item| self.schema(item))),
            Value::Object(object) => {
                sum(object.iter().map(|(key, value)| self.member(key, value))).saturating_add(1)
            }
            _ => 0,
        }
    }

    fn member(&mut self, key: &str, value: &'a Value) -> u64 {
        match (key, value) {
            ("$ref", Value::String(reference)) => self.reference(reference),
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                self.open = true;
                0
            }
            (key, _) if NOTHING.contains(&key) => 0,
            (key, Value::Object(schemas)) if MAPS.contains(&key) => self.map(schemas),
            _ => self.schema(value),
        }
    }

    fn map(&mut self, schemas: &'a Map<String, Value>) -> u64 {
        sum(schemas.values().map(|schema| self.schema(schema)))
    }

    fn reference(&mut self, reference: &'a str) -> u64 {
        if let Some(known) = self.known.get(reference) {
            self.open |= known.is_none();
            return known.unwrap_or(0);
        }
        let target = reference
            .strip_prefix('#')
            .and_then(|fragment| pointer::target(self.root, fragment));
        let Some(target) = target else {
            self.open = true;
            return 0;
        };
        if self.chain >= MAX_CHAIN {
            return u64::MAX;
        }
        self.known.insert(reference, None);
        self.chain += 1;
        let size = self.schema(target);
        self.chain -= 1;
        self.known.insert(reference, Some(size));
        size
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}
