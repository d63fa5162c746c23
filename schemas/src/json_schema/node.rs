//! Lets the validator read the tree that policy reads: one parse serves both.

use std::{borrow::Cow, collections::BTreeSet};

use jsonschema::{
    JsonType,
    json::{Array, Json, JsonNumber, Node, NodeIdentity, Object},
};
use regorus::Value;

/// Marks `regorus::Value` as a representation of JSON.
#[derive(Debug)]
pub(super) struct Tree;

impl Json for Tree {
    type Node<'a> = &'a Value;
    type PreparedKey = Value;
    type StringBuffer = Option<Value>;

    // A lookup is a binary search over keys behind pointers; a pass over few members is cheaper.
    const KEYS_PER_LOOKUP: usize = 2;

    fn prepare_key(key: &str) -> Value {
        Value::from(key)
    }

    fn with_string_node<T>(
        buffer: &mut Option<Value>,
        string: &str,
        f: impl FnOnce(&Value) -> T,
    ) -> T {
        f(buffer.insert(Value::from(string)))
    }
}

impl<'a> Node<'a, Tree> for &'a Value {
    type Object = &'a regorus::value::Object;
    type Array = &'a regorus::value::Array;
    type Number = Number;

    fn as_object(&self) -> Option<Self::Object> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    fn as_array(&self) -> Option<Self::Array> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            Value::String(text) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }

    fn as_number(&self) -> Option<Number> {
        Number::of(self)
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn is_number(&self) -> bool {
        matches!(self, Value::Number(_))
    }

    fn json_type(&self) -> JsonType {
        match self {
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) | Value::Set(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
            Value::Null | Value::Undefined => JsonType::Null,
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        equal(self, expected)
    }

    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(plain(self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Value>(self).addr()))
    }
}

impl<'a> Object<'a, Tree> for &'a regorus::value::Object {
    type Node = &'a Value;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        regorus::value::Object::len(self)
    }

    fn get(&self, key: &Value) -> Option<&'a Value> {
        regorus::value::Object::get(self, key)
    }

    fn members(&self) -> Members<'a> {
        Members(self.iter_sorted())
    }
}

/// The members of an object, in the order of their names.
pub(super) struct Members<'a>(regorus::value::Iter<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        // Keys that are no strings exist in Rego only; a parsed document has none.
        self.0.find_map(|(key, value)| match key {
            Value::String(name) => Some((name.as_ref(), value)),
            _ => None,
        })
    }
}

impl<'a> Array<'a, Tree> for &'a regorus::value::Array {
    type Node = &'a Value;
    type ElementsIter = regorus::value::ArrayIter<'a>;

    fn len(&self) -> usize {
        regorus::value::Array::len(self)
    }

    fn elements(&self) -> Self::ElementsIter {
        self.iter()
    }

    fn is_unique(&self) -> bool {
        // `Value` orders numbers mathematically, so `1` and `1.0` meet here.
        let mut seen = BTreeSet::new();
        self.iter().all(|item| seen.insert(item))
    }
}

/// A number as the validator wants it: exact where it is a whole number of 64 bits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
    Double(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        let Value::Number(number) = value else {
            return None;
        };
        if let Some(whole) = number.as_u64() {
            // The double 2^64 saturates to `u64::MAX`; only the exact integer may pass for it.
            if whole < u64::MAX || Value::from(whole) == *value {
                return Some(Self::Unsigned(whole));
            }
        } else if let Some(whole) = number.as_i64() {
            return Some(Self::Signed(whole));
        }
        number
            .as_f64()
            .or_else(|| number.format_decimal().parse().ok())
            .map(Self::Double)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the validator asks for the integer first and rounds knowingly after that"
)]
impl JsonNumber for Number {
    fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            Self::Double(_) => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Unsigned(value) => i64::try_from(value).ok(),
            Self::Signed(value) => Some(value),
            Self::Double(_) => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        Some(match *self {
            Self::Unsigned(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Double(value) => value,
        })
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(match self {
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
        })
    }

    fn to_number(&self) -> Cow<'_, serde_json::Number> {
        Cow::Owned(match *self {
            Self::Unsigned(value) => value.into(),
            Self::Signed(value) => value.into(),
            Self::Double(value) => {
                serde_json::Number::from_f64(value).unwrap_or_else(|| 0_u64.into())
            }
        })
    }

    fn is_integer(&self) -> bool {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => true,
            Self::Double(value) => value.fract() == 0.0,
        }
    }

    fn is_written_as_integer(&self) -> bool {
        matches!(self, Self::Unsigned(_) | Self::Signed(_))
    }
}

/// Equality of JSON Schema §4.2.2 between the tree and a literal of the schema.
fn equal(value: &Value, expected: &serde_json::Value) -> bool {
    use serde_json::Value as Literal;
    match (value, expected) {
        (Value::Null, Literal::Null) => true,
        (Value::Bool(a), Literal::Bool(b)) => a == b,
        (Value::String(a), Literal::String(b)) => **a == **b,
        (Value::Number(_), Literal::Number(b)) => {
            Number::of(value).is_some_and(|a| jsonschema::json::cmp::equal_numbers(&a, b))
        }
        (Value::Array(a), Literal::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Literal::Object(b)) => {
            a.len() == b.len()
                && Members(a.iter_sorted())
                    .all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => false,
    }
}

/// Copies the tree into the value that error texts are made of. Off the hot path.
fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::Null | Value::Undefined => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::String(text) => text.as_ref().into(),
        Value::Number(_) => Number::of(value).map_or(serde_json::Value::Null, |number| {
            serde_json::Value::Number(number.to_number().into_owned())
        }),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Set(items) => items.iter().map(plain).collect(),
        Value::Object(members) => Members(members.iter_sorted())
            .map(|(name, value)| (name.to_owned(), plain(value)))
            .collect(),
    }
}
