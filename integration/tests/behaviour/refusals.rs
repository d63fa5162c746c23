//! Each refusal: its form, its code, nothing upstream, one decision and no outcome.

use outrider_integration::{Agent, Request, Setup, Tool, ToolServer};
use serde_json::{Value, json};

use crate::support::{
    Form::{Problem, Rpc, ToolResult},
    OUTRIDER, before, echo, hi, refused,
};

type Case = (&'static str, Request, (crate::support::Form, &'static str));

fn call() -> Request {
    Request::call("echo", &hi())
}

fn raw_body(body: &str) -> Request {
    call().with_body(body)
}

/// Requests that are refused whatever the policy says.
#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let body = String::from_utf8(call().body).unwrap();
    let meta = "/params/_meta/io.modelcontextprotocol~1";
    let without = |key: &str| {
        call().edit(|body| {
            let meta = body["params"]["_meta"].as_object_mut().unwrap();
            meta.remove(&format!("io.modelcontextprotocol/{key}"));
        })
    };
    let malformed = "call_malformed";
    vec![
        (
            "an unknown tool",
            Request::call("nope", &hi()),
            (Rpc(200, -32602), "tool_unknown"),
        ),
        (
            "another case of a tool's name",
            Request::call("ECHO", &hi()),
            (Rpc(200, -32602), "tool_unknown"),
        ),
        (
            "a missing argument",
            Request::call("echo", &json!({})),
            (ToolResult, "schema_violation"),
        ),
        (
            "an argument of a wrong type",
            Request::call("echo", &json!({"message": 1})),
            (ToolResult, "schema_violation"),
        ),
        (
            "a name that differs in the header",
            call().with("Mcp-Name", "other"),
            (Rpc(400, -32020), "header_mismatch"),
        ),
        (
            "no name in the header",
            call().without("Mcp-Name"),
            (Rpc(400, -32020), "header_mismatch"),
        ),
        (
            "two names in the header",
            call().field("Mcp-Name", "echo"),
            (Rpc(400, -32020), "header_mismatch"),
        ),
        (
            "a method that differs in the header",
            call().with("Mcp-Method", "tools/list"),
            (Rpc(400, -32020), "header_mismatch"),
        ),
        (
            "a method in another case",
            call().with("Mcp-Method", "TOOLS/CALL"),
            (Rpc(400, -32020), "header_mismatch"),
        ),
        (
            "no method in the header",
            call().without("Mcp-Method"),
            (Rpc(400, -32020), "header_mismatch"),
        ),
        (
            "a revision that is not served",
            call()
                .with("MCP-Protocol-Version", "1900-01-01")
                .edit(|body| {
                    *body.pointer_mut(&format!("{meta}protocolVersion")).unwrap() =
                        json!("1900-01-01");
                }),
            (Rpc(400, -32022), malformed),
        ),
        (
            "no capabilities in _meta",
            without("clientCapabilities"),
            (Rpc(400, -32602), malformed),
        ),
        (
            "an unknown method",
            Request::message(&json!(1), "tools/erase", json!({})),
            (Rpc(404, -32601), "tool_unknown"),
        ),
        ("no JSON", raw_body("hello"), (Rpc(400, -32700), malformed)),
        (
            "half a body of JSON",
            raw_body(&body[..40]),
            (Rpc(400, -32700), malformed),
        ),
        (
            "bytes after the JSON",
            raw_body(&format!("{body}x")),
            (Rpc(400, -32700), malformed),
        ),
        (
            "a byte-order mark",
            raw_body(&format!("\u{feff}{body}")),
            (Rpc(400, -32700), malformed),
        ),
        (
            "a duplicate key",
            raw_body(&body.replace(r#""name":"echo""#, r#""name":"other","name":"echo""#)),
            (Rpc(400, -32700), malformed),
        ),
        (
            "a duplicate key in disguise",
            raw_body(&body.replace(r#""name":"echo""#, r#""n\u0061me":"other","name":"echo""#)),
            (Rpc(400, -32700), malformed),
        ),
        (
            "nesting over 64 levels",
            raw_body(&body.replace(r#""hi""#, &format!("{}{}", "[".repeat(64), "]".repeat(64)))),
            (Rpc(400, -32700), malformed),
        ),
        (
            "a number outside the double range",
            raw_body(&body.replace(r#""hi""#, "1e400")),
            (Rpc(400, -32700), malformed),
        ),
        (
            "a batch",
            raw_body(&format!("[{body}]")),
            (Rpc(400, -32600), malformed),
        ),
        (
            "an ID that is null",
            Request::call_with_id(&Value::Null, "echo", &hi()),
            (Rpc(400, -32600), malformed),
        ),
        (
            "another media type",
            call().with("Content-Type", "text/plain"),
            (Problem(415), "media_type_refused"),
        ),
        (
            "no media type",
            call().without("Content-Type"),
            (Problem(415), "media_type_refused"),
        ),
        (
            "a content encoding",
            call().field("Content-Encoding", "gzip"),
            (Problem(415), "media_type_refused"),
        ),
        (
            "an unknown service",
            call().target("/nobody"),
            (Problem(403), "service_unknown"),
        ),
        (
            "a body that is too large",
            Request::call("echo", &json!({"message": "x".repeat(70_000)})),
            (Problem(413), "body_too_large"),
        ),
    ]
}

#[test]
fn every_refusal_has_its_form_and_code_and_reaches_nobody() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["body"] = json!({"max_request": "64KiB"}))
        .start();
    let mut agent = sidecar.agent();
    for (name, request, expected) in cases() {
        eprintln!("{name}");
        refused(&sidecar, &server, expected, || agent.send(&request));
        assert!(
            agent.call("echo", &hi()).is_tool_success(),
            "a good call after {name}"
        );
    }
}

#[test]
fn what_a_schema_refuses_is_told_by_pointer_and_never_by_value() {
    let server = echo();
    let sidecar = before(&server);
    let arguments = json!({"message": 271_828_182});
    let expected = (ToolResult, "schema_violation");
    let answer = refused(&sidecar, &server, expected, || {
        sidecar.agent().call("echo", &arguments)
    });
    let decision = answer.decision();
    assert_eq!(decision["retry"], "with_change");
    assert_eq!(
        decision["violations"][0]["pointer"], "/message",
        "{decision}"
    );
    assert!(!answer.text().contains("271828182"), "{}", answer.text());
    assert!(
        !sidecar.log_text().contains("271828182"),
        "a value is in the decision log"
    );
}

#[test]
fn an_unserved_revision_is_told_which_are_served() {
    let server = echo();
    let sidecar = before(&server);
    let request = call()
        .with("MCP-Protocol-Version", "1900-01-01")
        .edit(|body| {
            body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] =
                json!("1900-01-01");
        });
    let data = sidecar.agent().send(&request).json()["error"]["data"].clone();
    assert_eq!(data["requested"], "1900-01-01");
    assert!(
        data["supported"]
            .as_array()
            .unwrap()
            .contains(&json!("2026-07-28")),
        "{data}"
    );
}

#[test]
fn other_http_methods_are_refused_with_405() {
    let server = echo();
    let sidecar = before(&server);
    for method in ["GET", "DELETE", "PUT", "PATCH", "HEAD"] {
        let request = Request {
            method: method.to_owned(),
            ..call()
        };
        let mut connection = sidecar.agent().start(&request);
        let head = connection.head().unwrap().unwrap();
        assert!(
            head.line.starts_with("HTTP/1.1 405"),
            "{method}: {}",
            head.line
        );
    }
    assert_eq!(server.bytes(), 0);
}

#[test]
fn paths_are_refused_and_not_repaired() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for path in [
        "/",
        "/tools/",
        "/tools?x=1",
        "/tools/..",
        "/x/../tools",
        "/%2e%2e/tools",
        "/./tools",
        "/tools%00",
        "/tools%zz",
        "/tools\\x",
        "//tools",
        "/TOOLS",
        "/t%6fols",
        "/%252e%252e/tools",
    ] {
        let answer = agent.send(&call().target(path));
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.head.line
        );
    }
    assert_eq!(server.bytes(), 0);
}

#[test]
fn a_notification_never_carries_a_tool_call() {
    let server = echo();
    let sidecar = before(&server);
    let params = json!({"name": "echo", "arguments": hi()});
    let notification = Request::notification("tools/call", params).field("Mcp-Name", "echo");
    let answer = sidecar.agent().send(&notification);
    assert!((400..500).contains(&answer.status), "{}", answer.head.line);
    assert!(answer.json().get("id").is_none(), "{}", answer.text());
    assert_eq!(server.bytes(), 0);
}

#[test]
fn a_call_without_a_task_is_refused_in_the_form_of_its_method() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.stranger();
    refused(&sidecar, &server, (ToolResult, "task_missing"), || {
        agent.send(&call())
    });
    refused(&sidecar, &server, (Rpc(200, 4030), "task_missing"), || {
        agent.send(&Request::list())
    });
}

#[test]
fn a_discovery_needs_no_task() {
    let server = echo();
    let sidecar = before(&server);
    let answer = sidecar.stranger().send(&Request::discover());
    assert_eq!(
        answer.json()["result"]["supportedVersions"],
        json!(["2026-07-28"]),
        "{}",
        answer.text()
    );
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(
        (&line["outcome"], &line["tool"]),
        (&json!("allow"), &json!("")),
        "{line}"
    );
}

#[test]
fn a_tool_without_a_grant_is_refused_by_policy() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("erase")]);
    let sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["grants"][0]["tools"] = json!(["tools/echo"]))
        .start();
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        agent.call("erase", &hi())
    });
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn an_ungranted_tool_does_not_tell_its_schema_by_violations() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["grants"] = json!([]))
        .start();
    let answer = sidecar.agent().call("echo", &json!({"message": 1}));
    assert!(
        answer.decision().get("violations").is_none(),
        "{}",
        answer.text()
    );
    assert_eq!(server.bytes(), 0);
}

#[test]
fn a_tool_that_the_intent_does_not_declare_is_refused() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("erase")]);
    let sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["intents"][0]["tools"] = json!(["tools/echo"]))
        .start();
    let mut agent = sidecar.agent();
    let before = server.bytes();
    let answer = agent.call("erase", &hi());
    assert!(
        ["policy_denied", "scope_exceeded"].contains(&answer.code().as_str()),
        "{}",
        answer.text()
    );
    assert_eq!(server.bytes(), before);
}

#[test]
fn agents_outside_the_inventory_or_past_their_date_are_refused() {
    let server = echo();
    for (code, change) in [
        (
            "agent_unknown",
            (|data: &mut Value| data["agents"] = json!([])) as fn(&mut Value),
        ),
        ("agent_expired", |data| {
            data["agents"][0]["expires"] = json!("2020-01-01T00:00:00Z");
        }),
        ("agent_expired", |data| {
            data["agents"][0]["owner"] = json!("");
        }),
        ("agent_revoked", |data| {
            data["agents"][0]["state"] = json!("revoked");
        }),
    ] {
        let sidecar = Setup::new(OUTRIDER, &server).data(change).start();
        let mut agent = sidecar.agent();
        refused(&sidecar, &server, (ToolResult, code), || {
            agent.send(&call())
        });
    }
}

#[test]
fn a_users_deny_beats_every_grant_and_only_its_public_text_is_told() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .rules(
            "package outrider.authz\n\n\
             deny contains {\"reason\": \"no_hi\", \"message\": \"the secret why\", \"public\": \"Greet somebody else.\"} if {\n\
             \tinput.call.arguments.message == \"hi\"\n}\n",
        )
        .start();
    let mut agent = sidecar.agent();
    let answer = refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        agent.send(&call())
    });
    assert!(
        answer.tool_text().contains("Greet somebody else."),
        "{}",
        answer.text()
    );
    assert!(
        !answer.text().contains("the secret why"),
        "{}",
        answer.text()
    );
    let line = sidecar.decision(&answer.decision_id());
    assert!(line["reasons"].to_string().contains("no_hi"), "{line}");
    assert!(
        agent
            .call("echo", &json!({"message": "ho"}))
            .is_tool_success()
    );
}

#[test]
fn the_identifier_of_a_refused_call_keeps_its_type() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent: Agent = sidecar.agent();
    for id in [
        json!("1"),
        json!(1),
        json!("a b"),
        json!(9_007_199_254_740_991_i64),
    ] {
        let answer = agent.send(&Request::call_with_id(&id, "echo", &json!({})));
        assert_eq!(answer.json()["id"], id);
    }
}
