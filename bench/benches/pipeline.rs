//! Each stage of the pipeline, and all of them in their order, on one call of about 1 KiB.
//!
//! No sockets: what the stages cost is measured here, what they cost as a proxy is measured by
//! `compare`. The stages are the program's own functions, on a configuration as in `compare`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::semicolon_if_nothing_returned,
    clippy::format_collect,
    clippy::duration_suboptimal_units,
    reason = "a bench"
)]

#[allow(dead_code)]
#[path = "../src/message.rs"]
mod message;

use std::{
    fs,
    future::Future as _,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Request, request::Parts};
use jiff::Timestamp;
use outrider::{
    authorize,
    call::{DecisionId, Trace},
    catalogue::{Service, Tool},
    classify::classify,
    config::{self, Compiler},
    identify,
    limit::Subjects,
    listen::{Peer, PeerAddr},
    outrider::{Outrider, Snapshot},
    protocol::{Asked, Exchange, Held, Kind, Message, Passed},
    record::{Entry, Facts, Recorded, Ruling},
    serve::{self, Options, Running},
    state::{Open, Opened},
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
    token: HeaderValue,
    head: Parts,
    body: Vec<u8>,
}

impl Rig {
    fn new() -> Self {
        Self::with("written").unwrap()
    }

    fn with(durability: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("outrider.yaml");
        fs::write(directory.path().join("tools.json"), lock()).unwrap();
        fs::write(directory.path().join("grants.yaml"), grants()).unwrap();
        fs::write(&file, configuration(durability)).unwrap();
        let loaded = config::load(&file).ok()?;
        let running = serve::start(
            loaded,
            &Options {
                compiler: Compiler::Here,
                open_task: false,
                take_over: false,
            },
        )
        .unwrap();
        let outrider = Arc::clone(running.outrider());
        let snapshot = outrider.snapshot();
        let service = Arc::clone(snapshot.catalogue.service("mcp").unwrap());
        let (head, body) = request();
        let opened = open(&outrider);
        Some(Self {
            _directory: directory,
            token: HeaderValue::from_str(&opened.token).unwrap(),
            task: opened.task,
            running,
            snapshot,
            service,
            head,
            body,
        })
    }

    fn outrider(&self) -> &Outrider {
        self.running.outrider()
    }

    fn tool(&self) -> Arc<Tool> {
        Arc::clone(self.service.tool(message::TOOL).unwrap())
    }

    fn message(&self) -> Message {
        let asked = Asked {
            head: &self.head,
            rest: "",
            query: None,
            body: &self.body,
            websocket: false,
        };
        self.service.protocol.read(&asked).unwrap()
    }

    fn read(&self) -> outrider::call::ToolCall {
        let Kind::Call(call) = self.message().kind else {
            unreachable!()
        };
        call
    }

    fn answer(&self, exchange: &Exchange, answer: Bytes) -> Passed {
        let held = Held {
            operation: Some(message::TOOL),
            shown: &|_| true,
            session: None,
            goes_on: &|_, _| (),
            call: None,
        };
        self.service
            .protocol
            .inspect(exchange, answer, &held)
            .unwrap()
    }

    fn valid(&self) -> ValidCall {
        validate(self.read(), &self.tool()).unwrap()
    }

    fn subjects<'a>(&'a self, tool: &'a Tool) -> Subjects<'a> {
        Subjects {
            agent: &self.outrider().agent,
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

    /// The headers as the agent sends them.
    fn arrived(&self) -> HeaderMap {
        let mut headers = self.head.headers.clone();
        headers.insert("host", HeaderValue::from_static("localhost"));
        headers.insert(
            "accept",
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        headers.insert("outrider-task-token", self.token.clone());
        headers
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
            &Peer::from(PeerAddr::Unix {
                uid: 1000,
                pid: None,
            }),
        );
        entry.facts = Facts {
            service: Some(self.service.name.clone()),
            tool: Some(self.tool().id.clone()),
            method: "tools/call".into(),
            task: Some(Arc::clone(&self.task)),
            task_source: "token",
            classification: "internal",
            input: Some(Box::new(input)),
            trace: Some(Trace::start(false)),
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

fn configuration(durability: &str) -> String {
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
        "decision_log": {"path": "decisions.jsonl", "durability": durability},
    })
    .to_string()
}

fn open(outrider: &Outrider) -> Opened {
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
        parent: None,
    };
    outrider.authority.open(open, Timestamp::now()).unwrap()
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
    group.bench_function("identify (token, task, headers stripped)", |b| {
        b.iter_batched(
            || rig.arrived(),
            |mut headers| {
                let tokens = identify::presented(&headers);
                let outrider = rig.outrider();
                let proof = identify::Proof {
                    authority: &outrider.authority,
                    issuers: &outrider.issuers,
                    bearer: identify::issuers::Bearer {
                        agent: &outrider.agent,
                        depth: 4,
                    },
                    reach: &|intent| rig.snapshot.reach(intent),
                    now: Timestamp::now(),
                };
                let required = identify::Required::Yes;
                assert!(identify::task(&tokens, "reverse", &proof, required).is_ok());
                identify::strip(&mut headers, &[]);
                headers
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("resolve (service, tool)", |b| {
        b.iter(|| {
            let service = rig.snapshot.catalogue.service(black_box("mcp")).unwrap();
            Arc::clone(service.tool(black_box(message::TOOL)).unwrap())
        });
    });
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
    for durability in ["memory", "written"] {
        // Not every build has both.
        let Some(rig) = Rig::with(durability) else {
            continue;
        };
        group.bench_function(
            format!("record (decision and outcome, {durability})"),
            |b| {
                b.iter(|| {
                    let mut entry = rig.entry(input.clone());
                    recorded(&mut entry, Ruling::passed());
                });
            },
        );
    }
    let exchange = rig.message().exchange;
    let text = "The ticket was updated. ".repeat(18);
    let answer = json!({
        "jsonrpc": "2.0", "id": 1,
        "result": {"resultType": "complete", "content": [{"type": "text", "text": text}]},
    });
    let answer = Bytes::from(answer.to_string());
    group.bench_function("answer (inspected)", |b| {
        b.iter(|| rig.answer(&exchange, black_box(answer.clone())));
    });
    group.finish();
}

/// Under `written` a record is there at once.
fn recorded(entry: &mut Entry, ruling: Ruling) -> Recorded {
    let mut record = pin!(entry.record(ruling));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(recorded) = record.as_mut().poll(&mut context) else {
        unreachable!("it waits for nobody")
    };
    recorded.unwrap()
}

fn whole(c: &mut Criterion) {
    let rig = Rig::new();
    c.bench_function("pipeline (all stages in order, without sockets)", |b| {
        b.iter(|| {
            let hash = tag::body_hash(&rig.body);
            let call = validate(rig.read(), &rig.tool()).unwrap();
            let input = rig.input(&call, &hash);
            let decision = rig.snapshot.policy.decide(&input);
            let outrider = rig.outrider();
            let (uses, store) = (&outrider.uses, &outrider.store);
            authorize::spend(&decision, Some(&rig.task), uses, store, None).unwrap();
            let ruling = authorize::settle(decision);
            let mut headers = HeaderMap::new();
            rig.tag(&mut headers, &hash);
            let mut entry = rig.entry(input);
            recorded(&mut entry, ruling).permit().unwrap();
            headers
        });
    });
}

criterion_group!(benches, stages, whole);
criterion_main!(benches);
