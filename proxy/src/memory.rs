//! What is remembered between the calls of one agent, beside its tasks.

use tokio::sync::{Semaphore, watch};

use crate::{followup::Followups, protocol::Sessions};

/// How many calls go on at once whose agents went away.
const MOST_ABANDONED: usize = 256;

/// Sessions, work that goes on, and whether what may be used has changed.
#[derive(Debug)]
pub struct Memory {
    /// The sessions of legacy MCP.
    pub sessions: Sessions,
    /// What services go on working at.
    pub followups: Followups,
    /// The revision of what may be used; streams that tell of changes wait on it.
    pub revision: watch::Sender<u64>,
    /// Nothing new begins: streams that have no end of their own end.
    pub stopping: watch::Sender<bool>,
    /// Places for calls that go on although their agents went away.
    pub abandoned: Semaphore,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            followups: Followups::default(),
            revision: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            abandoned: Semaphore::new(MOST_ABANDONED),
        }
    }
}
