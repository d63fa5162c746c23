//! What every test of the policy starts from: some data, an agent, a task, a tool.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc
)]

pub mod accepted;
pub mod generate;

use std::time::Duration;

use jiff::Timestamp;
use outrider_policy::data::{Data, Document, KnownTool};
use outrider_policy::input::{
    ActorFacts, AgentFacts, Budget, CallFacts, Content, Phase, Ready, SubjectFacts, TaskFacts,
    TaskState, ToolFacts,
};
use outrider_policy::{
    Bounds, Decision, Input, Level, Pattern, Patterns, Policy, Problem, ServiceKind, Source, Value,
    Verdict,
};
use serde_json::json;

pub const AGENT: &str = "spiffe://example.org/agent/triage";

/// 2026-06-01T00:00:00Z in nanoseconds.
pub const NOW: i64 = 1_780_272_000_000_000_000;

pub const TOOLS: [&str; 6] = [
    "tickets/read",
    "tickets/close",
    "crm/lookup",
    "crm/export",
    "docs/resource:file:///{path}",
    "llm/POST",
];

pub fn bounds() -> Bounds {
    Bounds {
        timeout: Duration::from_secs(5),
        instructions: 20_000,
    }
}

pub fn documents() -> serde_json::Value {
    json!({
        "agents": [
            {"id": AGENT, "owner": "support@example.org", "purpose": "Triage tickets", "roles": ["support"],
             "expires": "2027-06-30T00:00:00Z", "state": "active"},
            {"id": "agent:ownerless", "purpose": "x"},
            {"id": "agent:aimless", "owner": "x", "purpose": "  "},
            {"id": "agent:past", "owner": "x", "purpose": "x", "expires": "2026-05-31T23:59:59Z"},
            {"id": "agent:suspended", "owner": "x", "purpose": "x", "state": "suspended"},
            {"id": "agent:revoked", "owner": "x", "purpose": "x", "state": "revoked"},
            {"id": "agent:bare", "owner": "x", "purpose": "x"},
        ],
        "intents": [
            {"id": "ticket.triage", "owner": "support@example.org", "tools": ["tickets/*", "crm/lookup"],
             "max_classification": "confidential"},
            {"id": "report.write", "tools": ["crm/*"]},
        ],
        "grants": [
            {"id": "G-tickets", "agent": AGENT, "tools": ["tickets/*"], "intents": ["ticket.triage"],
             "max_classification": "internal"},
            {"id": "G-crm", "role": "support", "tools": ["crm/lookup"]},
        ],
        "exceptions": [
            {"id": "EX-7", "owner": "ciso@example.org", "reason": "migration week", "agent": AGENT,
             "tools": ["crm/export"], "lifts": ["grant", "intent", "classification"],
             "expires": "2026-12-01T00:00:00Z", "max_uses": 20},
        ],
    })
}

pub fn data_from(document: serde_json::Value) -> Data {
    data_for(document, &TOOLS.map(String::from))
}

pub fn data_for(document: serde_json::Value, tools: &[String]) -> Data {
    let document: Document = serde_json::from_value(document).unwrap();
    let known = |id: &String| KnownTool {
        id: id.clone(),
        kind: kind_of(id),
    };
    let tools: Vec<_> = tools.iter().map(known).collect();
    Data::build(vec![("data.yaml".to_owned(), document)], &tools).unwrap()
}

/// `llm` is a language model.
pub fn kind_of(tool: &str) -> ServiceKind {
    if tool.starts_with("llm/") {
        ServiceKind::Model
    } else {
        ServiceKind::Tool
    }
}

pub fn data() -> Data {
    data_from(documents())
}

pub fn source(text: &str) -> Vec<Source> {
    vec![Source {
        name: "user.rego".to_owned(),
        text: text.to_owned(),
    }]
}

/// The library alone.
pub fn library() -> Policy {
    Policy::compile(&[], &data(), bounds()).unwrap()
}

/// The library with these rules in `outrider.authz`.
pub fn with_rules(rules: &str) -> Policy {
    try_rules(rules).unwrap_or_else(|problems| panic!("{rules}\n{problems:#?}"))
}

pub fn try_rules(rules: &str) -> Result<Policy, Vec<Problem>> {
    let text = format!("package outrider.authz\n\n{rules}\n");
    Policy::compile(&source(&text), &data(), bounds())
}

/// A call of the triage agent, on task `t1` for `ticket.triage`, of an internal tool.
pub struct Asked {
    pub agent: AgentFacts,
    pub task: TaskFacts,
    pub tool: ToolFacts,
    pub input: Input,
}

pub fn asked(tool: &str) -> Asked {
    let data = data();
    let (service, operation) = tool.split_once('/').unwrap();
    let intent = data.intent("ticket.triage").unwrap();
    let task = TaskFacts {
        id: "t1".into(),
        source: "token",
        intent: "ticket.triage".into(),
        tools: Ready::new(intent.tools.iter().cloned().collect()),
        max_classification: intent.level(),
        budget: Budget {
            calls: 100,
            used: 3,
        },
        expires: Some(time("2026-06-01T01:00:00Z").into()),
        state: TaskState::Active,
        confidence: 1.0,
        parent: None,
        high_water: Level::Public,
        within: true,
    };
    Asked {
        agent: AgentFacts::new(AGENT, data.agent(AGENT)),
        task,
        tool: ToolFacts {
            id: tool.to_owned(),
            service: service.to_owned(),
            operation: operation.to_owned(),
            kind: kind_of(tool),
            classification: Some(Level::Internal),
            ..ToolFacts::default()
        },
        input: input(),
    }
}

fn input() -> Input {
    Input {
        call: CallFacts {
            id: "01900000-0000-7000-8000-000000000000".into(),
            time: "2026-06-01T00:00:00Z".parse().unwrap(),
            protocol: "mcp",
            method: "POST".into(),
            path: "/tickets".into(),
            host: "127.0.0.1".into(),
            port: 15001,
            listener: "reverse".into(),
            arguments: Value::new_object(),
            arguments_bytes: 2,
            body_sha256: None,
            input_responses: Value::new_object(),
            trace_id: None,
        },
        agent: Ready::new(AgentFacts::default()),
        subject: SubjectFacts {
            id: "user:ada".into(),
        },
        actors: Ready::new(Vec::new()),
        task: TaskFacts::none(),
        tool: Ready::new(ToolFacts::default()),
        content: Content {
            classification: Level::Internal,
            labels: Value::new_array(),
            findings: Value::new_array(),
            opaque: false,
        },
        limits: Vec::new(),
        phase: Phase::Call,
        spent: Vec::new(),
    }
}

impl Asked {
    pub fn input(&self) -> Input {
        Input {
            agent: Ready::new(self.agent.clone()),
            task: self.task.clone(),
            tool: Ready::new(self.tool.clone()),
            ..self.input.clone()
        }
    }

    pub fn arguments(mut self, arguments: serde_json::Value) -> Self {
        self.input.call.arguments = Value::from(arguments);
        self
    }

    pub fn agent(mut self, id: &str) -> Self {
        self.agent = AgentFacts::new(id, data().agent(id));
        self
    }

    pub fn actors(mut self, ids: &[&str]) -> Self {
        let actor = |id: &&str| ActorFacts { id: (*id).into() };
        self.input.actors = Ready::new(ids.iter().map(actor).collect());
        self
    }

    pub fn subject(mut self, id: &str) -> Self {
        self.input.subject.id = id.into();
        self
    }

    pub fn level(mut self, level: Level) -> Self {
        self.input.content.classification = level;
        self
    }

    pub fn without_task(mut self) -> Self {
        self.task = TaskFacts::none();
        self
    }

    pub fn decide(&self, policy: &Policy) -> Decision {
        policy.decide(&self.input())
    }
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn at(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap()
}

/// The patterns of a task.
pub fn tools(patterns: &[&str]) -> Ready<Patterns> {
    let pattern = |text: &&str| Pattern::try_from((*text).to_owned()).unwrap();
    Ready::new(patterns.iter().map(pattern).collect())
}

/// `ok`, `hold`, or the code of the refusal.
pub fn code(decision: &Decision) -> &'static str {
    match &decision.verdict {
        Verdict::Allow => "ok",
        Verdict::Hold(_) => "hold",
        Verdict::Deny(refusal) => refusal.code(),
    }
}
