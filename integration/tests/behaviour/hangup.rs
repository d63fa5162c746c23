//! An agent that goes away: its call is cancelled and still recorded.

use outrider_integration::{Gate, Request, Sidecar, Tool, ToolServer, text_result, until};
use serde_json::{Value, json};

use crate::support::{before, echo, hi};

/// A server whose tool waits until its caller is gone and then opens the gate.
fn waiting(gone: &Gate) -> ToolServer {
    let gone = gone.clone();
    ToolServer::start(vec![Tool::doing("wait", move |exchange| {
        if exchange.wait_until_gone() {
            gone.open();
        }
    })])
}

fn lines_of(sidecar: &Sidecar, tool: &str) -> Vec<Value> {
    let mut log = sidecar.log();
    let mine = log.iter().filter(|line| line["tool"] == tool);
    let ids: Vec<_> = mine.map(|line| line["decision_id"].clone()).collect();
    log.retain(|line| ids.contains(&line["decision_id"]));
    log
}

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect()
}

#[test]
fn an_abandoned_call_is_cancelled_upstream_and_has_one_decision_and_one_outcome() {
    let gone = Gate::new();
    let server = waiting(&gone);
    let sidecar = before(&server);
    let connection = sidecar.agent().start(&Request::call("wait", &hi()));
    server.wait_for(1);
    connection.hang_up();
    assert!(gone.pass(), "the upstream call was not cancelled");
    let lines = until("the outcome", || {
        let lines = lines_of(&sidecar, "tools/wait");
        (lines.len() > 1).then_some(lines)
    });
    assert_eq!(kinds(&lines), ["decision", "outcome"], "{lines:?}");
    assert_eq!(lines[1]["ended"], "agent_gone", "{}", lines[1]);
}

#[test]
fn a_stream_that_its_agent_leaves_is_cancelled_upstream_and_recorded() {
    let gone = Gate::new();
    let inside = gone.clone();
    let server = ToolServer::start(vec![Tool::doing("stream", move |exchange| {
        exchange.begin_events();
        exchange.event(&progress(1));
        if exchange.wait_until_gone() {
            inside.open();
        }
    })]);
    let sidecar = before(&server);
    let mut connection = sidecar.agent().start(&Request::call("stream", &hi()));
    connection.head().unwrap().unwrap();
    connection.event().unwrap().unwrap();
    connection.hang_up();
    assert!(gone.pass(), "the upstream call was not cancelled");
    let lines = until("the outcome", || {
        let lines = lines_of(&sidecar, "tools/stream");
        (lines.len() > 1).then_some(lines)
    });
    assert_eq!(kinds(&lines), ["decision", "outcome"], "{lines:?}");
    assert_eq!(lines[1]["ended"], "agent_gone", "{}", lines[1]);
}

/// Behind so much its end could not be seen any more.
#[test]
fn an_agent_that_sends_too_much_ahead_has_left() {
    let gone = Gate::new();
    let server = waiting(&gone);
    let sidecar = before(&server);
    let agent = sidecar.agent();
    let mut connection = agent.start(&Request::call("wait", &hi()));
    server.wait_for(1);
    let next = agent.bytes(&Request::call("wait", &hi()));
    // The sidecar may hang up before it has all.
    connection.send(&next.repeat(70_000 / next.len() + 1)).ok();
    assert!(gone.pass(), "the upstream call was not cancelled");
    assert!(!matches!(connection.answer(), Ok(Some(_))), "an answer");
    let lines = until("the outcome", || {
        let lines = lines_of(&sidecar, "tools/wait");
        (lines.len() > 1).then_some(lines)
    });
    assert_eq!(kinds(&lines), ["decision", "outcome"], "{lines:?}");
    assert_eq!(lines[1]["ended"], "agent_gone", "{}", lines[1]);
    assert_eq!(server.received().len(), 1);
}

/// A little may be sent ahead: it waits for its turn.
#[test]
fn an_agent_that_sends_a_little_ahead_is_served() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![Tool::doing("wait", move |exchange| {
        inside.pass();
        exchange.result(&text_result("done"));
    })]);
    let sidecar = before(&server);
    let agent = sidecar.agent();
    let mut connection = agent.start(&Request::call("wait", &hi()));
    server.wait_for(1);
    let request = Request::call("wait", &json!({"message": "x".repeat(50_000)}));
    connection.send(&agent.bytes(&request)).unwrap();
    for _ in 0..2 {
        gate.open();
        let answer = connection.answer().unwrap().expect("an answer");
        assert_eq!(answer.tool_text(), "done", "{}", answer.text());
    }
}

#[test]
fn half_a_request_reaches_nobody() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let bytes = agent.bytes(&Request::call("echo", &hi()));
    for cut in [10, bytes.len() / 2, bytes.len() - 1] {
        let mut connection = agent.connect();
        connection.send(&bytes[..cut]).unwrap();
        connection.hang_up();
    }
    assert!(agent.call("echo", &hi()).is_tool_success());
    assert_eq!(server.received().len(), 1, "{:?}", server.received());
}

fn progress(step: u64) -> Value {
    json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": 1, "progress": step},
    })
}
