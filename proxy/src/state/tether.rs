//! What a call under way hangs on: its task and its agent. Whoever carries it out lets go when one
//! of them may act no more.

use std::{future::pending, sync::Arc};

use super::Authority;
use crate::task::{State, Task};

/// What may end a call before its time.
#[derive(Clone, Debug)]
pub struct Tether {
    /// Whoever acts.
    pub authority: Arc<Authority>,
    /// Under what.
    pub task: Option<Arc<Task>>,
}

/// Why a call is over before its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severed {
    /// The agent may act no more.
    Agent,
    /// Its task has ended, or stopped.
    Task(State),
}

impl Tether {
    /// Waits until it is severed.
    pub async fn severed(self) -> Severed {
        let task = async {
            match &self.task {
                Some(task) => task.ended().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.authority.standing.revoked() => Severed::Agent,
            state = task => Severed::Task(state),
        }
    }
}
