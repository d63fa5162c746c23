//! Helpers to write policy values.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

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

/// The level as a ready value.
pub(crate) fn level(level: Level) -> Value {
    static LEVELS: LazyLock<[Value; 4]> =
        LazyLock::new(|| Level::ALL.map(|level| Value::from(level.as_str())));
    let [public, internal, confidential, restricted] = &*LEVELS;
    match level {
        Level::Public => public,
        Level::Internal => internal,
        Level::Confidential => confidential,
        Level::Restricted => restricted,
    }
    .clone()
}

/// The keys of an object that is made for every call: interned once, so that making one allocates no key.
#[derive(Debug)]
pub(crate) struct Shape(Vec<Value>);

impl Shape {
    /// A shape with these keys. Sorted ones make the cheapest objects.
    pub(crate) fn new(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Value::from(*key)).collect())
    }

    /// An object with these values, in the order of the keys.
    pub(crate) fn fill<const N: usize>(&self, values: [Value; N]) -> Value {
        debug_assert_eq!(self.0.len(), N);
        Value::from(
            self.0
                .iter()
                .cloned()
                .zip(values)
                .collect::<BTreeMap<_, _>>(),
        )
    }
}
