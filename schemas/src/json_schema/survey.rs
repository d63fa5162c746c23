//! Everything in a document that refers or has a name, also among what is taken for data: a
//! reference can lead there and make a schema of it.

use serde_json::Value;

/// The references and names of a document.
#[derive(Default)]
pub(super) struct Survey<'a> {
    /// Every reference but `$recursiveRef`, which has only one form.
    pub(super) references: Vec<&'a str>,
    /// How many of the references go by pointer from the root of their resource.
    pub(super) pointers: usize,
    /// How many go by anchor, by name or by dynamic scope.
    pub(super) names: usize,
    /// Whether there is a `$recursiveRef`.
    recursive: bool,
    /// What may be a resource (2020-12 core §4.3.5) other than the document: it has an `$id`.
    pub(super) resources: Vec<&'a Value>,
}

impl<'a> Survey<'a> {
    /// Surveys a document whose depth is known to be bounded.
    pub(super) fn of(document: &'a Value) -> Self {
        let mut survey = Self::default();
        survey.below(document);
        survey
    }

    /// Whether a `$recursiveRef` may have to look past a resource without `$recursiveAnchor` for one
    /// with it (2019-09 core §8.2.4.2.2), which the validator does not. A document without a name
    /// is only ever the outermost, where nothing lies beyond.
    pub(super) fn recurses_unevenly(&self, document: &'a Value) -> bool {
        let named = document.get("$id").map(|_| document);
        let all = self.resources.iter().copied().chain(named);
        let (with, without): (Vec<_>, Vec<_>) =
            all.partition(|resource| resource.get("$recursiveAnchor") == Some(&Value::Bool(true)));
        self.recursive && with.len() > 1 && !without.is_empty()
    }

    fn value(&mut self, value: &'a Value) {
        let id = value.get("$id").and_then(Value::as_str);
        if id.is_some_and(|id| !id.starts_with('#')) {
            self.resources.push(value);
        }
        self.below(value);
    }

    fn below(&mut self, value: &'a Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.value(item)),
            Value::Object(members) => {
                for (key, value) in members {
                    match value {
                        Value::String(reference) => self.member(key, reference),
                        value => self.value(value),
                    }
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, key: &str, reference: &'a str) {
        self.recursive |= key == "$recursiveRef";
        match key {
            "$ref" if reference == "#" || reference.starts_with("#/") => self.pointers += 1,
            "$ref" | "$dynamicRef" | "$recursiveRef" => self.names += 1,
            _ => return,
        }
        self.references.push(reference);
    }
}
