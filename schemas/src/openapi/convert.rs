//! From the schemas of a description to one schema of its own for each operation.
//!
//! What a request reaches is copied, with references turned into `$defs`; annotations stay
//! behind. OpenAPI 3.0 has a dialect of its own (3.0.4 §4.7.24), which becomes 2020-12 here.
//! What only answers have (`readOnly`) is not allowed in requests.

use std::collections::{BTreeSet, HashMap, VecDeque};

use serde_json::{Map, Value};

use super::{
    Version,
    resolve::{Files, Node},
};
use crate::json_schema::{Dialect, MAX_SUBSCHEMAS, shown};

/// How deep one schema nests, references not followed.
const MAX_DEPTH: usize = 48;

/// The dialects of OpenAPI itself: 2020-12 with annotations.
const OPENAPI_DIALECTS: [&str; 2] = [
    "https://spec.openapis.org/oas/3.1/dialect/",
    "https://spec.openapis.org/oas/3.2/dialect/",
];

/// Keywords whose value is taken as it is.
const PLAIN: [&str; 20] = [
    "const",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
    "uniqueItems",
];

/// Keywords whose value is a schema.
const SCHEMA: [&str; 11] = [
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];

/// Keywords whose value is a list of schemas.
const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];

/// Keywords whose value is names with schemas.
const MAPS: [&str; 3] = ["dependentSchemas", "patternProperties", "properties"];

/// Keywords that could change what is valid and that are not understood here.
const UNSUPPORTED: [&str; 9] = [
    "$dynamicRef",
    "$id",
    "$recursiveRef",
    "$vocabulary",
    "additionalItems",
    "dependencies",
    "divisibleBy",
    "extends",
    "disallow",
];

/// Keywords that say nothing about what is valid; known, so that nobody is told of them.
const ANNOTATIONS: [&str; 24] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$schema",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "discriminator",
    "example",
    "examples",
    "externalDocs",
    "format",
    "nullable",
    "readOnly",
    "summary",
    "title",
    "writeOnly",
    "xml",
    "$ref",
];

/// Whether `dialect` is one that is read.
pub(super) fn is_known(dialect: &str) -> bool {
    dialect.trim_end_matches('#') == Dialect::Draft202012.uri()
        || OPENAPI_DIALECTS.iter().any(|own| dialect.starts_with(own))
}

/// Collects what one operation's schemas refer to.
pub(super) struct Bundle<'a> {
    files: &'a Files,
    version: Version,
    /// The name in `$defs` of each schema that is referred to, by where it lies in memory.
    names: HashMap<*const Value, String>,
    taken: BTreeSet<String>,
    waiting: VecDeque<(String, Node<'a>)>,
    room: u64,
    /// Keywords that nobody knows, which therefore mean nothing (2020-12 core §4.3.1).
    pub(super) unknown: BTreeSet<String>,
}

impl<'a> Bundle<'a> {
    pub(super) fn new(files: &'a Files, version: Version) -> Self {
        Self {
            files,
            version,
            names: HashMap::new(),
            taken: BTreeSet::new(),
            waiting: VecDeque::new(),
            room: MAX_SUBSCHEMAS,
            unknown: BTreeSet::new(),
        }
    }

    /// Converts one schema; what it refers to waits for [`Self::definitions`].
    pub(super) fn schema(&mut self, schema: Node<'a>) -> Result<Value, String> {
        self.convert(schema, 0)
    }

    /// Converts everything that was referred to.
    pub(super) fn definitions(&mut self) -> Result<Map<String, Value>, String> {
        let mut definitions = Map::new();
        while let Some((name, node)) = self.waiting.pop_front() {
            let schema = self.convert(node, 0)?;
            definitions.insert(name, schema);
        }
        Ok(definitions)
    }

    fn convert(&mut self, node: Node<'a>, depth: usize) -> Result<Value, String> {
        let room = self.room.checked_sub(1).filter(|_| depth < MAX_DEPTH);
        self.room = room.ok_or_else(|| "a schema is too large or nests too deeply".to_owned())?;
        let Value::Object(members) = node.value else {
            return match node.value {
                Value::Bool(all) => Ok(Value::Bool(*all)),
                _ => Err("a schema that is no object".to_owned()),
            };
        };
        let mut schema = Map::new();
        if let Some(reference) = node.text("$ref") {
            let name = self.name(reference, node.file)?;
            schema.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
            if self.version == Version::V3_0 {
                return Ok(Value::Object(schema));
            }
        } else if members.contains_key("$ref") {
            return Err("a `$ref` that is no string".to_owned());
        }
        for (key, value) in members {
            self.member(key, node.with(value), depth, &mut schema)?;
        }
        self.requests_only(node, &mut schema)?;
        if self.version == Version::V3_0 {
            from_3_0(members, &mut schema);
        }
        Ok(Value::Object(schema))
    }

    fn member(
        &mut self,
        key: &str,
        node: Node<'a>,
        depth: usize,
        schema: &mut Map<String, Value>,
    ) -> Result<(), String> {
        let value = match (key, node.value) {
            ("$schema", Value::String(dialect)) if !is_known(dialect) => {
                return Err(format!(
                    "`$schema` names `{}`, which is not read within a description",
                    shown(dialect)
                ));
            }
            (key, _) if UNSUPPORTED.contains(&key) => {
                return Err(format!("keyword `{key}` is not supported"));
            }
            (key, _) if key.starts_with("x-") || ANNOTATIONS.contains(&key) => return Ok(()),
            (key, value) if PLAIN.contains(&key) => value.clone(),
            (key, _) if SCHEMA.contains(&key) => self.convert(node, depth + 1)?,
            (key, Value::Array(items)) if LIST.contains(&key) => {
                let items = items
                    .iter()
                    .map(|item| self.convert(node.with(item), depth + 1));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (key, Value::Object(entries)) if MAPS.contains(&key) => {
                let mut converted = Map::new();
                for (name, entry) in entries {
                    let entry = node.with(entry);
                    // What a request must not have needs no definition.
                    let entry = if key == "properties" && self.is_read_only(entry, 0) {
                        Value::Bool(false)
                    } else {
                        self.convert(entry, depth + 1)?
                    };
                    converted.insert(name.clone(), entry);
                }
                Value::Object(converted)
            }
            (key, _) if LIST.contains(&key) || MAPS.contains(&key) => {
                return Err(format!("keyword `{key}` has a value of the wrong type"));
            }
            (key, _) => {
                self.unknown.insert(shown(key));
                return Ok(());
            }
        };
        schema.insert(key.to_owned(), value);
        Ok(())
    }

    /// Whether a property is `readOnly`, itself or through what it refers to.
    fn is_read_only(&self, node: Node<'a>, chain: usize) -> bool {
        if node.is_true("readOnly") {
            return true;
        }
        if chain > 16 {
            return false;
        }
        let target = node.text("$ref").map(|r| self.files.target(r, node.file));
        let parts = node.value.get("allOf").and_then(Value::as_array);
        let parts = parts.into_iter().flatten().map(|part| node.with(part));
        target
            .and_then(Result::ok)
            .into_iter()
            .chain(parts)
            .any(|part| self.is_read_only(part, chain + 1))
    }

    /// A property that requests must not have cannot be required of them, wherever within the
    /// same object the two are written.
    fn requests_only(&self, node: Node<'a>, schema: &mut Map<String, Value>) -> Result<(), String> {
        let Some(required) = schema.get_mut("required") else {
            return Ok(());
        };
        let names = required
            .as_array_mut()
            .ok_or_else(|| "`required` is no list".to_owned())?;
        let properties = node.value.get("properties");
        names.retain(|name| {
            let property = name.as_str().and_then(|name| properties?.get(name));
            !property.is_some_and(|property| self.is_read_only(node.with(property), 0))
        });
        if names.is_empty() {
            schema.remove("required");
        }
        Ok(())
    }

    /// The name in `$defs` of what a reference leads to.
    fn name(&mut self, reference: &str, file: usize) -> Result<String, String> {
        let target = self.files.target(reference, file)?;
        let place = std::ptr::from_ref(target.value);
        if let Some(name) = self.names.get(&place) {
            return Ok(name.clone());
        }
        let last = reference.rsplit('/').next().unwrap_or_default();
        let word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let base: String = last.chars().filter(word).take(80).collect();
        let mut name = base.clone();
        let mut count = 1_usize;
        while name.is_empty() || !self.taken.insert(name.clone()) {
            count += 1;
            name = format!("{base}-{count}");
        }
        self.names.insert(place, name.clone());
        self.waiting.push_back((name.clone(), target));
        Ok(name)
    }
}

/// What 3.0 writes in another way (3.0.4 §4.7.24).
fn from_3_0(members: &Map<String, Value>, schema: &mut Map<String, Value>) {
    for (modifier, limit) in [
        ("exclusiveMinimum", "minimum"),
        ("exclusiveMaximum", "maximum"),
    ] {
        match members.get(modifier) {
            Some(Value::Bool(true)) => {
                schema.remove(modifier);
                if let Some(limit) = schema.remove(limit) {
                    schema.insert(modifier.to_owned(), limit);
                }
            }
            Some(Value::Bool(false)) => {
                schema.remove(modifier);
            }
            _ => {}
        }
    }
    if members.get("nullable") == Some(&Value::Bool(true))
        && let Some(name) = schema.get("type").filter(|name| name.is_string()).cloned()
    {
        schema.insert("type".to_owned(), vec![name, "null".into()].into());
    }
}
