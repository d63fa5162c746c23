//! Where references lead: within the document, and to files beside it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::text;
use crate::json_schema::shown;

/// The most files of one description.
const MAX_FILES: usize = 256;

/// The longest chain of references through references.
const MAX_CHAIN: usize = 32;

/// All files of a description; the document itself is the first.
pub(super) struct Files {
    files: Vec<(String, Value)>,
    /// Why a file that something refers to is not there.
    missing: BTreeMap<String, String>,
}

/// A value and the file it stands in, to which its references are relative.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    pub(super) file: usize,
}

impl<'a> Node<'a> {
    pub(super) fn with(self, value: &'a Value) -> Self {
        Self { value, ..self }
    }

    pub(super) fn get(self, key: &str) -> Option<Self> {
        self.value.get(key).map(|value| self.with(value))
    }

    pub(super) fn text(self, key: &str) -> Option<&'a str> {
        self.value.get(key).and_then(Value::as_str)
    }

    pub(super) fn is_true(self, key: &str) -> bool {
        self.value.get(key) == Some(&Value::Bool(true))
    }
}

impl Files {
    /// Takes the document and asks for every file that it refers to, and those in turn.
    pub(super) fn collect(
        document: Value,
        fetch: &mut dyn FnMut(&str) -> Result<Value, String>,
    ) -> Self {
        let mut all = Self {
            files: vec![(String::new(), document)],
            missing: BTreeMap::new(),
        };
        let mut next = 0;
        while let Some((_, value)) = all.files.get(next) {
            let mut names = Vec::new();
            referred(value, &mut names);
            for name in names {
                all.take(name, fetch);
            }
            next += 1;
        }
        all
    }

    fn take(&mut self, name: String, fetch: &mut dyn FnMut(&str) -> Result<Value, String>) {
        if self.missing.contains_key(&name) || self.files.iter().any(|(known, _)| *known == name) {
            return;
        }
        let fetched = if self.files.len() + self.missing.len() >= MAX_FILES {
            Err(format!("more than {MAX_FILES} files"))
        } else {
            fetch(&name)
        };
        match fetched {
            Ok(value) => self.files.push((name, value)),
            Err(why) => {
                self.missing.insert(name, why);
            }
        }
    }

    /// The document.
    pub(super) fn root(&self) -> Node<'_> {
        const NOTHING: &Value = &Value::Null;
        Node {
            value: self.files.first().map_or(NOTHING, |(_, value)| value),
            file: 0,
        }
    }

    /// What `reference`, which stands in file `from`, leads to.
    pub(super) fn target(&self, reference: &str, from: usize) -> Result<Node<'_>, String> {
        let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let file = if resource.is_empty() {
            from
        } else {
            self.file(resource)?
        };
        let nowhere = || format!("reference `{}` leads nowhere", shown(reference));
        let pointer = text::percent(fragment, text::Plus::Literal).ok_or_else(nowhere)?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            let reference = shown(reference);
            return Err(format!(
                "reference `{reference}` is to an anchor, which is not supported"
            ));
        }
        let (_, value) = self.files.get(file).ok_or_else(nowhere)?;
        let value = value.pointer(&pointer).ok_or_else(nowhere)?;
        Ok(Node { value, file })
    }

    fn file(&self, resource: &str) -> Result<usize, String> {
        let name = beside(resource).ok_or_else(|| {
            format!(
                "reference to `{}`: only files beside the document are read",
                shown(resource)
            )
        })?;
        if let Some(why) = self.missing.get(name) {
            return Err(format!("file `{}`: {}", shown(name), shown(why)));
        }
        let place = self.files.iter().position(|(known, _)| known == name);
        place.ok_or_else(|| format!("file `{}` is not there", shown(name)))
    }

    /// Follows `$ref` until there is none: for parameters, bodies and everything but schemas.
    pub(super) fn follow<'a>(&'a self, node: Node<'a>) -> Result<Node<'a>, String> {
        let mut node = node;
        for _ in 0..MAX_CHAIN {
            let Some(reference) = node.text("$ref") else {
                return Ok(node);
            };
            node = self.target(reference, node.file)?;
        }
        Err("references that lead to one another".to_owned())
    }
}

/// The name of a file in the same directory.
fn beside(resource: &str) -> Option<&str> {
    let name = resource.strip_prefix("./").unwrap_or(resource);
    let plain = |c: char| !matches!(c, '/' | '\\' | ':' | '%' | '?') && !c.is_control();
    let fits = !name.is_empty() && !name.starts_with('.') && name.len() <= 255;
    (fits && name.chars().all(plain)).then_some(name)
}

/// The files that anything in `value` refers to.
fn referred(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| referred(item, names)),
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        let resource = reference.split('#').next().unwrap_or_default();
                        names.extend(beside(resource).map(str::to_owned));
                    }
                    _ => referred(value, names),
                }
            }
        }
        _ => {}
    }
}
