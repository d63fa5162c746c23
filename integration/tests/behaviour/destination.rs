//! Who may talk to a listener: `Host`, `Origin`, Unix sockets.

use outrider_integration::{Address, Agent, Request, Setup};
use serde_json::json;

use crate::support::{Form::Problem, OUTRIDER, before, echo, hi, refused};

fn call() -> Request {
    Request::call("echo", &hi())
}

#[test]
fn a_foreign_host_or_origin_is_refused_before_anything_else() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let expected = (Problem(403), "destination_refused");
    for request in [
        call().host("evil.test"),
        call().host("evil.test:80"),
        call().field("Origin", "https://evil.test"),
        call().field("Origin", "null"),
        call().host("evil.test").with_body("no json"),
    ] {
        refused(&sidecar, &server, expected, || agent.send(&request));
    }
    assert!(agent.send(&call()).is_tool_success());
}

#[test]
fn localhost_with_the_listeners_port_is_at_home() {
    let server = echo();
    let sidecar = before(&server);
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("a TCP listener")
    };
    let request = call().host(&format!("localhost:{}", address.port()));
    assert!(sidecar.agent().send(&request).is_tool_success());
}

#[test]
fn hosts_and_origins_can_be_named() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| {
            config["listeners"][0]["hosts"] = json!(["tools.test"]);
            config["listeners"][0]["origins"] = json!(["https://app.test"]);
        })
        .start();
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("a TCP listener")
    };
    let mut agent = sidecar.agent();
    for host in [
        "tools.test".to_owned(),
        format!("tools.test:{}", address.port()),
    ] {
        let request = call().host(&host).field("Origin", "https://app.test");
        assert!(agent.send(&request).is_tool_success(), "{host}");
    }
    let foreign = call()
        .host("tools.test")
        .field("Origin", "https://other.test");
    refused(
        &sidecar,
        &server,
        (Problem(403), "destination_refused"),
        || agent.send(&foreign),
    );
    refused(
        &sidecar,
        &server,
        (Problem(403), "destination_refused"),
        || agent.send(&call()),
    );
}

#[test]
fn a_request_names_one_host_and_one_only() {
    let server = echo();
    let sidecar = before(&server);
    let agent = sidecar.agent();
    let good = String::from_utf8(agent.bytes(&call())).unwrap();
    let host = sidecar.listener("reverse").host();
    for bad in [
        good.replace(&format!("Host: {host}\r\n"), ""),
        good.replace(
            &format!("Host: {host}\r\n"),
            &format!("Host: {host}\r\nHost: {host}\r\n"),
        ),
        good.replace("POST /tools", "POST http://evil.test/tools"),
        good.replace("POST /tools", &format!("POST http://evil@{host}/tools")),
    ] {
        let mut connection = agent.connect();
        connection.send(bad.as_bytes()).unwrap();
        if let Some(answer) = connection.answer().unwrap() {
            assert!(
                (400..500).contains(&answer.status),
                "{bad}: {}",
                answer.head.line
            );
        }
    }
    assert_eq!(server.bytes(), 0);
}

#[test]
fn a_unix_socket_is_a_listener_like_any_other() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server);
    let address = format!("unix:{}", setup.path("agent.sock").display());
    let sidecar = setup
        .config(|config| {
            let unix = json!({"mode": "reverse", "name": "local", "address": address});
            config["listeners"].as_array_mut().unwrap().push(unix);
        })
        .start();
    let token = sidecar.open_task(&[]).token;
    let address = Address::Unix(sidecar.path("agent.sock"));
    let mut agent = Agent::new(address, "/tools").with_token(&token);
    let answer = agent.call("echo", &hi());
    assert!(answer.is_tool_success(), "{}", answer.text());
    let mut foreign = || agent.send(&call().host("evil.test"));
    refused(
        &sidecar,
        &server,
        (Problem(403), "destination_refused"),
        &mut foreign,
    );
}

#[test]
fn a_caller_of_another_user_is_refused() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["listeners"][0]["peers"] = json!({"uid": [4_000_000]}))
        .start();
    let answer = sidecar.stranger().call("echo", &hi());
    assert_eq!(answer.code(), "identity_invalid", "{}", answer.text());
    assert_eq!(server.bytes(), 0);
}
