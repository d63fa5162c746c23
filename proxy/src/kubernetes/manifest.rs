//! The text of a manifest: documents of YAML or JSON. What is not changed goes out as it came in.

use serde_json::Value;

use super::{
    inject::{self, Plan, Refused, pods},
    settings::{Settings, Writer},
    yaml::{Node, Unread},
};

/// What is to be done about each pod.
#[derive(Debug, Clone, Copy)]
pub enum Task<'a> {
    /// Put the sidecar in.
    Inject(&'a Settings),
    /// Take it out.
    Remove,
}

/// A manifest that cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It is not YAML that we understand; lines are counted from 1 in the whole text.
    #[error("{0}")]
    Unread(Unread),
    /// A pod in it cannot have a sidecar.
    #[error("{object}: {why}")]
    Refused {
        /// Its kind and name.
        object: String,
        /// Why not.
        why: Refused,
    },
}

/// What became of a manifest.
#[derive(Debug, Default)]
pub struct Done {
    /// The text.
    pub text: String,
    /// What happened to each object that has a pod.
    pub objects: Vec<Object>,
}

/// An object that has a pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    /// Its kind and name.
    pub name: String,
    /// Whether it was changed.
    pub changed: bool,
    /// It wants no sidecar.
    pub disabled: bool,
    /// What weakens the sidecar.
    pub warnings: Vec<String>,
}

/// Changes a manifest.
///
/// # Errors
/// The first document that cannot be changed.
pub fn change(text: &str, task: Task<'_>) -> Result<Done, Failed> {
    let mut done = Done::default();
    let mut line = 0;
    for document in documents(text) {
        let changed = one(document, task, &mut done.objects).map_err(|failed| match failed {
            Failed::Unread(unread) => Failed::Unread(Unread {
                line: unread.line + line,
                ..unread
            }),
            refused @ Failed::Refused { .. } => refused,
        })?;
        line += document.lines().count();
        match changed {
            Some(changed) => {
                let (head, _) = marked(document);
                done.text.push_str(head);
                done.text.push_str(&changed);
            }
            None => done.text.push_str(document),
        }
    }
    Ok(done)
}

/// The documents, each with the line `---` before it.
fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut from, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if is_mark(line) && at > from {
            documents.extend(text.get(from..at));
            from = at;
        }
        at += line.len();
    }
    documents.extend(text.get(from..));
    documents
}

fn is_mark(line: &str) -> bool {
    let rest = line.strip_prefix("---");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\n', '\r', '\t']))
}

/// A document's mark, if it has a line of its own, and what comes after it.
fn marked(document: &str) -> (&str, &str) {
    let line = document.split_inclusive('\n').next().unwrap_or_default();
    let alone = is_mark(line) && line.trim_end() == "---";
    document.split_at(if alone { line.len() } else { 0 })
}

fn one(
    document: &str,
    task: Task<'_>,
    objects: &mut Vec<Object>,
) -> Result<Option<String>, Failed> {
    // What has no pod need not be understood.
    if !document.contains("containers") {
        return Ok(None);
    }
    let Some(mut node) = Node::read(document).map_err(Failed::Unread)? else {
        return Ok(None);
    };
    let object = node.to_value();
    let mut touched = false;
    for (place, pod, name) in pods(&object) {
        let disabled = matches!(task, Task::Inject(_)) && inject::is_disabled(pod);
        let plan = if disabled {
            Ok(Plan::default())
        } else {
            planned(pod, task)
        };
        let plan = plan.map_err(|why| Failed::Refused {
            object: name.clone(),
            why,
        })?;
        for change in &plan.changes {
            node.apply(&change.below(&place));
        }
        touched |= !plan.changes.is_empty();
        objects.push(Object {
            name,
            changed: !plan.changes.is_empty(),
            disabled,
            warnings: plan.warnings,
        });
    }
    Ok(touched.then(|| node.write()))
}

fn planned(pod: &Value, task: Task<'_>) -> Result<Plan, Refused> {
    match task {
        Task::Inject(settings) => inject::inject(pod, settings, Writer::Operator),
        Task::Remove => Ok(inject::remove(pod)),
    }
}
