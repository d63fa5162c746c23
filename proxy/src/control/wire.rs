//! The words of the control socket, spoken by the sidecar and by the command line.

use std::{fmt, path::PathBuf};

use jiff::Timestamp;
use outrider_policy::Level;
use serde::{Deserialize, Serialize};

use crate::{
    doctor::Finding,
    state::Revocation,
    task::{Confidence, State, Task},
};

/// What is asked: one line of JSON such as `{"task_show":{"id":"…"}}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Opens a task.
    TaskOpen(OpenTask),
    /// Shows one task.
    TaskShow(OfTask),
    /// Shows every remembered task.
    TaskList {},
    /// Says that the work of a task is done.
    TaskClose(OfTask),
    /// Stops a task for now.
    TaskSuspend(OfTask),
    /// Lets a suspended task go on.
    TaskResume(OfTask),
    /// Says how sure one is of a task.
    TaskConfidence {
        /// Which.
        task: OfTask,
        /// From 0 to 1.
        confidence: f64,
    },
    /// Takes authority back.
    Revoke {
        /// From whom or what.
        target: Named,
        /// What was issued later may stay.
        issued_before: Option<Timestamp>,
        /// Why, for the security log.
        reason: Option<String>,
    },
    /// Lets a revocation count no longer.
    Lift {
        /// Of whom or what.
        target: Named,
        /// Why, for the security log.
        reason: Option<String>,
    },
    /// Shows what is revoked.
    Revocations {},
    /// Shows the public keys by which assertions are verified.
    Keys {},
    /// Signs assertions with another key from now on.
    RotateKeys {
        /// Why, for the security log.
        reason: Option<String>,
    },
    /// Asks how the sidecar stands.
    Doctor {},
    /// Takes over everything that the sidecar has. The reply is a refusal, or an empty line and
    /// then no more of these words.
    TakeOver(Bid),
}

/// A task, and why it is spoken of.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfTask {
    /// Its ID.
    pub id: String,
    /// Who vouches for it, where several have a task with this ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Why, for the security log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// From what authority can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An agent.
    Agent,
    /// A principal.
    Subject,
    /// A task.
    Task,
    /// A token, by its `jti`.
    Token,
    /// A key, by its `kid`.
    Key,
}

/// Whom or what a revocation names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// What it is.
    pub kind: Kind,
    /// Its ID.
    pub id: String,
    /// Who vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
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
    /// What the work is for: a declared intent, its parent's unless given.
    pub intent: Option<String>,
    /// The principal acted for; `uid:<n>` of who asks unless given.
    pub subject: Option<String>,
    /// The tools; the intent's unless given.
    pub tools: Option<Vec<String>>,
    /// The highest class of data; the intent's unless given.
    pub max_classification: Option<Level>,
    /// How many calls; any number unless given.
    pub calls: Option<u64>,
    /// How long it lasts, in seconds; an hour unless given, and no longer than its parent.
    pub ttl_s: Option<u64>,
    /// The task it is derived from.
    pub parent: Option<String>,
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
    Task(Box<TaskView>),
    /// Every remembered task, the oldest first.
    Tasks(Vec<TaskView>),
    /// Authority was taken back, or given again.
    Done(Done),
    /// What is revoked, the oldest first.
    Revocations(Vec<Revocation>),
    /// The public keys by which assertions are verified.
    Keys(Keys),
    /// How the sidecar stands.
    Findings(Vec<Finding>),
    /// Nothing was done, or it was not noted.
    Refused(Refusal),
}

/// Public keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// The name of the one that signs.
    pub kid: String,
    /// All of them, as a JWK Set.
    pub jwks: serde_json::Value,
}

/// What a revocation, or its end, did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Whom or what it names.
    pub target: Named,
    /// How many running tasks it ended.
    pub tasks: usize,
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
    /// There is no such revocation.
    NotRevoked,
    /// It would reach further than its parent.
    Widened,
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
    /// It could not be kept, or written to the security log: nothing was given; what was to be taken
    /// back is taken back all the same.
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
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TaskView {
    /// Its ID.
    pub id: String,
    /// Who vouches for it.
    pub issuer: String,
    /// The ID of its newest token.
    pub token_id: String,
    /// The task it is derived from.
    pub parent: Option<String>,
    /// How it stands.
    pub state: State,
    /// How sure one is of it, from 0 to 1.
    pub confidence: Confidence,
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
            issuer: task.issuer.to_string(),
            token_id: task.token_id.to_string(),
            parent: task.parent.as_ref().map(ToString::to_string),
            state: task.state(now),
            confidence: task.life().confidence(),
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
