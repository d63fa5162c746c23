//! The dialects of JSON Schema that are read, and how they differ in what the screen looks at.

use jsonschema::Draft;
use serde_json::{Map, Value};

/// A dialect that is read. A document names it in `$schema`; one that names none is 2020-12.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// draft-07.
    Draft7,
    /// 2019-09.
    Draft201909,
    /// 2020-12.
    #[default]
    Draft202012,
}

impl Dialect {
    const ALL: [Self; 3] = [Self::Draft202012, Self::Draft201909, Self::Draft7];

    /// The name of its meta-schema, without the empty fragment that draft-07 writes behind it.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Draft7 => "http://json-schema.org/draft-07/schema",
            Self::Draft201909 => "https://json-schema.org/draft/2019-09/schema",
            Self::Draft202012 => "https://json-schema.org/draft/2020-12/schema",
        }
    }

    /// Finds the dialect of that name, which may end in an empty fragment.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_suffix('#').unwrap_or(name);
        Self::ALL.into_iter().find(|dialect| dialect.uri() == name)
    }

    /// The dialect of a document, if `$schema` names one that is read.
    pub(super) fn of(schema: &Value) -> Option<Self> {
        Self::named(schema.get("$schema")?.as_str()?)
    }

    /// The validator's name for it.
    pub(super) const fn draft(self) -> Draft {
        match self {
            Self::Draft7 => Draft::Draft7,
            Self::Draft201909 => Draft::Draft201909,
            Self::Draft202012 => Draft::Draft202012,
        }
    }

    /// Whether everything in `schema` beside its `$ref` is ignored (draft-07 core §8.3).
    pub(super) fn is_silenced(self, schema: &Map<String, Value>) -> bool {
        self == Self::Draft7 && schema.contains_key("$ref")
    }

    /// The name by which `schema` begins a resource of its own. In draft-07 an `$id` of a fragment
    /// alone is an anchor (core §8.2.3), and one beside a `$ref` is nothing.
    pub(super) fn name_of(self, schema: &Map<String, Value>) -> Option<&str> {
        let id = schema.get("$id")?.as_str()?;
        let is_anchor = self == Self::Draft7 && id.starts_with('#');
        (!is_anchor && !self.is_silenced(schema)).then_some(id)
    }
}
