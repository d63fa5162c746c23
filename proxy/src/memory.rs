//! What is remembered between the calls of one agent, beside its tasks.

use tokio::sync::watch;

use crate::{followup::Followups, protocol::Sessions};

/// Sessions, work that goes on, and whether what may be used has changed.
#[derive(Debug)]
pub struct Memory {
    /// The sessions of legacy MCP.
    pub sessions: Sessions,
    /// What services go on working at.
    pub followups: Followups,
    /// The revision of what may be used; streams that tell of changes wait on it.
    pub revision: watch::Sender<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            followups: Followups::default(),
            revision: watch::Sender::new(0),
        }
    }
}
