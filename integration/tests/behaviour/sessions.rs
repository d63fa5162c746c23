//! Sessions of legacy MCP: a name that a service gave, and whose it is.

use outrider_integration::{Agent, Request, Setup, Tool, ToolServer, initialized};
use serde_json::json;

use crate::support::{
    Form::{Problem, Rpc, ToolResult},
    OUTRIDER, before, check_record, echo_in, refused, scripted, session_of, verb,
};

const NOT_FOUND: (crate::support::Form, &str) = (Rpc(404, -32600), "call_malformed");

fn ping(session: &str) -> Request {
    Request::legacy(&json!("p"), "ping", &json!({})).session(session)
}

fn note(session: &str) -> Request {
    Request::legacy_notification("notifications/initialized", &json!({})).session(session)
}

fn list(session: &str) -> Request {
    Request::legacy(&json!(2), "tools/list", &json!({})).session(session)
}

/// Everything that can be said in a session, with the form of its refusal.
fn everything(session: &str) -> Vec<(Request, (crate::support::Form, &'static str))> {
    let problem = (Problem(404), "call_malformed");
    vec![
        (echo_in(session), NOT_FOUND),
        (list(session), NOT_FOUND),
        (ping(session), NOT_FOUND),
        (note(session), NOT_FOUND),
        (
            Request::answer(&json!(1), &json!({})).session(session),
            NOT_FOUND,
        ),
        (Request::feed(session), problem),
        (Request::ending(session), problem),
    ]
}

#[test]
fn a_session_serves_its_task_until_it_is_ended() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    assert_eq!(agent.send(&note(&session)).status, 202);
    assert_eq!(agent.send(&ping(&session)).json()["result"], json!({}));
    let listed = agent.send(&list(&session)).json();
    assert_eq!(listed["result"]["tools"][0]["name"], "echo", "{listed}");
    assert!(agent.send(&echo_in(&session)).is_tool_success());
    let ended = agent.send(&Request::ending(&session));
    assert_eq!(ended.status, 200, "{}", ended.text());
    for received in &server.received()[1..] {
        assert_eq!(received.head.get("mcp-session-id"), Some(&*session));
    }
    for (request, expected) in everything(&session) {
        refused(&sidecar, &server, expected, || agent.send(&request));
    }
    check_record(&sidecar);
}

/// Also by somebody without a task, and by the same agent under another.
#[test]
fn a_session_is_found_by_nobody_else() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    for mut other in [sidecar.agent(), sidecar.stranger()] {
        for (request, expected) in everything(&session) {
            refused(&sidecar, &server, expected, || other.send(&request));
        }
    }
    for unknown in ["s-99", "", "S-1"] {
        for (request, expected) in everything(unknown) {
            refused(&sidecar, &server, expected, || agent.send(&request));
        }
    }
    assert!(agent.send(&echo_in(&session)).is_tool_success());
}

#[test]
fn a_session_of_another_service_is_unknown() {
    let server = scripted(|_| false);
    let mut setup = Setup::new(OUTRIDER, &server);
    setup.add_service("others", &server);
    let sidecar = setup.start();
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let session = session_of(&mut agent);
    let mut other = Agent::new(sidecar.listener("reverse"), "/others").with_token(&task.token);
    for (request, expected) in everything(&session) {
        refused(&sidecar, &server, expected, || other.send(&request));
    }
}

#[test]
fn a_bad_token_is_refused_in_a_session_even_for_housekeeping() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let session = session_of(&mut sidecar.agent());
    let mut liar = sidecar.stranger().with_token("no-token");
    refused(&sidecar, &server, (Rpc(200, 4030), "task_invalid"), || {
        liar.send(&ping(&session))
    });
    refused(&sidecar, &server, (Rpc(401, 4030), "task_invalid"), || {
        liar.send(&note(&session))
    });
    assert_eq!(liar.send(&Request::discover()).status, 200);
    assert_eq!(
        liar.send(&Request::legacy(&json!(1), "ping", &json!({})))
            .status,
        200
    );
}

#[test]
fn what_is_not_judged_by_a_session_names_none_to_the_service() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let session = session_of(&mut sidecar.agent());
    let mut other = sidecar.agent();
    let resumed = |request: Request| request.session(&session).field("Last-Event-ID", "7");
    let modern = resumed(Request::call("echo", &json!({"message": "hi"})));
    assert!(other.send(&modern).is_tool_success());
    let cancelled = json!({"requestId": 1});
    let note = Request::notification("notifications/cancelled", cancelled.clone());
    assert_eq!(other.send(&resumed(note)).status, 202);
    // Of the modern revision by its header alone.
    let note = Request::legacy_notification("notifications/cancelled", &cancelled)
        .with("MCP-Protocol-Version", "2026-07-28");
    assert_eq!(other.send(&resumed(note)).status, 202);
    assert_eq!(other.send(&resumed(Request::initialize())).status, 200);
    for received in &server.received()[1..] {
        assert_eq!(received.head.get("mcp-session-id"), None, "{received:?}");
        assert_eq!(received.head.get("last-event-id"), None, "{received:?}");
    }
}

#[test]
fn a_service_cannot_give_one_task_the_session_of_another() {
    let server = scripted(|exchange| {
        let opening = exchange.request().method() == "initialize";
        if opening {
            exchange.opened("the-one", &initialized(&json!({})));
        }
        opening
    });
    let sidecar = before(&server);
    let mut first = sidecar.agent();
    let session = session_of(&mut first);
    let mut second = sidecar.agent();
    let answer = second.send(&Request::initialize());
    assert_eq!(answer.code(), "response_refused", "{}", answer.text());
    assert_eq!(answer.head.get("mcp-session-id"), None);
    refused(&sidecar, &server, NOT_FOUND, || {
        second.send(&echo_in(&session))
    });
    assert!(first.send(&echo_in(&session)).is_tool_success());
}

#[test]
fn names_that_are_none_open_nothing() {
    for name in ["a b", &"x".repeat(513)] {
        let given = name.to_owned();
        let server = scripted(move |exchange| {
            exchange.opened(&given, &initialized(&json!({})));
            true
        });
        let sidecar = before(&server);
        let answer = sidecar.agent().send(&Request::initialize());
        assert_eq!(answer.code(), "response_refused", "{}", answer.text());
    }
}

/// Neither as one message nor as a stream.
#[test]
fn an_opening_whose_answer_is_refused_opens_nothing() {
    for streamed in [false, true] {
        let server = scripted(move |exchange| {
            if exchange.request().method() != "initialize" {
                return false;
            }
            let mut result = initialized(&json!({}));
            result["protocolVersion"] = json!("2024-11-05");
            if streamed {
                exchange.raw(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                      Mcp-Session-Id: s-1\r\nTransfer-Encoding: chunked\r\n\r\n",
                );
                exchange.end_events(&result);
            } else {
                exchange.opened("s-1", &result);
            }
            true
        });
        let sidecar = before(&server);
        let mut agent = sidecar.agent();
        let answer = agent.send(&Request::initialize());
        assert_eq!(answer.code(), "response_refused", "{}", answer.text());
        refused(&sidecar, &server, NOT_FOUND, || agent.send(&echo_in("s-1")));
        check_record(&sidecar);
    }
}

/// In whichever form the service says it: the status reaches the agent, and the session is over.
#[test]
fn a_session_that_its_service_has_ended_is_over() {
    let bodies = [
        (
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"gone"}}"#,
        ),
        (
            "application/json",
            r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"gone"}}"#,
        ),
        (
            "application/json",
            r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"gone"}}"#,
        ),
        ("application/json", ""),
        ("text/plain", "gone"),
        ("text/html", ""),
    ];
    for (kind, body) in bodies {
        let server = scripted(move |exchange| {
            let inside = exchange.request().head.get("mcp-session-id").is_some();
            if inside {
                exchange.answer(404, kind, &[], body.as_bytes());
            }
            inside
        });
        let sidecar = before(&server);
        let mut agent = sidecar.agent();
        let session = session_of(&mut agent);
        let answer = agent.send(&echo_in(&session));
        assert_eq!(answer.status, 404, "{kind} {body}: {}", answer.text());
        if body.starts_with('{') {
            assert_eq!(answer.json()["id"], 1, "{}", answer.text());
            assert_eq!(answer.json()["error"]["message"], "gone");
        }
        refused(&sidecar, &server, NOT_FOUND, || {
            agent.send(&echo_in(&session))
        });
        let session = session_of(&mut agent);
        let answer = agent.send(&note(&session));
        assert_eq!(answer.status, 404, "{kind} {body}: {}", answer.text());
        check_record(&sidecar);
    }
}

#[test]
fn a_task_that_has_ended_can_do_nothing_more_in_its_session() {
    let server = scripted(|exchange| {
        let feed = verb(exchange) == "GET";
        if feed {
            exchange.begin_events();
            exchange.chunk(b": here\n\n");
            exchange.wait_until_gone();
        }
        feed
    });
    for end in [["revoke", "task"], ["task", "close"]] {
        let sidecar = before(&server);
        let task = sidecar.open_task(&[]);
        let mut agent = sidecar.stranger().with_token(&task.token);
        let session = session_of(&mut agent);
        let mut feed = agent.start(&Request::feed(&session));
        let head = feed.head().unwrap().unwrap();
        assert_eq!(sidecar.command(&[end[0], end[1], &task.id]).status, 0);
        let (_, complete) = feed.rest();
        assert!(!complete, "what was cut does not look whole");
        let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
        assert_eq!(outcome["ended"], "cut", "{outcome}");
        let expected = [
            (echo_in(&session), ToolResult),
            (list(&session), Rpc(200, 4030)),
            (
                Request::answer(&json!(1), &json!({})).session(&session),
                Rpc(401, 4030),
            ),
            (Request::feed(&session), Problem(401)),
            (Request::ending(&session), Problem(401)),
        ];
        for (request, form) in expected {
            refused(&sidecar, &server, (form, "task_revoked"), || {
                agent.send(&request)
            });
        }
        // Housekeeping needs no task, nor one that lasts.
        assert_eq!(agent.send(&ping(&session)).json()["result"], json!({}));
        session_of(&mut agent);
        check_record(&sidecar);
    }
}

#[test]
fn a_service_without_sessions_is_served() {
    let server = ToolServer::legacy(vec![Tool::echo("echo")], |exchange| {
        let opening = exchange.request().method() == "initialize";
        if opening {
            exchange.result(&initialized(&json!({})));
        }
        opening
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let answer = agent.send(&Request::initialize());
    assert_eq!(answer.head.get("mcp-session-id"), None);
    assert_eq!(
        answer.json()["result"]["protocolVersion"],
        "2025-06-18",
        "{}",
        answer.text()
    );
    let call = Request::legacy_call("echo", &json!({"message": "hi"}));
    assert!(agent.send(&call).is_tool_success());
    let answer = Request::answer(&json!(1), &json!({}));
    let expected = (Rpc(400, -32600), "call_malformed");
    refused(&sidecar, &server, expected, || agent.send(&answer));
    check_record(&sidecar);
}

#[test]
fn a_request_for_a_session_has_no_body_and_no_second_name() {
    let server = scripted(|_| false);
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let smuggled = echo_in(&session).body;
    for request in [Request::feed(&session), Request::ending(&session)] {
        let expected = (Problem(400), "call_malformed");
        let request_with = request.clone().with_body(smuggled.clone());
        refused(&sidecar, &server, expected, || agent.send(&request_with));
        let expected = (Problem(400), "header_mismatch");
        for twin in [
            request.clone().field("Mcp_Session_Id", "other"),
            request.clone().session("other"),
        ] {
            refused(&sidecar, &server, expected, || agent.send(&twin));
        }
        let modern = request.with("MCP-Protocol-Version", "2026-07-28");
        let expected = (Problem(405), "call_malformed");
        refused(&sidecar, &server, expected, || agent.send(&modern));
    }
    let named = Request::answer(&json!(1), &json!({}))
        .session(&session)
        .field("Mcp-Method", "tools/call");
    let expected = (Rpc(400, -32020), "header_mismatch");
    refused(&sidecar, &server, expected, || agent.send(&named));
}
