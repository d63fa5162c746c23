//! The sections of a lock file: how their names become operations.

use std::fmt;

use serde_json::{Value, json};

use crate::template;

/// The methods that are calls of their own: they may be locked, nothing else may.
pub const METHODS: [&str; 3] = [
    "completion/complete",
    "resources/subscribe",
    "subscriptions/listen",
];

/// What the operation of a prompt begins with.
const PROMPT: &str = "prompt:";

/// A section of a lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `tools`: operations are the names.
    Tools,
    /// `resources`: operations are `resource:` and the URI or URI template.
    Resources,
    /// `prompts`: operations are `prompt:` and the name.
    Prompts,
    /// `methods`: operations are the names, of [`METHODS`].
    Methods,
}

/// A name that a section cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// A tool that policy could not tell from something else.
    #[error("a tool of this name would be mistaken for a {0}; have the server rename it")]
    Mistaken(Section),
    /// A method that is no call of its own.
    #[error("expected one of the methods {}", METHODS.join(", "))]
    Method,
}

impl fmt::Display for Section {
    /// What an entry of the section is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tools => "tool",
            Self::Resources => "resource",
            Self::Prompts => "prompt",
            Self::Methods => "method",
        })
    }
}

impl Section {
    /// The operation of that entry within its service.
    pub fn operation(self, name: &str) -> String {
        match self {
            Self::Tools | Self::Methods => name.to_owned(),
            Self::Resources => format!("{}{name}", template::PREFIX),
            Self::Prompts => format!("{PROMPT}{name}"),
        }
    }

    /// The `inputSchema` of entries that have none of their own; `None` where one is required.
    pub fn schema(self) -> Option<Value> {
        match self {
            Self::Tools | Self::Prompts => None,
            Self::Resources => Some(json!({
                "type": "object",
                "properties": {"uri": {"type": "string"}},
                "required": ["uri"],
                "additionalProperties": false
            })),
            Self::Methods => Some(json!({"type": "object"})),
        }
    }

    /// Checks that an entry may have that name, so that one operation is one thing.
    ///
    /// # Errors
    ///
    /// [`BadName`] for a tool that is called as another section's operations are, and for a method
    /// that is not one of [`METHODS`].
    pub fn admit(self, name: &str) -> Result<(), BadName> {
        match self {
            Self::Tools if METHODS.contains(&name) => Err(BadName::Mistaken(Self::Methods)),
            Self::Tools if name.starts_with(template::PREFIX) => {
                Err(BadName::Mistaken(Self::Resources))
            }
            Self::Tools if name.starts_with(PROMPT) => Err(BadName::Mistaken(Self::Prompts)),
            Self::Methods if !METHODS.contains(&name) => Err(BadName::Method),
            Self::Tools | Self::Resources | Self::Prompts | Self::Methods => Ok(()),
        }
    }
}
