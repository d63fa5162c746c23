//! One data document as it is written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::leaf::{IntentName, Name, optional_time, time};
use crate::{Level, Pattern};

/// One YAML document of `policy.data`. Unknown keys are refused at every level.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// The inventory of agents.
    pub agents: Vec<Agent>,
    /// The intents tasks may be opened for.
    pub intents: Vec<Intent>,
    /// Who may use which tools.
    pub grants: Vec<Grant>,
    /// Recorded, owned, expiring deviations.
    pub exceptions: Vec<Exception>,
    /// Principals that are acted for, whose own rights narrow what is done for them.
    pub subjects: Vec<Subject>,
    /// Free data for the user's own rules, seen at `data.outrider.facts`.
    pub facts: Option<BTreeMap<String, serde_json::Value>>,
}

/// An agent of the inventory. Without an owner or a purpose, or past its expiry, its calls are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its URI, normally a SPIFFE ID.
    pub id: Name,
    /// Who answers for it; empty when nobody does.
    #[serde(default)]
    pub owner: String,
    /// What it is for; empty when nobody said.
    #[serde(default)]
    pub purpose: String,
    /// The roles whose grants it has.
    #[serde(default)]
    pub roles: Vec<Name>,
    /// When its entry ends; never when absent.
    #[serde(default, with = "optional_time")]
    pub expires: Option<Timestamp>,
    /// Whether it may act; active when absent.
    #[serde(default)]
    pub state: AgentState,
}

/// Whether an agent may act.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// It may.
    #[default]
    Active,
    /// Not for now.
    Suspended,
    /// Not any more.
    Revoked,
}

impl AgentState {
    /// The state as it is written everywhere: lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }
}

/// A declared purpose of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Its identifier, such as `ticket.triage`.
    pub id: IntentName,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// The tools that serve it.
    #[serde(default)]
    pub tools: Vec<Pattern>,
    /// The highest classification it may touch; [`Level::Public`] when absent.
    #[serde(default)]
    pub max_classification: Option<Level>,
}

impl Intent {
    /// The highest classification it may touch.
    pub fn level(&self) -> Level {
        self.max_classification.unwrap_or(Level::Public)
    }
}

/// Who may use which tools, for an agent or for a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its ID; `FILE#N` (from 1, in the order of the file) when absent.
    #[serde(default)]
    pub id: Option<Name>,
    /// The agent it is for; exactly one of agent and role is given.
    #[serde(default)]
    pub agent: Option<Name>,
    /// The role it is for.
    #[serde(default)]
    pub role: Option<Name>,
    /// The tools it reaches.
    pub tools: Vec<Pattern>,
    /// The intents it is for; any when absent.
    #[serde(default)]
    pub intents: Option<Vec<IntentName>>,
    /// The highest classification it reaches; the tool's own when absent.
    #[serde(default)]
    pub max_classification: Option<Level>,
    /// When it ends; never when absent.
    #[serde(default, with = "optional_time")]
    pub expires: Option<Timestamp>,
}

/// A recorded, owned, expiring deviation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    /// Its ID, which records of calls it permitted name.
    pub id: Name,
    /// Who answers for it.
    pub owner: Name,
    /// Why it exists.
    pub reason: Name,
    /// The agent it is for; exactly one of agent and role is given.
    #[serde(default)]
    pub agent: Option<Name>,
    /// The role it is for.
    #[serde(default)]
    pub role: Option<Name>,
    /// The tools it reaches.
    pub tools: Vec<Pattern>,
    /// What it lifts.
    pub lifts: Vec<Lift>,
    /// When it ends.
    #[serde(with = "time")]
    pub expires: Timestamp,
    /// How many calls it may permit; any number when absent.
    #[serde(default)]
    pub max_uses: Option<u64>,
}

/// A principal that tasks act for. Listed, it narrows what they may do; not listed, it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Its ID: the `sub` of tasks.
    pub id: Name,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// The tools that may be used for it.
    pub tools: Vec<Pattern>,
    /// The highest classification that may be touched for it.
    pub max_classification: Level,
    /// When its entry ends, and with it what is done for it; never when absent.
    #[serde(default, with = "optional_time")]
    pub expires: Option<Timestamp>,
}

/// What an exception lifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lift {
    /// No grant is needed.
    Grant,
    /// The intent need not declare the tool.
    Intent,
    /// The level of intent and grant does not bind.
    Classification,
}

impl Lift {
    /// The word as it is written everywhere: lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Intent => "intent",
            Self::Classification => "classification",
        }
    }
}
