//! Plain JSON-RPC 2.0: one method is one tool, and a notification acts as a call does.

use outrider_integration::{Agent, Answer, Exchange, Request, Setup, Sidecar, ToolServer};
use serde_json::{Value, json};

use crate::support::{
    Form::{Problem, Rpc},
    OUTRIDER, refused,
};

fn catalogue() -> Value {
    let method = |params: &Value, result: &Value| {
        json!({
            "params": params,
            "result": result,
            "annotations": {"read_only": true, "destructive": false, "idempotent": true, "open_world": false},
            "owner": "owner@example.org",
            "version": "1",
        })
    };
    let named = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"], "additionalProperties": false});
    let listed = json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}], "items": false, "minItems": 2});
    let number = json!({"type": "integer"});
    json!({
        "outrider_catalogue": 1,
        "protocol": "jsonrpc",
        "methods": {
            "sum": method(&json!({"anyOf": [named, listed]}), &number),
            "rpc.discover": method(&json!({"type": "object"}), &json!(true)),
            "bare": {"owner": "owner@example.org", "version": "1"},
        },
    })
}

/// A sidecar before that server, by the catalogue above.
fn before(server: &ToolServer, setup: impl FnOnce(Setup) -> Setup) -> Sidecar {
    let bare = Setup::bare(OUTRIDER);
    bare.file("sums.json", &catalogue().to_string());
    setup(bare.serving(&json!({
        "name": "sums",
        "protocol": "jsonrpc",
        "upstream": format!("http://{}/rpc?v=2", server.address()),
        "schemas": "sums.json",
    })))
    .start()
}

/// A server that answers requests with 3 and notifications with 204.
fn three() -> ToolServer {
    ToolServer::answering(|exchange: &mut Exchange<'_>| {
        if exchange.request().json().get("id").is_some() {
            exchange.result(&json!(3));
        } else {
            exchange.raw(b"HTTP/1.1 204 -\r\n\r\n");
        }
    })
}

fn post(body: impl Into<Vec<u8>>) -> Request {
    Request::raw("POST", "", body.into()).field("Content-Type", "application/json")
}

fn call(method: &str, params: &Value) -> Request {
    post(json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string())
}

fn notification(method: &str, params: &Value) -> Request {
    post(json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string())
}

fn good() -> Request {
    call("sum", &json!([1, 2]))
}

#[test]
fn a_call_passes_as_it_was_sent_and_is_recorded() {
    let server = three();
    let sidecar = before(&server, |setup| setup);
    // White space and order are the agent's.
    let body = br#" {"params" : [1, 2],"id":"x", "method":"sum","jsonrpc":"2.0"} "#;
    let answer = sidecar.agent_of("sums").send(&post(body));
    assert_eq!(
        answer.json(),
        json!({"jsonrpc": "2.0", "id": "x", "result": 3})
    );
    let received = server.wait_for(1).remove(0);
    assert_eq!(received.body, body);
    assert!(received.head.line.starts_with("POST /rpc?v=2 "));
    assert_eq!(received.head.get("outrider-tool"), Some("sums/sum"));
    assert_eq!(received.head.get("accept-encoding"), Some("identity"));
    let line = sidecar.decision(&answer.decision_id());
    for (member, value) in [
        ("outcome", "allow"),
        ("tool", "sums/sum"),
        ("method", "sum"),
        ("classification", "internal"),
    ] {
        assert_eq!(line[member], value, "{line}");
    }
    assert_eq!(line["input"]["call"]["protocol"], "jsonrpc");
    assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "completed");
    let text = sidecar.log_text();
    assert!(!text.contains("[1,2]"), "arguments are never written");
}

#[test]
fn params_are_what_policy_judges() {
    let server = three();
    let rules = r#"package outrider.authz

deny contains {"reason": "large", "message": "a large number", "public": "Small numbers only."} if {
	input.tool.operation == "sum"
	input.call.arguments.a > 100
}
"#;
    let sidecar = before(&server, |setup| setup.rules(rules));
    let mut agent = sidecar.agent_of("sums");
    let answer = agent.send(&call("sum", &json!({"a": 1, "b": 2})));
    assert_eq!(answer.json()["result"], 3, "{}", answer.text());
    let answer = refused(&sidecar, &server, (Rpc(200, 4030), "policy_denied"), || {
        agent.send(&call("sum", &json!({"a": 101, "b": 2})))
    });
    let body = answer.json();
    assert_eq!(body["id"], 7, "{body}");
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("Small numbers only"),
        "{body}"
    );
}

#[test]
fn params_that_do_not_fit_are_refused_and_so_are_those_nobody_published() {
    let server = three();
    let sidecar = before(&server, |setup| setup);
    let mut agent = sidecar.agent_of("sums");
    for request in [
        call("sum", &json!([1])),
        call("sum", &json!({"a": 1, "b": "2"})),
        call("bare", &json!({"a": 1})),
        call("bare", &json!([null])),
        post(r#"{"jsonrpc":"2.0","id":7,"method":"sum"}"#),
    ] {
        let answer = refused(
            &sidecar,
            &server,
            (Rpc(200, 4030), "schema_violation"),
            || agent.send(&request),
        );
        assert!(!answer.decision()["violations"][0]["message"].is_null());
    }
    for params in [json!({}), json!([])] {
        assert_eq!(agent.send(&call("bare", &params)).json()["result"], 3);
    }
    let absent = post(r#"{"jsonrpc":"2.0","id":7,"method":"bare"}"#);
    assert_eq!(agent.send(&absent).json()["result"], 3);
}

#[test]
fn what_is_no_single_call_is_refused() {
    let server = three();
    let sidecar = before(&server, |setup| setup);
    let mut agent = sidecar.agent_of("sums");
    for (body, code) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"sum","#, -32700),
        ("", -32700),
        ("\u{feff}{}", -32700),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"sum","params":[1,2]}"#,
            -32600,
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"sum","params":[1,2]}]"#,
            -32600,
        ),
        ("[]", -32600),
        ("1", -32600),
        ("{}", -32600),
        (r#"{"id":1,"method":"sum","params":[1,2]}"#, -32600),
        (
            r#"{"jsonrpc":"1.0","id":1,"method":"sum","params":[1,2]}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"sum","params":[1,2]}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1.5,"method":"sum","params":[1,2]}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":[],"method":"sum","params":[1,2]}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":1,"params":[1,2]}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"sum","params":null}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"sum","params":"x"}"#,
            -32600,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"sum","params":[1,2],"Method":"x"}"#,
            -32600,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":3}"#, -32600),
    ] {
        let answer = refused(
            &sidecar,
            &server,
            (Rpc(400, code), "call_malformed"),
            || agent.send(&post(body)),
        );
        assert!(answer.json().get("id").is_some(), "{}", answer.text());
    }
}

#[test]
fn a_method_that_is_not_catalogued_is_unknown_reserved_ones_too_and_is_named_nowhere() {
    let server = three();
    let sidecar = before(&server, |setup| setup);
    let mut agent = sidecar.agent_of("sums");
    for method in ["zz9evil", "rpc.zz9evil", "Sum", "sum ", ""] {
        refused(
            &sidecar,
            &server,
            (Rpc(200, -32601), "tool_unknown"),
            || agent.send(&call(method, &json!([1, 2]))),
        );
    }
    for text in [sidecar.get("/metrics").text(), sidecar.log_text()] {
        assert!(!text.contains("zz9evil"), "{text}");
    }
    let answer = agent.send(&call("rpc.discover", &json!({})));
    assert_eq!(
        answer.json()["result"],
        3,
        "a reserved name that is catalogued"
    );
}

#[test]
fn a_notification_is_decided_as_a_call() {
    let server = three();
    let sidecar = before(&server, |setup| setup);
    let mut agent = sidecar.agent_of("sums");
    let answer = agent.send(&notification("sum", &json!([1, 2])));
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(
        (&line["outcome"], &line["tool"]),
        (&json!("allow"), &json!("sums/sum"))
    );
    assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "completed");

    for (request, form, code) in [
        (
            notification("sum", &json!([1])),
            Rpc(422, 4030),
            "schema_violation",
        ),
        (
            notification("zz9evil", &json!([1])),
            Rpc(403, -32601),
            "tool_unknown",
        ),
    ] {
        let answer = refused(&sidecar, &server, (form, code), || agent.send(&request));
        assert!(answer.json().get("id").is_none(), "{}", answer.text());
    }
    let mut stranger = Agent::new(sidecar.listener("reverse"), "/sums");
    refused(&sidecar, &server, (Rpc(401, 4030), "task_missing"), || {
        stranger.send(&notification("sum", &json!([1, 2])))
    });
}

#[test]
fn without_a_task_or_a_grant_nothing_passes() {
    let server = three();
    let sidecar = before(&server, |setup| {
        setup.data(|data| data["grants"][0]["tools"] = json!(["sums/rpc.*"]))
    });
    let mut stranger = Agent::new(sidecar.listener("reverse"), "/sums");
    refused(&sidecar, &server, (Rpc(200, 4030), "task_missing"), || {
        stranger.send(&good())
    });
    let mut agent = sidecar.agent_of("sums");
    refused(&sidecar, &server, (Rpc(200, 4030), "policy_denied"), || {
        agent.send(&good())
    });
    let answer = agent.send(&call("rpc.discover", &json!({})));
    assert_eq!(answer.json()["result"], 3);
}

#[test]
fn only_a_post_of_json_to_the_services_own_path_is_served() {
    let server = three();
    let sidecar = before(&server, |setup| setup);
    let mut agent = sidecar.agent_of("sums");
    let twin = good().field("Content_Type", "text/plain");
    for (request, form, code) in [
        (good().target("/sums/x"), Problem(400), "call_malformed"),
        (good().target("/sums?x=1"), Problem(400), "call_malformed"),
        (good().target("/sums/"), Problem(400), "call_malformed"),
        (
            good().with("Content-Type", "text/plain"),
            Problem(415),
            "media_type_refused",
        ),
        (
            good().without("Content-Type"),
            Problem(415),
            "media_type_refused",
        ),
        (
            good().field("Content-Encoding", "gzip"),
            Problem(415),
            "media_type_refused",
        ),
        (twin, Problem(400), "header_mismatch"),
    ] {
        refused(&sidecar, &server, (form, code), || agent.send(&request));
    }
    for method in ["GET", "PUT", "DELETE"] {
        let mut request = good();
        request.method = method.into();
        let answer = refused(&sidecar, &server, (Problem(405), "call_malformed"), || {
            agent.send(&request)
        });
        assert_eq!(answer.head.get("allow"), Some("POST"));
    }
}

/// Sends `request` to a server that does so, which must be refused after it was permitted.
fn fails(request: &Request, act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> Answer {
    let server = ToolServer::answering(act);
    let sidecar = before(&server, |setup| setup);
    let answer = sidecar.agent_of("sums").send(request);
    assert_eq!(answer.code(), "response_refused", "{}", answer.text());
    assert!(!answer.text().contains("zz9evil"), "{}", answer.text());
    assert_eq!(sidecar.decision(&answer.decision_id())["outcome"], "allow");
    let outcome = sidecar.outcome(&answer.decision_id());
    assert_eq!(outcome["code"], "response_refused", "{outcome}");
    answer
}

#[test]
fn a_result_that_does_not_fit_its_schema_is_refused() {
    let answer = fails(&good(), |exchange| exchange.result(&json!("zz9evil")));
    assert_eq!(answer.json()["id"], 7);
    assert_eq!(answer.status, 200);
}

#[test]
fn an_answer_that_is_not_this_calls_is_refused() {
    for body in [
        json!({"jsonrpc": "2.0", "id": "7", "result": 3}),
        json!({"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "zz9evil"}}),
        json!({"jsonrpc": "2.0", "id": 7, "result": 3, "error": {"code": 1, "message": "zz9evil"}}),
        json!([{"jsonrpc": "2.0", "id": 7, "result": 3}]),
        json!({"jsonrpc": "2.0", "method": "zz9evil"}),
        json!({"result": 3, "error": null, "id": 7}),
    ] {
        fails(&good(), move |exchange| exchange.json(200, &body));
    }
}

#[test]
fn streams_redirects_and_codings_are_no_answers() {
    fails(&good(), |exchange| {
        exchange.begin_events();
        exchange.end_events(&json!(3));
    });
    let good_body = r#"{"jsonrpc":"2.0","id":7,"result":3}"#.as_bytes();
    fails(&good(), move |exchange| {
        let fields = [("Location", "/zz9evil")];
        exchange.answer(307, "application/json", &fields, good_body);
    });
    fails(&good(), move |exchange| {
        let fields = [("Content-Encoding", "gzip")];
        exchange.answer(200, "application/json", &fields, good_body);
    });
    fails(&good(), move |exchange| {
        exchange.answer(200, "text/plain", &[], good_body);
    });
    fails(&good(), |exchange| {
        exchange.raw(b"HTTP/1.1 204 -\r\n\r\n");
    });
}

#[test]
fn a_notification_is_answered_by_a_status_alone() {
    let request = notification("sum", &json!([1, 2]));
    let answer = fails(&request, |exchange| {
        exchange.json(200, &json!({"zz9evil": 1}));
    });
    assert_eq!(answer.status, 502);
    assert!(answer.json().get("id").is_none());
    fails(&request, |exchange| {
        exchange.answer(500, "text/plain", &[], b"");
    });
    for status in [200, 202] {
        let server = ToolServer::answering(move |exchange| {
            exchange.answer(status, "application/json", &[], b"");
        });
        let sidecar = before(&server, |setup| setup);
        let answer = sidecar.agent_of("sums").send(&request);
        assert_eq!((answer.status, answer.body.len()), (status, 0));
    }
}

/// Larger than what is judged, and inspected, on the thread of its connection.
#[test]
fn a_large_call_and_its_large_answer_are_judged_as_small_ones_are() {
    let large = "x".repeat(100_000);
    let server = ToolServer::answering(|exchange| {
        let given = exchange.request().json()["params"]["text"].clone();
        exchange.result(&given);
    });
    let sidecar = before(&server, |setup| setup);
    let mut agent = sidecar.agent_of("sums");
    let answer = agent.send(&call("rpc.discover", &json!({"text": large})));
    assert_eq!(answer.json()["result"], large.as_str());
    let params = json!({"a": 1, "b": 2, "text": large});
    refused(
        &sidecar,
        &server,
        (Rpc(200, 4030), "schema_violation"),
        || agent.send(&call("sum", &params)),
    );
    let large = json!("x".repeat(100_000));
    fails(&good(), move |exchange| exchange.result(&large));
}

#[test]
fn the_services_own_error_passes() {
    let server = ToolServer::answering(|exchange| {
        let error = json!({"code": -32000, "message": "busy"});
        exchange.json(503, &json!({"jsonrpc": "2.0", "id": 7, "error": error}));
    });
    let sidecar = before(&server, |setup| setup);
    let answer = sidecar.agent_of("sums").send(&good());
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], -32000);
}
