//! The arguments of a schema, each with a validator of its own.
//!
//! Only for schemas that refer to themselves: asking each argument for yes or no is cheap where
//! collecting every error is not.

use jsonschema::ValidatorMap;
use regorus::Value;
use serde_json::Value as Document;

use super::{
    explain::{Violation, below, violation},
    node::Tree,
};
use crate::walk::push;

/// The root's properties and which of them are required.
pub(super) struct Outline {
    parts: ValidatorMap<Tree>,
    /// Names with the keys of their validators.
    properties: Vec<(Value, String)>,
    required: Vec<Value>,
}

impl Outline {
    /// Takes the compiled parts of `document`.
    pub(super) fn new(document: &Document, parts: ValidatorMap<Tree>) -> Self {
        let properties = document.get("properties").and_then(Document::as_object);
        let properties = properties.into_iter().flatten().map(|(name, _)| {
            let mut key = String::from("#/properties");
            push(&mut key, name);
            (Value::from(name.as_str()), key)
        });
        let required = document.get("required").and_then(Document::as_array);
        let required = required.into_iter().flatten().filter_map(Document::as_str);
        Self {
            parts,
            properties: properties.collect(),
            required: required.map(Value::from).collect(),
        }
    }

    /// The arguments that are missing or fail, at most `most`.
    pub(super) fn violations(&self, value: &Value, most: usize) -> Vec<Violation> {
        let Value::Object(arguments) = value else {
            return Vec::new();
        };
        let missing = self
            .required
            .iter()
            .filter(|name| !arguments.contains_key(name));
        let missing = missing.map(|name| at(name, "is required"));
        let failing = self.properties.iter().filter(|(name, key)| {
            let part = arguments.get(name).zip(self.parts.get(key));
            part.is_some_and(|(argument, part)| !part.is_valid(argument))
        });
        let failing = failing.map(|(name, _)| at(name, "does not satisfy the argument's schema"));
        missing.chain(failing).take(most).collect()
    }
}

fn at(name: &Value, message: &str) -> Violation {
    let name = name.as_string().map_or("", |name| name.as_ref());
    violation(below("", name), message)
}
