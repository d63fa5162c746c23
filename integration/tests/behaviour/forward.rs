//! A proxy: calls by the host they name, in plain text and inside TLS.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use outrider_integration::{Address, Agent, Request, Setup, Sidecar, ToolServer, until};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;

use crate::support::{OUTRIDER, check_record, echo, hi, password, to_proxy, tunnel};

/// A sidecar whose forward listener looks into TLS, before that server as `tools.test`.
fn before(server: &ToolServer) -> Sidecar {
    Setup::new(OUTRIDER, server)
        .config(|config| {
            config["services"][0]["hosts"] = json!(["tools.test"]);
            config["listeners"]
                .as_array_mut()
                .unwrap()
                .push(json!({"mode": "forward", "address": "127.0.0.1:0", "tls": "intercept"}));
        })
        .start()
}

/// What comes back up to the end of the connection.
fn told(mut stream: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The bytes of a call of `echo`, with another first line and `Host`, and further lines.
fn call(line: &str, host: &str, fields: &str) -> Vec<u8> {
    let request = Request::call("echo", &hi()).field("Connection", "close");
    let bytes = request.bytes("zz9", "/mcp");
    let text = String::from_utf8(bytes).unwrap();
    let (_, rest) = text.split_once("\r\n").unwrap();
    let rest = rest.replacen("Host: zz9\r\n", &format!("Host: {host}\r\n{fields}"), 1);
    assert!(rest.contains(host) && !rest.contains("zz9"), "{rest}");
    format!("{line}\r\n{rest}").into_bytes()
}

fn ask(sidecar: &Sidecar, bytes: &[u8]) -> String {
    let mut stream = to_proxy(sidecar);
    stream.write_all(bytes).unwrap();
    told(stream)
}

fn token(sidecar: &Sidecar) -> String {
    sidecar.open_task(&[]).token
}

/// The code of the last decision.
fn code(sidecar: &Sidecar) -> String {
    let last = sidecar.decisions().pop().unwrap();
    last["code"].as_str().unwrap().to_owned()
}

/// Asks for a tunnel, and begins TLS in it for that name; the session, or what was said instead.
fn inside(
    sidecar: &Sidecar,
    to: &str,
    name: &str,
    fields: &str,
    h2: bool,
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let (head, stream) = tunnel(sidecar, to, fields);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(head);
    }
    let mut roots = RootCertStore::empty();
    let authority = std::fs::read(sidecar.path("outrider-ca.pem")).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&authority).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if h2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let name = name.to_owned().try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut session = StreamOwned::new(client, stream);
    while session.conn.is_handshaking() {
        session
            .conn
            .complete_io(&mut session.sock)
            .map_err(|error| error.to_string())?;
    }
    Ok(session)
}

#[test]
fn a_call_goes_to_the_service_of_its_host_and_path() {
    let server = echo();
    let sidecar = before(&server);
    let good = password("task", &token(&sidecar));
    let answer = ask(
        &sidecar,
        &call("POST http://tools.test/mcp HTTP/1.1", "tools.test", &good),
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    let head = &calls[0].head;
    assert!(head.all("proxy-authorization").is_empty());
    assert_eq!(head.get("outrider-tool"), Some("tools/echo"));
    let line = sidecar.decisions().pop().unwrap();
    assert_eq!(line["input"]["call"]["listener"], "forward");
    check_record(&sidecar);
}

#[test]
fn what_names_no_service_or_two_hosts_is_refused_and_recorded() {
    let server = echo();
    let sidecar = before(&server);
    let good = password("task", &token(&sidecar));
    for (line, host, wanted) in [
        (
            "POST http://other.test/mcp HTTP/1.1",
            "other.test",
            "service_unknown",
        ),
        (
            "POST http://tools.test:81/mcp HTTP/1.1",
            "tools.test:81",
            "service_unknown",
        ),
        (
            "POST http://tools.test/ HTTP/1.1",
            "tools.test",
            "service_unknown",
        ),
        (
            "POST http://tools.test/mcp/x HTTP/1.1",
            "tools.test",
            "service_unknown",
        ),
        (
            "POST http://tools.test./mcp HTTP/1.1",
            "tools.test.",
            "service_unknown",
        ),
        (
            "POST http://tools.test/tools HTTP/1.1",
            "tools.test",
            "service_unknown",
        ),
        (
            "POST http://tools.test/mcp?x HTTP/1.1",
            "tools.test",
            "call_malformed",
        ),
        (
            "POST http://tools.test/mcp HTTP/1.1",
            "other.test",
            "destination_refused",
        ),
        (
            "POST http://tools.test/mcp HTTP/1.1",
            "tools.test:81",
            "destination_refused",
        ),
        (
            "POST http://x@tools.test/mcp HTTP/1.1",
            "tools.test",
            "destination_refused",
        ),
        (
            "POST ftp://tools.test/mcp HTTP/1.1",
            "tools.test",
            "destination_refused",
        ),
        ("POST /mcp HTTP/1.1", "tools.test", "destination_refused"),
        ("POST /tools HTTP/1.1", "tools.test", "destination_refused"),
        ("OPTIONS * HTTP/1.1", "tools.test", "destination_refused"),
        (
            "CONNECT other.test:443 HTTP/1.1",
            "other.test:443",
            "service_unknown",
        ),
        (
            "CONNECT tools.test:8443 HTTP/1.1",
            "tools.test:8443",
            "service_unknown",
        ),
        (
            "CONNECT tools.test:443 HTTP/1.1",
            "other.test:443",
            "destination_refused",
        ),
    ] {
        let before = sidecar.decisions().len();
        let answer = ask(&sidecar, &call(line, host, &good));
        assert!(!answer.starts_with("HTTP/1.1 2"), "{line}: {answer}");
        assert_eq!(sidecar.decisions().len(), before + 1, "{line}");
        assert_eq!(code(&sidecar), wanted, "{line} {host}");
    }
    assert_eq!(server.bytes(), 0);
    check_record(&sidecar);
}

#[test]
fn a_proxy_password_is_a_token_and_nothing_else_is() {
    let server = echo();
    let sidecar = before(&server);
    let good = token(&sidecar);
    let both = format!("Outrider-Task-Token: {good}\r\n{}", password("task", &good));
    let twice = password("task", &good).repeat(2);
    let bearer = format!("Proxy-Authorization: Bearer {good}\r\n");
    let fallen = format!("Outrider-Task-Token: {good}\r\nProxy-Authorization: Basic !\r\n");
    for (fields, wanted) in [
        (String::new(), "task_missing"),
        (password("user", &good), "task_invalid"),
        (password("task", ""), "task_invalid"),
        (password("task", "zz9"), "task_invalid"),
        (bearer, "task_invalid"),
        (both, "task_invalid"),
        (twice, "task_invalid"),
        (fallen, "task_invalid"),
    ] {
        ask(
            &sidecar,
            &call("POST http://tools.test/mcp HTTP/1.1", "tools.test", &fields),
        );
        assert_eq!(code(&sidecar), wanted, "{fields}");
    }
    // On a reverse listener it is not read.
    let request = Request::call("echo", &hi()).field(
        "Proxy-Authorization",
        password("task", &good)
            .trim_end()
            .split_once(": ")
            .unwrap()
            .1,
    );
    let answer = Agent::new(sidecar.listener("reverse"), "/tools").send(&request);
    assert_eq!(answer.code(), "task_missing");
    assert_eq!(server.bytes(), 0);
}

#[test]
fn calls_inside_tls_are_decided_one_by_one_under_the_token_of_their_tunnel() {
    let server = echo();
    let sidecar = before(&server);
    let good = password("task", &token(&sidecar));
    let mut session = inside(&sidecar, "tools.test:443", "tools.test", &good, false).unwrap();
    let keep = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace("Connection: close\r\n", "").into_bytes()
    };
    let first = keep(call("POST /mcp HTTP/1.1", "tools.test", ""));
    session.write_all(&first).unwrap();
    let mut some = [0; 13];
    session.read_exact(&mut some).unwrap();
    assert_eq!(&some, b"HTTP/1.1 200 ");
    assert_eq!(server.calls().len(), 1);
    // Another host over the same session, and a tunnel in the tunnel.
    let mut session = inside(&sidecar, "tools.test:443", "tools.test", &good, false).unwrap();
    session
        .write_all(&call("POST /mcp HTTP/1.1", "other.test", ""))
        .unwrap();
    let answer = told(session);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(code(&sidecar), "destination_refused");
    let mut session = inside(&sidecar, "tools.test:443", "tools.test", &good, false).unwrap();
    session
        .write_all(b"CONNECT tools.test:443 HTTP/1.1\r\nHost: tools.test:443\r\n\r\n")
        .unwrap();
    let answer = told(session);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    // Without a token the tunnel opens, and no call passes.
    let mut session = inside(&sidecar, "tools.test:443", "tools.test", "", false).unwrap();
    session
        .write_all(&call("POST /mcp HTTP/1.1", "tools.test", ""))
        .unwrap();
    told(session);
    assert_eq!(code(&sidecar), "task_missing");
    assert_eq!(server.calls().len(), 1);
    check_record(&sidecar);
}

#[test]
fn a_session_for_another_host_than_its_tunnels_is_closed() {
    let server = echo();
    let sidecar = before(&server);
    let good = password("task", &token(&sidecar));
    for (to, name) in [
        ("tools.test:443", "other.test"),
        ("tools.test:443", "127.0.0.1"),
    ] {
        assert!(inside(&sidecar, to, name, &good, false).is_err(), "{name}");
    }
    until("the faults to be counted", || {
        let label = ["reason=\"tunnel\""];
        (sidecar.metric("outrider_connection_errors_total", &label) >= 2.0).then_some(())
    });
    assert_eq!(server.bytes(), 0);
    assert!(sidecar.decisions().is_empty(), "they were no calls");
}

#[test]
fn http_2_is_spoken_inside_tls_and_by_prior_knowledge() {
    let server = echo();
    let sidecar = before(&server);
    let good = password("task", &token(&sidecar));
    let session = inside(&sidecar, "tools.test:443", "tools.test", &good, true).unwrap();
    assert_eq!(session.conn.alpn_protocol(), Some(&b"h2"[..]));
    drop(session);

    let Address::Tcp(reverse) = sidecar.listener("reverse") else {
        panic!("not TCP")
    };
    let token = token(&sidecar);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let statuses = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(reverse).await.unwrap();
        let shake = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        );
        let (sender, connection) = shake.await.unwrap();
        tokio::spawn(connection);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let mut sender = sender.clone();
            let bytes = Request::call("echo", &hi())
                .field("Outrider-Task-Token", &token)
                .bytes(&reverse.to_string(), "/tools");
            calls.spawn(async move {
                let answer = sender.send_request(as_h2(&bytes, reverse)).await.unwrap();
                answer.status().as_u16()
            });
        }
        calls.join_all().await
    });
    assert_eq!(statuses, [200; 50]);
    assert_eq!(server.calls().len(), 50);
    check_record(&sidecar);
}

/// The same request for HTTP/2.
fn as_h2(
    bytes: &[u8],
    to: std::net::SocketAddr,
) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut request = http::Request::post(format!("http://{to}/tools"));
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        if !["host", "connection", "content-length"].contains(&&*name.to_ascii_lowercase()) {
            request = request.header(name, value);
        }
    }
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    request.body(http_body_util::Full::new(body)).unwrap()
}

/// Whether a session begins that proves itself by what was trusted before.
fn trusts(sidecar: &Sidecar, before: &[u8]) -> bool {
    let path = sidecar.path("outrider-ca.pem");
    let now = std::fs::read(&path).unwrap();
    std::fs::write(&path, before).unwrap();
    let session = inside(sidecar, "tools.test:443", "tools.test", "", false);
    std::fs::write(&path, now).unwrap();
    session.is_ok()
}

#[test]
fn agents_trust_a_successor_and_one_with_the_same_key_but_no_new_one() {
    let server = echo();
    let mut sidecar = before(&server);
    let trusted = std::fs::read(sidecar.path("outrider-ca.pem")).unwrap();
    let predecessor = sidecar.take_over();
    predecessor.wait();
    assert!(trusts(&sidecar, &trusted));
    let sidecar = sidecar.restart();
    assert!(!trusts(&sidecar, &trusted), "its key was made anew");

    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let keyed = Setup::new(OUTRIDER, &server).config(|config| {
        config["services"][0]["hosts"] = json!(["tools.test"]);
        config["ca"] = json!({"key": "ca-key.pem"});
        config["listeners"] =
            json!([{"mode": "forward", "address": "127.0.0.1:0", "tls": "intercept"}]);
    });
    keyed.file("ca-key.pem", &key);
    let keyed = keyed.start();
    let trusted = std::fs::read(keyed.path("outrider-ca.pem")).unwrap();
    let keyed = keyed.restart();
    assert!(trusts(&keyed, &trusted));
}
