//! `websocket: allow`: a WebSocket is one call, and what is said on it passes unread.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use outrider_integration::{Address, PATIENCE, Setup, Sidecar, until};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, check_record, password, tunnel};

/// The key and its proof of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A sidecar before that server, reached by a base URL and as a proxy.
fn before(server: &TcpListener, more: &Value) -> Setup {
    let mut section = json!({
        "name": "live", "protocol": "http", "hosts": ["live.test"],
        "upstream": format!("http://{}", server.local_addr().unwrap()),
    });
    for (key, value) in more.as_object().unwrap() {
        section[key] = value.clone();
    }
    Setup::bare(OUTRIDER).serving(&section).config(|config| {
        config["listeners"]
            .as_array_mut()
            .unwrap()
            .push(json!({"mode": "forward", "address": "127.0.0.1:0", "tls": "intercept"}));
    })
}

fn allowing(server: &TcpListener) -> Setup {
    before(server, &json!({"websocket": "allow"}))
}

fn server() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A request for a WebSocket with these lines beside the usual ones.
fn handshake(host: &str, path: &str, token: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nOutrider-Task-Token: {token}\r\n{lines}\r\n"
    )
}

fn connect(sidecar: &Sidecar) -> (TcpStream, String) {
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("it is TCP");
    };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (stream, address.to_string())
}

/// The head that comes next.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let read = stream.read(&mut byte).unwrap();
        assert_eq!(read, 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

fn accept(server: &TcpListener) -> TcpStream {
    let (stream, _) = server.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn agree(service: &mut TcpStream, proof: &str, more: &str) {
    write!(
        service,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {proof}\r\n{more}\r\n"
    )
    .unwrap();
}

fn heard(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, bytes);
}

fn only(sidecar: &Sidecar) -> Value {
    let decisions = sidecar.decisions();
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    decisions[0].clone()
}

fn nobody_came(server: &TcpListener) {
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "somebody connected");
    server.set_nonblocking(false).unwrap();
}

#[test]
fn a_websocket_is_one_call_and_its_bytes_pass_and_are_counted() {
    let server = server();
    let sidecar = allowing(&server).start();
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = connect(&sidecar);
    let lines = "Sec-WebSocket-Protocol: chat\r\nCookie: a=b\r\nAuthorization: Bearer own\r\n";
    agent
        .write_all(handshake(&host, "/live/room?of=1", &token, lines).as_bytes())
        .unwrap();
    let mut service = accept(&server);
    let asked = head(&mut service);
    assert!(asked.starts_with("get /room?of=1 http/1.1\r\n"), "{asked}");
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-protocol: chat\r\n",
    ] {
        assert!(asked.contains(line), "{asked}");
    }
    for word in [
        "task-token",
        "authorization",
        "cookie",
        &token.to_ascii_lowercase(),
    ] {
        assert!(!asked.contains(word), "{word}: {asked}");
    }
    let line = only(&sidecar);
    assert_eq!(line["tool"], "live/WEBSOCKET");
    assert_eq!(line["input"]["content"]["opaque"], true);
    let id = line["decision_id"].as_str().unwrap();
    assert!(asked.contains(id), "{asked}");

    // What a service says at once is not lost.
    agree(
        &mut service,
        PROOF,
        "Sec-WebSocket-Protocol: chat\r\nSet-Cookie: a=b\r\n\r\nhello",
    );
    let answered = head(&mut agent);
    assert!(answered.starts_with("http/1.1 101 "), "{answered}");
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-protocol: chat\r\n",
    ] {
        assert!(answered.contains(line), "{answered}");
    }
    assert!(answered.contains(&PROOF.to_ascii_lowercase()) && answered.contains(id));
    assert!(!answered.contains("set-cookie"), "{answered}");
    heard(&mut agent, b"hello\r\n");
    agent.write_all(b"to the service").unwrap();
    heard(&mut service, b"to the service");
    service.write_all(b"to the agent").unwrap();
    heard(&mut agent, b"to the agent");
    drop(service);
    let mut rest = Vec::new();
    agent.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    drop(agent);
    let outcome = sidecar.outcome(id);
    assert_eq!(outcome["ended"], "completed", "{outcome}");
    assert_eq!(outcome["response"]["status"], 101);
    assert_eq!(outcome["response"]["bytes"], 19);
    assert_eq!(outcome["response"]["sent_bytes"], 14);
    check_record(&sidecar);
}

#[test]
fn a_websocket_that_is_not_allowed_or_not_asked_for_rightly_does_not_reach_the_service() {
    let server = server();
    let refusing = before(&server, &json!({})).start();
    let rules = r#"package outrider.authz
deny contains {"reason": "room", "message": "no"} if { input.call.path == "/secret" }
"#;
    let allowing = allowing(&server).rules(rules).start();
    let ask = |sidecar: &Sidecar, change: &dyn Fn(String) -> String| {
        let token = sidecar.open_task(&[]).token;
        let (mut agent, host) = connect(sidecar);
        let request = change(handshake(&host, "/live/room", &token, ""));
        agent.write_all(request.as_bytes()).unwrap();
        let answered = head(&mut agent);
        let line = sidecar.decisions().pop().unwrap();
        (answered, line["code"].as_str().unwrap().to_owned())
    };
    let same = |request: String| request;
    let (answered, code) = ask(&refusing, &same);
    assert!(answered.starts_with("http/1.1 403 "), "{answered}");
    assert_eq!(code, "destination_refused");
    let replaced = |from: &'static str, to: &'static str| {
        move |request: String| {
            assert!(request.contains(from));
            request.replacen(from, to, 1)
        }
    };
    let changes: [(&dyn Fn(String) -> String, &str); 8] = [
        (&replaced("/live/room", "/live/secret"), "policy_denied"),
        (&replaced("GET ", "POST "), "call_malformed"),
        (&replaced("Version: 13", "Version: 8"), "call_malformed"),
        (&replaced(KEY, "c2hvcnQ="), "call_malformed"),
        (
            &replaced("Upgrade: websocket", "Upgrade: websocket, h2c"),
            "call_malformed",
        ),
        (
            &replaced("keep-alive, Upgrade", "keep-alive"),
            "call_malformed",
        ),
        (
            &replaced(
                "Sec-WebSocket-Version: 13\r\n",
                "Sec-WebSocket-Version: 13\r\nContent-Length: 1\r\n",
            ),
            "call_malformed",
        ),
        (&replaced("Outrider-Task-Token", "X-Other"), "task_missing"),
    ];
    for (change, expected) in changes {
        let (answered, code) = ask(&allowing, change);
        assert_eq!(code, expected, "{answered}");
        assert!(answered.starts_with("http/1.1 4"), "{answered}");
    }
    nobody_came(&server);
}

#[test]
fn an_agreement_that_proves_nothing_opens_nothing_and_another_answer_is_passed_on() {
    let server = server();
    let sidecar = allowing(&server).start();
    let token = sidecar.open_task(&[]).token;
    let ask = || {
        let (mut agent, host) = connect(&sidecar);
        agent
            .write_all(handshake(&host, "/live/", &token, "").as_bytes())
            .unwrap();
        let mut service = accept(&server);
        head(&mut service);
        (agent, service)
    };
    for (proof, more) in [
        ("c3BhbQ==", ""),
        (PROOF, &*format!("Sec-WebSocket-Accept: {PROOF}\r\n")),
    ] {
        let (mut agent, mut service) = ask();
        agree(&mut service, proof, more);
        let answered = head(&mut agent);
        assert!(answered.starts_with("http/1.1 502 "), "{answered}");
        let mut rest = Vec::new();
        service.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "nothing more was said to the service");
    }
    let (mut agent, mut service) = ask();
    service
        .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno room")
        .unwrap();
    let answered = head(&mut agent);
    assert!(answered.starts_with("http/1.1 404 "), "{answered}");
    heard(&mut agent, b"no room");
    let id = sidecar.decisions().pop().unwrap()["decision_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(sidecar.outcome(&id)["response"]["status"], 404);
}

#[test]
fn a_websocket_ends_with_its_task() {
    let server = server();
    let sidecar = allowing(&server).start();
    let task = sidecar.open_task(&[]);
    let (mut agent, host) = connect(&sidecar);
    agent
        .write_all(handshake(&host, "/live/", &task.token, "").as_bytes())
        .unwrap();
    let mut service = accept(&server);
    head(&mut service);
    agree(&mut service, PROOF, "");
    head(&mut agent);
    let run = sidecar.command(&["revoke", "task", &task.id]);
    assert_eq!(run.status, 0, "{run:?}");
    let mut rest = Vec::new();
    agent.read_to_end(&mut rest).ok();
    service.read_to_end(&mut rest).ok();
    assert!(rest.is_empty());
    let line = only(&sidecar);
    let id = line["decision_id"].as_str().unwrap();
    let outcome = sidecar.outcome(id);
    assert_eq!(outcome["ended"], "cut", "{outcome}");
    assert_eq!(outcome["code"], "task_revoked");
}

#[test]
fn a_websocket_is_opened_inside_a_tunnel_that_is_looked_into() {
    let server = server();
    let sidecar = before(
        &server,
        &json!({"websocket": "allow", "hosts": ["live.test:80"]}),
    )
    .start();
    let token = sidecar.open_task(&[]).token;
    let (opened, mut agent) = tunnel(&sidecar, "live.test:80", &password("task", &token));
    assert!(opened.starts_with("HTTP/1.1 200 "), "{opened}");
    agent.set_read_timeout(Some(PATIENCE)).unwrap();
    agent
        .write_all(
            handshake("live.test", "/room", "", "")
                .replace("Outrider-Task-Token: \r\n", "")
                .as_bytes(),
        )
        .unwrap();
    let mut service = accept(&server);
    assert!(head(&mut service).starts_with("get /room "));
    agree(&mut service, PROOF, "");
    assert!(head(&mut agent).starts_with("http/1.1 101 "));
    agent.write_all(b"inside").unwrap();
    heard(&mut service, b"inside");
    drop(agent);
    let mut rest = Vec::new();
    service.read_to_end(&mut rest).unwrap();
    drop(service);
    let closed = || {
        let log = sidecar.log();
        log.iter()
            .any(|line| line["type"] == "outcome")
            .then_some(())
    };
    until("the outcome is written", closed);
}
