//! What is made once and then used by many calls.

use std::{fmt, ops::Deref, sync::Arc};

use jiff::Timestamp;
use regorus::Value;

use super::nanoseconds;

/// Facts that can be a part of `input`.
pub trait Part {
    /// The part as policies read it.
    fn to_value(&self) -> Value;
}

/// A part of `input` made once: typed, as policies read it and as the record writes it. A clone is one counter.
pub struct Ready<F>(Arc<Made<F>>);

struct Made<F> {
    facts: F,
    value: Value,
    json: String,
}

impl<F: Part> Ready<F> {
    /// Makes the facts ready.
    pub fn new(facts: F) -> Self {
        let value = facts.to_value();
        // Parts are made of strings, numbers and booleans: they always have a JSON form.
        let json = serde_json::to_string(&value).unwrap_or_else(|_| "null".into());
        Self(Arc::new(Made { facts, value, json }))
    }
}

impl<F> Ready<F> {
    /// As policies read it.
    pub fn value(&self) -> Value {
        self.0.value.clone()
    }

    /// Its JSON text, compact.
    pub fn json(&self) -> &str {
        &self.0.json
    }
}

impl<F> Clone for Ready<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> Deref for Ready<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0.facts
    }
}

impl<F: fmt::Debug> fmt::Debug for Ready<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.facts.fmt(out)
    }
}

/// A time with its text: RFC 3339, and nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub(super) text: Arc<str>,
    pub(super) ns: i64,
}

impl Moment {
    /// RFC 3339.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Nanoseconds since 1970, held at the ends of 64 bits.
    pub fn ns(&self) -> i64 {
        self.ns
    }
}

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self {
            text: time.to_string().into(),
            ns: nanoseconds(time),
        }
    }
}
