//! What a process leaves to its successor, and a file to a restart: every task as it stands, every
//! token by its digest, every revocation.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Authority, Held, Revocation, TokenDigest, UsedToken};
use crate::task::{Life, Snapshot, Task, TaskKey, Terms};

/// Everything that is known of authority.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Estate {
    pub(super) tasks: Vec<Left>,
    pub(super) revocations: Vec<Revocation>,
    pub(super) used: Vec<UsedToken>,
    /// The tokens that are bound to listeners, by listener.
    pub(super) current: HashMap<Arc<str>, TokenDigest>,
}

/// One task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) task: TaskKey,
    pub(super) life: Snapshot,
    pub(super) tokens: Vec<(TokenDigest, Terms)>,
    pub(super) heard: Timestamp,
}

impl Authority {
    /// Everything as it stands.
    pub fn leave(&self) -> Estate {
        self.leave_as(Life::snapshot)
    }

    /// The same, with the lives of tasks as that has them.
    pub(super) fn leave_as(&self, of: impl Fn(&Life) -> Snapshot) -> Estate {
        let memory = self.tasks.read();
        let left = |(key, held): (&TaskKey, &Held)| Left {
            task: key.clone(),
            life: of(&held.life),
            tokens: held
                .tokens
                .iter()
                .map(|(digest, task)| (*digest, task.terms().clone()))
                .collect(),
            heard: held.heard,
        };
        let digest = |task: &Arc<Task>| {
            let held = memory.by_key.get(&task.terms().task())?;
            let one = held.tokens.iter().find(|(_, one)| Arc::ptr_eq(one, task))?;
            Some(one.0)
        };
        let bound = memory.current.iter();
        Estate {
            tasks: memory.by_key.iter().map(left).collect(),
            revocations: self.revocations().all(),
            used: self.used.leave(),
            current: bound
                .filter_map(|(listener, task)| Some((Arc::clone(listener), digest(task)?)))
                .collect(),
        }
    }

    /// Takes over what was left: tokens, what they have spent, their ends. Tasks stay bound to the
    /// listeners that tasks may be bound to here.
    pub fn inherit(&self, estate: Estate, binds: impl Fn(&str) -> bool) {
        for revocation in estate.revocations {
            // There is as much room as there was.
            self.carry_out(&revocation.decree()).ok();
        }
        self.used.inherit(estate.used);
        let mut memory = self.tasks.write();
        for left in &estate.tasks {
            let held = Held {
                life: Arc::new(Life::resumed(left.life)),
                tokens: Vec::new(),
                heard: left.heard,
            };
            memory.by_key.insert(left.task.clone(), held);
        }
        let mut waiting: Vec<_> = estate
            .tasks
            .into_iter()
            .flat_map(|left| left.tokens)
            .collect();
        let mut tokens = Vec::new();
        // Parents come before their children.
        while !waiting.is_empty() {
            let before = waiting.len();
            let missing: std::collections::HashSet<TaskKey> =
                waiting.iter().map(|(_, terms)| terms.task()).collect();
            waiting.retain(|(digest, terms)| {
                let above = terms.derived_from();
                if above.as_ref().is_some_and(|above| missing.contains(above)) {
                    return true;
                }
                let parent = above.as_ref().and_then(|above| memory.newest(above));
                tokens.extend(memory.resume(*digest, terms.clone(), parent));
                false
            });
            if waiting.len() == before {
                tracing::error!("tasks that are derived from each other were left out");
                break;
            }
        }
        for (listener, digest) in estate.current {
            if let (true, Some(task)) = (binds(&listener), memory.by_token.get(&digest)) {
                let task = Arc::clone(task);
                memory.current.insert(listener, task);
            }
        }
        drop(memory);
        for task in &tokens {
            self.settle(task);
        }
    }
}

impl super::Memory {
    /// Goes on with a token.
    fn resume(
        &mut self,
        digest: TokenDigest,
        terms: Terms,
        parent: Option<Arc<Task>>,
    ) -> Option<Arc<Task>> {
        let above = terms.derived_from();
        let above = above.and_then(|above| self.by_key.get(&above));
        let above = above.map(|held| Arc::clone(&held.life));
        let held = self.by_key.get_mut(&terms.task())?;
        if let Some(above) = above {
            held.life.derive(&above).ok()?;
        }
        let task = Arc::new(Task::of(terms, Arc::clone(&held.life), parent));
        held.tokens.push((digest, Arc::clone(&task)));
        self.by_token.insert(digest, Arc::clone(&task));
        Some(task)
    }
}
