//! MCP tasks: work that a service goes on with after it has answered a call. What is said of it
//! later is decided as that call was.

use outrider_integration::{Request, Setup, Sidecar, Tool, ToolServer, text_result, until};
use serde_json::{Value, json};

use crate::support::{Form::Rpc, OUTRIDER, check_record, hi, refused, session_of, verb};

const UNKNOWN: (crate::support::Form, &str) = (Rpc(200, -32602), "tool_unknown");

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"message": {"type": "string", "x-mcp-header": "Message"}},
        "required": ["message"],
    })
}

fn begun(id: &str) -> Value {
    json!({"resultType": "task", "taskId": id, "status": "working", "ttlMs": null})
}

/// A server whose tool `work` leaves work going on, named by its message.
fn working() -> ToolServer {
    let work = Tool::new("work", &schema(), |exchange| {
        let id = exchange.arguments()["message"].clone();
        exchange.result(&begun(id.as_str().unwrap()));
    });
    ToolServer::legacy(vec![work, Tool::echo("echo")], |exchange| {
        let again = exchange.request().method().starts_with("tasks/");
        if again {
            exchange.result(&json!({"resultType": "complete", "status": "working"}));
        }
        again
    })
}

fn work(id: &str) -> Request {
    Request::call("work", &json!({"message": id})).field("Mcp-Param-Message", id)
}

fn again(method: &str, id: &str) -> Request {
    Request::message(&json!(2), method, json!({"taskId": id})).field("Mcp-Name", id)
}

fn before(server: &ToolServer) -> Sidecar {
    Setup::new(OUTRIDER, server).start()
}

#[test]
fn what_is_said_of_work_is_recorded_as_the_call_that_made_it() {
    let server = working();
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let answer = agent.send(&work("t-1"));
    assert_eq!(
        answer.json()["result"]["taskId"],
        "t-1",
        "{}",
        answer.text()
    );
    let respond = again("tasks/update", "t-1").edit(|body| {
        body["params"]["inputResponses"] = json!({"confirm": {"action": "accept"}});
    });
    for request in [
        again("tasks/get", "t-1"),
        respond,
        again("tasks/cancel", "t-1"),
    ] {
        let answer = agent.send(&request);
        let body = answer.json();
        assert_eq!(body["result"]["status"], "working", "{body}");
        let line = sidecar.decision(&answer.decision_id());
        assert_eq!(line["tool"], "tools/work", "{line}");
        assert_eq!(line["task"], json!(task.id), "{line}");
        let received = server.received();
        let received = received.last().unwrap();
        assert_eq!(received.body, request.body);
        assert_eq!(received.head.get("outrider-tool"), Some("tools/work"));
    }
    check_record(&sidecar);
}

#[test]
fn work_is_known_to_the_task_that_began_it_and_to_nobody_else() {
    let server = working();
    let mut setup = Setup::new(OUTRIDER, &server);
    setup.add_service("others", &server);
    let sidecar = setup.start();
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    agent.send(&work("t-1"));
    let mut other = sidecar.agent();
    let mut elsewhere = outrider_integration::Agent::new(sidecar.listener("reverse"), "/others")
        .with_token(&task.token);
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        for agent in [&mut other, &mut elsewhere] {
            let request = again(method, "t-1");
            refused(&sidecar, &server, UNKNOWN, || agent.send(&request));
        }
        for id in ["t-2", ""] {
            let request = again(method, id);
            refused(&sidecar, &server, UNKNOWN, || agent.send(&request));
        }
    }
    refused(&sidecar, &server, (Rpc(200, 4030), "task_missing"), || {
        sidecar.stranger().send(&again("tasks/get", "t-1"))
    });
}

/// A service that gives one name twice gives it to its first owner.
#[test]
fn a_name_of_work_is_not_handed_on() {
    let server = working();
    let sidecar = before(&server);
    let (mut first, mut second) = (sidecar.agent(), sidecar.agent());
    first.send(&work("t-1"));
    second.send(&work("t-1"));
    refused(&sidecar, &server, UNKNOWN, || {
        second.send(&again("tasks/get", "t-1"))
    });
    let answer = first.send(&again("tasks/get", "t-1"));
    assert!(answer.json().get("result").is_some(), "{}", answer.text());
}

#[test]
fn a_call_that_was_refused_begins_nothing() {
    let server = working();
    let sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["grants"][0]["tools"] = json!(["tools/echo"]))
        .start();
    let mut agent = sidecar.agent();
    agent.send(&work("t-1"));
    refused(&sidecar, &server, UNKNOWN, || {
        agent.send(&again("tasks/get", "t-1"))
    });
}

#[test]
fn a_grant_that_is_withdrawn_ends_what_can_be_said_of_work() {
    let server = working();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    agent.send(&work("t-1"));
    let request = again("tasks/get", "t-1");
    assert!(agent.send(&request).json().get("result").is_some());
    sidecar.rewrite(|_, data| data["grants"][0]["tools"] = json!(["tools/echo"]));
    until("the reload", || {
        (agent.send(&request).code() == "policy_denied").then_some(())
    });
    let expected = (Rpc(200, 4030), "policy_denied");
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        refused(&sidecar, &server, expected, || {
            agent.send(&again(method, "t-1"))
        });
    }
}

#[test]
fn what_is_said_of_work_counts() {
    let server = working();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| {
            config["limits"] = json!([
                {"name": "few", "key": ["agent", "tool"], "rate": "1/h", "burst": 3},
            ]);
        })
        .start();
    let task = sidecar.open_task(&["--calls", "2"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    agent.send(&work("t-1"));
    let request = again("tasks/get", "t-1");
    assert!(agent.send(&request).json().get("result").is_some());
    let expected = (Rpc(200, 4030), "budget_exhausted");
    refused(&sidecar, &server, expected, || agent.send(&request));
    let expected = (Rpc(200, 4030), "rate_limited");
    refused(&sidecar, &server, expected, || agent.send(&request));
}

#[test]
fn a_rule_sees_what_the_work_was_begun_with_and_what_is_answered() {
    let server = working();
    let sidecar = Setup::new(OUTRIDER, &server)
        .rules(
            "package outrider.authz\n\n\
             deny contains {\"reason\": \"declined\", \"message\": \"m\", \"public\": \"p\"} if {\n\
             \tinput.call.arguments.message == \"t-1\"\n\
             \tinput.call.input_responses.confirm.action == \"accept\"\n}\n",
        )
        .start();
    let mut agent = sidecar.agent();
    agent.send(&work("t-1"));
    agent.send(&work("t-2"));
    let update = |id| {
        again("tasks/update", id).edit(|body| {
            body["params"]["inputResponses"] = json!({"confirm": {"action": "accept"}});
        })
    };
    let expected = (Rpc(200, 4030), "policy_denied");
    refused(&sidecar, &server, expected, || agent.send(&update("t-1")));
    let answer = agent.send(&update("t-2"));
    assert!(answer.json().get("result").is_some(), "{}", answer.text());
}

/// As 2025-11-25 says it, and where the answer comes on the session's stream.
#[test]
fn work_of_a_legacy_session_is_known_too() {
    let server = ToolServer::legacy(vec![Tool::echo("echo")], |exchange| {
        let result = json!({"task": {"taskId": "t-2", "status": "working"}});
        match (
            verb(exchange).as_str(),
            exchange.request().method().as_str(),
        ) {
            ("GET", _) => {
                exchange.begin_events();
                exchange.event(&json!({"jsonrpc": "2.0", "id": 1, "result": result}));
                exchange.end();
            }
            (_, "tools/call") => {
                exchange.begin_events();
                exchange.chunk(b"id: 1\ndata:\n\n");
                exchange.end();
            }
            (_, "tasks/get" | "tasks/result") => exchange.result(&text_result("so far")),
            _ => return false,
        }
        true
    });
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let session = session_of(&mut agent);
    agent.send(&Request::legacy_call("echo", &hi()).session(&session));
    let ask = |method| {
        let params = json!({"taskId": "t-2"});
        Request::legacy(&json!(2), method, &params).session(&session)
    };
    refused(&sidecar, &server, UNKNOWN, || agent.send(&ask("tasks/get")));
    agent.send(&Request::feed(&session));
    for method in ["tasks/get", "tasks/result"] {
        let answer = agent.send(&ask(method));
        assert!(answer.json().get("result").is_some(), "{}", answer.text());
        let line = sidecar.decision(&answer.decision_id());
        assert_eq!(line["tool"], "tools/echo", "{line}");
    }
    check_record(&sidecar);
}
