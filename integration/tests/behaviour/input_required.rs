//! A server that asks back: the question passes, the answer is visible to policy.

use outrider_integration::{Request, Setup, Tool, ToolServer, text_result};
use serde_json::{Value, json};

use crate::support::{Form::ToolResult, OUTRIDER, hi, refused};

fn question() -> Value {
    json!({
        "resultType": "input_required",
        "requestState": "opaque-state",
        "inputRequests": {
            "confirm": {
                "method": "elicitation/create",
                "params": {
                    "mode": "form",
                    "message": "Really?",
                    "requestedSchema": {"type": "object", "properties": {}},
                },
            },
        },
    })
}

fn asking() -> ToolServer {
    ToolServer::start(vec![Tool::doing("ask", |exchange| {
        let params = exchange.request().json()["params"].clone();
        if params.get("inputResponses").is_some() {
            exchange.result(&text_result("done"));
        } else {
            exchange.result(&question());
        }
    })])
}

fn answering(action: &str) -> Request {
    Request::call_with_id(&json!(2), "ask", &hi()).edit(|body| {
        body["params"]["inputResponses"] = json!({"confirm": {"action": action}});
        body["params"]["requestState"] = json!("opaque-state");
    })
}

#[test]
fn a_question_and_its_answer_pass_unchanged() {
    let server = asking();
    let sidecar = Setup::new(OUTRIDER, &server).start();
    let mut agent = sidecar.agent();
    let answer = agent.call("ask", &hi()).json();
    assert_eq!(answer["result"], question());
    let request = answering("accept");
    assert_eq!(agent.send(&request).tool_text(), "done");
    assert_eq!(server.calls()[1].body, request.body);
}

#[test]
fn a_rule_sees_the_answer() {
    let server = asking();
    let sidecar = Setup::new(OUTRIDER, &server)
        .rules(
            "package outrider.authz\n\n\
             deny contains {\"reason\": \"declined\", \"message\": \"m\", \"public\": \"A person declined.\"} if {\n\
             \tinput.call.input_responses.confirm.action == \"decline\"\n}\n",
        )
        .start();
    let mut agent = sidecar.agent();
    assert_eq!(agent.send(&answering("accept")).tool_text(), "done");
    let expected = (ToolResult, "policy_denied");
    let answer = refused(&sidecar, &server, expected, || {
        agent.send(&answering("decline"))
    });
    assert!(
        answer.tool_text().contains("A person declined."),
        "{}",
        answer.text()
    );
}
