//! `protocol: tunnel`: bytes that nobody looks into, decided by host and port.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use outrider_integration::{Address, Setup, Sidecar, until};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, check_record, password, tunnel};

/// A sidecar whose forward listener passes tunnels to that address of this machine.
fn before(server: &TcpListener, tls: &str) -> Setup {
    let place = server.local_addr().unwrap().to_string();
    Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "far", "protocol": "tunnel", "hosts": [place], "addresses": ["127.0.0.0/8"],
        }))
        .config(|config| {
            config["listeners"] =
                json!([{"mode": "forward", "address": "127.0.0.1:0", "tls": tls}]);
        })
}

fn server() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Asks for a tunnel, under a token if there is one; the answer's head, and the stream.
fn connect(sidecar: &Sidecar, to: &str, token: Option<&str>) -> (String, TcpStream) {
    let fields = token.map_or_else(String::new, |token| password("task", token));
    tunnel(sidecar, to, &fields)
}

/// The first bytes of a TLS session with that host.
fn hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = host.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn decision(sidecar: &Sidecar) -> Value {
    let decisions = sidecar.decisions();
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    decisions[0].clone()
}

fn outcome(sidecar: &Sidecar) -> Value {
    sidecar.outcome(decision(sidecar)["decision_id"].as_str().unwrap())
}

/// Nobody has connected to it.
fn nobody_came(server: &TcpListener) {
    server.set_nonblocking(true).unwrap();
    let came = server.accept();
    assert!(came.is_err(), "somebody connected: {came:?}");
}

fn place(server: &TcpListener) -> SocketAddr {
    server.local_addr().unwrap()
}

#[test]
fn a_tunnel_is_one_call_and_its_bytes_are_counted() {
    let server = server();
    let sidecar = before(&server, "intercept").start();
    let token = sidecar.open_task(&[]).token;
    let (head, mut agent) = connect(&sidecar, &place(&server).to_string(), Some(&token));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let line = decision(&sidecar);
    assert_eq!(line["tool"], "far/CONNECT");
    assert_eq!(line["outcome"], "allow");
    let call = &line["input"]["call"];
    assert_eq!(call["method"], "CONNECT");
    assert_eq!(call["host"], "127.0.0.1");
    assert_eq!(call["port"], place(&server).port());
    assert_eq!(line["input"]["content"]["opaque"], true);
    let id = line["decision_id"].as_str().unwrap();
    assert!(head.contains(id), "{head}");

    let hello = hello("127.0.0.1");
    agent.write_all(&hello).unwrap();
    agent.write_all(b"and more").unwrap();
    let (mut service, _) = server.accept().unwrap();
    let mut got = vec![0; hello.len() + 8];
    service.read_exact(&mut got).unwrap();
    assert!(got.starts_with(&hello) && got.ends_with(b"and more"));
    service.write_all(b"an answer").unwrap();
    drop(service);
    let mut answer = String::new();
    agent.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "an answer");
    drop(agent);
    let outcome = outcome(&sidecar);
    assert_eq!(outcome["ended"], "completed");
    assert_eq!(outcome["response"]["bytes"], 9);
    assert_eq!(outcome["response"]["sent_bytes"], hello.len() as u64 + 8);
    check_record(&sidecar);
}

#[test]
fn what_is_not_permitted_is_not_dialled() {
    let server = server();
    let port = place(&server).port();
    let sidecar = before(&server, "tunnel").start();
    let token = sidecar.open_task(&[]).token;
    let own = sidecar.listener("forward").host();
    for (to, token, status, code) in [
        (format!("127.0.0.1:{port}"), None, "401", "task_missing"),
        (
            format!("127.0.0.1:{port}"),
            Some("zz9"),
            "401",
            "task_invalid",
        ),
        (
            format!("127.0.0.2:{port}"),
            Some(&*token),
            "403",
            "service_unknown",
        ),
        (
            "127.0.0.1:443".into(),
            Some(&*token),
            "403",
            "service_unknown",
        ),
        (own, Some(&*token), "403", "service_unknown"),
    ] {
        let (head, _) = connect(&sidecar, &to, token);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{to}: {head}"
        );
        let last = sidecar.decisions().pop().unwrap();
        assert_eq!(last["code"], code, "{to}");
    }
    assert_eq!(sidecar.decisions().len(), 5);
    nobody_came(&server);
    check_record(&sidecar);
}

#[test]
fn a_tunnel_without_a_grant_is_refused_by_policy() {
    let server = server();
    let sidecar = before(&server, "tunnel")
        .data(|data| data["grants"] = json!([]))
        .start();
    let token = sidecar.open_task(&[]).token;
    let (head, _) = connect(&sidecar, &place(&server).to_string(), Some(&token));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(decision(&sidecar)["code"], "policy_denied");
    nobody_came(&server);
}

#[test]
fn an_address_that_is_not_public_is_dialled_only_where_it_is_configured() {
    let server = server();
    let sidecar = before(&server, "tunnel")
        .config(|config| config["services"][0]["addresses"] = json!([]))
        .start();
    let token = sidecar.open_task(&[]).token;
    let (head, _) = connect(&sidecar, &place(&server).to_string(), Some(&token));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(outcome(&sidecar)["code"], "destination_refused");
    nobody_came(&server);
}

#[test]
fn what_is_no_tls_for_its_host_does_not_get_through() {
    let server = server();
    let sidecar = before(&server, "tunnel").start();
    let token = sidecar.open_task(&[]).token;
    let plain = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    let binary = vec![0, 1, 2, 3, 4, 5, 6, 7];
    for bytes in [hello("other.test"), plain, binary] {
        let (head, mut agent) = connect(&sidecar, &place(&server).to_string(), Some(&token));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        agent.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        agent.read_to_end(&mut answer).ok();
        assert!(answer.is_empty());
        let (mut service, _) = server.accept().unwrap();
        let mut got = Vec::new();
        service.read_to_end(&mut got).unwrap();
        assert!(got.is_empty(), "{got:?}");
        let last = sidecar.decisions().pop().unwrap();
        let outcome = sidecar.outcome(last["decision_id"].as_str().unwrap());
        assert_eq!(outcome["code"], "destination_refused");
    }
    check_record(&sidecar);
}

#[test]
fn the_end_of_its_task_cuts_a_tunnel() {
    let server = server();
    let sidecar = before(&server, "tunnel").start();
    let task = sidecar.open_task(&[]);
    let (_, mut agent) = connect(&sidecar, &place(&server).to_string(), Some(&task.token));
    agent.write_all(&hello("127.0.0.1")).unwrap();
    let (mut service, _) = server.accept().unwrap();
    service.read_exact(&mut [0; 32]).unwrap();
    let run = sidecar.command(&["revoke", "task", &task.id]);
    assert_eq!(run.status, 0, "{run:?}");
    let mut rest = Vec::new();
    agent.read_to_end(&mut rest).ok();
    assert!(rest.is_empty());
    let outcome = outcome(&sidecar);
    assert_eq!(outcome["ended"], "cut");
    assert_eq!(outcome["code"], "task_revoked");
}

#[test]
fn a_listener_opens_the_tunnels_that_it_is_said_to_open() {
    let server = server();
    let to = place(&server).to_string();
    let refuses = before(&server, "refuse").start();
    let token = refuses.open_task(&[]).token;
    let (head, _) = connect(&refuses, &to, Some(&token));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(decision(&refuses)["code"], "destination_refused");

    // Requests to that host are looked into, which this listener does not do.
    let tunnels = before(&server, "tunnel")
        .config(|config| {
            config["services"] = json!([{
                "name": "web", "protocol": "http", "upstream": format!("http://{to}"),
            }]);
        })
        .start();
    let token = tunnels.open_task(&[]).token;
    let (head, _) = connect(&tunnels, &to, Some(&token));
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    nobody_came(&server);
}

#[test]
fn a_tunnel_that_is_under_way_keeps_its_place_in_a_drain_until_it_ends() {
    let server = server();
    let mut sidecar = before(&server, "tunnel").start();
    let token = sidecar.open_task(&[]).token;
    let (_, mut agent) = connect(&sidecar, &place(&server).to_string(), Some(&token));
    let hello = hello("127.0.0.1");
    agent.write_all(&hello).unwrap();
    let (mut service, _) = server.accept().unwrap();
    service.read_exact(&mut vec![0; hello.len()]).unwrap();
    sidecar.signal("TERM");
    let Address::Tcp(address) = sidecar.listener("forward") else {
        panic!("not TCP")
    };
    until("the listener to close", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    service.write_all(b"still here").unwrap();
    drop(service);
    let mut answer = String::new();
    agent.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "still here");
    drop(agent);
    assert!(sidecar.wait().success());
    let log = sidecar.log();
    let ended = log.iter().find(|line| line["type"] == "outcome").unwrap();
    assert_eq!(ended["ended"], "completed");
}
