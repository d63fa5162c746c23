//! `protocol: grpc`: methods as they are published, refusals as clients of gRPC read them.

use http::{HeaderMap, HeaderValue, Request};
use outrider_integration::{
    Address, Agent, Http2Agent, Http2Server, Request as Call, Sends, Setup, Sidecar, Told,
};
use serde_json::json;

use crate::support::OUTRIDER;

/// Descriptors of `shop.Orders` with the methods `Get` and `Erase`, as `protoc` writes them.
fn descriptors() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, length], bytes].concat()
    };
    let method = |name: &str| field(2, &field(1, name.as_bytes()));
    let service = [field(1, b"Orders"), method("Get"), method("Erase")].concat();
    let file = [
        field(1, b"shop.proto"),
        field(2, b"shop"),
        field(6, &service),
    ]
    .concat();
    field(1, &file)
}

fn setup(server: &Http2Server) -> Setup {
    let setup = Setup::bare(OUTRIDER)
        .serving(&json!({
            "name": "shop", "protocol": "grpc", "schemas": "shop.binpb",
            "upstream": format!("http://{}", server.address()),
        }))
        .data(|data| data["grants"][0]["tools"] = json!(["shop/shop.Orders/Get"]));
    std::fs::write(setup.path("shop.binpb"), descriptors()).unwrap();
    setup
}

/// A server that answers each call with an empty message and the status 0.
fn server() -> Http2Server {
    Http2Server::start(100, |_| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Told::answer("\0\0\0\0\0", Some(trailers))
    })
}

fn agent(sidecar: &Sidecar) -> (Http2Agent, String) {
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("it is TCP");
    };
    (Http2Agent::open(address), address.to_string())
}

fn call(host: &str, method: &str, token: &str) -> Request<Sends> {
    Request::post(format!("http://{host}/shop/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("outrider-task-token", token)
        .body(Sends::of(b"\0\0\0\0\0", None))
        .unwrap()
}

fn told(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_method_that_is_published_and_granted_is_called() {
    let server = server();
    let sidecar = setup(&server).start();
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    let got = agent.send(call(&host, "shop.Orders/Get", &token)).unwrap();
    assert_eq!(got.status.as_u16(), 200);
    assert_eq!(told(&got.trailers.unwrap(), "grpc-status"), "0");
    let reached = server.reached().pop().unwrap();
    assert_eq!(reached.head.uri.path(), "/shop.Orders/Get");
    assert_eq!(told(&reached.head.headers, "te"), "trailers");
    assert_eq!(
        told(&reached.head.headers, "content-type"),
        "application/grpc+proto"
    );
    let line = sidecar.decisions().pop().unwrap();
    assert_eq!(line["tool"], "shop/shop.Orders/Get");
    assert_eq!(line["input"]["content"]["opaque"], true);
}

#[test]
fn a_refusal_is_a_status_of_grpc_and_nothing_reaches_the_server() {
    let server = server();
    let sidecar = setup(&server).start();
    let token = sidecar.open_task(&[]).token;
    let (mut agent, host) = agent(&sidecar);
    for (method, token, status, code) in [
        ("shop.Orders/Erase", &*token, "7", "policy_denied"),
        ("shop.Orders/Sell", &*token, "12", "tool_unknown"),
        ("shop.Orders/get", &*token, "12", "tool_unknown"),
        ("shop.Orders/Get/", &*token, "12", "tool_unknown"),
        ("shop.Orders/Get", "zz9", "16", "task_invalid"),
    ] {
        let got = agent.send(call(&host, method, token)).unwrap();
        assert_eq!(got.status.as_u16(), 200, "{method}");
        assert_eq!(told(&got.headers, "content-type"), "application/grpc");
        assert_eq!(told(&got.headers, "grpc-status"), status, "{method}");
        let message = told(&got.headers, "grpc-message");
        let id = told(&got.headers, "outrider-decision-id");
        assert!(message.contains(code) && message.contains(&id), "{message}");
        assert!(got.body.is_empty());
    }
    let mut other = call(&host, "shop.Orders/Get", &token);
    let json = HeaderValue::from_static("application/json");
    other.headers_mut().insert("content-type", json);
    assert_eq!(agent.send(other).unwrap().status.as_u16(), 415);
    let mut old = Agent::new(sidecar.listener("reverse"), "/shop").with_token(&token);
    let call = Call::raw("POST", "/shop/shop.Orders/Get", b"\0\0\0\0\0".to_vec());
    let answer = old.send(&call.with("content-type", "application/grpc"));
    assert_eq!((answer.status, &*answer.code()), (400, "call_malformed"));
    assert!(server.reached().is_empty());
}

#[test]
fn descriptors_that_are_none_are_an_error_with_a_fix() {
    let server = server();
    let setup = setup(&server);
    setup.write();
    for (bytes, expected) in [
        (&b"{}"[..], "protoc --descriptor_set_out"),
        (b"", "describes no service"),
    ] {
        std::fs::write(setup.path("shop.binpb"), bytes).unwrap();
        let run = setup.run(&["check"]);
        assert_eq!(run.status, 1, "{run:?}");
        assert!(
            run.stderr.contains(expected) || run.stdout.contains(expected),
            "{run:?}"
        );
    }
    let setup = setup.config(|config| {
        config["services"][0]["http"] = json!(1.1);
    });
    std::fs::write(setup.path("shop.binpb"), descriptors()).unwrap();
    setup.write();
    let run = setup.run(&["check"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(
        format!("{run:?}").contains("gRPC is spoken over HTTP/2"),
        "{run:?}"
    );
}
