//! Language models are granted apart from tools, by the files of `examples/models`.

use outrider_integration::{
    Agent, Exchange, Gate, Request, Setup, Sidecar, ToolServer, sha256_hex,
};
use serde_json::{Value, json};

use crate::support::{
    Form::{Problem, Rpc},
    OUTRIDER, refused,
};

const GRANTS: &str = include_str!("../../../examples/models/data/grants.yaml");
const RULES: &str = include_str!("../../../examples/models/policy/rules.rego");
const TICKETS: &str = include_str!("../../../examples/models/schemas/tickets.json");

/// A small server in the shape of `api.openai.com`: three pieces of an answer as events, each written when the
/// gate opens, and `[DONE]`; or one answer whole.
fn model(gate: &Gate) -> ToolServer {
    let gate = gate.clone();
    ToolServer::answering(move |exchange: &mut Exchange<'_>| {
        if exchange.request().json()["stream"] != true {
            let message = json!({"role": "assistant", "content": "Hello"});
            return exchange.json(200, &json!({"choices": [{"message": message}]}));
        }
        exchange.begin_events();
        for piece in ["Hel", "lo", "!"] {
            if !gate.pass() {
                return exchange.hang_up();
            }
            exchange.chunk(format!("data: {}\n\n", delta(piece)).as_bytes());
        }
        if gate.pass() {
            exchange.chunk(b"data: [DONE]\n\n");
            exchange.raw(b"0\r\n\r\n");
        }
    })
}

fn delta(piece: &str) -> Value {
    json!({"object": "chat.completion.chunk", "choices": [{"delta": {"content": piece}}]})
}

/// The tool service of the example.
fn tickets() -> ToolServer {
    ToolServer::answering(|exchange| exchange.result(&json!({"id": "T-1", "title": "Late"})))
}

fn before(
    model: &ToolServer,
    tickets: &ToolServer,
    change: impl FnOnce(Setup) -> Setup,
) -> Sidecar {
    let setup = Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "openai",
            "protocol": "http",
            "kind": "model",
            "upstream": format!("http://{}", model.address()),
            "credentials": {"header": "authorization", "value": "Bearer ${file:key}"},
        }))
        .serving(&json!({
            "name": "tickets",
            "protocol": "jsonrpc",
            "upstream": format!("http://{}/rpc", tickets.address()),
            "schemas": "tickets.json",
        }))
        .config(|config| {
            config["agent"]["id"] = json!("spiffe://example.org/agent/triage");
            config["policy"]["data"] = json!(["grants.yaml"]);
            config["body"] = json!({"max_request": "10MiB"});
        })
        .rules(RULES);
    for (name, text) in [
        ("grants.yaml", GRANTS),
        ("tickets.json", TICKETS),
        ("key", "s3cret\n"),
    ] {
        setup.file(name, text);
    }
    change(setup).start()
}

fn usual(model: &ToolServer, tickets: &ToolServer) -> Sidecar {
    before(model, tickets, |setup| setup)
}

/// An agent of that service under a task of that intent.
fn agent(sidecar: &Sidecar, service: &str, intent: &str) -> Agent {
    let token = sidecar.open_task_for(intent, &[]).token;
    Agent::new(sidecar.listener("reverse"), &format!("/{service}")).with_token(&token)
}

fn completion(stream: bool) -> Request {
    let body = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "zz9prompt"}]});
    post("/openai/v1/chat/completions", body.to_string())
}

fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::raw("POST", target, body.into())
        .field("Content-Type", "application/json")
        .field("Authorization", "Bearer none")
}

fn read_ticket() -> Request {
    let body =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tickets.read", "params": {"id": "T-1"}});
    Request::raw("POST", "", body.to_string().into_bytes())
        .field("Content-Type", "application/json")
}

#[test]
fn a_model_streams_its_answer_under_a_key_that_the_agent_never_has() {
    let gate = Gate::new();
    let (model, tickets) = (model(&gate), tickets());
    let sidecar = usual(&model, &tickets);
    let mut stream = agent(&sidecar, "openai", "answer.draft").start(&completion(true));
    let head = stream.head().unwrap().unwrap();
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    for piece in ["Hel", "lo", "!"] {
        gate.open();
        let event: Value = serde_json::from_str(&stream.event().unwrap().unwrap()).unwrap();
        assert_eq!(event, delta(piece));
    }
    gate.open();
    assert_eq!(stream.event().unwrap().as_deref(), Some("[DONE]"));
    assert_eq!(stream.event().unwrap(), None, "the stream ends properly");

    let received = model.wait_for(1).remove(0);
    assert_eq!(received.head.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(received.head.get("authorization"), Some("Bearer s3cret"));
    assert_eq!(received.body, completion(true).body);
    let id = head.get("outrider-decision-id").unwrap();
    let line = sidecar.decision(id);
    assert_eq!(line["input"]["tool"]["kind"], "model", "{line}");
    assert_eq!(line["input"]["content"]["opaque"], true, "{line}");
    assert_eq!(line["policy"]["rule"], "grant:draft-models", "{line}");
    assert_eq!(sidecar.outcome(id)["ended"], "completed");
    assert!(!sidecar.log_text().contains("zz9prompt"));
}

#[test]
fn an_answer_that_does_not_stream_passes_whole() {
    let (model, tickets) = (model(&Gate::new()), tickets());
    let sidecar = usual(&model, &tickets);
    let answer = agent(&sidecar, "openai", "answer.draft").send(&completion(false));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello");
}

#[test]
fn a_task_for_tools_reaches_no_model_and_a_task_for_models_no_tool() {
    let (model, tickets) = (model(&Gate::new()), tickets());
    let sidecar = usual(&model, &tickets);
    let answer = agent(&sidecar, "tickets", "ticket.triage").send(&read_ticket());
    assert_eq!(answer.json()["result"]["id"], "T-1", "{}", answer.text());
    let answer = agent(&sidecar, "openai", "answer.draft").send(&completion(false));
    assert_eq!(answer.status, 200, "{}", answer.text());
    refused(&sidecar, &model, (Problem(403), "scope_exceeded"), || {
        agent(&sidecar, "openai", "ticket.triage").send(&completion(false))
    });
    refused(
        &sidecar,
        &tickets,
        (Rpc(200, 4030), "scope_exceeded"),
        || agent(&sidecar, "tickets", "answer.draft").send(&read_ticket()),
    );
}

/// Intent, grant and task: in each of them `*/*` alone is not enough.
#[test]
fn a_star_for_services_never_means_a_model() {
    let (model, tickets) = (model(&Gate::new()), tickets());
    for (intent, grant, scope, code) in [
        ("*/*", "*/*", "openai/*", "policy_denied"),
        ("openai/*", "*/*", "openai/*", "policy_denied"),
        ("*/*", "openai/*", "openai/POST", "policy_denied"),
        ("openai/*", "openai/*", "*/*", "scope_exceeded"),
        ("openai/*", "openai/POST", "openai/*", "ok"),
    ] {
        let grants = json!({
            "agents": [{"id": "spiffe://example.org/agent/triage", "owner": "o", "purpose": "p"}],
            "intents": [{"id": "work", "tools": [intent], "max_classification": "internal"}],
            "grants": [{"agent": "spiffe://example.org/agent/triage", "tools": [grant]}],
        });
        let sidecar = before(&model, &tickets, |setup| {
            setup.file("grants.yaml", &grants.to_string());
            setup
        });
        let opened = sidecar.command(&["task", "open", "--intent", "work", "--tools", scope]);
        assert_eq!(opened.status, 0, "{opened:?}");
        let mut agent =
            Agent::new(sidecar.listener("reverse"), "/openai").with_token(opened.stdout.trim());
        if code == "ok" {
            assert_eq!(agent.send(&completion(false)).status, 200);
            continue;
        }
        refused(&sidecar, &model, (Problem(403), code), || {
            agent.send(&completion(false))
        });
    }
}

#[test]
fn a_path_that_the_example_does_not_serve_is_refused() {
    let (model, tickets) = (model(&Gate::new()), tickets());
    let sidecar = usual(&model, &tickets);
    let mut agent = agent(&sidecar, "openai", "answer.draft");
    for target in [
        "/openai/v1/files",
        "/openai/v1/fine_tuning/jobs",
        "/openai/v1/chat/completions/",
        "/openai",
    ] {
        let answer = refused(&sidecar, &model, (Problem(403), "policy_denied"), || {
            agent.send(&post(target, "{}"))
        });
        assert!(answer.text().contains("Only completions"));
    }
    refused(&sidecar, &model, (Problem(403), "scope_exceeded"), || {
        agent.send(&Request::raw("GET", "/openai/v1/models", Vec::new()))
    });
}

#[test]
fn a_stream_of_a_revoked_task_is_broken_off() {
    let gate = Gate::new();
    let (model, tickets) = (model(&gate), tickets());
    let sidecar = usual(&model, &tickets);
    let task = sidecar.open_task_for("answer.draft", &[]);
    let agent = Agent::new(sidecar.listener("reverse"), "/openai").with_token(&task.token);
    let mut stream = agent.start(&completion(true));
    let head = stream.head().unwrap().unwrap();
    gate.open();
    stream.event().unwrap().unwrap();
    assert_eq!(sidecar.command(&["revoke", "task", &task.id]).status, 0);
    assert_eq!(
        stream.rest(),
        (Vec::new(), false),
        "an end that looks whole"
    );
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
}

/// Kilobytes of the sidecar's memory at its highest.
fn peak(sidecar: &Sidecar) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// As many values as there can be: nobody parses them.
#[test]
fn a_body_of_ten_mebibytes_passes_in_little_more_memory_than_it_has() {
    let (model, tickets) = (model(&Gate::new()), tickets());
    let sidecar = usual(&model, &tickets);
    let mut agent = agent(&sidecar, "openai", "answer.draft");
    assert_eq!(agent.send(&completion(false)).status, 200);
    let before = peak(&sidecar);
    let mut body = br#"{"model":"m","input":["#.to_vec();
    body.resize((10 << 20) - 3, b'1');
    for comma in body[22..].iter_mut().skip(1).step_by(2) {
        *comma = b',';
    }
    body.extend(b"1]}");
    assert_eq!(body.len(), 10 << 20);
    let answer = agent.send(&post("/openai/v1/chat/completions", body.clone()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = model.received().pop().unwrap();
    assert_eq!(sha256_hex(&received.body), sha256_hex(&body));
    if let (Some(before), Some(after)) = (before, peak(&sidecar)) {
        let grown = after - before;
        // Parsed it would take hundreds of mebibytes.
        assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
    }
    body.push(b' ');
    refused(&sidecar, &model, (Problem(413), "body_too_large"), || {
        agent.send(&post("/openai/v1/chat/completions", body))
    });
}

/// A model's API under an OpenAPI description: what the description says of bodies is judged.
fn described(model: &ToolServer, tickets: &ToolServer) -> Sidecar {
    let message = json!({"type": "object", "properties": {
        "role": {"type": "string"},
        "content": {"type": ["string", "array"]},
    }, "required": ["role", "content"]});
    let body = json!({"type": "object", "properties": {
        "model": {"type": "string"},
        "stream": {"type": "boolean"},
        "messages": {"type": "array", "items": message},
    }, "required": ["model", "messages"]});
    let description = json!({
        "openapi": "3.1.0",
        "info": {"title": "Model", "version": "1"},
        "paths": {"/v1/chat/completions": {"post": {
            "operationId": "POST",
            "requestBody": {"required": true, "content": {"application/json": {"schema": body}}},
            "responses": {"200": {"description": "ok"}},
        }}},
    });
    before(model, tickets, |setup| {
        setup.file("model.json", &description.to_string());
        setup.config(|config| {
            let service = &mut config["services"][0];
            service["protocol"] = json!("openapi");
            service["schemas"] = json!("model.json");
        })
    })
}

/// A completion of that many bytes, of which the content is that JSON text filled up with blanks.
fn filled(content: &str, bytes: usize) -> Vec<u8> {
    let head = r#"{"model":"m","messages":[{"role":"user","content":"#;
    let blanks = bytes - head.len() - content.len() - 4;
    format!("{head}{content}{}}}]}}\n", " ".repeat(blanks)).into_bytes()
}

#[test]
fn a_described_model_takes_ten_mebibytes_and_not_more_values_than_json_may_have() {
    const MOST: usize = 10 << 20;
    let (model, tickets) = (model(&Gate::new()), tickets());
    let sidecar = described(&model, &tickets);
    let mut agent = agent(&sidecar, "openai", "answer.draft");
    assert_eq!(agent.send(&completion(false)).status, 200);
    let before = peak(&sidecar);
    let text = format!("\"{}\"", "x".repeat(MOST - 100));
    let many = format!("[{}1]", "1,".repeat(240_000));
    for content in [text, many] {
        let body = filled(&content, MOST);
        let answer = agent.send(&post("/openai/v1/chat/completions", body.clone()));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = model.received().pop().unwrap();
        assert_eq!(sha256_hex(&received.body), sha256_hex(&body));
        let line = sidecar.decision(&answer.decision_id());
        assert_eq!(line["input"]["content"]["opaque"], false, "{line}");
    }
    if let (Some(before), Some(after)) = (before, peak(&sidecar)) {
        let grown = after - before;
        assert!(grown < 128 * 1024, "memory grew by {grown} KiB");
    }
    let more = format!("[{}1]", "1,".repeat(250_000));
    refused(&sidecar, &model, (Problem(400), "call_malformed"), || {
        agent.send(&post("/openai/v1/chat/completions", filled(&more, MOST)))
    });
}
