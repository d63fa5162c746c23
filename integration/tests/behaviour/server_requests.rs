//! Requests of a service to the agent: which pass, and what may answer them.

use outrider_integration::{Connection, Request, Setup, Sidecar, ToolServer, text_result};
use serde_json::{Value, json};

use crate::support::{Form::Rpc, OUTRIDER, check_record, echo_in, refused, scripted, session_of};

const UNASKED: (crate::support::Form, &str) = (Rpc(400, -32600), "call_malformed");

/// A server that asks back twice, in another way each time, before it answers a call.
fn asking() -> ToolServer {
    scripted(|exchange| {
        if exchange.request().method() != "tools/call" {
            return false;
        }
        exchange.begin_events();
        exchange.event(&asked("elicitation/create", &json!(5)));
        exchange.event(&asked("sampling/createMessage", &json!("zz9")));
        exchange.end_events(&text_result("done"));
        true
    })
}

fn asked(method: &str, id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"message": "?"}})
}

fn before(server: &ToolServer, passing: &Value) -> Sidecar {
    Setup::new(OUTRIDER, server)
        .config(|config| config["services"][0]["server_requests"] = passing.clone())
        .start()
}

fn rest(stream: &mut Connection) -> Vec<Value> {
    stream.head().unwrap().unwrap();
    let events = std::iter::from_fn(|| stream.event().unwrap());
    events
        .map(|event| serde_json::from_str(&event).unwrap())
        .collect()
}

fn answer(id: &Value, session: &str) -> Request {
    Request::answer(id, &json!({"action": "accept"})).session(session)
}

#[test]
fn no_question_passes_unless_its_method_is_named() {
    let server = asking();
    let sidecar = before(&server, &json!([]));
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let events = rest(&mut agent.start(&echo_in(&session)));
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["result"]["content"][0]["text"], "done");
    for id in [json!(5), json!("zz9")] {
        refused(&sidecar, &server, UNASKED, || {
            agent.send(&answer(&id, &session))
        });
    }
}

#[test]
fn a_question_that_is_named_passes_and_its_answer_once() {
    let server = asking();
    let sidecar = before(&server, &json!(["elicitation/create"]));
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let events = rest(&mut agent.start(&echo_in(&session)));
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0], asked("elicitation/create", &json!(5)));
    for (id, why) in [
        (json!("5"), "an ID keeps its type"),
        (json!("zz9"), "it was never asked"),
        (json!(6), "it was never asked"),
    ] {
        let answer = refused(&sidecar, &server, UNASKED, || {
            agent.send(&answer(&id, &session))
        });
        assert_eq!(answer.json().get("id"), None, "{why}");
    }
    let mut other = sidecar.agent();
    let theirs = session_of(&mut other);
    refused(&sidecar, &server, UNASKED, || {
        other.send(&answer(&json!(5), &theirs))
    });

    let accepted = agent.send(&answer(&json!(5), &session));
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    assert_eq!(
        server.received().last().unwrap().json()["result"]["action"],
        "accept"
    );
    refused(&sidecar, &server, UNASKED, || {
        agent.send(&answer(&json!(5), &session))
    });
    check_record(&sidecar);
}

/// Without a session nobody would know the answer again.
#[test]
fn no_question_passes_outside_a_session() {
    let server = asking();
    let sidecar = before(&server, &json!(["elicitation/create"]));
    let agent = sidecar.agent();
    let call = Request::legacy_call("echo", &json!({"message": "hi"}));
    let events = rest(&mut agent.start(&call));
    assert_eq!(events.len(), 1, "{events:?}");
    let modern = Request::call("echo", &json!({"message": "hi"}));
    let events = rest(&mut agent.start(&modern));
    assert_eq!(events.len(), 1, "{events:?}");
}
