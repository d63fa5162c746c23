//! Documents joined and indexed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use regorus::Value;
use serde::{Deserialize, Serialize};

use super::document::{Agent, Document, Exception, Grant, Intent, Subject};
use super::leaf::{IntentName, Name};
use crate::input::Ready;
use crate::problem::Problem;
use crate::value::{level, map, object, strings};
use crate::{Level, Pattern, Patterns, ServiceKind};

/// The joined documents, indexed and unchangeable; a clone is one counter.
#[derive(Debug, Clone)]
pub struct Data(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    agents: BTreeMap<String, Agent>,
    intents: BTreeMap<String, Intent>,
    /// The tools of each intent, ready for its tasks.
    scopes: HashMap<String, Ready<Patterns>>,
    grants: BTreeMap<String, Grant>,
    subjects: BTreeMap<String, Subject>,
    index: Index,
    value: Value,
    digest: String,
    counted: bool,
}

/// A tool of the catalogue, as far as patterns ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownTool {
    /// `service/operation`.
    pub id: String,
    /// What its service is.
    pub kind: ServiceKind,
}

/// What concerns a call, found in as many steps as there are patterns that match its tool, whatever else the data holds.
/// Filing by pattern and not by tool keeps the index as small as the data.
#[derive(Debug)]
struct Index {
    /// The patterns that match a tool, by tool.
    patterns: BTreeMap<String, Vec<String>>,
    grants: Filed,
    exceptions: Filed,
}

/// IDs by whom they are for and then by pattern.
#[derive(Debug, Default)]
struct Filed {
    by_agent: Folder,
    by_role: Folder,
}

type Folder = BTreeMap<String, Patterned>;
type Patterned = BTreeMap<String, BTreeSet<Arc<str>>>;

/// A grant with its ID.
pub(crate) type Held<'a> = (&'a Arc<str>, &'a Grant);

/// Everything of all documents by ID.
#[derive(Default)]
struct Joined {
    agents: BTreeMap<String, Agent>,
    intents: BTreeMap<String, Intent>,
    grants: BTreeMap<String, Grant>,
    exceptions: BTreeMap<String, Exception>,
    subjects: BTreeMap<String, Subject>,
    facts: BTreeMap<String, serde_json::Value>,
    problems: Vec<Problem>,
}

impl Data {
    /// Joins documents, each with the name of its file, and indexes them for the tools of the catalogue.
    ///
    /// # Errors
    ///
    /// All problems: an ID that is given twice, a grant or exception without exactly one of `agent` and `role`, a list
    /// that is there but empty.
    pub fn build(
        documents: Vec<(String, Document)>,
        tools: &[KnownTool],
    ) -> Result<Self, Vec<Problem>> {
        let mut joined = Joined::default();
        for (file, document) in documents {
            joined.add(&file, document);
        }
        if !joined.problems.is_empty() {
            return Err(joined.problems);
        }
        let index = joined.index(tools);
        let value = object([("outrider", joined.value(&index))]);
        let scope = |(id, intent): (&String, &Intent)| {
            (
                id.clone(),
                Ready::new(intent.tools.iter().cloned().collect()),
            )
        };
        Ok(Self(Arc::new(Inner {
            digest: digest(&value),
            counted: joined
                .exceptions
                .values()
                .any(|exception| exception.max_uses.is_some()),
            scopes: joined.intents.iter().map(scope).collect(),
            agents: joined.agents,
            intents: joined.intents,
            grants: joined.grants,
            subjects: joined.subjects,
            index,
            value,
        })))
    }

    /// The agent of the inventory.
    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.0.agents.get(id)
    }

    /// The declared intent.
    pub fn intent(&self, id: &str) -> Option<&Intent> {
        self.0.intents.get(id)
    }

    /// Every declared intent, by ID.
    pub fn intents(&self) -> impl Iterator<Item = &Intent> {
        self.0.intents.values()
    }

    /// Whether an exception may be used so many times only: somebody has to keep count.
    pub fn counts_uses(&self) -> bool {
        self.0.counted
    }

    /// The tools that the intent declares.
    pub fn scope(&self, intent: &str) -> Option<&Ready<Patterns>> {
        self.0.scopes.get(intent)
    }

    /// The principal, where its rights are listed.
    pub fn subject(&self, id: &str) -> Option<&Subject> {
        self.0.subjects.get(id)
    }

    /// The grants made for this very agent that name a pattern which covers the tool. Only tools of the catalogue are
    /// indexed.
    pub(crate) fn own_grants(&self, agent: &str, tool: &str) -> impl Iterator<Item = Held<'_>> {
        self.filed(self.0.index.grants.by_agent.get(agent), tool)
    }

    /// The same of grants made for a role.
    pub(crate) fn role_grants(&self, role: &str, tool: &str) -> impl Iterator<Item = Held<'_>> {
        self.filed(self.0.index.grants.by_role.get(role), tool)
    }

    fn filed<'a>(
        &'a self,
        folder: Option<&'a Patterned>,
        tool: &str,
    ) -> impl Iterator<Item = Held<'a>> {
        let patterns = self.0.index.patterns.get(tool).into_iter().flatten();
        patterns
            .filter_map(move |pattern| folder?.get(pattern))
            .flatten()
            .filter_map(|id| Some((id, self.0.grants.get(&**id)?)))
    }

    /// What policies see as `data`, the index included.
    pub fn value(&self) -> Value {
        self.0.value.clone()
    }

    /// The SHA-256 of everything policies see, in hex: different content, different digest.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }
}

fn digest(value: &Value) -> String {
    // Objects are written in the order of their keys, so equal content gives equal text.
    let text = value.to_json_str().unwrap_or_default();
    crate::digest::hex(&[text.as_bytes()])
}

impl Joined {
    fn add(&mut self, file: &str, document: Document) {
        for mut agent in document.agents {
            // Blank is not an owner.
            agent.owner = agent.owner.trim().into();
            agent.purpose = agent.purpose.trim().into();
            let id = agent.id.to_string();
            once(
                &mut self.agents,
                &mut self.problems,
                (file, "agent"),
                id,
                agent,
            );
        }
        for intent in document.intents {
            let id = intent.id.to_string();
            once(
                &mut self.intents,
                &mut self.problems,
                (file, "intent"),
                id,
                intent,
            );
        }
        for (index, grant) in document.grants.into_iter().enumerate() {
            let id = match &grant.id {
                Some(id) => id.to_string(),
                None => format!("{file}#{}", index + 1),
            };
            self.check_grant(file, &id, &grant);
            once(
                &mut self.grants,
                &mut self.problems,
                (file, "grant"),
                id,
                grant,
            );
        }
        for exception in document.exceptions {
            let id = exception.id.to_string();
            self.check_exception(file, &exception);
            once(
                &mut self.exceptions,
                &mut self.problems,
                (file, "exception"),
                id,
                exception,
            );
        }
        for mut subject in document.subjects {
            subject.owner = subject.owner.trim().into();
            let id = subject.id.to_string();
            once(
                &mut self.subjects,
                &mut self.problems,
                (file, "subject"),
                id,
                subject,
            );
        }
        for (key, fact) in document.facts.unwrap_or_default() {
            once(
                &mut self.facts,
                &mut self.problems,
                (file, "fact"),
                key,
                fact,
            );
        }
    }

    fn check_grant(&mut self, file: &str, id: &str, grant: &Grant) {
        if grant.agent.is_some() == grant.role.is_some() {
            self.refuse(file, format!("grant `{id}` needs either `agent` or `role`"));
        }
        if grant.tools.is_empty() {
            self.refuse(file, format!("grant `{id}` names no tool"));
        }
        if grant.intents.as_ref().is_some_and(Vec::is_empty) {
            self.refuse(
                file,
                format!("grant `{id}` names no intent: leave `intents` out to grant for any"),
            );
        }
    }

    fn check_exception(&mut self, file: &str, exception: &Exception) {
        let id = &exception.id;
        if exception.agent.is_some() == exception.role.is_some() {
            self.refuse(
                file,
                format!("exception `{id}` needs either `agent` or `role`"),
            );
        }
        if exception.tools.is_empty() {
            self.refuse(file, format!("exception `{id}` names no tool"));
        }
        if exception.lifts.is_empty() {
            self.refuse(
                file,
                format!("exception `{id}` lifts nothing: name grant, intent or classification"),
            );
        }
    }

    fn refuse(&mut self, file: &str, message: String) {
        self.problems.push(Problem::in_file(file, message));
    }

    fn value(&self, index: &Index) -> Value {
        let marked = |tools: &[Pattern]| {
            map(tools
                .iter()
                .map(|pattern| (pattern.as_str(), Value::from(true))))
        };
        let intents = values(&self.intents, |_, intent| marked(&intent.tools));
        let subjects = values(&self.subjects, |_, subject| marked(&subject.tools));
        object([
            (
                "agents",
                values(&self.agents, |_, agent| agent_value(agent)),
            ),
            (
                "intents",
                values(&self.intents, |_, intent| intent_value(intent)),
            ),
            ("grants", values(&self.grants, grant_value)),
            (
                "exceptions",
                values(&self.exceptions, |_, exception| exception_value(exception)),
            ),
            (
                "subjects",
                values(&self.subjects, |_, subject| subject_value(subject)),
            ),
            (
                "facts",
                values(&self.facts, |_, fact| Value::from(fact.clone())),
            ),
            (
                "index",
                object([
                    (
                        "patterns",
                        values(&index.patterns, |_, patterns| strings(patterns)),
                    ),
                    ("intents", intents),
                    ("grants", index.grants.to_value()),
                    ("exceptions", index.exceptions.to_value()),
                    ("subjects", subjects),
                ]),
            ),
        ])
    }

    fn index(&self, tools: &[KnownTool]) -> Index {
        let (mut grants, mut exceptions) = (Filed::default(), Filed::default());
        for (id, grant) in &self.grants {
            grants.file(id, grant.agent.as_ref(), grant.role.as_ref(), &grant.tools);
        }
        for (id, exception) in &self.exceptions {
            let (agent, role) = (exception.agent.as_ref(), exception.role.as_ref());
            exceptions.file(id, agent, role, &exception.tools);
        }
        Index {
            patterns: self.patterns_by_tool(tools),
            grants,
            exceptions,
        }
    }

    fn patterns_by_tool(&self, tools: &[KnownTool]) -> BTreeMap<String, Vec<String>> {
        let all: BTreeSet<&Pattern> = self
            .intents
            .values()
            .flat_map(|intent| &intent.tools)
            .chain(self.grants.values().flat_map(|grant| &grant.tools))
            .chain(
                self.exceptions
                    .values()
                    .flat_map(|exception| &exception.tools),
            )
            .chain(self.subjects.values().flat_map(|subject| &subject.tools))
            .collect();
        let literal: BTreeSet<&str> = all
            .iter()
            .filter(|pattern| pattern.is_literal())
            .map(|pattern| pattern.as_str())
            .collect();
        let wild: Vec<&Pattern> = all
            .into_iter()
            .filter(|pattern| !pattern.is_literal())
            .collect();
        let matching = |tool: &KnownTool| {
            let wild = wild
                .iter()
                .filter(|pattern| pattern.matches(&tool.id, tool.kind))
                .map(|pattern| pattern.as_str());
            let literal = literal.get(tool.id.as_str()).copied();
            literal.into_iter().chain(wild).map(String::from).collect()
        };
        tools
            .iter()
            .map(|tool| (tool.id.clone(), matching(tool)))
            .collect()
    }
}

fn once<T>(
    known: &mut BTreeMap<String, T>,
    problems: &mut Vec<Problem>,
    (file, kind): (&str, &str),
    id: String,
    item: T,
) {
    if known.contains_key(&id) {
        problems.push(Problem::in_file(
            file,
            format!("{kind} `{id}` is given twice: each ID once in all data documents"),
        ));
        return;
    }
    known.insert(id, item);
}

impl Filed {
    fn file(&mut self, id: &str, agent: Option<&Name>, role: Option<&Name>, tools: &[Pattern]) {
        let (folder, whom) = match (agent, role) {
            (Some(agent), _) => (&mut self.by_agent, agent),
            (None, Some(role)) => (&mut self.by_role, role),
            (None, None) => return,
        };
        let id: Arc<str> = id.into();
        let patterns = folder.entry(whom.to_string()).or_default();
        for pattern in tools {
            let filed = patterns.entry(pattern.to_string()).or_default();
            filed.insert(Arc::clone(&id));
        }
    }

    fn to_value(&self) -> Value {
        let folder = |folder: &Folder| {
            values(folder, |_, patterns| {
                values(patterns, |_, ids| strings(ids.iter()))
            })
        };
        object([
            ("agent", folder(&self.by_agent)),
            ("role", folder(&self.by_role)),
        ])
    }
}

fn values<T>(items: &BTreeMap<String, T>, value: impl Fn(&str, &T) -> Value) -> Value {
    map(items
        .iter()
        .map(|(id, item)| (id.as_str(), value(id, item))))
}

fn agent_value(agent: &Agent) -> Value {
    object([
        ("id", Value::from(agent.id.as_str())),
        ("owner", Value::from(agent.owner.as_str())),
        ("purpose", Value::from(agent.purpose.as_str())),
        ("roles", strings(agent.roles.iter().map(Name::as_str))),
        ("expires", time(agent.expires)),
        ("expires_ns", nanoseconds(agent.expires)),
        ("state", Value::from(agent.state.as_str())),
    ])
}

fn intent_value(intent: &Intent) -> Value {
    object([
        ("id", Value::from(intent.id.as_str())),
        ("owner", Value::from(intent.owner.as_str())),
        ("tools", strings(intent.tools.iter().map(Pattern::as_str))),
        ("max_classification", level(intent.level())),
    ])
}

fn grant_value(id: &str, grant: &Grant) -> Value {
    let intents = grant.intents.iter().flatten();
    object([
        ("id", Value::from(id)),
        ("agent", name(grant.agent.as_ref())),
        ("role", name(grant.role.as_ref())),
        ("tools", strings(grant.tools.iter().map(Pattern::as_str))),
        ("intents", strings(intents.map(IntentName::as_str))),
        (
            "max_classification",
            optional_level(grant.max_classification),
        ),
        ("expires", time(grant.expires)),
        ("expires_ns", nanoseconds(grant.expires)),
    ])
}

fn exception_value(exception: &Exception) -> Value {
    object([
        ("id", Value::from(exception.id.as_str())),
        ("owner", Value::from(exception.owner.as_str())),
        ("reason", Value::from(exception.reason.as_str())),
        ("agent", name(exception.agent.as_ref())),
        ("role", name(exception.role.as_ref())),
        (
            "tools",
            strings(exception.tools.iter().map(Pattern::as_str)),
        ),
        (
            "lifts",
            strings(exception.lifts.iter().map(|lift| lift.as_str())),
        ),
        ("expires", time(Some(exception.expires))),
        ("expires_ns", nanoseconds(Some(exception.expires))),
        ("limited", Value::from(exception.max_uses.is_some())),
        ("max_uses", Value::from(exception.max_uses.unwrap_or(0))),
    ])
}

fn subject_value(subject: &Subject) -> Value {
    object([
        ("id", Value::from(subject.id.as_str())),
        ("owner", Value::from(subject.owner.as_str())),
        ("tools", strings(subject.tools.iter().map(Pattern::as_str))),
        ("max_classification", level(subject.max_classification)),
        ("expires", time(subject.expires)),
        ("expires_ns", nanoseconds(subject.expires)),
    ])
}

fn name(name: Option<&Name>) -> Value {
    Value::from(name.map_or("", Name::as_str))
}

fn optional_level(given: Option<Level>) -> Value {
    given.map_or_else(|| Value::from(""), level)
}

/// RFC 3339; empty for never.
fn time(expires: Option<Timestamp>) -> Value {
    Value::from(expires.map(|time| time.to_string()).unwrap_or_default())
}

/// Nanoseconds since 1970; the largest 64-bit number for never and for what is beyond it (the year 2262).
fn nanoseconds(expires: Option<Timestamp>) -> Value {
    let at = expires.map_or(i64::MAX, crate::input::nanoseconds);
    Value::from(at)
}
