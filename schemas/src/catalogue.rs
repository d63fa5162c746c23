//! All tools of one service, compiled: what a call is looked up in and validated against.

mod headers;

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

pub use self::headers::{BadHeader, BadHeaderReason, Kind, ParamHeader};
use crate::{
    json_schema::{BadSchema, Schema},
    lock::{Lock, LockedTool},
    openapi::Api,
};

/// The tools of one service by the name of their operation.
#[derive(Debug, Default)]
pub struct Contract {
    tools: HashMap<Arc<str>, Arc<Tool>>,
    /// The names in order, so that listings are stable.
    order: Vec<Arc<Tool>>,
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
#[error("tool `{tool}`: {reason}")]
pub struct BadTool {
    /// The tool's name.
    pub tool: String,
    /// What is wrong.
    #[source]
    pub reason: BadContract,
}

/// What is wrong with a tool's contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadContract {
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
}

impl Contract {
    /// Compiles every tool of a lock file.
    ///
    /// # Errors
    ///
    /// Every [`BadTool`] there is; one of them refuses the whole.
    pub fn compile(lock: Lock) -> Result<Self, Vec<BadTool>> {
        let mut contract = Self::default();
        let mut bad = Vec::new();
        for (name, locked) in lock.tools {
            match compile(&name, locked) {
                Ok(tool) => contract.add(Arc::new(tool)),
                Err(reason) => bad.push(BadTool { tool: name, reason }),
            }
        }
        if bad.is_empty() {
            Ok(contract)
        } else {
            Err(bad)
        }
    }

<<<<<<< HEAD
    /// Adds a tool; one of the same name is replaced.
=======
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

>>>>>>> openapi
    fn add(&mut self, tool: Arc<Tool>) {
        self.order.push(Arc::clone(&tool));
        self.tools.insert(Arc::clone(&tool.operation), tool);
    }

    /// Finds a tool by the exact name of its operation.
    pub fn tool(&self, operation: &str) -> Option<&Arc<Tool>> {
        self.tools.get(operation)
    }

    /// All tools, in the order of their names.
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

/// Checks that a tool could be compiled.
///
/// # Errors
///
/// As [`Contract::compile`] for one tool.
pub fn check(locked: &LockedTool) -> Result<(), BadContract> {
    schemas(locked).map(drop)
}

type Compiled = (Schema, Option<Schema>, Vec<ParamHeader>);

fn schemas(locked: &LockedTool) -> Result<Compiled, BadContract> {
    if locked.input_schema.get("type") != Some(&Value::from("object")) {
        return Err(BadContract::NotAnObject);
    }
    let input = Schema::compile(&locked.input_schema).map_err(BadContract::Input)?;
    let output = locked.output_schema.as_ref().map(Schema::compile);
    let output = output.transpose().map_err(BadContract::Output)?;
    Ok((input, output, headers::headers(&locked.input_schema)?))
}

fn compile(name: &str, locked: LockedTool) -> Result<Tool, BadContract> {
    let (input, output, headers) = schemas(&locked)?;
    Ok(Tool {
        operation: name.into(),
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
