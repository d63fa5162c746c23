//! `services[].http: 2`: HTTP/2 towards a service, many calls over one connection, trailers both ways.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{HeaderMap, HeaderValue, Request};
use outrider_integration::{
    Address, Agent, EARLY, Http2Agent, Http2Server, Reached, Request as Call, Sends, Setup,
    Sidecar, Told, until,
};
use serde_json::json;

use crate::support::{OUTRIDER, check_record};

fn before(server: &Http2Server) -> Sidecar {
    Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "web", "protocol": "http", "http": 2, "body": "streamed",
            "upstream": format!("http://{}/base", server.address()),
        }))
        .start()
}

fn agent(sidecar: &Sidecar) -> (Http2Agent, String) {
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("it is TCP");
    };
    (Http2Agent::open(address), address.to_string())
}

fn request(host: &str, path: &str, token: &str, sends: Sends) -> Request<Sends> {
    Request::post(format!("http://{host}{path}"))
        .header("outrider-task-token", token)
        .body(sends)
        .unwrap()
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = lines
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    fields.collect()
}

fn hello(_: &Reached) -> Told {
    Told::answer("hello", None)
}

#[test]
fn trailers_pass_both_ways_without_what_nobody_but_us_may_say() {
    let server = Http2Server::start(100, |_| {
        let trailers = fields(&[
            ("grpc-status", "0"),
            ("outrider-decision-id", "forged"),
            ("set-cookie", "a=b"),
            ("content-type", "text/html"),
        ]);
        Told::answer("hello", Some(trailers))
    });
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    let trailers = fields(&[
        ("checksum", "abc"),
        ("outrider-subject", "root"),
        ("authorization", "Bearer x"),
        ("x-forwarded-for", "127.0.0.1"),
        ("host", "elsewhere.test"),
        ("content_length", "5"),
        ("if-match", "x"),
    ]);
    let sends = Sends::of(b"a body", Some(trailers));
    let got = agent
        .send(request(&host, "/web/place?a=b", &token, sends))
        .unwrap();
    assert_eq!((got.status.as_u16(), &got.body[..]), (200, &b"hello"[..]));
    assert_eq!(got.trailers, Some(fields(&[("grpc-status", "0")])));
    let reached = server.reached().pop().unwrap();
    assert_eq!(
        reached.head.uri.to_string(),
        format!("http://{}/base/place?a=b", server.address())
    );
    assert_eq!(reached.head.version, http::Version::HTTP_2);
    assert_eq!(&reached.body[..], b"a body");
    assert_eq!(reached.trailers, Some(fields(&[("checksum", "abc")])));
    assert!(reached.head.headers.contains_key("outrider-decision-id"));
    assert!(!reached.head.headers.contains_key("outrider-task-token"));
    check_record(&sidecar);
}

#[test]
fn an_agent_of_http_1_gets_the_answer_whole_without_trailers() {
    let server = Http2Server::start(100, |_| {
        let trailers = fields(&[("checksum", "abc")]);
        Told::answer("hello", Some(trailers))
    });
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    let mut agent = Agent::new(sidecar.listener("reverse"), "/web").with_token(&token);
    for _ in 0..2 {
        // Over one connection: the first answer was ended as it should be.
        let answer = agent.send(&Call::raw("GET", "/web/x", Vec::new()));
        assert_eq!((answer.status, &*answer.text()), (200, "hello"));
        assert!(answer.complete);
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn calls_share_a_connection_up_to_what_the_service_permits() {
    let server = Http2Server::start(10, hello);
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    // The first call learns what is permitted.
    let one = |_| request(&host, "/web/x", &token, Sends::of(b"", None));
    agent.send(one(0)).unwrap();
    let answers = agent.send_all((0..50).map(one).collect()).into_iter();
    let others: Vec<_> = answers
        .map(Result::unwrap)
        .filter(|status| *status != 200)
        .collect();
    assert!(others.is_empty(), "{others:?}: {}", sidecar.log_text());
    assert_eq!(server.reached().len(), 51);
    assert!(server.connections() <= 6, "{}", server.connections());
    check_record(&sidecar);
}

#[test]
fn a_call_that_is_given_up_is_given_up_there_and_no_other() {
    let server = Arc::new(Http2Server::start(100, |reached| {
        if reached.head.uri.path().ends_with("/hang") {
            Told::Hang
        } else {
            hello(reached)
        }
    }));
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    let hanging = request(&host, "/web/hang", &token, Sends::of(b"", None));
    let there = Arc::clone(&server);
    agent.give_up(hanging, move || {
        until("it is there", || {
            (!there.reached().is_empty()).then_some(())
        });
    });
    until("it is given up", || (server.given_up() == 1).then_some(()));
    let got = agent
        .send(request(&host, "/web/x", &token, Sends::of(b"", None)))
        .unwrap();
    assert_eq!(got.status.as_u16(), 200);
    assert_eq!(server.connections(), 1);
}

#[test]
fn only_a_request_that_was_not_looked_at_is_sent_again() {
    let times = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&times);
    let server = Http2Server::start(100, move |reached| {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            Told::Refuse
        } else {
            hello(reached)
        }
    });
    let sidecar = Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "web", "protocol": "http", "http": 2,
            "upstream": format!("http://{}", server.address()),
        }))
        .start();
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    let got = agent
        .send(request(&host, "/web/x", &token, Sends::of(b"once", None)))
        .unwrap();
    assert_eq!(got.status.as_u16(), 200);
    let reached = server.reached();
    assert_eq!(reached.len(), 2);
    assert!(reached.iter().all(|one| &one.body[..] == b"once"));
    assert_eq!(sidecar.decisions().len(), 1);
}

#[test]
fn nothing_more_of_a_body_is_sent_once_its_answer_is_over() {
    let server = Http2Server::start(100, hello);
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    let (feed, sends) = Sends::fed();
    feed.send("before".into()).unwrap();
    let mut early = request(&host, "/web/x", &token, sends);
    early
        .headers_mut()
        .insert(EARLY, HeaderValue::from_static("1"));
    let got = agent.send(early).unwrap();
    assert_eq!(&got.body[..], b"early");
    let decision = sidecar.decisions().pop().unwrap();
    let outcome = sidecar.outcome(decision["decision_id"].as_str().unwrap());
    assert_eq!(outcome["ended"], "completed", "{outcome}");
    until("the service is told", || {
        (server.broken() == 1).then_some(())
    });
    let there = server.taken();
    // The agent goes on; its stream may be over for it already.
    feed.send("after".into()).ok();
    let next = agent.send(request(&host, "/web/x", &token, Sends::of(b"", None)));
    assert_eq!(&next.unwrap().body[..], b"hello");
    assert_eq!(server.taken(), there);
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_agent_that_does_not_read_holds_the_service_back() {
    const MUCH: usize = 64 * 1024 * 1024;
    let server = Http2Server::start(100, |_| Told::Flood(MUCH));
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    let flood = || request(&host, "/web/flood", &token, Sends::of(b"", None));
    let unread = agent.begin(flood()).unwrap();
    // It goes on only as far as windows and buffers on the way reach.
    let mut last = (0, 0);
    until("it stands still", || {
        let sent = server.sent();
        last = if sent == last.0 {
            (sent, last.1 + 1)
        } else {
            (sent, 0)
        };
        (sent > 0 && last.1 > 20).then_some(())
    });
    assert!(server.sent() < 8 * 1024 * 1024, "{}", server.sent());
    drop(unread);
    let got = agent.send(flood()).unwrap();
    assert_eq!(got.body.len(), MUCH);
}

#[test]
fn answers_that_are_not_read_keep_no_other_call_from_its_answer() {
    let server = Http2Server::start(100, |reached| {
        if reached.head.uri.path().ends_with("/flood") {
            Told::Flood(8 << 20)
        } else {
            hello(reached)
        }
    });
    // One worker, so that all calls share a connection.
    let sidecar = Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "web", "protocol": "http", "http": 2, "body": "streamed", "stream_idle": "5s",
            "upstream": format!("http://{}", server.address()),
        }))
        .config(|config| config["workers"] = json!(1))
        .start();
    let token = sidecar.open_task(&[]).token;
    let (mut idle, host) = agent(&sidecar);
    let flood = || request(&host, "/web/flood", &token, Sends::of(b"", None));
    let unread: Vec<_> = (0..20).map(|_| idle.begin(flood()).unwrap()).collect();
    until("nothing moves", || {
        let sent = server.sent();
        std::thread::sleep(std::time::Duration::from_millis(100));
        (sent > 0 && server.sent() == sent).then_some(())
    });
    let (mut other, _) = agent(&sidecar);
    let got = other.send(request(&host, "/web/x", &token, Sends::of(b"", None)));
    assert_eq!(&got.unwrap().body[..], b"hello");
    assert_eq!(server.connections(), 1);
    drop(unread);
}

#[test]
fn a_service_that_does_not_speak_it_is_unreachable() {
    let server = crate::support::echo();
    let sidecar = Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "web", "protocol": "http", "http": 2, "upstream": server.url(), "timeout": "2s",
        }))
        .start();
    let token = sidecar.open_task(&[]).token;
    let mut agent = Agent::new(sidecar.listener("reverse"), "/web").with_token(&token);
    let answer = agent.send(&Call::raw("GET", "/web/x", Vec::new()));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.code(), "upstream_unreachable");
}
