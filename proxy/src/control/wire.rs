//! The words of the control socket, spoken by the sidecar and by the command line.

use std::{fmt, path::PathBuf};

use jiff::Timestamp;
use outrider_policy::Level;
use serde::{Deserialize, Serialize};

use crate::task::{State, Task};

/// What is asked: one line of JSON such as `{"task_show":{"id":"…"}}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Opens a task.
    TaskOpen(OpenTask),
    /// Shows one task.
    TaskShow {
        /// Its ID.
        id: String,
    },
    /// Shows every remembered task.
    TaskList {},
    /// Says that the work of a task is done.
    TaskClose {
        /// Its ID.
        id: String,
    },
    /// Takes the authority of a task back.
    RevokeTask {
        /// Its ID.
        id: String,
        /// Why, for the security log.
        reason: Option<String>,
    },
    /// Takes over everything that the sidecar has. The reply is a refusal, or an empty line and
    /// then no more of these words.
    TakeOver(Bid),
}

/// What a process that wants to take over goes on with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bid {
    /// The agent's ID.
    pub agent: String,
    /// The decision log.
    pub decision_log: PathBuf,
    /// The security log.
    pub security_log: PathBuf,
}

/// The task that is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenTask {
    /// What the work is for: a declared intent.
    pub intent: String,
    /// The principal acted for; `uid:<n>` of who asks unless given.
    pub subject: Option<String>,
    /// The tools; the intent's unless given.
    pub tools: Option<Vec<String>>,
    /// The highest class of data; the intent's unless given.
    pub max_classification: Option<Level>,
    /// How many calls; any number unless given.
    pub calls: Option<u64>,
    /// How long it lasts, in seconds.
    pub ttl_s: u64,
    /// The listener to which it is bound.
    pub current: Option<String>,
}

/// What is answered, in one line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The task was opened.
    Opened {
        /// Its ID.
        id: String,
        /// Its token.
        token: Token,
        /// When it is over (RFC 3339).
        expires: String,
    },
    /// One task, as it stands after what was asked.
    Task(TaskView),
    /// Every remembered task, the oldest first.
    Tasks(Vec<TaskView>),
    /// Nothing was done, or it was not noted.
    Refused(Refusal),
}

/// Nothing was done, or it was not noted; and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind of refusal.
    pub fault: Fault,
    /// For people: what is wrong and what to do.
    pub message: String,
}

/// Why nothing was done or noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This user may not use the socket.
    NotAllowed,
    /// The request has not the form it should have.
    Malformed,
    /// There is no such task.
    UnknownTask,
    /// There is no such intent.
    UnknownIntent,
    /// There is no such listener.
    UnknownListener,
    /// Tasks may not be bound to listeners here.
    CurrentOff,
    /// It cannot be done at this moment.
    Unavailable,
    /// Another process is taking over: ask that one.
    Replaced,
    /// It could not be written to the security log: nothing was given; what was to be taken back
    /// is taken back all the same.
    Unrecorded,
}

/// A task's token: never printed by accident.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// The token itself, for whoever asked for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A task as people see it. It has no token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskView {
    /// Its ID.
    pub id: String,
    /// How it stands.
    pub state: State,
    /// What the work is for.
    pub intent: String,
    /// The principal acted for.
    pub subject: String,
    /// Who acts, nearest first.
    pub actors: Vec<String>,
    /// The tools; the intent's when absent.
    pub tools: Option<Vec<String>>,
    /// The highest class of data; the intent's when absent.
    pub max_classification: Option<Level>,
    /// How many calls it may make; any number when absent.
    pub calls: Option<u64>,
    /// How many calls it made.
    pub used: u64,
    /// The highest class of data it touched.
    pub high_water: Level,
    /// When it was opened (RFC 3339).
    pub opened: String,
    /// When it is over (RFC 3339).
    pub expires: String,
    /// Who opened it.
    pub opened_by: String,
}

impl TaskView {
    /// A task as it stands at `now`.
    pub fn of(task: &Task, now: Timestamp) -> Self {
        Self {
            id: task.id.to_string(),
            state: task.state(now),
            intent: task.intent.to_string(),
            subject: task.subject.to_string(),
            actors: task.actors.iter().map(ToString::to_string).collect(),
            tools: task
                .tools
                .as_ref()
                .map(|tools| tools.iter().map(|tool| tool.as_str().to_owned()).collect()),
            max_classification: task.max_classification,
            calls: task.budget,
            used: task.used(),
            high_water: task.high_water(),
            opened: task.opened.to_string(),
            expires: task.expires.to_string(),
            opened_by: task.opened_by.to_string(),
        }
    }
}
