//! An allowed call: what the server gets, what the agent gets, what the log says and when.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use outrider_integration::{Request, Setup, Tool, ToolServer, text_result};
use serde_json::json;

use crate::support::{Form::Problem, OUTRIDER, before, echo, hi, refused};

#[test]
fn the_body_arrives_byte_for_byte() {
    let server = echo();
    let sidecar = before(&server);
    let request = Request::call("echo", &hi());
    let body = String::from_utf8(request.body.clone()).unwrap();
    let odd = body
        .replace(
            r#""hi""#,
            r#" "h\u00e9\/ 漢字" , "n" : 1.10, "m":9007199254740993,"z":-0 "#,
        )
        .replacen('{', "{ \n", 1);
    let answer = sidecar.agent().send(&request.with_body(odd.clone()));
    assert!(answer.is_tool_success(), "{}", answer.text());
    assert_eq!(
        String::from_utf8(server.calls()[0].body.clone()).unwrap(),
        odd
    );
}

#[test]
fn the_answer_arrives_byte_for_byte() {
    const ANSWER: &str = "{ \"jsonrpc\":\"2.0\",\"result\":{\"resultType\":\"complete\",\"content\":[{\"text\":\"\\u00e9 1.10\",\"type\":\"text\"}], \"n\":1.10},\"id\":1 }";
    let server = ToolServer::start(vec![Tool::doing("odd", |exchange| {
        exchange.answer(200, "application/json", &[], ANSWER.as_bytes());
    })]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("odd", &hi());
    assert_eq!(answer.text(), ANSWER);
}

#[test]
fn the_server_is_told_who_calls_for_what() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let answer = sidecar
        .stranger()
        .with_token(&task.token)
        .call("echo", &hi());
    let received = server.calls().remove(0);
    let header = |name: &str| {
        received
            .head
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned()
    };
    assert_eq!(header("outrider-decision-id"), answer.decision_id());
    assert_eq!(header("outrider-agent"), "spiffe://example.org/agent/test");
    assert!(
        header("outrider-subject").starts_with("uid:"),
        "{}",
        header("outrider-subject")
    );
    assert_eq!(header("outrider-task"), task.id);
    assert_eq!(header("outrider-intent"), "work");
    assert_eq!(header("outrider-tool"), "tools/echo");
    assert_eq!(header("outrider-classification"), "internal");
    assert_eq!(header("host"), server.address().to_string());
    assert!(
        received.head.get("outrider-task-token").is_none(),
        "the token was passed on"
    );
    assert!(
        !received
            .head
            .fields
            .iter()
            .any(|(_, value)| value.contains(&task.token))
    );
}

#[test]
fn a_service_gets_only_the_identity_it_is_configured_for() {
    for (level, expected) in [
        (
            "assertion",
            vec!["outrider-assertion", "outrider-decision-id"],
        ),
        ("decision_id", vec!["outrider-decision-id"]),
        ("none", vec![]),
    ] {
        let server = echo();
        let sidecar = Setup::new(OUTRIDER, &server)
            .config(|config| config["services"][0]["identity"] = json!(level))
            .start();
        assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
        assert_eq!(
            server.calls()[0].head.names_with("outrider-"),
            expected,
            "{level}"
        );
    }
}

/// The server itself looks into the log when the call reaches it.
#[test]
fn the_decision_is_in_the_log_before_the_call_reaches_the_server() {
    let log: Arc<OnceLock<PathBuf>> = Arc::default();
    let inside = Arc::clone(&log);
    let server = ToolServer::start(vec![Tool::doing("look", move |exchange| {
        let id = exchange
            .request()
            .head
            .get("outrider-decision-id")
            .unwrap_or("none")
            .to_owned();
        let log = fs::read_to_string(inside.get().unwrap()).unwrap_or_default();
        let recorded = log
            .lines()
            .any(|line| line.contains(&id) && line.ends_with('}'));
        exchange.result(&text_result(if recorded {
            "recorded"
        } else {
            "unrecorded"
        }));
    })]);
    let sidecar = before(&server);
    log.set(sidecar.path("decisions.jsonl")).unwrap();
    let mut agent = sidecar.agent();
    for _ in 0..20 {
        assert_eq!(agent.call("look", &hi()).tool_text(), "recorded");
    }
}

#[test]
fn a_completed_call_has_one_decision_and_one_outcome() {
    let server = echo();
    let sidecar = before(&server);
    let answer = sidecar.agent().call("echo", &hi());
    let id = answer.decision_id();
    let decision = sidecar.decision(&id);
    for (key, value) in [
        ("outcome", "allow"),
        ("code", "ok"),
        ("tool", "tools/echo"),
        ("service", "tools"),
        ("agent", "spiffe://example.org/agent/test"),
        ("intent", "work"),
        ("classification", "internal"),
        ("path", "outrider/decision"),
    ] {
        assert_eq!(decision[key], value, "{key} of {decision}");
    }
    assert_eq!(decision["durable"], true, "{decision}");
    let outcome = sidecar.outcome(&id);
    assert_eq!(
        (&outcome["ended"], &outcome["code"]),
        (&json!("completed"), &json!("ok")),
        "{outcome}"
    );
    assert_eq!(outcome["response"]["status"], 200, "{outcome}");
}

#[test]
fn arguments_are_digested_in_the_log_and_not_repeated() {
    let server = echo();
    let sidecar = before(&server);
    sidecar
        .agent()
        .call("echo", &json!({"message": "a very particular value"}));
    assert!(!sidecar.log_text().contains("a very particular value"));
    assert!(
        sidecar.log_text().contains("\"message\""),
        "the keys are recorded"
    );
}

#[test]
fn a_trace_is_continued_and_else_begun() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let answer = agent.send(&Request::call("echo", &hi()).field("traceparent", &parent));
    agent.call("echo", &hi());
    let sent: Vec<String> = server
        .calls()
        .iter()
        .map(|call| call.head.get("traceparent").unwrap().to_owned())
        .collect();
    assert!(
        sent[0].starts_with(&format!("00-{TRACE}-")) && sent[0] != parent,
        "{}",
        sent[0]
    );
    assert!(!sent[1].contains(TRACE), "{}", sent[1]);
    assert_eq!(sidecar.decision(&answer.decision_id())["trace_id"], TRACE);
}

#[test]
fn connections_are_kept_on_both_sides() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for _ in 0..10 {
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
    let connections: std::collections::BTreeSet<_> =
        server.calls().iter().map(|c| c.connection).collect();
    assert!(
        connections.len() < 10,
        "a connection per call: {connections:?}"
    );
}

#[test]
fn services_are_kept_apart_by_their_path() {
    let (one, two) = (echo(), echo());
    let mut setup = Setup::new(OUTRIDER, &one);
    setup.add_service("second", &two);
    let sidecar = setup.start();
    let mut agent = sidecar.agent();
    let answer = agent.send(&Request::call("echo", &hi()).target("/second"));
    assert!(answer.is_tool_success(), "{}", answer.text());
    assert_eq!((one.bytes(), two.calls().len()), (0, 1));
    assert_eq!(
        sidecar.decision(&answer.decision_id())["tool"],
        "second/echo"
    );
}

#[test]
fn a_trace_in_the_message_goes_before_one_in_the_header() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let server = echo();
    let sidecar = before(&server);
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::call("echo", &hi())
        .edit(|body| {
            let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
            body["params"]["_meta"]["traceparent"] = json!(parent);
        })
        .field("traceparent", other);
    let answer = sidecar.agent().send(&request);
    assert!(answer.is_tool_success(), "{}", answer.text());
    let call = server.calls().remove(0);
    let sent = call.head.get("traceparent").unwrap();
    assert!(sent.starts_with(&format!("00-{TRACE}-")), "{sent}");
    assert_eq!(call.body, request.body, "the message stays as it was");
    assert_eq!(sidecar.decision(&answer.decision_id())["trace_id"], TRACE);
}

#[test]
fn a_trace_that_is_none_is_replaced() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for bad in [
        "zz9evil",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ] {
        let request = Request::call("echo", &hi()).field("traceparent", bad);
        assert!(agent.send(&request).is_tool_success(), "{bad}");
        let head = server.calls().pop().unwrap().head;
        let sent = head.get("traceparent").unwrap();
        assert!(sent.starts_with("00-") && sent.len() == 55, "{bad}: {sent}");
        assert_ne!(&sent[3..35], &bad[3..bad.len().min(35)], "{bad}");
    }
}

#[test]
fn large_bodies_pass_byte_for_byte_in_both_directions() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for size in [64 * 1024, 900 * 1024] {
        let message: String = ('a'..='z').cycle().take(size).collect();
        let request = Request::call("echo", &json!({"message": message}));
        let answer = agent.send(&request);
        assert!(
            answer.tool_text() == message,
            "{size} bytes came back otherwise"
        );
        let sent = server.calls().pop().unwrap().body;
        assert!(sent == request.body, "{size} bytes arrived otherwise");
    }
}

#[test]
fn a_body_may_be_as_large_as_configured_and_no_larger() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["body"] = json!({"max_request": "64KiB"}))
        .start();
    let mut agent = sidecar.agent();
    let empty = Request::call("echo", &json!({"message": ""})).body.len();
    let of = |size: usize| Request::call("echo", &json!({"message": "x".repeat(size - empty)}));
    assert!(agent.send(&of(65_536)).is_tool_success());
    let expected = (Problem(413), "body_too_large");
    refused(&sidecar, &server, expected, || agent.send(&of(65_537)));
    let chunked = |size: usize| {
        let body = of(size).body;
        let framed = [
            format!("{:x}\r\n", body.len()).as_bytes(),
            &body,
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        let chunked = Request::call("echo", &hi()).with_body(framed);
        chunked.field("Transfer-Encoding", "chunked")
    };
    assert!(agent.send(&chunked(65_536)).is_tool_success());
    refused(&sidecar, &server, expected, || agent.send(&chunked(65_537)));
}
