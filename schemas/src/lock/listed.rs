//! From what a server lists to what an operator can review.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{Annotations, Lock, LockedTool, digest};
use crate::json_schema::shown;

/// The level a tool is written with; the operator is told.
const LEVEL: &str = "internal";

/// The version a tool is written with; MCP tools have none.
const VERSION: &str = "1";

/// One sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The tool it is about, or the whole file.
    pub tool: Option<String>,
    /// The sentence.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tool {
            Some(tool) => write!(f, "tool `{}`: {}", shown(tool), self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Locks `tools`, leaving out what could not be enforced.
pub(super) fn lock(tools: &[Value], owner: &str) -> (Lock, Vec<Note>) {
    let mut locked = BTreeMap::new();
    let mut notes = Vec::new();
    let mut hints = 0_usize;
    for listed in tools {
        let name = text(listed, "name").unwrap_or_default();
        match locked_tool(&name, listed, owner, &locked) {
            Ok(tool) => {
                hints += usize::from(listed.get("annotations").is_some_and(Value::is_object));
                locked.insert(name, tool);
            }
            Err(why) => {
                let tool = (!name.is_empty()).then_some(name);
                notes.push(Note {
                    tool,
                    text: format!("left out: {why}"),
                });
            }
        }
    }
    notes.extend(summary(locked.len(), hints));
    (Lock { tools: locked }, notes)
}

fn locked_tool(
    name: &str,
    listed: &Value,
    owner: &str,
    known: &BTreeMap<String, LockedTool>,
) -> Result<LockedTool, String> {
    if name.is_empty() {
        return Err("it has no name".to_owned());
    }
    if known.contains_key(name) {
        return Err("it is listed twice; the first was taken".to_owned());
    }
    let input_schema = listed
        .get("inputSchema")
        .ok_or("it has no inputSchema")?
        .clone();
    let output_schema = listed.get("outputSchema").cloned();
    let tool = LockedTool {
        title: text(listed, "title"),
        description: text(listed, "description"),
        digest: digest(&input_schema, output_schema.as_ref()),
        input_schema,
        output_schema,
        annotations: Annotations::default(),
        classification: Some(LEVEL.to_owned()),
        labels: Vec::new(),
        owner: owner.to_owned(),
        version: VERSION.to_owned(),
    };
    crate::catalogue::check(&tool).map_err(|why| why.to_string())?;
    Ok(tool)
}

fn summary(tools: usize, hints: usize) -> Vec<Note> {
    let mut notes = Vec::new();
    if tools > 0 {
        notes.push(format!(
            "level `{LEVEL}` was written for {tools} tools; set what is right"
        ));
        notes.push(format!(
            "annotations were written as destructive, not idempotent, open-world for {tools} tools"
        ));
    }
    if hints > 0 {
        notes.push(format!(
            "the server's own hints on {hints} tools were not taken over; they are no evidence"
        ));
    }
    notes
        .into_iter()
        .map(|text| Note { tool: None, text })
        .collect()
}

fn text(listed: &Value, key: &str) -> Option<String> {
    listed.get(key).and_then(Value::as_str).map(str::to_owned)
}
