//! What an operation does, by its method (RFC 9110 §9.2) and by what its team says in `x-outrider`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::lock::LEVELS;

/// The owner of operations whose description names none.
const NOBODY: &str = "unassigned";

/// Methods that change nothing (RFC 9110 §9.2.1; QUERY is safe by its definition).
const SAFE: [&str; 5] = ["GET", "HEAD", "OPTIONS", "QUERY", "TRACE"];

/// Methods that may be repeated (RFC 9110 §9.2.2), besides the safe ones.
const IDEMPOTENT: [&str; 2] = ["DELETE", "PUT"];

/// The extension object `x-outrider`, at an operation, a path item or the document.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    owner: Option<String>,
    classification: Option<String>,
    labels: Option<Vec<String>>,
    read_only: Option<bool>,
    destructive: Option<bool>,
    idempotent: Option<bool>,
    open_world: Option<bool>,
    opaque_body: Option<bool>,
}

impl Said {
    /// Reads the extension of an object.
    ///
    /// # Errors
    ///
    /// A sentence, where it is not as it should be.
    pub(super) fn read(object: &Value) -> Result<Self, String> {
        let Some(said) = object.get("x-outrider") else {
            return Ok(Self::default());
        };
        let said = Self::deserialize(said).map_err(|why| format!("`x-outrider`: {why}"))?;
        if let Some(level) = &said.classification
            && !LEVELS.contains(&level.as_str())
        {
            return Err(format!(
                "`x-outrider.classification` is none of {}",
                LEVELS.join(", ")
            ));
        }
        if said
            .owner
            .as_ref()
            .is_some_and(|owner| owner.trim().is_empty())
        {
            return Err("`x-outrider.owner` is empty".to_owned());
        }
        Ok(said)
    }

    /// What is said here, and what is said around it where nothing is said here.
    pub(super) fn within(self, outer: &Self) -> Self {
        Self {
            owner: self.owner.or_else(|| outer.owner.clone()),
            classification: self.classification.or_else(|| outer.classification.clone()),
            labels: self.labels.or_else(|| outer.labels.clone()),
            read_only: self.read_only.or(outer.read_only),
            destructive: self.destructive.or(outer.destructive),
            idempotent: self.idempotent.or(outer.idempotent),
            open_world: self.open_world.or(outer.open_world),
            opaque_body: self.opaque_body.or(outer.opaque_body),
        }
    }

    /// Whether bodies that cannot be judged pass.
    pub(super) fn allows_opaque_body(&self) -> bool {
        self.opaque_body == Some(true)
    }

    /// What is known of an operation with this method.
    pub(super) fn facts(self, method: &str) -> Facts {
        let safe = SAFE.contains(&method);
        let repeatable = safe || IDEMPOTENT.contains(&method);
        let read_only = self.read_only.unwrap_or(safe);
        let labels = self.labels.unwrap_or_default();
        Facts {
            owner: self.owner.as_deref().unwrap_or(NOBODY).into(),
            classification: self.classification,
            labels: labels.into_iter().map(Arc::from).collect(),
            read_only,
            destructive: self.destructive.unwrap_or(!read_only),
            idempotent: self.idempotent.unwrap_or(repeatable || read_only),
            open_world: self.open_world.unwrap_or(true),
        }
    }
}

/// What is known of an operation besides its contract.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent facts, named by MCP"
)]
pub(super) struct Facts {
    pub(super) owner: Arc<str>,
    pub(super) classification: Option<String>,
    pub(super) labels: Vec<Arc<str>>,
    pub(super) read_only: bool,
    pub(super) destructive: bool,
    pub(super) idempotent: bool,
    pub(super) open_world: bool,
}
