//! Changes of a JSON document, applied and remembered at once (RFC 6902: `add` and `remove`).

use serde_json::{Value, json};

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A value comes to a place: into an object, or into an array before what is there.
    Add {
        /// Where, as a JSON Pointer (RFC 6901).
        path: String,
        /// What.
        value: Value,
    },
    /// A value goes.
    Remove {
        /// Where, as a JSON Pointer.
        path: String,
    },
}

impl Change {
    /// Where it happens.
    pub fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Remove { path } => path,
        }
    }

    /// The same in a document of which this one is a part, at that place.
    #[must_use]
    pub fn below(&self, place: &str) -> Self {
        let mut change = self.clone();
        let (Self::Add { path, .. } | Self::Remove { path }) = &mut change;
        path.insert_str(0, place);
        change
    }

    /// As an operation of a JSON Patch.
    pub fn operation(&self) -> Value {
        match self {
            Self::Add { path, value } => json!({ "op": "add", "path": path, "value": value }),
            Self::Remove { path } => json!({ "op": "remove", "path": path }),
        }
    }
}

/// A name as one step of a JSON Pointer.
pub(super) fn step(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The steps of a JSON Pointer.
pub(super) fn steps(path: &str) -> impl Iterator<Item = String> {
    let steps = path.split('/').skip(1);
    steps.map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// A document and what was changed about it.
#[derive(Debug)]
pub(super) struct Edited {
    /// As it stands.
    pub(super) value: Value,
    /// What was done, in order.
    pub(super) changes: Vec<Change>,
}

impl Edited {
    /// Begins with a document.
    pub(super) fn new(value: Value) -> Self {
        Self {
            value,
            changes: Vec::new(),
        }
    }

    /// The array at a place, empty where there is none.
    pub(super) fn list(&self, path: &str) -> &[Value] {
        let list = self.value.pointer(path).and_then(Value::as_array);
        list.map_or(&[], Vec::as_slice)
    }

    /// Puts a value into an array, at its end where no index is named; makes the array if need be.
    pub(super) fn insert(&mut self, list: &str, at: Option<usize>, value: Value) {
        self.have(list, json!([]));
        let at = at.unwrap_or_else(|| self.list(list).len());
        self.add(format!("{list}/{at}"), value);
    }

    /// Puts a value under a name, and makes the object around it if need be.
    pub(super) fn set(&mut self, object: &str, name: &str, value: Value) {
        self.have(object, json!({}));
        self.remove(&format!("{object}/{}", step(name)));
        self.add(format!("{object}/{}", step(name)), value);
    }

    /// Takes away what is there, if it is.
    pub(super) fn remove(&mut self, path: &str) {
        if self.value.pointer(path).is_some() {
            self.change(Change::Remove {
                path: path.to_owned(),
            });
        }
    }

    /// Takes the members of an array away that are of a kind, and the array if none is left.
    pub(super) fn retain(&mut self, list: &str, stays: impl Fn(&Value) -> bool) {
        let there = self.list(list).len();
        let members = self.list(list).iter().enumerate();
        let gone = members.filter(|(_, one)| !stays(one)).map(|(at, _)| at);
        let gone: Vec<_> = gone.collect();
        if gone.len() == there {
            return self.remove(list);
        }
        for at in gone.into_iter().rev() {
            self.remove(&format!("{list}/{at}"));
        }
    }

    /// Takes an object away that is empty.
    pub(super) fn tidy(&mut self, path: &str) {
        if self
            .value
            .pointer(path)
            .is_some_and(|one| *one == json!({}))
        {
            self.remove(path);
        }
    }

    fn have(&mut self, path: &str, empty: Value) {
        let there = self.value.pointer(path).is_some_and(|one| !one.is_null());
        if !there {
            if let Some((around, _)) = path
                .rsplit_once('/')
                .filter(|(around, _)| !around.is_empty())
            {
                self.have(around, json!({}));
            }
            self.add(path.to_owned(), empty);
        }
    }

    fn add(&mut self, path: String, value: Value) {
        self.change(Change::Add { path, value });
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.value, &change);
        self.changes.push(change);
    }
}

/// Applies a change whose place is there; else nothing happens.
fn apply(to: &mut Value, change: &Change) {
    let Some((around, last)) = change.path().rsplit_once('/') else {
        return;
    };
    let Some(around) = to.pointer_mut(around) else {
        return;
    };
    let name = last.replace("~1", "/").replace("~0", "~");
    match (around, change) {
        (Value::Object(object), Change::Add { value, .. }) => {
            object.insert(name, value.clone());
        }
        (Value::Object(object), Change::Remove { .. }) => {
            object.remove(&name);
        }
        (Value::Array(array), Change::Add { value, .. }) => {
            let at = name.parse().unwrap_or(array.len());
            array.insert(at.min(array.len()), value.clone());
        }
        (Value::Array(array), Change::Remove { .. }) => {
            if let Some(at) = name.parse().ok().filter(|at| *at < array.len()) {
                array.remove(at);
            }
        }
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), _) => {}
    }
}
