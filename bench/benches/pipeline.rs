//! Each stage of the pipeline, and all of them in their order, on one call of about 1 KiB.
//!
//! No sockets: what the stages cost is measured here, what they cost as a proxy is measured by
//! `compare`. The stages are the program's own functions, on a configuration as in `compare`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::semicolon_if_nothing_returned,
    clippy::format_collect,
    clippy::duration_suboptimal_units,
    reason = "a bench"
)]

#[allow(dead_code)]
#[path = "../src/message.rs"]
mod message;

use std::{fs, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Request, request::Parts};
use jiff::Timestamp;
use outrider::{
    authorize,
    call::{DecisionId, Trace},
    catalogue::{Service, Tool},
    classify::classify,
    config::{self, Compiler},
    limit::Subjects,
    outrider::{Outrider, Snapshot},
    protocol::{Asked, Kind},
    record::{Entry, Facts, Ruling},
    serve::{self, Options, Running},
    state::Open,
    tag,
    task::Task,
    validate::{ValidCall, validate},
};
use outrider_policy::{
    Value,
    input::{CallFacts, Input},
};
use outrider_schemas::json;
use serde_json::json;

const TOOLS: usize = 50;
const AGENTS: usize = 20;

/// A sidecar with everything on, and one call for it.
struct Rig {
    _directory: tempfile::TempDir,
    running: Running,
    snapshot: Arc<Snapshot>,
    service: Arc<Service>,
    task: Arc<Task>,
    head: Parts,
    body: Vec<u8>,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("outrider.yaml");
        fs::write(directory.path().join("tools.json"), lock()).unwrap();
        fs::write(directory.path().join("grants.yaml"), grants()).unwrap();
        fs::write(&file, configuration()).unwrap();
        let loaded = config::load(&file).unwrap();
        let running = serve::start(
            loaded,
            &Options {
                compiler: Compiler::Here,
                open_task: false,
            },
        )
        .unwrap();
        let outrider = Arc::clone(running.outrider());
        let snapshot = outrider.snapshot();
        let service = Arc::clone(snapshot.catalogue.service("mcp").unwrap());
        let (head, body) = request();
        Self {
            _directory: directory,
            task: open(&outrider),
            running,
            snapshot,
            service,
            head,
            body,
        }
    }

    fn outrider(&self) -> &Outrider {
        self.running.outrider()
    }

    fn tool(&self) -> Arc<Tool> {
        Arc::clone(self.service.tool(message::TOOL).unwrap())
    }

    fn read(&self) -> outrider::call::ToolCall {
        let asked = Asked {
            head: &self.head,
            rest: "",
            query: None,
            body: &self.body,
        };
        let Kind::Call(call) = self.service.protocol.read(&asked).unwrap().kind else {
            unreachable!()
        };
        call
    }

    fn valid(&self) -> ValidCall {
        validate(self.read(), &self.tool()).unwrap()
    }

    fn subjects<'a>(&'a self, tool: &'a Tool) -> Subjects<'a> {
        Subjects {
            subject: &self.task.subject,
            task: &self.task.id,
            service: "mcp",
            tool: tool.id.as_str(),
        }
    }

    fn input(&self, call: &ValidCall, hash: &[u8; 32]) -> Input {
        let now = Timestamp::now();
        let nothing = Value::new_object();
        let facts = authorize::Facts {
            call: CallFacts {
                id: DecisionId::mint().encode(&mut [0; 36]).into(),
                time: now,
                protocol: "mcp",
                method: "POST".into(),
                path: "/mcp".into(),
                host: "127.0.0.1".into(),
                port: 9,
                listener: "reverse".into(),
                arguments: nothing.clone(),
                arguments_bytes: self.body.len() as u64,
                body_sha256: Some(*hash),
                input_responses: nothing,
                trace_id: None,
            },
            now,
            agent: &self.snapshot.agent,
            task: Some(&self.task),
            task_source: "token",
            data: &self.snapshot.data,
            spent: Vec::new(),
        };
        let tool = self.tool();
        let admitted = self
            .snapshot
            .limits
            .check(&self.subjects(&tool), tool.traits())
            .unwrap();
        authorize::input(facts, call, classify(call), &admitted)
    }

    fn tag(&self, headers: &mut HeaderMap, hash: &[u8; 32]) {
        let mut id = [0; 36];
        let facts = tag::Facts {
            decision_id: DecisionId::mint().encode(&mut id),
            task: Some(&self.task),
            tool: Some(&self.tool().told),
            classification: "internal",
            audience: self.service.upstream.origin(),
            method: "POST",
            uri: self.service.upstream.uri(),
            body_hash: Some(hash),
            now_s: Timestamp::now().as_second(),
        };
        tag::write(
            self.service.identity,
            &facts,
            &self.outrider().signer,
            headers,
        )
        .unwrap();
    }

    fn entry(&self, input: Input) -> Entry {
        let mut entry = Entry::open(
            &self.outrider().recorder,
            &"reverse".into(),
            &"unix:uid=1000".into(),
        );
        entry.facts = Facts {
            service: Some(self.service.name.clone()),
            tool: Some(self.tool().id.clone()),
            method: "tools/call".into(),
            task: Some(Arc::clone(&self.task)),
            task_source: "token",
            classification: "internal",
            input: Some(Box::new(input)),
            trace: Some(Trace::start()),
            revision: Some(Arc::clone(self.snapshot.policy.revision())),
            ..Facts::default()
        };
        entry
    }
}

fn lock() -> String {
    let tools: Vec<_> = (0..TOOLS)
        .map(|number| json!({"name": tool(number), "inputSchema": message::schema()}))
        .collect();
    outrider_schemas::lock::Lock::from_listed(&tools, "bench@example.org")
        .0
        .to_json()
}

fn tool(number: usize) -> String {
    if number == 0 {
        message::TOOL.into()
    } else {
        format!("tool_{number}")
    }
}

fn agent(number: usize) -> String {
    format!("spiffe://example.org/agent/{number}")
}

fn grants() -> String {
    let agents = (0..AGENTS).map(|number| json!({"id": agent(number), "owner": "o@example.org", "purpose": "Is measured", "roles": []}));
    let grants = (0..AGENTS).flat_map(|number| (0..TOOLS).map(move |t| json!({"agent": agent(number), "tools": [format!("mcp/{}", tool(t))], "intents": ["work"]})));
    json!({
        "agents": agents.collect::<Vec<_>>(),
        "intents": [{"id": "work", "owner": "o@example.org", "tools": ["mcp/*"], "max_classification": "internal"}],
        "grants": grants.collect::<Vec<_>>(),
    })
    .to_string()
}

fn configuration() -> String {
    json!({
        "agent": {"id": agent(0)},
        "listeners": [{"mode": "reverse", "address": "127.0.0.1:0"}],
        "control": {"socket": "control.sock"},
        "services": [{"name": "mcp", "protocol": "mcp", "upstream": "http://127.0.0.1:9/mcp", "schemas": "tools.json"}],
        "policy": {"data": ["grants.yaml"]},
        "limits": [
            {"name": "per-agent", "key": ["agent"], "rate": "1000000/s", "burst": 100_000_000},
            {"name": "per-tool", "key": ["agent", "tool"], "rate": "1000000/s", "burst": 100_000_000},
        ],
        "decision_log": {"path": "decisions.jsonl"},
    })
    .to_string()
}

fn open(outrider: &Outrider) -> Arc<Task> {
    let open = Open {
        agent: Arc::clone(&outrider.agent),
        intent: "work".into(),
        subject: "uid:1000".into(),
        tools: None,
        max_classification: None,
        budget: None,
        ttl: Duration::from_secs(3600),
        current: None,
        opened_by: "uid:0".into(),
    };
    outrider.tasks.open(open, Timestamp::now()).unwrap().task
}

fn request() -> (Parts, Vec<u8>) {
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": message::TOOL, "arguments": message::arguments(),
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}},
        },
    });
    let request = Request::post("/mcp")
        .header("content-type", "application/json")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", HeaderValue::from_static(message::TOOL));
    (
        request.body(()).unwrap().into_parts().0,
        body.to_string().into_bytes(),
    )
}

fn stages(c: &mut Criterion) {
    let rig = Rig::new();
    let hash = tag::body_hash(&rig.body);
    let call = rig.valid();
    let tool = rig.tool();
    let input = rig.input(&call, &hash);
    let mut group = c.benchmark_group("stage");
    group.bench_function("json (strict parse)", |b| {
        b.iter(|| json::parse(black_box(&rig.body)).unwrap())
    });
    group.bench_function("parse (message, header agreement)", |b| {
        b.iter(|| black_box(rig.read()))
    });
    group.bench_function("schema", |b| {
        b.iter(|| {
            tool.contract
                .input
                .is_valid(black_box(&call.call().arguments))
        })
    });
    group.bench_function("limits (two)", |b| {
        b.iter(|| {
            rig.snapshot
                .limits
                .check(&rig.subjects(&tool), tool.traits())
                .is_ok()
        });
    });
    group.bench_function("input", |b| b.iter(|| black_box(rig.input(&call, &hash))));
    group.bench_function("policy (1,000 grants)", |b| {
        b.iter(|| rig.snapshot.policy.decide(black_box(&input)))
    });
    group.bench_function("body digest", |b| {
        b.iter(|| tag::body_hash(black_box(&rig.body)))
    });
    group.bench_function("tag (headers and assertion)", |b| {
        b.iter(|| {
            let mut headers = HeaderMap::new();
            rig.tag(&mut headers, &hash);
            headers
        });
    });
    group.bench_function("record (decision and outcome, written)", |b| {
        b.iter(|| {
            let mut entry = rig.entry(input.clone());
            entry.record(Ruling::passed()).unwrap();
        });
    });
    group.finish();
}

fn whole(c: &mut Criterion) {
    let rig = Rig::new();
    c.bench_function("pipeline (all stages in order, without sockets)", |b| {
        b.iter(|| {
            let hash = tag::body_hash(&rig.body);
            let call = validate(rig.read(), &rig.tool()).unwrap();
            let input = rig.input(&call, &hash);
            let decision = rig.snapshot.policy.decide(&input);
            authorize::spend(&decision, Some(&rig.task), &rig.outrider().uses).unwrap();
            let ruling = authorize::settle(decision);
            let mut headers = HeaderMap::new();
            rig.tag(&mut headers, &hash);
            let mut entry = rig.entry(input);
            entry.record(ruling).unwrap().permit().unwrap();
            headers
        });
    });
}

criterion_group!(benches, stages, whole);
criterion_main!(benches);
