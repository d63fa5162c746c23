//! The harness judges the product, so it is judged itself: agent against tool server, no sidecar.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use outrider_integration::{Agent, Gate, Request, Tool, ToolServer, text_result, until};
use serde_json::json;

fn agent(server: &ToolServer) -> Agent {
    Agent::new(server.address().into(), "/mcp")
}

#[test]
fn a_tool_server_keeps_what_reached_it_byte_for_byte() {
    let server = ToolServer::start(vec![Tool::echo("echo")]);
    let request = Request::call("echo", &json!({"message": "h\u{e9}"}));
    let answer = agent(&server).send(&request);
    assert!(answer.is_tool_success(), "{}", answer.text());
    assert_eq!(answer.tool_text(), "h\u{e9}");
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].body, request.body);
    assert_eq!(calls[0].head.get("mcp-name"), Some("echo"));
}

#[test]
fn an_agent_keeps_its_connection() {
    let server = ToolServer::start(vec![Tool::echo("echo")]);
    let mut agent = agent(&server);
    for _ in 0..3 {
        assert!(
            agent
                .call("echo", &json!({"message": "hi"}))
                .is_tool_success()
        );
    }
    let received = server.received();
    assert!(
        received.iter().all(|request| request.connection == 0),
        "{received:?}"
    );
}

#[test]
fn events_arrive_one_by_one_as_the_gate_opens() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![Tool::doing("slow", move |exchange| {
        exchange.begin_events();
        for number in 1..=2 {
            if !inside.pass() {
                return exchange.hang_up();
            }
            exchange.event(&json!({"number": number}));
        }
        exchange.end_events(&text_result("done"));
    })]);
    let mut stream = agent(&server).start(&Request::call("slow", &json!({"message": "x"})));
    stream.head().unwrap().unwrap();
    for number in 1..=2 {
        gate.open();
        let event = stream.event().unwrap().unwrap();
        assert_eq!(event, json!({"number": number}).to_string());
    }
    assert!(stream.event().unwrap().unwrap().contains("done"));
    assert_eq!(stream.event().unwrap(), None);
}

#[test]
fn a_broken_answer_is_not_complete() {
    let server = ToolServer::answering(|exchange| {
        exchange.begin_events();
        exchange.event(&json!({"number": 1}));
        exchange.hang_up();
    });
    let answer = agent(&server).send(&Request::list());
    assert!(!answer.complete);
}

#[test]
fn bytes_that_are_no_request_are_counted_too() {
    let server = ToolServer::start(Vec::new());
    let mut connection = agent(&server).connect();
    connection.send(b"GE").unwrap();
    until("two bytes", || (server.bytes() == 2).then_some(()));
    assert!(server.received().is_empty());
}
