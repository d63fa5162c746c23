//! HTTP services without a contract: decided by method, host and path, and never read.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use outrider_integration::{
    Agent, Exchange, Gate, PlainServer, Request, Setup, Sidecar, ToolServer, sha256_base64url,
    until, verify_with_jwks,
};
use serde_json::{Value, json};

use crate::support::{Form::Problem, OUTRIDER, refused};

/// A server that answers everything with a few bytes that are no JSON.
fn wiki() -> ToolServer {
    ToolServer::answering(|exchange: &mut Exchange<'_>| {
        exchange.answer(200, "text/html", &[("X-Own", "1")], b"<p>\xff</p>");
    })
}

fn section(address: impl std::fmt::Display) -> Value {
    json!({
        "name": "wiki",
        "protocol": "http",
        "upstream": format!("http://{address}/base"),
    })
}

/// A sidecar before that server, with changes of the service's section.
fn before(address: impl std::fmt::Display, changes: &Value) -> Sidecar {
    with(address, changes, |setup| setup)
}

fn with(
    address: impl std::fmt::Display,
    changes: &Value,
    setup: impl FnOnce(Setup) -> Setup,
) -> Sidecar {
    let mut section = section(address);
    for (key, value) in changes.as_object().unwrap() {
        section[key] = value.clone();
    }
    setup(Setup::bare(OUTRIDER).serving(&section)).start()
}

fn streamed() -> Value {
    json!({"body": "streamed"})
}

fn get(target: &str) -> Request {
    Request::raw("GET", target, Vec::new())
}

fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::raw("POST", target, body.into()).field("Content-Type", "application/octet-stream")
}

/// The decision line of that ID and its outcome line.
fn lines(sidecar: &Sidecar, id: &str) -> (Value, Value) {
    (sidecar.decision(id), sidecar.outcome(id))
}

#[test]
fn a_request_passes_as_it_was_sent_and_nobody_looks_into_it() {
    for changes in [json!({}), streamed()] {
        let server = wiki();
        let sidecar = before(server.address(), &changes);
        let mut agent = sidecar.agent_of("wiki");
        let body = b"\x00\xff{not json".to_vec();
        let target = "/wiki/a%20b/c;v=1/?q=%2F..%2f&q=a/../b&%7e";
        let answer = agent.send(&post(target, body.clone()));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body, b"<p>\xff</p>");
        assert_eq!(answer.head.get("x-own"), Some("1"));
        assert_eq!(answer.head.get("content-type"), Some("text/html"));
        let received = server.wait_for(1).remove(0);
        assert_eq!(
            received.head.line,
            "POST /base/a%20b/c;v=1/?q=%2F..%2f&q=a/../b&%7e HTTP/1.1"
        );
        assert_eq!(received.body, body);
        assert_eq!(received.head.get("content-length"), Some("11"));
        let (decision, outcome) = lines(&sidecar, &answer.decision_id());
        assert_eq!(decision["outcome"], "allow", "{decision}");
        assert_eq!(decision["tool"], "wiki/POST");
        assert_eq!(decision["input"]["content"]["opaque"], true);
        assert_eq!(decision["input"]["call"]["arguments"], json!({}));
        assert_eq!(decision["input"]["call"]["path"], "/base/a%20b/c;v=1/");
        assert_eq!(decision["input"]["call"]["protocol"], "http");
        assert_eq!(outcome["ended"], "completed", "{outcome}");
        assert_eq!(outcome["response"]["bytes"], 8, "{outcome}");
        let labels = ["service=\"wiki\"", "tool=\"POST\"", "outcome=\"allow\""];
        let counted = sidecar.metric("outrider_calls_total", &labels);
        assert!((0.5..1.5).contains(&counted), "{counted}");
    }
}

#[test]
fn the_services_own_path_is_served_too() {
    let server = wiki();
    let sidecar = before(server.address(), &json!({}));
    let mut agent = sidecar.agent_of("wiki");
    for (target, sent) in [
        ("/wiki", "GET /base HTTP/1.1"),
        ("/wiki/", "GET /base/ HTTP/1.1"),
        ("/wiki?a=1", "GET /base?a=1 HTTP/1.1"),
    ] {
        let answer = agent.send(&get(target));
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        let received = server.received().pop().unwrap();
        assert_eq!(received.head.line, sent);
    }
}

#[test]
fn rules_decide_by_method_host_and_path() {
    let server = wiki();
    let rules = r#"package outrider.authz

allow if {
	input.tool.id == "wiki/GET"
	input.call.host == "127.0.0.1"
	startswith(input.call.path, "/base/public/")
}

deny contains {"reason": "unread", "message": "unread bodies stay out of drafts"} if {
	input.content.opaque
	input.call.method != "GET"
	startswith(input.call.path, "/base/drafts/")
}
"#;
    let sidecar = with(server.address(), &json!({}), |setup| {
        setup
            .data(|data| data["grants"][0]["tools"] = json!(["wiki/PUT"]))
            .rules(rules)
    });
    let mut agent = sidecar.agent_of("wiki");
    let put = |target: &str| Request::raw("PUT", target, b"x".to_vec());
    for request in [
        get("/wiki/public/a"),
        put("/wiki/private/a"),
        put("/wiki/a?/base/drafts/"),
    ] {
        assert_eq!(agent.send(&request).status, 200, "{}", request.target);
    }
    for request in [
        get("/wiki/private/a"),
        get("/wiki/publicity"),
        get("/wiki/a?/base/public/"),
        put("/wiki/drafts/a"),
        post("/wiki/public/a", "x"),
    ] {
        refused(&sidecar, &server, (Problem(403), "policy_denied"), || {
            agent.send(&request)
        });
    }
}

#[test]
fn a_path_that_two_readers_read_apart_is_refused() {
    let server = wiki();
    let sidecar = before(server.address(), &json!({}));
    let mut agent = sidecar.agent_of("wiki");
    for target in [
        "/wiki/../admin",
        "/wiki/a/./b",
        "/wiki/a/..",
        "/wiki/%2e%2e/admin",
        "/wiki/a/%2E/b",
        "/wiki/..;a=b/admin",
        "/wiki/%252e%252e/admin",
        "/wiki/%25%2532e%25%2532e/admin",
        "/wiki/a%2Fb",
        "/wiki/a%2fb",
        "/wiki/a%252Fb",
        "/wiki/a%5Cb",
        "/wiki/a%00b",
        "/wiki/a%0ab",
        "/wiki//a",
        "/wiki/a//b",
        "/wiki/a%",
        "/wiki/a%zz",
        "/wiki/%ff",
    ] {
        refused(&sidecar, &server, (Problem(400), "call_malformed"), || {
            agent.send(&get(target))
        });
    }
    // No request at all: refused by the engine or by us, and never sent.
    let reached = server.bytes();
    for target in ["/wiki/a\\b", "/wiki\\..\\admin"] {
        let answer = agent.send(&get(target));
        assert!((400..=403).contains(&answer.status), "{target}");
    }
    assert_eq!(server.bytes(), reached);
}

#[test]
fn an_encoded_slash_passes_where_the_service_has_them() {
    let server = wiki();
    let sidecar = before(server.address(), &json!({"encoded_slash": "allow"}));
    let mut agent = sidecar.agent_of("wiki");
    let answer = agent.send(&get("/wiki/group%2Fproject/x"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = server.wait_for(1).remove(0).head.line;
    assert_eq!(line, "GET /base/group%2Fproject/x HTTP/1.1");
    for target in [
        "/wiki/a%252Fb",
        "/wiki/..%2Fadmin",
        "/wiki/a%2F..%2Fb",
        "/wiki/a%5Cb",
    ] {
        refused(&sidecar, &server, (Problem(400), "call_malformed"), || {
            agent.send(&get(target))
        });
    }
}

#[test]
fn a_method_that_is_not_served_is_refused() {
    let server = wiki();
    let sidecar = before(server.address(), &json!({}));
    let mut agent = sidecar.agent_of("wiki");
    for method in ["TRACE", "PURGE", "get", "PROPFIND", "zz9evil"] {
        let request = Request::raw(method, "/wiki/a", Vec::new());
        refused(&sidecar, &server, (Problem(403), "tool_unknown"), || {
            agent.send(&request)
        });
    }
    let tunnel = Request::raw("CONNECT", "wiki.test:443", Vec::new());
    refused(
        &sidecar,
        &server,
        (Problem(403), "destination_refused"),
        || agent.send(&tunnel),
    );
    let text = sidecar.get("/metrics").text();
    assert!(!text.contains("zz9evil") && !text.contains("PURGE"));
    for method in ["OPTIONS", "PUT", "PATCH", "DELETE"] {
        let answer = agent.send(&Request::raw(method, "/wiki/a", Vec::new()));
        assert_eq!(answer.status, 200, "{method}");
    }
}

#[test]
fn what_an_agent_may_not_say_is_removed() {
    let server = wiki();
    let sidecar = before(server.address(), &json!({}));
    let names = [
        "Authorization",
        "Cookie",
        "X-HTTP-Method-Override",
        "X-Http-Method",
        "X_Method_Override",
        "X-Forwarded-For",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
        "Keep-Alive",
        "X-Named",
        "Outrider-Agent",
    ];
    let mut request = get("/wiki/a")
        .field("Connection", "X-Named")
        .field("X-Kept", "kept")
        .field("Accept-Encoding", "br");
    for name in names {
        request = request.field(name, "zz9evil");
    }
    assert_eq!(sidecar.agent_of("wiki").send(&request).status, 200);
    let head = server.wait_for(1).remove(0).head;
    let values: Vec<_> = head.fields.iter().map(|(_, value)| value).collect();
    assert!(!values.iter().any(|v| v.contains("zz9evil")), "{head:?}");
    assert_eq!(head.get("x-kept"), Some("kept"));
    assert_eq!(
        head.get("accept-encoding"),
        Some("br"),
        "nobody reads the answer"
    );
}

#[test]
fn cookies_pass_both_ways_or_neither() {
    let server = ToolServer::answering(|exchange| {
        exchange.answer(200, "text/plain", &[("Set-Cookie", "a=b")], b"ok");
    });
    let request = get("/wiki/a").field("Cookie", "a=b");
    for (changes, kept) in [
        (json!({}), false),
        (json!({"passthrough": ["cookie"]}), true),
    ] {
        let sidecar = before(server.address(), &changes);
        let answer = sidecar.agent_of("wiki").send(&request);
        assert_eq!(answer.head.get("set-cookie").is_some(), kept);
        let head = server.received().pop().unwrap().head;
        assert_eq!(head.get("cookie").is_some(), kept, "{head:?}");
    }
}

#[test]
fn hop_by_hop_headers_and_ours_are_taken_from_answers() {
    let server = ToolServer::answering(|exchange| {
        let fields = [
            ("Connection", "X-Named"),
            ("X-Named", "zz9evil"),
            ("Proxy-Authenticate", "zz9evil"),
            ("Outrider-Decision-Id", "zz9evil"),
            ("outrider_anything", "zz9evil"),
            ("Alt-Svc", "zz9evil"),
        ];
        exchange.answer(200, "text/plain", &fields, b"ok");
    });
    for changes in [json!({}), streamed()] {
        let sidecar = before(server.address(), &changes);
        let answer = sidecar.agent_of("wiki").send(&get("/wiki/a"));
        assert_eq!(answer.body, b"ok");
        assert!(
            !format!("{:?}", answer.head).contains("zz9evil"),
            "{:?}",
            answer.head
        );
        assert!(!answer.decision_id().is_empty());
    }
}

#[test]
fn credentials_are_injected_and_the_agents_own_replaced() {
    let server = wiki();
    let sidecar = with(server.address(), &json!({}), |mut setup| {
        setup.file("secret", "s3cret\n");
        let value = format!("Bearer ${{file:{}}}", setup.path("secret").display());
        setup.config["services"][0]["credentials"] =
            json!({"header": "authorization", "value": value});
        setup
    });
    let request = get("/wiki/a").field("Authorization", "Bearer mine");
    let answer = sidecar.agent_of("wiki").send(&request);
    let head = server.wait_for(1).remove(0).head;
    assert_eq!(head.get("authorization"), Some("Bearer s3cret"));
    assert!(!format!("{answer:?}").contains("s3cret"));
    assert!(!sidecar.log_text().contains("s3cret"));
}

#[test]
fn answers_without_a_body_end_where_they_end() {
    let server = ToolServer::answering(|exchange| {
        let line = exchange.request().head.line.clone();
        let status = line.rsplit_once('/').unwrap().0;
        let status = status.split(['/', ' ']).rfind(|part| part.len() == 3);
        match status {
            Some("204") => exchange.raw(b"HTTP/1.1 204 -\r\nX-Own: 1\r\n\r\n"),
            Some("304") => exchange.raw(b"HTTP/1.1 304 -\r\nETag: \"x\"\r\n\r\n"),
            _ => exchange.raw(b"HTTP/1.1 200 -\r\nContent-Length: 7\r\nETag: \"x\"\r\n\r\n"),
        };
    });
    for changes in [json!({}), streamed()] {
        let sidecar = before(server.address(), &changes);
        let mut agent = sidecar.agent_of("wiki");
        for status in [204, 304] {
            let answer = agent.send(&get(&format!("/wiki/{status}")));
            assert_eq!((answer.status, answer.body.len()), (status, 0));
            assert!(answer.complete);
            let (decision, outcome) = lines(&sidecar, &answer.decision_id());
            assert_eq!(decision["outcome"], "allow");
            assert_eq!(outcome["ended"], "completed", "{outcome}");
            assert_eq!(outcome["response"]["status"], status);
        }
        let mut head = agent.start(&Request::raw("HEAD", "/wiki/a", Vec::new()));
        let answered = head.head().unwrap().unwrap();
        assert_eq!(answered.get("etag"), Some("\"x\""), "{answered:?}");
        // The length of the body that `GET` would have.
        assert_eq!(answered.get("content-length"), Some("7"), "{answered:?}");
        let id = answered.get("outrider-decision-id").unwrap().to_owned();
        let (decision, outcome) = lines(&sidecar, &id);
        assert_eq!(decision["tool"], "wiki/HEAD");
        assert_eq!(outcome["ended"], "completed", "{outcome}");
        head.finish();
        assert_eq!(head.rest().0, b"", "an answer to HEAD has no body");
    }
}

#[test]
fn a_redirect_is_handed_on_and_never_followed() {
    let elsewhere = wiki();
    let location = format!("http://{}/elsewhere", elsewhere.address());
    let told = location.clone();
    let server = ToolServer::answering(move |exchange| {
        exchange.answer(302, "text/plain", &[("Location", &location)], b"moved");
    });
    let sidecar = before(server.address(), &json!({}));
    let answer = sidecar.agent_of("wiki").send(&get("/wiki/a"));
    assert_eq!(answer.status, 302);
    assert_eq!(answer.head.get("location"), Some(told.as_str()));
    assert_eq!(elsewhere.bytes(), 0, "followed");
    assert_eq!(server.received().len(), 1);
}

#[test]
fn a_body_over_the_bound_is_refused_where_bodies_are_read_whole() {
    let server = wiki();
    let small =
        |setup: Setup| setup.config(|config| config["body"] = json!({"max_request": 10_000}));
    let sidecar = with(server.address(), &json!({}), small);
    let mut agent = sidecar.agent_of("wiki");
    refused(&sidecar, &server, (Problem(413), "body_too_large"), || {
        agent.send(&post("/wiki/a", vec![b'x'; 10_001]))
    });
    assert_eq!(agent.send(&post("/wiki/a", vec![b'x'; 10_000])).status, 200);

    let server = wiki();
    let sidecar = with(server.address(), &streamed(), small);
    let answer = sidecar
        .agent_of("wiki")
        .send(&post("/wiki/a", vec![b'x'; 100_000]));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(server.wait_for(1)[0].body.len(), 100_000);
}

#[test]
fn an_answer_over_the_bound_is_refused_unless_it_streams() {
    let server = ToolServer::answering(|exchange| {
        exchange.answer(200, "text/plain", &[], &vec![b'x'; 20_000]);
    });
    let small =
        |setup: Setup| setup.config(|config| config["body"] = json!({"max_response": 10_000}));
    let sidecar = with(server.address(), &json!({}), small);
    let answer = sidecar.agent_of("wiki").send(&get("/wiki/a"));
    assert_eq!(answer.status, 502);
    assert_eq!(answer.code(), "response_refused");
    let (_, outcome) = lines(&sidecar, &answer.decision_id());
    assert_eq!(outcome["ended"], "upstream_failed", "{outcome}");

    let sidecar = with(server.address(), &streamed(), small);
    let answer = sidecar.agent_of("wiki").send(&get("/wiki/a"));
    assert_eq!((answer.status, answer.body.len()), (200, 20_000));
    assert_eq!(answer.head.get("content-length"), Some("20000"));
}

#[test]
fn a_streamed_request_arrives_piece_by_piece() {
    let server = PlainServer::start();
    let sidecar = before(server.address(), &streamed());
    let chunked = Request::raw("PUT", "/wiki/a", b"5\r\nfirst\r\n".to_vec())
        .field("Transfer-Encoding", "chunked")
        .field("Trailer", "Outrider-Agent");
    let mut sending = sidecar.agent_of("wiki").start(&chunked);
    let mut upstream = server.accept();
    let head = upstream.request().unwrap().unwrap();
    assert_eq!(head.line, "PUT /base/a HTTP/1.1");
    assert_eq!(upstream.piece().unwrap().as_deref(), Some(&b"first"[..]));
    sending.send(b"6\r\nsecond\r\n").unwrap();
    assert_eq!(upstream.piece().unwrap().as_deref(), Some(&b"second"[..]));
    sending
        .send(b"0\r\nOutrider-Agent: zz9evil\r\n\r\n")
        .unwrap();
    assert_eq!(upstream.piece().unwrap(), None, "the body ends properly");
    upstream
        .send(b"HTTP/1.1 200 -\r\nContent-Length: 2\r\n\r\nok")
        .unwrap();
    let answer = sending.answer().unwrap().unwrap();
    assert_eq!(answer.body, b"ok");
    let (decision, outcome) = lines(&sidecar, &answer.decision_id());
    assert_eq!(decision["input"]["content"]["opaque"], true);
    assert_eq!(outcome["ended"], "completed", "{outcome}");
    assert_eq!(sidecar.decisions().len(), 1);
}

#[test]
fn an_agent_that_breaks_off_its_body_does_not_end_it() {
    let server = PlainServer::start();
    let sidecar = before(server.address(), &streamed());
    let chunked = Request::raw("PUT", "/wiki/a", b"5\r\nfirst\r\n".to_vec())
        .field("Transfer-Encoding", "chunked");
    let sending = sidecar.agent_of("wiki").start(&chunked);
    let mut upstream = server.accept();
    upstream.request().unwrap().unwrap();
    assert_eq!(upstream.piece().unwrap().as_deref(), Some(&b"first"[..]));
    sending.hang_up();
    assert!(upstream.piece().is_err(), "a body that looks whole");
    let outcome = until("the outcome", || {
        let mut log = sidecar.log();
        log.retain(|line| line["type"] == "outcome");
        log.pop()
    });
    assert_eq!(outcome["ended"], "agent_gone", "{outcome}");
}

/// Starts a GET of an answer that has begun with `first`, chunked, of that type.
fn begun(
    sidecar: &Sidecar,
    agent: &Agent,
    server: &PlainServer,
    kind: &str,
) -> (
    outrider_integration::Connection,
    outrider_integration::Connection,
    String,
) {
    let mut reading = agent.start(&get("/wiki/a"));
    let mut upstream = server.accept();
    upstream.request().unwrap().unwrap();
    let head = format!(
        "HTTP/1.1 200 -\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    );
    upstream.send(head.as_bytes()).unwrap();
    let head = reading.head().unwrap().unwrap();
    assert_eq!(reading.piece().unwrap().as_deref(), Some(&b"first"[..]));
    let id = head.get("outrider-decision-id").unwrap().to_owned();
    assert_eq!(sidecar.outcomes(&id), Vec::<Value>::new());
    (reading, upstream, id)
}

#[test]
fn a_streamed_answer_arrives_piece_by_piece() {
    let server = PlainServer::start();
    let sidecar = before(server.address(), &streamed());
    let agent = sidecar.agent_of("wiki");
    let (mut reading, mut upstream, id) = begun(&sidecar, &agent, &server, "video/mp4");
    upstream.send(b"6\r\nsecond\r\n").unwrap();
    assert_eq!(reading.piece().unwrap().as_deref(), Some(&b"second"[..]));
    upstream
        .send(b"0\r\nOutrider-Decision-Id: zz9evil\r\n\r\n")
        .unwrap();
    assert_eq!(reading.piece().unwrap(), None, "the answer ends properly");
    let (_, outcome) = lines(&sidecar, &id);
    assert_eq!(outcome["ended"], "completed", "{outcome}");
    assert_eq!(outcome["response"]["bytes"], 11, "{outcome}");
}

#[test]
fn events_of_a_buffered_service_stream_unread() {
    let server = PlainServer::start();
    let sidecar = before(server.address(), &json!({}));
    let agent = sidecar.agent_of("wiki");
    let (mut reading, mut upstream, id) = begun(&sidecar, &agent, &server, "text/event-stream");
    upstream.send(b"3\r\n\xff\n\n\r\n0\r\n\r\n").unwrap();
    assert_eq!(reading.piece().unwrap().as_deref(), Some(&b"\xff\n\n"[..]));
    assert_eq!(reading.piece().unwrap(), None);
    assert_eq!(sidecar.outcome(&id)["ended"], "completed");
}

/// The server is silent, so that only the revocation can end the answer.
#[test]
fn an_answer_of_a_revoked_task_is_aborted() {
    for (changes, kind) in [(streamed(), "video/mp4"), (json!({}), "text/event-stream")] {
        let server = PlainServer::start();
        let sidecar = before(server.address(), &changes);
        let task = sidecar.open_task(&[]);
        let mut agent = Agent::new(sidecar.listener("reverse"), "/wiki").with_token(&task.token);
        let (mut reading, mut upstream, id) = begun(&sidecar, &agent, &server, kind);
        let run = sidecar.command(&["revoke", "task", &task.id]);
        assert_eq!(run.status, 0, "{run:?}");
        assert_eq!(
            reading.rest(),
            (Vec::new(), false),
            "an end that looks whole"
        );
        let outcome = sidecar.outcome(&id);
        assert_eq!(outcome["ended"], "cut", "{outcome}");
        assert_eq!(outcome["code"], "task_revoked", "{outcome}");
        assert!(!matches!(upstream.piece(), Ok(Some(_))), "not cancelled");
        let answer = agent.send(&get("/wiki/a"));
        assert_eq!((answer.status, answer.code()), (401, "task_revoked".into()));
    }
}

/// Everything between service and agent is full, so that nothing but the revocation ends the call.
#[test]
fn an_answer_that_its_agent_does_not_read_is_cut_all_the_same() {
    let (gone, written) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (inside, counted) = (gone.clone(), Arc::clone(&written));
    let server = ToolServer::answering(move |exchange| {
        let piece = vec![b'x'; 20_000];
        exchange.begin_events();
        while exchange.chunk(&piece) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        inside.open();
    });
    let sidecar = before(server.address(), &streamed());
    let task = sidecar.open_task(&[]);
    let agent = Agent::new(sidecar.listener("reverse"), "/wiki").with_token(&task.token);
    let mut unread = agent.start(&get("/wiki/a"));
    let head = unread.head().unwrap().unwrap();
    let (mut last, mut same) = (0, 0);
    until("the answer to be stuck", || {
        let now = written.load(Ordering::SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (now > 0 && same == 50).then_some(())
    });
    assert_eq!(sidecar.command(&["revoke", "task", &task.id]).status, 0);
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
    assert!(gone.pass(), "the upstream's work was not cancelled");
    assert!(!unread.rest().1, "an end that looks whole");
}

#[test]
fn a_refused_request_is_answered_before_its_body_is_there() {
    let server = wiki();
    let sidecar = before(server.address(), &streamed());
    let chunked = Request::raw("PUT", "/wiki/a", b"5\r\nfirst\r\n".to_vec())
        .field("Transfer-Encoding", "chunked");
    refused(&sidecar, &server, (Problem(401), "task_missing"), || {
        let stranger = Agent::new(sidecar.listener("reverse"), "/wiki");
        stranger.start(&chunked).answer().unwrap().unwrap()
    });
}

#[test]
fn a_request_of_a_revoked_task_is_cut_while_it_is_sent() {
    let server = PlainServer::start();
    let sidecar = before(server.address(), &streamed());
    let task = sidecar.open_task(&[]);
    let agent = Agent::new(sidecar.listener("reverse"), "/wiki").with_token(&task.token);
    let chunked = Request::raw("PUT", "/wiki/a", b"5\r\nfirst\r\n".to_vec())
        .field("Transfer-Encoding", "chunked");
    let mut sending = agent.start(&chunked);
    let mut upstream = server.accept();
    upstream.request().unwrap().unwrap();
    assert_eq!(upstream.piece().unwrap().as_deref(), Some(&b"first"[..]));
    let run = sidecar.command(&["revoke", "task", &task.id]);
    assert_eq!(run.status, 0, "{run:?}");
    let answer = sending.answer().unwrap().unwrap();
    assert_eq!((answer.status, answer.code()), (401, "task_revoked".into()));
    assert!(upstream.piece().is_err(), "a body that looks whole");
    let outcome = sidecar.outcome(&answer.decision_id());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
}

#[test]
fn an_agent_that_goes_away_cancels_the_upstreams_work() {
    let server = PlainServer::start();
    let sidecar = before(server.address(), &streamed());
    let agent = sidecar.agent_of("wiki");
    let (reading, mut upstream, id) = begun(&sidecar, &agent, &server, "video/mp4");
    reading.hang_up();
    assert!(!matches!(upstream.request(), Ok(Some(_))), "not cancelled");
    assert_eq!(sidecar.outcome(&id)["ended"], "agent_gone");
}

#[test]
fn a_silent_service_is_cut_off() {
    let server = PlainServer::start();
    let changes = json!({"body": "streamed", "stream_idle": "50ms", "timeout": "200ms"});
    let sidecar = before(server.address(), &changes);
    let mut agent = sidecar.agent_of("wiki");
    let (mut reading, _upstream, id) = begun(&sidecar, &agent, &server, "video/mp4");
    assert_eq!(reading.rest(), (Vec::new(), false));
    let outcome = sidecar.outcome(&id);
    assert_eq!(outcome["ended"], "upstream_failed", "{outcome}");
    assert_eq!(outcome["code"], "upstream_timeout", "{outcome}");

    let answer = agent.send(&get("/wiki/never"));
    assert_eq!(answer.status, 504);
    assert_eq!(answer.code(), "upstream_timeout");
    assert_eq!(
        sidecar.outcome(&answer.decision_id())["code"],
        "upstream_timeout"
    );
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for (changes, kind) in [(streamed(), "video/mp4"), (json!({}), "text/event-stream")] {
        let server = PlainServer::start();
        let sidecar = before(server.address(), &changes);
        let agent = sidecar.agent_of("wiki");
        let (mut reading, upstream, id) = begun(&sidecar, &agent, &server, kind);
        upstream.hang_up();
        assert_eq!(reading.rest(), (Vec::new(), false));
        let outcome = sidecar.outcome(&id);
        assert_eq!(outcome["code"], "response_refused", "{outcome}");
    }
}

#[test]
fn a_refusal_is_a_problem_document() {
    let server = wiki();
    let sidecar = with(server.address(), &json!({}), |setup| {
        setup
            .data(|data| data["grants"] = json!([]))
            .rules("package outrider.authz\n\ndeny contains {\"reason\": \"no\", \"message\": \"m\", \"public\": \"Not today.\"} if input.tool.operation == \"PUT\"\n")
    });
    let mut agent = sidecar.agent_of("wiki");
    let put = Request::raw("PUT", "/wiki/a", Vec::new());
    let answer = refused(&sidecar, &server, (Problem(403), "policy_denied"), || {
        agent.send(&put)
    });
    let body = answer.json();
    for (member, value) in [
        ("type", json!("urn:outrider:refusal:policy_denied")),
        ("status", json!(403)),
        ("detail", json!("Not today.")),
        ("code", json!("policy_denied")),
        ("decision_id", json!(answer.decision_id())),
        ("retry", json!("no")),
    ] {
        assert_eq!(body[member], value, "{body}");
    }
    assert!(!body["title"].as_str().unwrap().is_empty());

    let mut stranger = Agent::new(sidecar.listener("reverse"), "/wiki");
    let answer = refused(&sidecar, &server, (Problem(401), "task_missing"), || {
        stranger.send(&get("/wiki/a"))
    });
    assert!(answer.head.get("www-authenticate").is_some());
}

#[test]
fn a_limit_is_told_in_headers() {
    let server = wiki();
    let sidecar = with(server.address(), &json!({}), |setup| {
        setup.config(|config| {
            config["limits"] =
                json!([{"name": "few", "key": ["agent"], "rate": "1/h", "burst": 1}]);
        })
    });
    let mut agent = sidecar.agent_of("wiki");
    assert_eq!(agent.send(&get("/wiki/a")).status, 200);
    let answer = refused(&sidecar, &server, (Problem(429), "rate_limited"), || {
        agent.send(&get("/wiki/a"))
    });
    for header in ["retry-after", "ratelimit", "ratelimit-policy"] {
        assert!(answer.head.get(header).is_some(), "{header}");
    }
}

#[test]
fn the_assertion_names_the_whole_target_and_the_body_only_if_it_was_read() {
    for (changes, bound) in [(json!({}), true), (streamed(), false)] {
        let server = wiki();
        let sidecar = before(server.address(), &changes);
        let answer = sidecar
            .agent_of("wiki")
            .send(&post("/wiki/a%20b?x=1&y=%2f", "body"));
        assert_eq!(answer.status, 200);
        let head = server.wait_for(1).remove(0).head;
        let token = head.get("outrider-assertion").unwrap();
        let jwks = sidecar.get("/.well-known/jwks.json").json();
        let claims = verify_with_jwks(token, &jwks).claims;
        let uri = format!("http://{}/base/a%20b?x=1&y=%2f", server.address());
        assert_eq!(claims["htu"], json!(uri), "{claims}");
        assert_eq!(claims["htm"], "POST");
        assert_eq!(claims["tool"], "wiki/POST");
        let hash = bound.then(|| json!(sha256_base64url(b"body")));
        assert_eq!(claims.get("bsh"), hash.as_ref(), "{claims}");
    }
}

#[test]
fn a_schema_for_what_is_never_read_is_a_mistake() {
    let server = wiki();
    let mut section = section(server.address());
    section["schemas"] = json!("wiki.json");
    let setup = Setup::bare(OUTRIDER).serving(&section);
    setup.file("wiki.json", "{}");
    setup.write();
    let check = setup.run(&["check", "-c", "outrider.yaml"]);
    assert_eq!(check.status, 1, "{check:?}");
    assert!(
        format!("{}{}", check.stdout, check.stderr).contains("has no `schemas`"),
        "{check:?}"
    );
}
