//! What a schema lets a value be, as far as text is decoded by it.
//!
//! A shape decides how text is read and nothing else: the schema judges what was read.

use std::collections::BTreeMap;

use serde_json::Value;

/// How deep shapes are looked at: parameters are primitives, or arrays and objects of them.
const MAX_DEPTH: usize = 3;

/// The most schemas that are looked at for one shape.
const MAX_VISITS: usize = 4_000;

/// JSON types. `integer` and `number` count as JSON Schema has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the set of JSON types")]
pub(super) struct Types {
    pub(super) null: bool,
    pub(super) boolean: bool,
    pub(super) integer: bool,
    pub(super) number: bool,
    pub(super) string: bool,
    pub(super) array: bool,
    pub(super) object: bool,
}

impl Types {
    fn add(&mut self, name: &str) {
        match name {
            "null" => self.null = true,
            "boolean" => self.boolean = true,
            "integer" => self.integer = true,
            "number" => self.number = true,
            "string" => self.string = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => {}
        }
    }

    fn of_value(&mut self, value: &Value) {
        self.add(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        });
    }

    fn or(self, other: Self) -> Self {
        Self {
            null: self.null || other.null,
            boolean: self.boolean || other.boolean,
            integer: self.integer || other.integer,
            number: self.number || other.number,
            string: self.string || other.string,
            array: self.array || other.array,
            object: self.object || other.object,
        }
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether a value may be anything that is written as one piece of text.
    pub(super) fn is_primitive(self) -> bool {
        self.boolean || self.integer || self.number || self.string
    }
}

/// What a value may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub(super) types: Types,
    /// The items of an array.
    pub(super) items: Option<Box<Shape>>,
    /// The members of an object that are named.
    pub(super) members: BTreeMap<String, Shape>,
    /// Any other member, where the schema says so in as many words.
    pub(super) rest: Option<Box<Shape>>,
}

impl Shape {
    /// The shape of `schema`, whose references are to `root`; `None` if there is no end to it.
    pub(super) fn of(root: &Value, schema: &Value) -> Option<Self> {
        let mut look = Look {
            root,
            visits: MAX_VISITS,
        };
        let mut shape = look.shape(schema, 0, 0)?;
        if shape.types.is_empty() {
            shape.types.string = true;
        }
        Some(shape)
    }

    fn merge(&mut self, other: Self) {
        self.types = self.types.or(other.types);
        self.adopt(other);
    }

    /// Takes everything but the types.
    fn adopt(&mut self, other: Self) {
        merge(&mut self.items, other.items);
        merge(&mut self.rest, other.rest);
        for (name, shape) in other.members {
            self.members.entry(name).or_default().merge(shape);
        }
    }
}

fn merge(into: &mut Option<Box<Shape>>, other: Option<Box<Shape>>) {
    match (into, other) {
        (Some(into), Some(other)) => into.merge(*other),
        (into @ None, other) => *into = other,
        (Some(_), None) => {}
    }
}

struct Look<'a> {
    root: &'a Value,
    visits: usize,
}

impl Look<'_> {
    fn shape(&mut self, schema: &Value, depth: usize, chain: usize) -> Option<Shape> {
        self.visits = self.visits.checked_sub(1)?;
        if chain > 32 {
            return None;
        }
        let mut shape = Shape::default();
        own_types(schema, &mut shape.types);
        let stated = !shape.types.is_empty();
        if depth < MAX_DEPTH {
            self.parts(schema, depth, &mut shape)?;
        }
        for branch in branches(schema, self.root) {
            let branch = self.shape(branch, depth, chain + 1)?;
            if stated {
                shape.adopt(branch);
            } else {
                shape.merge(branch);
            }
        }
        if shape.types.is_empty() {
            shape.types.object = !shape.members.is_empty() || shape.rest.is_some();
            shape.types.array = shape.items.is_some();
        }
        Some(shape)
    }

    fn parts(&mut self, schema: &Value, depth: usize, shape: &mut Shape) -> Option<()> {
        if let Some(items) = schema.get("items") {
            shape.items = Some(Box::new(self.shape(items, depth + 1, 0)?));
        }
        let members = schema.get("properties").and_then(Value::as_object);
        for (name, member) in members.into_iter().flatten() {
            let member = self.shape(member, depth + 1, 0)?;
            shape.members.insert(name.clone(), member);
        }
        match schema.get("additionalProperties") {
            None | Some(Value::Bool(false)) => {}
            Some(rest) => shape.rest = Some(Box::new(self.shape(rest, depth + 1, 0)?)),
        }
        Some(())
    }
}

fn own_types(schema: &Value, types: &mut Types) {
    match schema.get("type") {
        Some(Value::String(name)) => types.add(name),
        Some(Value::Array(names)) => {
            for name in names.iter().filter_map(Value::as_str) {
                types.add(name);
            }
        }
        _ => {
            let listed = schema.get("enum").and_then(Value::as_array);
            for value in listed.into_iter().flatten().chain(schema.get("const")) {
                types.of_value(value);
            }
        }
    }
}

/// The schemas that apply to the same value.
fn branches<'a>(schema: &'a Value, root: &'a Value) -> Vec<&'a Value> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter();
    let lists = lists.filter_map(|key| schema.get(key).and_then(Value::as_array));
    let target = schema.get("$ref").and_then(Value::as_str);
    let target = target.and_then(|r| root.pointer(r.strip_prefix('#')?));
    lists.flatten().chain(target).collect()
}
