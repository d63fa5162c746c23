//! HTTP itself: connections, framing, headers, on both sides.

use outrider_integration::{
    Agent, Exchange, Gate, Request, Setup, Tool, ToolServer, text_result, until,
};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, before, echo, hi};

const EVIL: &str = "zz9evil";

fn doing(act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> ToolServer {
    ToolServer::start(vec![Tool::doing("do", act)])
}

fn body(result: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": 1, "result": result})
        .to_string()
        .into_bytes()
}

#[test]
fn requests_sent_at_once_are_each_decided_and_answered_in_order() {
    let server = echo();
    let sidecar = before(&server);
    let agent = sidecar.agent();
    let call = |id: u64, arguments: &Value| {
        agent.bytes(&Request::call_with_id(&json!(id), "echo", arguments))
    };
    let all = [call(1, &hi()), call(2, &json!({})), call(3, &hi())].concat();
    let mut connection = agent.connect();
    connection.send(&all).unwrap();
    for (id, good) in [(1, true), (2, false), (3, true)] {
        let answer = connection.answer().unwrap().expect("an answer");
        assert_eq!(answer.json()["id"], id);
        assert_eq!(answer.is_tool_success(), good, "{}", answer.text());
        sidecar.decision(&answer.decision_id());
    }
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn a_notification_is_passed_on_and_recorded() {
    let server = echo();
    let sidecar = before(&server);
    let request = Request::notification("notifications/cancelled", json!({"requestId": 1}));
    let answer = sidecar.agent().send(&request);
    assert_eq!((answer.status, answer.body.as_slice()), (202, &b""[..]));
    assert_eq!(server.received()[0].body, request.body);
    let id = answer.decision_id();
    assert_eq!(sidecar.decision(&id)["outcome"], "allow");
    assert_eq!(sidecar.outcome(&id)["ended"], "completed");
}

/// The server has hung up for certain before the next call begins.
#[test]
fn a_kept_connection_that_died_costs_no_call() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = doing(move |exchange| {
        exchange.result(&text_result("done"));
        exchange.hang_up();
        inside.open();
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for _ in 0..20 {
        let answer = agent.call("do", &hi());
        assert!(answer.is_tool_success(), "{}", answer.text());
        assert!(gate.pass());
    }
    assert_eq!(server.calls().len(), 20);
}

#[test]
fn a_media_type_is_compared_by_what_it_says() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let call = || Request::call("echo", &hi());
    for good in [
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        "application/json ;charset=\"utf-8\"",
    ] {
        let answer = agent.send(&call().with("Content-Type", good));
        assert!(answer.is_tool_success(), "{good}: {}", answer.text());
    }
    let reached = server.calls().len();
    for request in [
        call().field("Content-Type", "application/json"),
        call().with("Content-Type", "application/jsonx"),
        call().with("Content-Type", "application/json, text/plain"),
        call().with("Content-Type", ""),
    ] {
        let answer = agent.send(&request);
        assert!(
            (400..500).contains(&answer.status),
            "{:?}: {}",
            request.fields,
            answer.text()
        );
    }
    assert_eq!(server.calls().len(), reached);
}

#[test]
fn too_many_or_too_large_headers_reach_nobody() {
    let server = echo();
    let sidecar = before(&server);
    let call = || Request::call("echo", &hi());
    let many = (0..150).fold(call(), |call, n| call.field(&format!("X-{n}"), "x"));
    for request in [many, call().field("X-Large", &"x".repeat(80_000))] {
        let mut connection = sidecar.agent().connect();
        // The sidecar may answer and hang up before it has read all.
        connection.send(&sidecar.agent().bytes(&request)).ok();
        if let Ok(Some(answer)) = connection.answer() {
            assert!([400, 431].contains(&answer.status), "{}", answer.head.line);
        }
    }
    assert_eq!(server.bytes(), 0);
    assert!(sidecar.agent().send(&call()).is_tool_success());
}

#[test]
fn headers_between_two_hops_and_ours_do_not_come_back() {
    let server = doing(|exchange| {
        let fields = [
            ("Connection", "X-Named, keep-alive"),
            ("X-Named", EVIL),
            ("Keep-Alive", EVIL),
            ("Proxy-Authenticate", EVIL),
            ("Upgrade", EVIL),
            ("Outrider_Decision_Id", EVIL),
            ("OUTRIDER-CODE", EVIL),
            ("X-Kept", "kept"),
        ];
        exchange.answer(
            200,
            "application/json",
            &fields,
            &body(&text_result("done")),
        );
    });
    let sidecar = before(&server);
    let answer = sidecar.agent().call("do", &hi());
    assert_eq!(answer.tool_text(), "done");
    assert!(
        !format!("{:?}", answer.head).contains(EVIL),
        "{:?}",
        answer.head
    );
    assert_eq!(answer.head.get("x-kept"), Some("kept"));
}

#[test]
fn trailers_of_an_answer_do_not_come_back() {
    let server = doing(|exchange| {
        exchange.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: Outrider-Decision-Id\r\n\r\n");
        exchange.chunk(&body(&text_result("done")));
        exchange.raw(b"0\r\nOutrider-Decision-Id: zz9evil\r\n\r\n");
    });
    let sidecar = before(&server);
    let agent = sidecar.agent();
    let mut connection = agent.start(&Request::call("do", &hi()).field("TE", "trailers"));
    let answer = connection.answer().unwrap().unwrap();
    assert_eq!(answer.tool_text(), "done");
    assert!(!format!("{answer:?}").contains(EVIL), "{answer:?}");
}

/// Answers that are no well-framed HTTP, or never end.
#[test]
fn an_answer_that_is_framed_badly_is_refused() {
    let framed = |head: &str| {
        let body = body(&text_result(EVIL));
        let head = head.replace("LENGTH", &body.len().to_string());
        [
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n").as_bytes(),
            &body,
        ]
        .concat()
    };
    for (name, bytes) in [
        (
            "two lengths",
            framed("Content-Length: 5\r\nContent-Length: LENGTH\r\n"),
        ),
        ("a length that is none", framed("Content-Length: -1\r\n")),
        (
            "a chunk size that is none",
            [&framed("Transfer-Encoding: chunked\r\n")[..], b"\r\n"].concat(),
        ),
        ("no HTTP", EVIL.as_bytes().to_vec()),
        (
            "a head without end",
            format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1_000_000)).into_bytes(),
        ),
    ] {
        let server = doing(move |exchange| {
            exchange.raw(&bytes);
            exchange.hang_up();
        });
        let sidecar = before(&server);
        let answer = sidecar.agent().call("do", &hi());
        assert!(
            ["response_refused", "upstream_unreachable"].contains(&answer.code().as_str()),
            "{name}: {}",
            answer.text()
        );
        assert!(!answer.text().contains(EVIL), "{name}: {}", answer.text());
        let outcome = sidecar.outcome(&answer.decision_id());
        assert_eq!(outcome["ended"], "upstream_failed", "{name}: {outcome}");
        assert_eq!(server.calls().len(), 1, "{name}: a call was repeated");
    }
}

/// The head came in time, the body never does.
#[test]
fn an_answer_that_stalls_is_left() {
    let server = doing(|exchange| {
        exchange.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{",
        );
        exchange.wait_until_gone();
    });
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["services"][0]["timeout"] = json!("200ms"))
        .start();
    let answer = sidecar.agent().call("do", &hi());
    assert_eq!(answer.code(), "upstream_timeout", "{}", answer.text());
    assert_eq!(
        sidecar.outcome(&answer.decision_id())["code"],
        "upstream_timeout"
    );
}

#[test]
fn nothing_stays_in_flight_when_agents_hang_up() {
    let server = doing(|exchange| {
        exchange.begin_events();
        exchange.wait_until_gone();
    });
    let sidecar = before(&server);
    let agent: Agent = sidecar.agent();
    let waiting: Vec<_> = (0..10)
        .map(|_| agent.start(&Request::call("do", &hi())))
        .collect();
    server.wait_for(10);
    assert!(sidecar.metric("outrider_in_flight", &[]) > 9.0);
    waiting
        .into_iter()
        .for_each(outrider_integration::Connection::hang_up);
    until("no call in flight", || {
        (sidecar.metric("outrider_in_flight", &[]) == 0.0).then_some(())
    });
    // An outcome may wait for the next write.
    let ended = until("the outcomes", || {
        let mut log = sidecar.log();
        log.retain(|line| line["type"] == "outcome");
        (log.len() >= 10).then_some(log)
    });
    assert_eq!(ended.len(), 10, "{ended:?}");
    assert!(
        ended.iter().all(|line| line["ended"] == "agent_gone"),
        "{ended:?}"
    );
}
