//! What a hostile agent or service could pile up or draw out in legacy MCP, and answers that a
//! client would read otherwise than they were inspected.

use outrider_integration::{
    Agent, Gate, Request, Setup, Sidecar, Tool, ToolServer, text_result, until,
};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, before, hi, scripted, session_of, verb};

fn outcome_of(sidecar: &Sidecar, tool: &str) -> Value {
    let decision = until("the decision", || {
        let mut decisions = sidecar.decisions();
        decisions.retain(|line| line["tool"] == tool);
        decisions.pop()
    });
    sidecar.outcome(decision["decision_id"].as_str().unwrap())
}

/// A service that says a little now and then is left when its agent has been gone for long.
#[test]
fn an_answer_for_nobody_has_an_end_in_time() {
    let gone = Gate::new();
    let inside = gone.clone();
    let server = ToolServer::legacy(
        vec![Tool::doing("slow", move |exchange| {
            exchange.begin_events();
            while exchange.chunk(b":\n\n") {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            inside.open();
        })],
        |_| false,
    );
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["services"][0]["stream_idle"] = json!("500ms"))
        .start();
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let slow = Request::legacy_call("slow", &hi()).session(&session);
    let mut connection = agent.start(&slow);
    connection.head().unwrap().unwrap();
    connection.hang_up();
    assert!(gone.pass(), "the service may go on for ever");
    assert_eq!(outcome_of(&sidecar, "tools/slow")["ended"], "agent_gone");
}

/// What was refused has been answered: nothing else passes as its answer.
#[test]
fn a_call_that_was_refused_is_not_answered_on_the_feed() {
    let server = ToolServer::legacy(vec![Tool::echo("echo")], |exchange| {
        if verb(exchange) == "GET" {
            exchange.begin_events();
            exchange.event(&json!({"jsonrpc": "2.0", "id": 1, "result": text_result("late")}));
            exchange.event(&json!({"jsonrpc": "2.0", "method": "notifications/message"}));
            exchange.end();
            return true;
        }
        let call = exchange.request().method() == "tools/call";
        if call {
            exchange.answer(200, "text/plain", &[], b"no");
        }
        call
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let call = Request::legacy_call("echo", &hi()).session(&session);
    assert_eq!(agent.send(&call).code(), "response_refused");
    let mut feed = agent.start(&Request::feed(&session));
    feed.head().unwrap().unwrap();
    let event = feed.event().unwrap().unwrap();
    assert!(event.contains("notifications/message"), "{event}");
}

/// Clients that follow a `charset` would find other messages in the same bytes.
#[test]
fn an_answer_is_labelled_as_it_was_read() {
    for (kind, expected) in [
        ("application/json; charset=utf-7", "application/json"),
        ("text/event-stream; charset=utf-7", "text/event-stream"),
    ] {
        let server = scripted(move |exchange| {
            let message =
                json!({"jsonrpc": "2.0", "id": 1, "result": text_result("a")}).to_string();
            let body = if expected == "application/json" {
                message
            } else {
                format!("data: {message}\n\n")
            };
            exchange.answer(200, kind, &[], body.as_bytes());
            true
        });
        let sidecar = before(&server);
        let answer = sidecar.agent().send(&Request::call("echo", &hi()));
        assert_eq!(answer.head.get("content-type"), Some(expected));
    }
}

#[test]
fn a_coding_behind_identity_is_refused() {
    let server = scripted(|exchange| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "result": text_result("a")}).to_string();
        let codings = [("Content-Encoding", "identity"), ("Content-Encoding", "br")];
        exchange.answer(200, "application/json", &codings, body.as_bytes());
        true
    });
    let sidecar = before(&server);
    let answer = sidecar.agent().send(&Request::call("echo", &hi()));
    assert_eq!(answer.code(), "response_refused", "{}", answer.text());
}

/// Lists that come on a feed are of what holds when they come, however old the feed.
#[test]
fn a_feed_shows_what_may_be_used_now() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::legacy(vec![Tool::echo("echo")], move |exchange| {
        if verb(exchange) == "GET" {
            exchange.begin_events();
            exchange.event(&json!({"jsonrpc": "2.0", "method": "notifications/message"}));
            inside.pass();
            let tools = json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]});
            exchange.event(&json!({"jsonrpc": "2.0", "id": 7, "result": tools}));
            exchange.end();
            return true;
        }
        let list = exchange.request().method() == "tools/list";
        if list {
            exchange.begin_events();
            exchange.chunk(b"id: 1\nretry: 10\ndata:\n\n");
            exchange.end();
        }
        list
    });
    let mut sidecar = before(&server);
    let mut agent: Agent = sidecar.agent();
    let session = session_of(&mut agent);
    let list = Request::legacy(&json!(7), "tools/list", &json!({})).session(&session);
    agent.send(&list);
    let mut feed = agent.start(&Request::feed(&session));
    feed.head().unwrap().unwrap();
    feed.event().unwrap().unwrap();
    sidecar.rewrite(|_, data| data["grants"][0]["tools"] = json!(["tools/other"]));
    let changed = feed.event().unwrap().unwrap();
    assert!(changed.contains("tools/list_changed"), "{changed}");
    gate.open();
    let answer = feed.event().unwrap().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["result"]["tools"], json!([]), "{answer}");
}
