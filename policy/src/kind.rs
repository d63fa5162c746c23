//! What is called at a service.

use serde::{Deserialize, Serialize};

/// What is called at a service: tools, or a language model, which is granted apart from them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// Tools.
    #[default]
    Tool,
    /// A language model's API.
    Model,
}

impl ServiceKind {
    /// The word in configuration and policy input.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Model => "model",
        }
    }
}
