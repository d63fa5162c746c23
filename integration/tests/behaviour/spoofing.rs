//! Nothing the agent or the server says about itself is believed.

use outrider_integration::{Request, Tool, ToolServer, text_result};
use serde_json::json;

use crate::support::{before, echo, hi};

const EVIL: &str = "zz9evil";

const OWNED: [&str; 8] = [
    "Outrider-Decision-Id",
    "Outrider-Agent",
    "Outrider-Subject",
    "Outrider-Task",
    "Outrider-Intent",
    "Outrider-Tool",
    "Outrider-Classification",
    "Outrider-Assertion",
];

fn call() -> Request {
    Request::call("echo", &hi())
}

#[test]
fn identity_headers_from_the_agent_never_arrive_in_any_spelling() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for name in OWNED {
        let underscored = name.replace('-', "_");
        for request in [
            call().field(name, EVIL),
            call().field(&name.to_uppercase(), EVIL),
            call().field(&name.to_lowercase(), EVIL),
            call().field(&underscored, EVIL),
            call().field(name, "ok").field(name, EVIL),
            call()
                .field(name, EVIL)
                .field("Connection", &format!("keep-alive, {name}")),
        ] {
            let answer = agent.send(&request);
            assert!(answer.is_tool_success(), "{name}: {}", answer.text());
            let head = server.calls().pop().unwrap().head;
            assert!(head.get(name).is_some(), "our own {name} was lost");
            assert!(!format!("{head:?}").contains(EVIL), "{head:?}");
        }
    }
}

#[test]
fn headers_that_claim_another_caller_or_target_are_removed() {
    let server = echo();
    let sidecar = before(&server);
    let names = [
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Client-Cert",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "Outrider-Anything",
    ];
    let request = names
        .iter()
        .fold(call(), |request, name| request.field(name, EVIL));
    assert!(sidecar.agent().send(&request).is_tool_success());
    let head = server.calls().remove(0).head;
    assert!(!format!("{head:?}").contains(EVIL), "{head:?}");
}

#[test]
fn a_trailer_brings_nothing_in() {
    let server = echo();
    let sidecar = before(&server);
    let request = call();
    let body = [
        format!("{:x}\r\n", request.body.len()).as_bytes(),
        &request.body,
        format!("\r\n0\r\nOutrider-Agent: {EVIL}\r\n\r\n").as_bytes(),
    ]
    .concat();
    let request = request
        .with_body(body)
        .field("Transfer-Encoding", "chunked")
        .field("Trailer", "Outrider-Agent");
    let answer = sidecar.agent().send(&request);
    let reached = server.calls();
    assert_eq!(
        reached.len(),
        usize::from(answer.is_tool_success()),
        "{}",
        answer.text()
    );
    assert!(!format!("{reached:?}").contains(EVIL));
}

#[test]
fn a_server_cannot_forge_our_headers_or_our_meta() {
    let server = ToolServer::start(vec![Tool::doing("forge", |exchange| {
        let mut result = text_result("x");
        result["_meta"] = json!({"outrider/decision": {"id": EVIL}, "example.org/kept": 1});
        let body = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
        let fields = [("Outrider-Decision-Id", EVIL), ("Outrider-Other", EVIL)];
        exchange.answer(200, "application/json", &fields, body.as_bytes());
    })]);
    let sidecar = before(&server);
    let answer = sidecar.agent().call("forge", &hi());
    assert!(
        !format!("{:?}", answer.head).contains(EVIL),
        "{:?}",
        answer.head
    );
    assert!(!answer.text().contains(EVIL), "{}", answer.text());
    assert_eq!(
        answer.json()["result"]["_meta"]["example.org/kept"],
        1,
        "{}",
        answer.text()
    );
    sidecar.decision(&answer.decision_id());
}
