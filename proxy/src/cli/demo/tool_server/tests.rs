use outrider_integration::{Agent, Answer, Request};

use super::*;

fn server() -> (ToolServer, Agent) {
    let server = ToolServer::start("127.0.0.1:0".parse().unwrap()).unwrap();
    let agent = Agent::new(outrider_integration::Address::Tcp(server.address), "/mcp");
    (server, agent)
}

fn error_code(answer: &Answer) -> i64 {
    answer.json()["error"]["code"].as_i64().unwrap()
}

#[test]
fn every_listed_tool_can_be_called() {
    let (server, mut agent) = server();
    let names: Vec<String> = tools::listed()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect();
    for name in &names {
        let answer = agent.call(name, &json!({"id": "T-1"}));
        assert_eq!(answer.json()["result"]["resultType"], "complete", "{name}");
    }
    assert_eq!(server.calls(), names.len());
}

#[test]
fn a_list_is_turned_page_by_page() {
    let (_server, mut agent) = server();
    let mut names = Vec::new();
    let mut request = Request::list();
    loop {
        let answer = agent.send(&request).json();
        let tools = answer["result"]["tools"].as_array().unwrap();
        assert!(tools.len() <= PAGE);
        names.extend(tools.iter().map(|tool| tool["name"].clone()));
        let Some(next) = answer["result"]["nextCursor"].as_str().map(str::to_owned) else {
            break;
        };
        request = Request::list().edit(|body| body["params"]["cursor"] = next.clone().into());
    }
    assert_eq!(names.len(), 7);
    let lost = agent.send(&Request::list().edit(|body| body["params"]["cursor"] = "7".into()));
    assert_eq!(error_code(&lost), -32602);
}

#[test]
fn a_report_streams_its_progress_to_who_asked_for_it() {
    let (_server, mut agent) = server();
    let ask = Request::call("backlog_report", &json!({"days": 7}));
    let plain = agent.send(&ask);
    assert_eq!(plain.head.get("content-type"), Some("application/json"));
    let streamed =
        agent.send(&ask.edit(|body| body["params"]["_meta"]["progressToken"] = "p".into()));
    assert_eq!(streamed.head.get("content-type"), Some("text/event-stream"));
    let text = streamed.text();
    assert_eq!(text.matches("notifications/progress").count(), 3, "{text}");
    assert!(
        text.trim_end()
            .rsplit("\n\n")
            .next()
            .unwrap()
            .contains("\"result\""),
        "{text}"
    );
    assert!(streamed.complete);
}

#[test]
fn what_is_no_call_of_this_revision_is_refused_and_runs_nothing() {
    let (server, mut agent) = server();
    let call = Request::call("delete_ticket", &json!({"id": "T-1"}));
    for (request, status, code) in [
        (
            call.clone().with("MCP-Protocol-Version", "2025-11-25"),
            400,
            -32022,
        ),
        (call.clone().without("MCP-Protocol-Version"), 400, -32022),
        (call.clone().with("Mcp-Name", "read_ticket"), 400, -32020),
        (call.clone().with("Mcp-Method", "tools/list"), 400, -32020),
        (call.clone().with_body("{"), 400, -32700),
        (call.clone().with_body("[]"), 400, -32600),
        (
            Request::message(&json!(1), "initialize", json!({})),
            404,
            -32601,
        ),
        (Request::call("nothing", &json!({})), 200, -32602),
    ] {
        let answer = agent.send(&request);
        assert_eq!(
            (answer.status, error_code(&answer)),
            (status, code),
            "{request:?}"
        );
    }
    for (request, status) in [
        (Request::raw("GET", "", Vec::new()), 405),
        (call.clone().target("/other"), 404),
        (call.clone().field("Origin", "https://example.org"), 403),
    ] {
        assert_eq!(agent.send(&request).status, status, "{request:?}");
    }
    assert_eq!(server.calls(), 0);
}

#[test]
fn discovery_ping_and_notifications_are_answered() {
    let (_server, mut agent) = server();
    let discovered = agent.send(&Request::discover()).json();
    assert_eq!(discovered["result"]["supportedVersions"], json!([MODERN]));
    assert_eq!(
        agent
            .send(&Request::message(&json!("p"), "ping", json!({})))
            .json()["id"],
        "p"
    );
    assert_eq!(
        agent
            .send(&Request::notification(
                "notifications/initialized",
                json!({})
            ))
            .status,
        202
    );
}
