//! The MCP lock file: what one server offers as the operator has read and agreed to it.
//!
//! Tools, resources, prompts and the few other methods that are calls have one form and a section
//! each. The file, not the running server, is the contract. Each tool carries a digest of its
//! schemas, so a schema that is edited without being looked at again does not load. What a server says of
//! itself in `annotations` (MCP 2026-07-28 tools, `ToolAnnotations`) are hints and never facts;
//! the annotations in here are the operator's, and an absent one is read pessimistically.

mod listed;
mod section;

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::{self, Malformed};

pub use self::{
    listed::{Listed, Note},
    section::{BadName, METHODS, Section},
};

/// The levels of classification, lowest first.
pub const LEVELS: [&str; 4] = ["public", "internal", "confidential", "restricted"];

/// What one MCP server offers. All sections have the entries of tools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lock {
    /// The tools by name.
    pub tools: Entries,
    /// The resources by URI or URI template.
    pub resources: Entries,
    /// The prompts by name.
    pub prompts: Entries,
    /// The methods by name, of [`METHODS`].
    pub methods: Entries,
}

/// The entries of one section.
pub type Entries = BTreeMap<String, LockedTool>;

/// One tool, or what stands as one in another section, as it was agreed to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedTool {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the server says the tool does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema of the arguments; its root has `type: object`. A file may leave it out where
    /// [`Section::schema`] has one, which is then in here.
    #[serde(rename = "inputSchema")]
    pub input_schema: Value,
    /// The schema of the structured result.
    #[serde(
        rename = "outputSchema",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub output_schema: Option<Value>,
    /// What the operator knows of the tool's effects.
    #[serde(default)]
    pub annotations: Annotations,
    /// The level of the data, one of [`LEVELS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    /// Labels such as `pii.email`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The team that answers for the tool.
    pub owner: String,
    /// The version the team gave it.
    pub version: String,
    /// [`digest`] of the two schemas.
    pub digest: String,
}

/// The effects of a tool. What is absent from a file is read as the worse case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, named by MCP"
)]
pub struct Annotations {
    /// The tool changes nothing.
    pub read_only: bool,
    /// The tool may destroy or overwrite.
    pub destructive: bool,
    /// The same call twice has the effect of one.
    pub idempotent: bool,
    /// The tool reaches beyond the service's own data.
    pub open_world: bool,
}

impl Default for Annotations {
    fn default() -> Self {
        Self {
            read_only: false,
            destructive: true,
            idempotent: false,
            open_world: true,
        }
    }
}

/// A lock file that is not read, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLock {
    /// Not strict JSON.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Not a lock file as a whole.
    #[error("not a lock file: {0}")]
    Form(String),
    /// A version of the format this build does not read.
    #[error("`outrider_lock` is {0}; this build reads 1")]
    Version(u64),
    /// A lock file of another protocol.
    #[error("`protocol` is `{0}`; expected `mcp`")]
    Protocol(String),
    /// An entry that is not as the format asks.
    #[error("{section} `{tool}`: {detail}")]
    Tool {
        /// Where it is.
        section: Section,
        /// The tool's name.
        tool: String,
        /// What is wrong.
        detail: String,
    },
    /// An entry whose schemas are not those the digest was made of.
    #[error(
        "{section} `{tool}`: the schemas do not match `digest`; review them, then write \
         `\"digest\": \"{actual}\"` or lock the server again"
    )]
    Digest {
        /// Where it is.
        section: Section,
        /// The tool's name.
        tool: String,
        /// The digest of the schemas in the file.
        actual: String,
    },
}

/// The whole file, its entries not looked into yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    outrider_lock: u64,
    protocol: String,
    tools: BTreeMap<String, Value>,
    #[serde(default)]
    resources: BTreeMap<String, Value>,
    #[serde(default)]
    prompts: BTreeMap<String, Value>,
    #[serde(default)]
    methods: BTreeMap<String, Value>,
}

/// The whole file, as it is written.
#[derive(Serialize)]
struct Written {
    outrider_lock: u64,
    protocol: &'static str,
    tools: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    resources: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    prompts: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    methods: BTreeMap<String, Value>,
}

impl Lock {
    /// Reads a lock file.
    ///
    /// # Errors
    ///
    /// [`BadLock`] names the tool and what is wrong with it; one bad tool refuses the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadLock> {
        let document = json::parse_document(bytes)?;
        let file: File =
            serde_json::from_value(document).map_err(|error| BadLock::Form(error.to_string()))?;
        file.check()?;
        Ok(Self {
            tools: read(Section::Tools, file.tools)?,
            resources: read(Section::Resources, file.resources)?,
            prompts: read(Section::Prompts, file.prompts)?,
            methods: read(Section::Methods, file.methods)?,
        })
    }

    /// Writes the file: two spaces, entries by name, members of schemas by name, a newline at the
    /// end. Empty sections but `tools` and the schemas of [`Section::schema`] are left out.
    pub fn to_json(&self) -> String {
        let written = Written {
            outrider_lock: 1,
            protocol: "mcp",
            tools: write(Section::Tools, &self.tools),
            resources: write(Section::Resources, &self.resources),
            prompts: write(Section::Prompts, &self.prompts),
            methods: write(Section::Methods, &self.methods),
        };
        // Strings, numbers and string keys only: there is nothing in here that cannot be written.
        let mut text = serde_json::to_string_pretty(&written).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The sections with their entries, tools first.
    pub fn sections(self) -> [(Section, Entries); 4] {
        [
            (Section::Tools, self.tools),
            (Section::Resources, self.resources),
            (Section::Prompts, self.prompts),
            (Section::Methods, self.methods),
        ]
    }

    /// Makes a lock from the tools a server lists, the `Tool` objects of all pages of
    /// `tools/list`. The notes say what was decided for the operator and what was left out.
    pub fn from_listed(tools: &[Value], owner: &str) -> (Self, Vec<Note>) {
        let listed = Listed {
            tools: tools.to_vec(),
            ..Listed::default()
        };
        Self::from_server(&listed, owner)
    }

    /// Makes a lock from all that a server lists. The notes say what was decided for the operator
    /// and what was left out.
    pub fn from_server(listed: &Listed, owner: &str) -> (Self, Vec<Note>) {
        listed::lock(listed, owner)
    }
}

impl File {
    fn check(&self) -> Result<(), BadLock> {
        if self.outrider_lock != 1 {
            return Err(BadLock::Version(self.outrider_lock));
        }
        if self.protocol != "mcp" {
            return Err(BadLock::Protocol(self.protocol.clone()));
        }
        Ok(())
    }
}

fn read(section: Section, entries: BTreeMap<String, Value>) -> Result<Entries, BadLock> {
    let entries = entries.into_iter().map(|(name, mut entry)| {
        // INVARIANT: what is digested and compiled is always the schema that holds.
        if let (Some(schema), Some(entry)) = (section.schema(), entry.as_object_mut()) {
            entry.entry("inputSchema").or_insert(schema);
        }
        let tool = read_tool(section, &name, entry)?;
        Ok((name, tool))
    });
    entries.collect()
}

fn write(section: Section, entries: &Entries) -> BTreeMap<String, Value> {
    let entries = entries.iter().map(|(name, tool)| {
        let mut value = serde_json::to_value(tool).unwrap_or_default();
        for schema in ["inputSchema", "outputSchema"] {
            if let Some(schema) = value.get_mut(schema) {
                schema.sort_all_objects();
            }
        }
        if let Some(members) = value.as_object_mut()
            && members.get("inputSchema") == section.schema().as_ref()
        {
            members.retain(|name, _| name != "inputSchema");
        }
        (name.clone(), value)
    });
    entries.collect()
}

fn read_tool(section: Section, name: &str, tool: Value) -> Result<LockedTool, BadLock> {
    let bad = |detail: String| BadLock::Tool {
        section,
        tool: name.to_owned(),
        detail,
    };
    let tool: LockedTool = serde_json::from_value(tool).map_err(|error| bad(error.to_string()))?;
    if name.is_empty() {
        return Err(bad(format!("a {section} needs a name")));
    }
    attended(&tool.owner, &tool.version, tool.classification.as_deref()).map_err(bad)?;
    let actual = digest(&tool.input_schema, tool.output_schema.as_ref());
    if actual == tool.digest {
        Ok(tool)
    } else {
        Err(BadLock::Digest {
            section,
            tool: name.to_owned(),
            actual,
        })
    }
}

/// Checks what the operator says of a tool.
///
/// # Errors
/// What is wrong: an empty owner or version, or a level that is none of [`LEVELS`].
pub(crate) fn attended(
    owner: &str,
    version: &str,
    classification: Option<&str>,
) -> Result<(), String> {
    for (key, text) in [("owner", owner), ("version", version)] {
        if text.trim().is_empty() {
            return Err(format!("`{key}` is empty"));
        }
    }
    match classification {
        Some(level) if !LEVELS.contains(&level) => Err(format!(
            "`classification` is `{level}`; expected {}",
            LEVELS.join(", ")
        )),
        _ => Ok(()),
    }
}

/// Digests the contract of a tool: `sha256:` and the hex of SHA-256 over the RFC 8785 form of
/// `{inputSchema, outputSchema}`, the second only where there is one.
pub fn digest(input_schema: &Value, output_schema: Option<&Value>) -> String {
    let contract: BTreeMap<&str, &Value> = [("inputSchema", Some(input_schema))]
        .into_iter()
        .chain([("outputSchema", output_schema)])
        .filter_map(|(name, schema)| Some((name, schema?)))
        .collect();
    canonical_digest(&contract)
}

/// `sha256:` and the hex of SHA-256 over the RFC 8785 form.
pub(crate) fn canonical_digest(contract: &BTreeMap<&str, &Value>) -> String {
    // A value read from JSON has a canonical form; an empty one would match no digest.
    let canonical = serde_jcs::to_vec(contract).unwrap_or_default();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &canonical);
    let mut text = String::from("sha256:");
    for byte in hash.as_ref() {
        // INVARIANT: writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

#[cfg(test)]
mod tests;
