//! How long one decision takes: `cargo run --release -p outrider-policy --example speed`.
//!
//! 20 agents with a grant for each of 50 tools, the shipped library, one call that is allowed.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use jiff::Timestamp;
use outrider_policy::data::{Data, Document, KnownTool};
use outrider_policy::input::{
    AgentFacts, Budget, CallFacts, Content, Phase, Ready, SubjectFacts, TaskFacts, TaskState,
    ToolFacts,
};
use outrider_policy::{Bounds, Input, Level, Pattern, Policy, ServiceKind, Value};
use serde_json::json;

const AGENTS: usize = 20;
const TOOLS: usize = 50;
const CALLS: usize = 200_000;

fn agent(number: usize) -> String {
    format!("spiffe://example.org/agent/number-{number}")
}

fn tool(number: usize) -> String {
    format!("mcp/tool_{number}")
}

fn data() -> Data {
    let inventory: Vec<_> = (0..AGENTS)
        .map(|number| {
            json!({
                "id": agent(number), "owner": "owner@example.org", "purpose": "Is measured",
                "roles": ["support"], "expires": "2100-01-01T00:00:00Z", "state": "active",
            })
        })
        .collect();
    let grants: Vec<_> = (0..AGENTS)
        .flat_map(|holder| {
            (0..TOOLS).map(move |number| {
                json!({
                    "agent": agent(holder), "tools": [tool(number)], "intents": ["work"],
                    "max_classification": "internal",
                })
            })
        })
        .collect();
    let document: Document = serde_json::from_value(json!({
        "agents": inventory, "grants": grants,
        "intents": [{"id": "work", "owner": "o", "tools": ["mcp/*"], "max_classification": "internal"}],
    }))
    .unwrap();
    let known = |number| KnownTool {
        id: tool(number),
        kind: ServiceKind::Tool,
    };
    let tools: Vec<_> = (0..TOOLS).map(known).collect();
    Data::build(vec![("data.yaml".to_owned(), document)], &tools).unwrap()
}

fn input(data: &Data) -> Input {
    let patterns = [Pattern::try_from("mcp/*".to_owned()).unwrap()];
    let end: Timestamp = "2100-01-01T00:00:00Z".parse().unwrap();
    let task = TaskFacts {
        id: "t1".into(),
        source: "token",
        intent: "work".into(),
        tools: Ready::new(patterns.into_iter().collect()),
        max_classification: Level::Internal,
        budget: Budget {
            calls: 100,
            used: 3,
        },
        expires: Some(end.into()),
        state: TaskState::Active,
        confidence: 1.0,
        parent: None,
        high_water: Level::Public,
        within: true,
    };
    let tool = ToolFacts {
        id: tool(7),
        service: "mcp".to_owned(),
        operation: "tool_7".to_owned(),
        classification: Some(Level::Internal),
        ..ToolFacts::default()
    };
    Input {
        call: CallFacts {
            id: "01900000-0000-7000-8000-000000000000".into(),
            time: "2026-06-01T00:00:00Z".parse().unwrap(),
            protocol: "mcp",
            method: "POST".into(),
            path: "/mcp".into(),
            host: "127.0.0.1".into(),
            port: 15001,
            listener: "reverse".into(),
            arguments: Value::from(json!({"a": 1, "text": "some text"})),
            arguments_bytes: 2,
            body_sha256: None,
            input_responses: Value::new_object(),
            trace_id: None,
        },
        agent: Ready::new(AgentFacts::new(&agent(0), data.agent(&agent(0)))),
        subject: SubjectFacts {
            id: "user:ada".into(),
        },
        actors: Ready::new(Vec::new()),
        task,
        tool: Ready::new(tool),
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

fn time<T>(name: &str, mut work: impl FnMut() -> T) {
    let mut taken: Vec<u128> = (0..CALLS)
        .map(|_| {
            let started = Instant::now();
            drop(black_box(work()));
            started.elapsed().as_nanos()
        })
        .collect();
    taken.sort_unstable();
    let at = |share: usize| taken.get(CALLS * share / 100).copied().unwrap_or_default();
    println!("{name}: p50 {} ns, p99 {} ns", at(50), at(99));
}

fn main() {
    let data = data();
    let policy = Policy::compile(&[], &data, Bounds::default()).unwrap();
    let input = input(&data);
    let decision = policy.decide(&input);
    assert!(decision.allows(), "{decision:?}");
    time("nothing", || ());
    time("to_value", || input.to_value());
    time("question", || policy.question(&input));
    time("decide", || policy.decide(&input));
}
