//! Helpers to write policy values.

use std::collections::BTreeMap;
use std::sync::Arc;

use regorus::Value;

use crate::Level;

/// An object of these members.
pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::from(
        members
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect::<BTreeMap<_, _>>(),
    )
}

/// An object whose keys are known only now.
pub(crate) fn map<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::from(
        members
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect::<BTreeMap<_, _>>(),
    )
}

/// An array of strings.
pub(crate) fn strings<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::from(
        items
            .into_iter()
            .map(|item| Value::from(item.as_ref()))
            .collect::<Vec<_>>(),
    )
}

/// A shared string, not copied.
pub(crate) fn shared(text: &Arc<str>) -> Value {
    Value::String(Arc::clone(text))
}

/// A member of an object.
pub(crate) fn member<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    match object {
        Value::Object(members) => members.get(&Value::from(key)),
        _ => None,
    }
}

/// The level as policies read it.
pub(crate) fn level(level: Level) -> Value {
    Value::from(level.as_str())
}

/// The keys of an object that is made for every call: put in order once, so that making one sorts nothing and allocates
/// no key.
#[derive(Debug)]
pub(crate) struct Shape {
    keys: Vec<Value>,
    empty: Value,
}

impl Shape {
    /// A shape with these keys.
    pub(crate) fn new(keys: &[&str]) -> Self {
        Self {
            keys: keys.iter().map(|key| Value::from(*key)).collect(),
            empty: map(keys.iter().map(|key| (*key, Value::Null))),
        }
    }

    /// An object with these values, in the order of the keys.
    pub(crate) fn fill<const N: usize>(&self, values: [Value; N]) -> Value {
        debug_assert_eq!(self.keys.len(), N);
        let mut object = self.empty.clone();
        if let Ok(members) = object.as_object_mut() {
            for (key, value) in self.keys.iter().zip(values) {
                if let Some(place) = members.get_mut(key) {
                    *place = value;
                }
            }
        }
        object
    }
}
