//! `tools/list` shows what this task could use.

use outrider_integration::{Request, Setup, Tool, ToolServer, lock_file, message_schema};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, before, hi};

fn names(answer: &Value) -> Vec<String> {
    let tools = answer["result"]["tools"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_policy_would_refuse_is_hidden_and_the_list_becomes_private() {
    let server = ToolServer::start(vec![
        Tool::echo("echo"),
        Tool::echo("erase"),
        Tool::echo("read"),
    ]);
    let sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["grants"][0]["tools"] = json!(["tools/echo", "tools/read"]))
        .start();
    let answer = sidecar.agent().send(&Request::list());
    let body = answer.json();
    assert_eq!(names(&body), ["echo", "read"]);
    assert_eq!(body["result"]["cacheScope"], "private", "{body}");
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(
        (&line["outcome"], &line["tool"]),
        (&json!("allow"), &json!("")),
        "{line}"
    );
}

#[test]
fn a_list_of_which_nothing_is_hidden_stays_as_it_was() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("read")]);
    let sidecar = before(&server);
    let body = sidecar.agent().send(&Request::list()).json();
    assert_eq!(names(&body), ["echo", "read"]);
    assert_eq!(body["result"]["cacheScope"], "public", "{body}");
}

#[test]
fn a_tool_that_the_operator_never_saw_is_hidden() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("surprise")]);
    let setup = Setup::new(OUTRIDER, &server);
    let mut known = server.definitions();
    known.remove("surprise");
    setup.file("tools.json", &lock_file(&known).to_string());
    let sidecar = setup.start();
    let mut agent = sidecar.agent();
    assert_eq!(names(&agent.send(&Request::list()).json()), ["echo"]);
    assert_eq!(agent.call("surprise", &hi()).code(), "tool_unknown");
    assert!(server.calls().is_empty());
}

#[test]
fn a_task_sees_the_tools_of_its_scope() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("read")]);
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--tools", "tools/read"]);
    let body = sidecar
        .stranger()
        .with_token(&task.token)
        .send(&Request::list())
        .json();
    assert_eq!(names(&body), ["read"]);
}

/// A tool that is permitted with some arguments is listed.
#[test]
fn a_rule_about_arguments_hides_nothing() {
    let server = ToolServer::start(vec![Tool::echo("echo")]);
    let sidecar = Setup::new(OUTRIDER, &server)
        .rules(
            "package outrider.authz\n\n\
             deny contains {\"reason\": \"no_hi\", \"message\": \"m\", \"public\": \"p\"} if {\n\
             \tinput.call.phase == \"call\"\n\tinput.call.arguments.message == \"hi\"\n}\n",
        )
        .start();
    let mut agent = sidecar.agent();
    assert_eq!(names(&agent.send(&Request::list()).json()), ["echo"]);
    assert_eq!(agent.call("echo", &hi()).code(), "policy_denied");
}

#[test]
fn pages_pass_with_their_cursors() {
    let page = |tools: Value, next: Option<&str>| {
        let mut page =
            json!({"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "public"});
        if let Some(next) = next {
            page["nextCursor"] = json!(next);
        }
        page
    };
    let server = ToolServer::answering(move |exchange| {
        let tool = |name: &str| json!([{"name": name, "inputSchema": message_schema()}]);
        let cursor = exchange.request().json()["params"]["cursor"].clone();
        let answer = if cursor.is_null() {
            page(tool("one"), Some(""))
        } else {
            page(tool("two"), None)
        };
        exchange.result(&answer);
    });
    let mut setup = Setup::bare(OUTRIDER);
    let known =
        ["one", "two"].map(|name| (name.to_owned(), json!({"inputSchema": message_schema()})));
    setup.add_service("tools", &server);
    setup.file("tools.json", &lock_file(&known.into()).to_string());
    let sidecar = setup.start();
    let mut agent = sidecar.agent();
    let first = agent.send(&Request::list()).json();
    assert_eq!(
        (names(&first), &first["result"]["nextCursor"]),
        (vec!["one".to_owned()], &json!(""))
    );
    let next = Request::message(&json!(2), "tools/list", json!({"cursor": ""}));
    assert_eq!(names(&agent.send(&next).json()), ["two"]);
}

#[test]
fn a_list_on_a_stream_hides_the_same_tools() {
    let server = ToolServer::answering(|exchange| {
        let tool = |name: &str| json!({"name": name, "inputSchema": message_schema()});
        exchange.begin_events();
        exchange.end_events(&json!({
            "resultType": "complete",
            "tools": [tool("echo"), tool("surprise"), {"name": 5}, "nothing"],
            "cacheScope": "public",
        }));
    });
    let mut setup = Setup::bare(OUTRIDER);
    let known = [("echo".to_owned(), json!({"inputSchema": message_schema()}))];
    setup.add_service("tools", &server);
    setup.file("tools.json", &lock_file(&known.into()).to_string());
    let sidecar = setup.start();
    let body = sidecar.agent().send(&Request::list()).json();
    let shown = body["result"]["tools"].as_array().unwrap();
    assert_eq!(shown.len(), 1, "{body}");
    assert_eq!(shown[0]["name"], "echo", "{body}");
    assert_eq!(body["result"]["cacheScope"], "private", "{body}");
}

/// A sidecar that knows the tool `echo` only, before a server that lists these.
fn before_a_list_of(tools: Value) -> (ToolServer, outrider_integration::Sidecar) {
    let server = ToolServer::answering(move |exchange| {
        exchange.result(&json!({
            "resultType": "complete",
            "tools": tools,
            "ttlMs": 60_000,
            "cacheScope": "public",
        }));
    });
    let mut setup = Setup::bare(OUTRIDER);
    let known = [("echo".to_owned(), json!({"inputSchema": message_schema()}))];
    setup.add_service("tools", &server);
    setup.file("tools.json", &lock_file(&known.into()).to_string());
    (server, setup.start())
}

#[test]
fn a_list_of_too_many_tools_is_refused() {
    let many = |count: usize| -> Value {
        let tool =
            |n: usize| json!({"name": if n == 0 { "echo".to_owned() } else { n.to_string() }});
        (0..count).map(tool).collect()
    };
    let (_server, sidecar) = before_a_list_of(many(10_000));
    assert_eq!(
        names(&sidecar.agent().send(&Request::list()).json()),
        ["echo"]
    );

    let (server, sidecar) = before_a_list_of(many(10_001));
    let answer = sidecar.agent().send(&Request::list());
    assert_eq!(answer.code(), "response_refused", "{}", answer.text());
    assert_eq!(server.received().len(), 1);
    let outcome = sidecar.outcome(&answer.decision_id());
    assert_eq!(outcome["ended"], "upstream_failed", "{outcome}");
    assert_eq!(outcome["code"], "response_refused", "{outcome}");
}

#[test]
fn a_name_that_is_listed_again_and_again_is_shown_once() {
    let tools = (0..10_000).map(|n| json!({"name": "echo", "title": n.to_string()}));
    let (_server, sidecar) = before_a_list_of(tools.collect());
    let body = sidecar.agent().send(&Request::list()).json();
    assert_eq!(names(&body), ["echo"]);
    assert_eq!(body["result"]["tools"][0]["title"], "0", "{body}");
}
