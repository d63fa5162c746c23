//! What a process leaves to its successor: every task as it stands, with its token.

use std::{collections::HashMap, sync::Arc};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::{Held, Tasks};
use crate::task::{Standing, Task};

/// The tasks of one process. It holds bearer secrets: it is for the successor alone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Estate {
    tasks: Vec<Left>,
    /// The tasks that are bound to listeners, by listener.
    current: HashMap<Arc<str>, Arc<str>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Left {
    task: Standing,
    #[serde(serialize_with = "exposed")]
    token: SecretString,
}

fn exposed<S: Serializer>(token: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose_secret())
}

impl Tasks {
    /// Every task as it stands.
    pub fn leave(&self) -> Estate {
        let memory = self.read();
        let left = |held: &Held| Left {
            task: held.task.standing(),
            token: held.token.clone(),
        };
        Estate {
            tasks: memory.by_id.values().map(left).collect(),
            current: memory.current.clone(),
        }
    }

    /// Takes the tasks of a predecessor over: their tokens, what they have spent, their ends. They
    /// stay bound to the listeners that tasks may be bound to here.
    pub fn inherit(&self, estate: Estate, binds: impl Fn(&str) -> bool) {
        let mut memory = self.write();
        for Left { task, token } in estate.tasks {
            let task = Arc::new(Task::from(task));
            let (id, place) = (
                Arc::clone(&task.id),
                self.place(token.expose_secret().as_bytes()),
            );
            memory.by_token.insert(place, Arc::clone(&id));
            memory.by_id.insert(id, Held { task, token, place });
        }
        let bound = estate.current.into_iter();
        memory
            .current
            .extend(bound.filter(|(listener, _)| binds(listener)));
    }
}
