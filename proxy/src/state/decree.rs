//! A change of authority: what is said, by whom and why. Sidecars of a fleet share them, and a
//! store keeps them.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::task::{Confidence, TaskKey, Terms};

/// Whom or what authority is taken from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// An agent, wherever it stands in a chain.
    Agent(Arc<str>),
    /// A principal that is acted for.
    Subject(Arc<str>),
    /// A task, and those derived from it.
    Task(TaskKey),
    /// One token.
    Token {
        /// Who issued it; anybody when absent.
        issuer: Option<Arc<str>>,
        /// Its `jti`.
        id: Arc<str>,
    },
    /// A key of an issuer, and with it every token that it signed.
    Key {
        /// Whose it is; anybody's when absent.
        issuer: Option<Arc<str>>,
        /// Its `kid`.
        id: Arc<str>,
    },
}

impl Target {
    /// The word for logs and the command line.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Subject(_) => "subject",
            Self::Task(_) => "task",
            Self::Token { .. } => "token",
            Self::Key { .. } => "key",
        }
    }

    /// What it is called.
    pub fn id(&self) -> &Arc<str> {
        match self {
            Self::Agent(id) | Self::Subject(id) | Self::Token { id, .. } | Self::Key { id, .. } => {
                id
            }
            Self::Task(task) => &task.id,
        }
    }

    /// Who vouches for it, where that belongs to its name.
    pub fn issuer(&self) -> Option<&Arc<str>> {
        match self {
            Self::Agent(_) | Self::Subject(_) => None,
            Self::Task(task) => Some(&task.issuer),
            Self::Token { issuer, .. } | Self::Key { issuer, .. } => issuer.as_ref(),
        }
    }

    /// Whether it ends by itself: no token and no task lasts longer than a day.
    pub const fn is_short_lived(&self) -> bool {
        matches!(self, Self::Task(_) | Self::Token { .. })
    }

    /// Every target that these terms fall under.
    pub(super) fn of(terms: &Terms) -> impl Iterator<Item = Self> {
        let by = |issuer: &Arc<str>| [Some(Arc::clone(issuer)), None];
        let token = |issuer| Self::Token {
            issuer,
            id: Arc::clone(&terms.token_id),
        };
        let key = |issuer| Self::Key {
            issuer,
            id: Arc::clone(&terms.key),
        };
        let agents = terms.actors.iter().cloned().map(Self::Agent);
        let tasks = terms.derived_from().into_iter().chain([terms.task()]);
        agents
            .chain([Self::Subject(Arc::clone(&terms.subject))])
            .chain(tasks.map(Self::Task))
            .chain(by(&terms.issuer).map(token))
            .chain(by(&terms.issuer).map(key))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.id())
    }
}

/// What is said.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Edict {
    /// Authority is taken back.
    Revoke {
        /// From whom or what.
        target: Target,
        /// What was issued later may stay; nothing may when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        issued_before: Option<Timestamp>,
    },
    /// A revocation counts no longer. What it ended stays ended.
    Lift {
        /// Of whom or what.
        target: Target,
    },
    /// The work of a task is done.
    Close {
        /// Which.
        task: TaskKey,
    },
    /// A task stops for now.
    Suspend {
        /// Which.
        task: TaskKey,
    },
    /// A suspended task goes on.
    Resume {
        /// Which.
        task: TaskKey,
    },
    /// How sure one is of a task.
    Trust {
        /// Which.
        task: TaskKey,
        /// How sure.
        confidence: Confidence,
    },
}

impl Edict {
    /// The task it speaks of.
    pub const fn task(&self) -> Option<&TaskKey> {
        match self {
            Self::Close { task }
            | Self::Suspend { task }
            | Self::Resume { task }
            | Self::Trust { task, .. }
            | Self::Revoke {
                target: Target::Task(task),
                ..
            } => Some(task),
            Self::Revoke { .. } | Self::Lift { .. } => None,
        }
    }
}

impl Edict {
    /// Whether it takes back, or gives again, whatever comes later.
    pub const fn is_revocation(&self) -> bool {
        match self {
            Self::Revoke { .. } | Self::Lift { .. } => true,
            Self::Close { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::Trust { .. } => false,
        }
    }
}

/// An edict with whose it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decree {
    /// What is said.
    pub edict: Edict,
    /// Who says it, such as `uid:1000`.
    pub by: Arc<str>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Arc<str>>,
    /// When.
    pub at: Timestamp,
}
