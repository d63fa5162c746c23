//! Resources, prompts and the methods that are calls of their own: each is granted, judged and
//! recorded as a tool is.

use outrider_integration::{
    Request, Setup, Sidecar, Tool, ToolServer, digest, lock_file, sentinel,
};
use serde_json::{Value, json};

use crate::support::{Form::Rpc, OUTRIDER, check_record, refused, session_of};

const UNKNOWN: (crate::support::Form, &str) = (Rpc(200, -32602), "tool_unknown");
const DENIED: (crate::support::Form, &str) = (Rpc(200, 4030), "policy_denied");

fn uri_schema() -> Value {
    json!({
        "type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"],
        "additionalProperties": false,
    })
}

fn entry(schema: &Value) -> Value {
    json!({
        "owner": "owner@example.org",
        "version": "1",
        "digest": digest(&json!({"inputSchema": schema})),
    })
}

fn prompt() -> Value {
    let schema = json!({
        "type": "object", "properties": {"ticket": {"type": "string"}}, "required": ["ticket"],
        "additionalProperties": false,
    });
    let mut prompt = entry(&schema);
    prompt["inputSchema"] = schema;
    prompt
}

/// The lock file of [`library`].
pub(crate) fn lock(server: &ToolServer) -> Value {
    let mut lock = lock_file(&server.definitions());
    let mut plan = entry(&uri_schema());
    plan["classification"] = json!("restricted");
    lock["resources"] = json!({
        "file:///docs/{name}": entry(&uri_schema()),
        "file:///plan": plan,
    });
    lock["prompts"] = json!({"summary": prompt(), "secret": prompt()});
    let method = entry(&json!({"type": "object"}));
    lock["methods"] = json!({
        "completion/complete": method, "resources/subscribe": method,
        "subscriptions/listen": method,
    });
    lock
}

/// A server of documents and prompts, in every revision.
fn library() -> ToolServer {
    ToolServer::legacy(vec![Tool::echo("echo")], |exchange| {
        let result = match exchange.request().method().as_str() {
            "resources/read" => json!({"contents": [{"uri": "u", "text": "read"}]}),
            "resources/list" => json!({"resources": [
                {"uri": "file:///docs/a", "name": "a"},
                {"uri": "file:///plan", "name": "plan"},
                {"uri": "file:///docs/../plan", "name": "trick"},
                {"uri": "file:///other", "name": "other"},
            ]}),
            "resources/templates/list" => json!({"resourceTemplates": [
                {"uriTemplate": "file:///docs/{name}", "name": "docs"},
                {"uriTemplate": "file:///{+all}", "name": "all"},
            ]}),
            "prompts/list" => json!({"prompts": [
                {"name": "summary"}, {"name": "secret"}, {"name": "other"},
            ]}),
            "prompts/get" => json!({"messages": []}),
            "completion/complete" => json!({"completion": {"values": ["x"]}}),
            "resources/subscribe" | "resources/unsubscribe" => json!({}),
            _ => return false,
        };
        let mut result = result;
        result["resultType"] = json!("complete");
        result["cacheScope"] = json!("public");
        exchange.result(&result);
        true
    })
}

fn before(server: &ToolServer, granted: &Value) -> Sidecar {
    let setup = Setup::new(OUTRIDER, server);
    setup.file("tools.json", &lock(server).to_string());
    setup
        .data(|data| data["grants"][0]["tools"] = granted.clone())
        .start()
}

fn read(uri: &str) -> Request {
    Request::message(&json!(1), "resources/read", json!({"uri": uri}))
        .field("Mcp-Name", &sentinel(uri))
}

fn get(name: &str) -> Request {
    let params = json!({"name": name, "arguments": {"ticket": "7"}});
    Request::message(&json!(1), "prompts/get", params).field("Mcp-Name", &sentinel(name))
}

fn complete() -> Request {
    let params = json!({
        "ref": {"type": "ref/prompt", "name": "summary"},
        "argument": {"name": "ticket", "value": "7"},
    });
    Request::message(&json!(1), "completion/complete", params)
}

#[test]
fn a_resource_is_granted_by_its_template_and_recorded_as_it() {
    let server = library();
    let sidecar = before(&server, &json!(["tools/resource:file:///docs/{name}"]));
    let mut agent = sidecar.agent();
    let answer = agent.send(&read("file:///docs/a"));
    assert_eq!(answer.json()["result"]["contents"][0]["text"], "read");
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(line["tool"], "tools/resource:file:///docs/{name}", "{line}");
    assert_eq!(line["outcome"], "allow");
    let legacy = Request::legacy(
        &json!(1),
        "resources/read",
        &json!({"uri": "file:///docs/b"}),
    );
    assert!(agent.send(&legacy).json().get("result").is_some());
    refused(&sidecar, &server, DENIED, || {
        agent.send(&read("file:///plan"))
    });
    check_record(&sidecar);
}

#[test]
fn no_spelling_of_a_uri_leads_out_of_its_template() {
    let server = library();
    let sidecar = before(&server, &json!(["tools/resource:*"]));
    let mut agent = sidecar.agent();
    for uri in [
        "file:///docs/..",
        "file:///docs/%2e%2e",
        "file:///docs/%252e%252e",
        "file:///docs/../plan",
        "file:///docs/a/b",
        "file:///docs/a%2Fb",
        "file:///docs/..%2fplan",
        "file:///docs/..\\plan",
        "file:///docs/",
        "file:///docs/a?x=1",
        "file:///docs/a#b",
        "FILE:///docs/a",
        "file://host/docs/a",
        "file:///docs/a\u{0}",
        "file:///%70lan",
        "file:///other",
        "",
    ] {
        refused(&sidecar, &server, UNKNOWN, || agent.send(&read(uri)));
    }
}

#[test]
fn each_resource_has_its_own_level() {
    let server = library();
    let sidecar = before(&server, &json!(["tools/resource:*"]));
    let task = sidecar.open_task(&["--max-classification", "internal"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let answer = agent.send(&read("file:///docs/a"));
    assert!(answer.json().get("result").is_some(), "{}", answer.text());
    let expected = (Rpc(200, 4030), "classification_exceeded");
    refused(&sidecar, &server, expected, || {
        agent.send(&read("file:///plan"))
    });
    let mut agent = sidecar.agent();
    let answer = agent.send(&read("file:///plan"));
    assert!(answer.json().get("result").is_some(), "{}", answer.text());
}

#[test]
fn a_rule_sees_the_uri_and_the_arguments_of_a_prompt() {
    let server = library();
    let setup = Setup::new(OUTRIDER, &server).rules(
        "package outrider.authz\n\n\
         deny contains {\"reason\": \"not_b\", \"message\": \"m\", \"public\": \"p\"} if {\n\
         \tinput.call.arguments.uri == \"file:///docs/b\"\n}\n\n\
         deny contains {\"reason\": \"not_8\", \"message\": \"m\", \"public\": \"p\"} if {\n\
         \tinput.call.arguments.ticket == \"8\"\n}\n\n\
         deny contains {\"reason\": \"not_9\", \"message\": \"m\", \"public\": \"p\"} if {\n\
         \tinput.call.arguments.argument.value == \"9\"\n}\n",
    );
    setup.file("tools.json", &lock(&server).to_string());
    let sidecar = setup.start();
    let mut agent = sidecar.agent();
    for good in [read("file:///docs/a"), get("summary"), complete()] {
        let answer = agent.send(&good);
        assert!(answer.json().get("result").is_some(), "{}", answer.text());
    }
    for bad in [
        read("file:///docs/b"),
        get("summary").edit(|body| body["params"]["arguments"]["ticket"] = json!("8")),
        complete().edit(|body| body["params"]["argument"]["value"] = json!("9")),
    ] {
        refused(&sidecar, &server, DENIED, || agent.send(&bad));
    }
    let misfit = get("summary").edit(|body| body["params"]["arguments"]["zz9"] = json!("8"));
    let expected = (Rpc(200, 4030), "schema_violation");
    refused(&sidecar, &server, expected, || agent.send(&misfit));
}

#[test]
fn what_is_not_granted_is_denied_and_what_is_not_locked_unknown() {
    let server = library();
    let sidecar = before(&server, &json!(["tools/echo"]));
    let mut agent = sidecar.agent();
    for request in [read("file:///docs/a"), get("summary"), complete()] {
        let answer = refused(&sidecar, &server, DENIED, || agent.send(&request));
        assert_eq!(answer.json()["id"], 1);
    }
    for request in [read("file:///other"), get("other")] {
        refused(&sidecar, &server, UNKNOWN, || agent.send(&request));
    }
    let bare = Setup::new(OUTRIDER, &server).start();
    let mut agent = bare.agent();
    for request in [read("file:///docs/a"), get("summary"), complete()] {
        refused(&bare, &server, UNKNOWN, || agent.send(&request));
    }
}

#[test]
fn lists_show_what_could_be_used() {
    let server = library();
    let sidecar = before(
        &server,
        &json!(["tools/resource:file:///docs/*", "tools/prompt:summary"]),
    );
    let mut agent = sidecar.agent();
    for (method, member, key, shown) in [
        ("resources/list", "resources", "uri", "file:///docs/a"),
        (
            "resources/templates/list",
            "resourceTemplates",
            "uriTemplate",
            "file:///docs/{name}",
        ),
        ("prompts/list", "prompts", "name", "summary"),
    ] {
        let modern = Request::message(&json!(1), method, json!({}));
        let legacy = Request::legacy(&json!(1), method, &json!({}));
        for request in [modern, legacy] {
            let result = agent.send(&request).json()["result"].clone();
            let entries = result[member].as_array().unwrap();
            assert_eq!(entries.len(), 1, "{result}");
            assert_eq!(entries[0][key], shown);
            assert_eq!(result["cacheScope"], "private");
        }
    }
    let listed = agent.send(&Request::list()).json();
    assert_eq!(listed["result"]["tools"], json!([]));
    check_record(&sidecar);
}

/// Whatever stands in the lock file under another section.
#[test]
fn nothing_but_a_tool_is_called_as_a_tool() {
    let server = library();
    let sidecar = before(&server, &json!(["tools/*"]));
    let mut agent = sidecar.agent();
    for (name, arguments) in [
        ("prompt:summary", json!({"ticket": "7"})),
        (
            "resource:file:///docs/{name}",
            json!({"uri": "file:///../plan"}),
        ),
        ("completion/complete", json!({})),
        ("subscriptions/listen", json!({})),
    ] {
        refused(&sidecar, &server, UNKNOWN, || agent.call(name, &arguments));
        let params = json!({"name": name, "arguments": arguments});
        let legacy = Request::legacy(&json!(1), "tools/call", &params);
        refused(&sidecar, &server, UNKNOWN, || agent.send(&legacy));
    }
    refused(&sidecar, &server, UNKNOWN, || {
        agent.send(&get("prompt:summary"))
    });
}

#[test]
fn what_is_named_in_the_body_is_named_in_the_header() {
    let server = library();
    let sidecar = before(&server, &json!(["tools/*"]));
    let mut agent = sidecar.agent();
    let again = Request::message(&json!(1), "tasks/get", json!({"taskId": "t"}));
    for request in [read("file:///docs/a"), get("summary"), again] {
        let expected = (Rpc(400, -32020), "header_mismatch");
        for wrong in [
            request.clone().without("Mcp-Name"),
            request.clone().with("Mcp-Name", "file:///docs/b"),
            request.clone().with("Mcp-Method", "tools/list"),
        ] {
            refused(&sidecar, &server, expected, || agent.send(&wrong));
        }
    }
    let legacy = Request::legacy(
        &json!(1),
        "resources/read",
        &json!({"uri": "file:///docs/a"}),
    )
    .field("Mcp-Name", "file:///docs/b");
    let expected = (Rpc(400, -32020), "header_mismatch");
    refused(&sidecar, &server, expected, || agent.send(&legacy));
}

#[test]
fn a_subscription_to_a_resource_is_a_call_and_its_end_is_not() {
    let server = library();
    let sidecar = before(&server, &json!(["tools/resources/subscribe"]));
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let uri = json!({"uri": "file:///docs/a"});
    let ask = |method| Request::legacy(&json!(1), method, &uri).session(&session);
    let answer = agent.send(&ask("resources/subscribe"));
    assert!(answer.json().get("result").is_some(), "{}", answer.text());
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(line["tool"], "tools/resources/subscribe");
    let answer = agent.send(&ask("resources/unsubscribe"));
    assert!(answer.json().get("result").is_some(), "{}", answer.text());
    let sidecar = before(&server, &json!(["tools/echo"]));
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    let request = Request::legacy(&json!(1), "resources/subscribe", &uri).session(&session);
    refused(&sidecar, &server, DENIED, || agent.send(&request));
}
