//! The revisions of MCP before 2026-07-28: what passes, and how an agent that leaves is read.

use outrider_integration::{
    Gate, Request, Setup, Sidecar, Tool, ToolServer, initialized, text_result, until,
};
use serde_json::{Value, json};

use crate::support::{
    Form::{Problem, Rpc},
    OUTRIDER, before, check_record, echo, echo_in, hi, refused, scripted, session_of,
};

const VERSION: &str = "MCP-Protocol-Version";

#[test]
fn each_served_revision_passes_and_so_does_none() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let request = echo_in(&session).with(VERSION, revision);
        assert!(agent.send(&request).is_tool_success(), "{revision}");
    }
    let request = echo_in(&session).without(VERSION);
    assert!(agent.send(&request).is_tool_success());
}

#[test]
fn a_revision_that_is_not_served_is_refused_with_those_that_are() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    for revision in ["2024-11-05", "2027-01-01", "latest", ""] {
        let request = echo_in(&session).with(VERSION, revision);
        let expected = (Rpc(400, -32022), "call_malformed");
        let answer = refused(&sidecar, &server, expected, || agent.send(&request));
        let data = &answer.json()["error"]["data"];
        let supported = json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"]);
        assert_eq!(data["supported"], supported);
        assert_eq!(data["requested"], revision);
    }
}

#[test]
fn a_client_of_the_old_transport_is_told_so() {
    let server = echo();
    let sidecar = before(&server);
    let request = Request::raw("GET", "", Vec::new()).field("Accept", "text/event-stream");
    let expected = (Problem(405), "call_malformed");
    let answer = refused(&sidecar, &server, expected, || {
        sidecar.agent().send(&request)
    });
    assert!(answer.text().contains("HTTP+SSE"), "{}", answer.text());
    assert_eq!(answer.head.get("allow"), Some("POST"));
}

#[test]
fn a_service_that_negotiates_an_older_revision_is_refused() {
    for revision in [
        json!("2024-11-05"),
        json!("2026-07-28"),
        json!(null),
        json!(7),
    ] {
        let server = scripted(move |exchange| {
            let mut result = initialized(&json!({}));
            result["protocolVersion"] = revision.clone();
            exchange.result(&result);
            true
        });
        let sidecar = before(&server);
        let answer = sidecar.agent().send(&Request::initialize());
        assert_eq!(answer.code(), "response_refused", "{}", answer.text());
    }
}

#[test]
fn several_messages_at_once_are_refused_in_every_era() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let of = |request: &Request| {
        let message: Value = serde_json::from_slice(&request.body).unwrap();
        request.clone().with_body(json!([message]).to_string())
    };
    for request in [
        echo_in(&session).with(VERSION, "2025-03-26"),
        echo_in(&session),
        Request::legacy_call("echo", &hi()).without(VERSION),
        Request::initialize(),
        Request::call("echo", &hi()),
        Request::answer(&json!(1), &json!({})).session(&session),
    ] {
        let expected = (Rpc(400, -32600), "call_malformed");
        refused(&sidecar, &server, expected, || agent.send(&of(&request)));
    }
}

#[test]
fn methods_pass_in_their_era_alone() {
    let server = scripted(|exchange| {
        let known = exchange.request().method().starts_with("logging/");
        if known {
            exchange.result(&json!({}));
        }
        known
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let level = json!({"level": "debug"});
    let set = Request::legacy(&json!(1), "logging/setLevel", &level).session(&session);
    assert_eq!(agent.send(&set).json()["result"], json!({}));
    let cancelled = json!({"requestId": 1});
    let note = Request::legacy_notification("notifications/cancelled", &cancelled);
    assert_eq!(agent.send(&note.session(&session)).status, 202);
    let note = Request::notification("notifications/cancelled", cancelled);
    assert_eq!(agent.send(&note).status, 202);

    let legacy =
        |method: &str, params: &Value| Request::legacy(&json!(1), method, params).session(&session);
    let id = json!(1);
    for request in [
        Request::message(&id, "logging/setLevel", level.clone()),
        Request::message(&id, "initialize", json!({})),
        Request::message(&id, "resources/subscribe", json!({"uri": "file:///x"})),
        Request::message(&id, "tasks/list", json!({})),
        Request::message(&id, "tasks/result", json!({"taskId": "t"})),
        Request::message(&id, "tools/call2", json!({})),
        legacy("tasks/list", &json!({})),
        legacy("tasks/update", &json!({"taskId": "t"})),
        legacy("server/discover", &json!({})),
        legacy("subscriptions/listen", &json!({})),
        legacy("roots/list", &json!({})),
    ] {
        let expected = (Rpc(404, -32601), "tool_unknown");
        refused(&sidecar, &server, expected, || agent.send(&request));
    }
}

/// An answer that names nobody is for whoever asked, where it is an error.
#[test]
fn an_error_for_nobody_is_tied_to_the_request_with_its_status() {
    for (status, id) in [
        (400, json!(null)),
        (200, json!(null)),
        (500, json!("server-error")),
        (403, json!(999)),
    ] {
        let given = id.clone();
        let server = scripted(move |exchange| {
            let error = json!({"code": -32000, "message": "zz9"});
            exchange.json(
                status,
                &json!({"jsonrpc": "2.0", "id": given, "error": error}),
            );
            true
        });
        let sidecar = before(&server);
        let mut agent = sidecar.agent();
        let answer = agent.send(&Request::legacy_call("echo", &hi()));
        assert_eq!(answer.status, status, "{id}: {}", answer.text());
        let body = answer.json();
        assert_eq!(body["id"], 1, "{id}: {body}");
        assert_eq!(body["error"]["message"], "zz9");
        let note = Request::legacy_notification("notifications/initialized", &json!({}));
        let answer = agent.send(&note);
        assert_eq!(answer.status, status, "{id}: {}", answer.text());
    }
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let server = scripted(move |exchange| {
        exchange.json(200, &json!({"jsonrpc": "2.0", "id": 999, "result": {}}));
        true
    });
    let sidecar = before(&server);
    let answer = sidecar.agent().send(&Request::legacy_call("echo", &hi()));
    assert_eq!(answer.code(), "response_refused", "{}", answer.text());
}

#[test]
fn an_empty_answer_to_a_notification_may_be_called_json() {
    let server = scripted(move |exchange| {
        exchange.answer(202, "application/json", &[], b"");
        true
    });
    let sidecar = before(&server);
    let note = Request::legacy_notification("notifications/initialized", &json!({}));
    let answer = sidecar.agent().send(&note);
    assert_eq!(answer.status, 202, "{}", answer.text());
    check_record(&sidecar);
}

/// A server whose one tool says when it has begun, waits for the gate, and answers; `done` opens
/// when its whole answer could be written.
fn slow(gate: &Gate, done: &Gate, streamed: bool) -> ToolServer {
    let (gate, done) = (gate.clone(), done.clone());
    ToolServer::legacy(
        vec![Tool::doing("slow", move |exchange| {
            if streamed {
                exchange.begin_events();
                exchange.event(&progress(1));
            }
            gate.pass();
            if streamed {
                for step in 2..200 {
                    if !exchange.event(&progress(step)) {
                        return;
                    }
                }
                exchange.end_events(&text_result("done"));
            } else {
                exchange.result(&text_result("done"));
            }
            // Whoever hung up before would not ask for more.
            done.open();
        })],
        |_| false,
    )
}

fn progress(step: u64) -> Value {
    let params = json!({"progressToken": 1, "progress": step, "message": "x".repeat(1000)});
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
}

fn slow_in(session: &str) -> Request {
    Request::legacy_call("slow", &hi()).session(session)
}

fn outcome_of_slow(sidecar: &Sidecar) -> Value {
    let decision = until("the decision", || {
        let mut decisions = sidecar.decisions();
        decisions.retain(|line| line["tool"] == "tools/slow");
        decisions.pop()
    });
    sidecar.outcome(decision["decision_id"].as_str().unwrap())
}

/// The service is not asked to stop, and its answer is read to its end.
#[test]
fn an_agent_that_leaves_does_not_cancel_its_call() {
    for streamed in [false, true] {
        let (gate, done) = (Gate::new(), Gate::new());
        let server = slow(&gate, &done, streamed);
        let sidecar = before(&server);
        let mut agent = sidecar.agent();
        let session = session_of(&mut agent);
        let mut connection = agent.start(&slow_in(&session));
        server.wait_for(2);
        if streamed {
            connection.head().unwrap().unwrap();
            connection.event().unwrap().unwrap();
        }
        connection.hang_up();
        // What is asked now is answered after the hang-up was seen.
        assert!(agent.send(&echo_ping(&session)).status == 200);
        gate.open();
        assert!(done.pass(), "the server could not answer");
        let outcome = outcome_of_slow(&sidecar);
        assert_eq!(outcome["ended"], "agent_gone", "{outcome}");
        // The connection to the server was of use to the end.
        assert!(agent.send(&echo_ping(&session)).status == 200);
        let connections: Vec<_> = server.received().iter().map(|r| r.connection).collect();
        assert_eq!(server.received().len(), 4, "{connections:?}");
        check_record(&sidecar);
    }
}

fn echo_ping(session: &str) -> Request {
    Request::legacy(&json!("p"), "ping", &json!({})).session(session)
}

/// What nobody reads is read to its bound and no further.
#[test]
fn an_answer_for_nobody_is_read_to_its_bound() {
    let gone = Gate::new();
    let inside = gone.clone();
    let server = ToolServer::legacy(
        vec![Tool::doing("slow", move |exchange| {
            exchange.begin_events();
            while exchange.event(&progress(1)) {}
            inside.open();
        })],
        |_| false,
    );
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["body"] = json!({"max_response": "64KiB"}))
        .start();
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let mut connection = agent.start(&slow_in(&session));
    connection.head().unwrap().unwrap();
    connection.event().unwrap().unwrap();
    connection.hang_up();
    assert!(gone.pass(), "the server may answer without end");
    assert_eq!(outcome_of_slow(&sidecar)["ended"], "agent_gone");
}

/// A task's end ends also what its agent has left.
#[test]
fn a_revoked_task_ends_the_calls_that_its_agent_has_left() {
    let gone = Gate::new();
    let inside = gone.clone();
    let server = ToolServer::legacy(
        vec![Tool::doing("slow", move |exchange| {
            if exchange.wait_until_gone() {
                inside.open();
            }
        })],
        |_| false,
    );
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let session = session_of(&mut agent);
    let connection = agent.start(&slow_in(&session));
    server.wait_for(2);
    connection.hang_up();
    assert_eq!(sidecar.command(&["revoke", "task", &task.id]).status, 0);
    assert!(gone.pass(), "the upstream call was not cancelled");
    assert_eq!(outcome_of_slow(&sidecar)["ended"], "cut");
}
