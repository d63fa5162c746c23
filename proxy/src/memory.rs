//! What is remembered between the calls of one agent, beside its tasks.

use std::sync::{Arc, atomic::AtomicUsize};

use tokio::sync::watch;

use crate::{followup::Followups, listen::Place, protocol::Sessions};

/// How many calls that do not end with their agent may be under way: as many as a listener takes
/// connections when its configuration does not say.
const MOST_OUTLIVING: usize = 1024;

/// Sessions, work that goes on, and whether what may be used has changed.
#[derive(Debug)]
pub struct Memory {
    /// The sessions of legacy MCP.
    pub sessions: Sessions,
    /// What services go on working at.
    pub followups: Followups,
    /// The revision of what may be used; streams that tell of changes wait on it.
    pub revision: watch::Sender<u64>,
    /// Calls under way that do not end with their agent, whose connections therefore bound none.
    outliving: Arc<AtomicUsize>,
}

impl Memory {
    /// A place for a call that does not end with its agent, if one is left.
    pub(crate) fn outliving(&self) -> Option<Place> {
        Place::take_below(&self.outliving, MOST_OUTLIVING)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            followups: Followups::default(),
            revision: watch::Sender::new(0),
            outliving: Arc::default(),
        }
    }
}
