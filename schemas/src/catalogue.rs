//! All tools of one service, compiled: what a call is looked up in and validated against.
//!
//! Resources, prompts and the other methods of an MCP server that are calls stand here as tools:
//! `resource:` and a URI template, `prompt:` and a name, a method's name.

mod headers;

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

pub use self::headers::{BadHeader, BadHeaderReason, Kind, ParamHeader};
use crate::{
    json_schema::{BadSchema, Schema},
    lock::{BadName, Lock, LockedTool, Section},
    openapi::Api,
    template::{BadTemplate, Templates},
};

/// The tools of one service by the name of their operation.
#[derive(Debug, Default)]
pub struct Contract {
    tools: HashMap<Arc<str>, Arc<Tool>>,
    /// The names in order, so that listings are stable.
    order: Vec<Arc<Tool>>,
    /// The operations of resources by their URIs.
    resources: Templates,
}

/// One tool: its facts and its compiled contract.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, named by MCP"
)]
pub struct Tool {
    /// The operation's name within its service.
    pub operation: Arc<str>,
    /// The team that answers for it.
    pub owner: Arc<str>,
    /// The version of its contract.
    pub version: Arc<str>,
    /// `sha256:` and the hex digest of its schemas.
    pub digest: Arc<str>,
    /// Its level, if the catalogue names one.
    pub classification: Option<String>,
    /// Labels such as `pii.email`.
    pub labels: Vec<Arc<str>>,
    /// It changes nothing.
    pub read_only: bool,
    /// It may destroy or overwrite.
    pub destructive: bool,
    /// The same call twice has the effect of one.
    pub idempotent: bool,
    /// It reaches beyond the service's own data.
    pub open_world: bool,
    /// The contract of the arguments.
    pub input: Schema,
    /// The contract of the structured result.
    pub output: Option<Schema>,
    /// The arguments that are mirrored in headers.
    pub headers: Vec<ParamHeader>,
}

/// A tool that cannot be enforced as published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{section} `{tool}`: {reason}")]
pub struct BadTool {
    /// The section of the lock file it is in.
    pub section: Section,
    /// Its name there.
    pub tool: String,
    /// What is wrong.
    #[source]
    pub reason: BadContract,
}

/// What is wrong with a tool's contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadContract {
    /// A name that its section cannot have.
    #[error(transparent)]
    Name(#[from] BadName),
    /// More resources than are served, found when all were read.
    #[error(transparent)]
    Template(#[from] BadTemplate),
    /// MCP wants arguments to be an object (2026-07-28 tools, `inputSchema`).
    #[error("the root of `inputSchema` must have `type: object`")]
    NotAnObject,
    /// The schema of the arguments does not compile.
    #[error("inputSchema: {0}")]
    Input(#[source] BadSchema),
    /// The schema of the result does not compile.
    #[error("outputSchema: {0}")]
    Output(#[source] BadSchema),
    /// A header annotation that invalidates the tool.
    #[error(transparent)]
    Header(#[from] BadHeader),
    /// A header annotation on what is no tool (MCP 2026-07-28: `tools/call` alone mirrors).
    #[error("`x-mcp-header` in inputSchema: only arguments of tools are mirrored in headers")]
    NoHeaders,
}

impl Contract {
    /// Compiles every entry of a lock file. The operation of a tool and of a method is its name,
    /// that of a resource `resource:` and its URI or template, that of a prompt `prompt:` and its
    /// name.
    ///
    /// # Errors
    ///
    /// Every [`BadTool`] there is; one of them refuses the whole.
    pub fn compile(lock: Lock) -> Result<Self, Vec<BadTool>> {
        let (mut contract, mut bad) = (Self::default(), Vec::new());
        match Templates::new(lock.resources.keys().map(String::as_str)) {
            Ok(templates) => contract.resources = templates,
            Err(flaws) => bad.extend(flaws.into_iter().map(BadTool::from)),
        }
        for (section, entries) in lock.sections() {
            for (name, locked) in entries {
                match compile(section, &name, locked) {
                    Ok(tool) => contract.add(Arc::new(tool)),
                    Err(reason) => bad.push(BadTool {
                        section,
                        tool: name,
                        reason,
                    }),
                }
            }
        }
        if bad.is_empty() {
            Ok(contract)
        } else {
            Err(bad)
        }
    }

    /// The operations of the locked resources by their URIs.
    pub fn resources(&self) -> &Templates {
        &self.resources
    }

    /// The tools of a description, one for each operation that is served.
    pub fn of_api(api: &Api) -> Self {
        let mut tools: Vec<_> = api.operations().map(|one| Arc::clone(&one.tool)).collect();
        tools.sort_by(|one, other| one.operation.cmp(&other.operation));
        let mut contract = Self::default();
        for tool in tools {
            contract.add(tool);
        }
        contract
    }

    /// Adds a tool; one of the same name is replaced.
    fn add(&mut self, tool: Arc<Tool>) {
        self.order.push(Arc::clone(&tool));
        self.tools.insert(Arc::clone(&tool.operation), tool);
    }

    /// Finds a tool by the exact name of its operation.
    pub fn tool(&self, operation: &str) -> Option<&Arc<Tool>> {
        self.tools.get(operation)
    }

    /// All tools: section by section, each in the order of the names.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.order.iter()
    }
}

impl FromIterator<Tool> for Contract {
    fn from_iter<I: IntoIterator<Item = Tool>>(tools: I) -> Self {
        let mut contract = Self::default();
        tools
            .into_iter()
            .for_each(|tool| contract.add(Arc::new(tool)));
        contract
    }
}

impl From<BadTemplate> for BadTool {
    fn from(bad: BadTemplate) -> Self {
        Self {
            section: Section::Resources,
            tool: bad.template.clone(),
            reason: bad.into(),
        }
    }
}

/// Checks that an entry could be compiled.
///
/// # Errors
///
/// As [`Contract::compile`] for one entry.
pub fn check(section: Section, name: &str, locked: &LockedTool) -> Result<(), BadContract> {
    if section == Section::Resources {
        Templates::new([name]).map_err(|mut bad| bad.remove(0))?;
    }
    schemas(section, name, locked).map(drop)
}

type Compiled = (Schema, Option<Schema>, Vec<ParamHeader>);

fn schemas(section: Section, name: &str, locked: &LockedTool) -> Result<Compiled, BadContract> {
    section.admit(name)?;
    if locked.input_schema.get("type") != Some(&Value::from("object")) {
        return Err(BadContract::NotAnObject);
    }
    let input = Schema::compile(&locked.input_schema).map_err(BadContract::Input)?;
    let output = locked.output_schema.as_ref().map(Schema::compile);
    let output = output.transpose().map_err(BadContract::Output)?;
    let headers = headers::headers(&locked.input_schema)?;
    if section == Section::Tools || headers.is_empty() {
        Ok((input, output, headers))
    } else {
        Err(BadContract::NoHeaders)
    }
}

fn compile(section: Section, name: &str, locked: LockedTool) -> Result<Tool, BadContract> {
    let (input, output, headers) = schemas(section, name, &locked)?;
    Ok(Tool {
        operation: section.operation(name).into(),
        owner: locked.owner.into(),
        version: locked.version.into(),
        digest: locked.digest.into(),
        classification: locked.classification,
        labels: locked.labels.into_iter().map(Arc::from).collect(),
        read_only: locked.annotations.read_only,
        destructive: locked.annotations.destructive,
        idempotent: locked.annotations.idempotent,
        open_world: locked.annotations.open_world,
        input,
        output,
        headers,
    })
}

#[cfg(test)]
mod tests;
