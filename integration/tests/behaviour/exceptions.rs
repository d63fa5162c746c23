//! Exceptions: recorded, owned, expiring; they lift what they name and nothing else.

use outrider_integration::{Agent, Answer, Setup, Sidecar, ToolServer};
use serde_json::{Value, json};

use crate::support::{Form::ToolResult, OUTRIDER, at_the_same_time, echo, hi, large, refused};

const EXCEPTED: &str = "spiffe://example.org/agent/test";

/// An exception for the one agent and the one tool, with further members.
fn exception(further: &Value) -> Value {
    let mut exception = json!({
        "id": "EX-7",
        "owner": "owner@example.org",
        "reason": "migration week",
        "agent": EXCEPTED,
        "tools": ["tools/echo"],
        "expires": "2100-01-01T00:00:00Z",
    });
    let members = exception.as_object_mut().unwrap();
    members.extend(further.as_object().unwrap().clone());
    exception
}

/// A sidecar without any grant, under that exception.
fn sidecar(server: &ToolServer, further: &Value, data: impl FnOnce(&mut Value)) -> Sidecar {
    let exception = exception(further);
    Setup::new(OUTRIDER, server)
        .data(|policy| {
            policy["grants"] = json!([]);
            policy["exceptions"] = json!([exception]);
            data(policy);
        })
        .start()
}

fn passes(sidecar: &Sidecar, agent: &mut Agent) {
    let answer = agent.call("echo", &hi());
    assert!(answer.is_tool_success(), "{}", answer.text());
    let line = sidecar.decision(&answer.decision_id());
    assert_eq!(line["exception"], "EX-7", "{line}");
}

#[test]
fn an_exception_stands_in_for_a_grant_and_is_named_in_the_record() {
    let server = echo();
    let sidecar = sidecar(&server, &json!({"lifts": ["grant"]}), |_| ());
    passes(&sidecar, &mut sidecar.agent());
}

#[test]
fn an_exception_is_used_no_more_often_than_it_says() {
    let server = echo();
    let further = json!({"lifts": ["grant"], "max_uses": 2});
    let sidecar = sidecar(&server, &further, |_| ());
    let mut agent = sidecar.agent();
    passes(&sidecar, &mut agent);
    passes(&sidecar, &mut agent);
    for _ in 0..2 {
        refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
            agent.call("echo", &hi())
        });
    }
}

#[test]
fn uses_hold_for_calls_at_the_same_time() {
    let server = echo();
    let further = json!({"lifts": ["grant"], "max_uses": 3});
    let sidecar = sidecar(&server, &further, |_| ());
    let token = sidecar.open_task(&[]).token;
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| sidecar.stranger().with_token(&token).call("echo", &hi()));
        }
    });
    assert_eq!(server.calls().len(), 3);
}

/// Bodies of this size are judged beside each other, not in turn.
#[test]
fn uses_hold_for_large_calls_at_the_same_time() {
    let server = echo();
    let further = json!({"lifts": ["grant"], "max_uses": 3});
    let sidecar = sidecar(&server, &further, |_| ());
    let token = sidecar.open_task(&[]).token;
    let answers = at_the_same_time(16, || {
        sidecar.stranger().with_token(&token).call("echo", &large())
    });
    let passed = |answer: &&Answer| answer.is_tool_success();
    assert_eq!(answers.iter().filter(passed).count(), 3);
    assert_eq!(server.calls().len(), 3);
    for answer in answers.iter().filter(|answer| !passed(answer)) {
        assert_eq!(answer.code(), "policy_denied", "{}", answer.text());
    }
}

/// What is refused for another reason costs no use.
#[test]
fn a_refused_call_spends_no_use() {
    let server = echo();
    let further = json!({"lifts": ["grant"], "max_uses": 1});
    let sidecar = sidecar(&server, &further, |_| ());
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, (ToolResult, "schema_violation"), || {
        agent.call("echo", &json!({}))
    });
    passes(&sidecar, &mut agent);
}

#[test]
fn an_exception_that_has_expired_lifts_nothing() {
    let server = echo();
    let further = json!({"lifts": ["grant"], "expires": "2020-01-01T00:00:00Z"});
    let sidecar = sidecar(&server, &further, |_| ());
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        agent.call("echo", &hi())
    });
}

#[test]
fn an_exception_lifts_only_what_it_names() {
    let server = echo();
    for (lifts, expected) in [
        (json!(["grant"]), "classification_exceeded"),
        (json!(["classification"]), "classification_exceeded"),
        (json!(["intent"]), "classification_exceeded"),
    ] {
        let sidecar = sidecar(&server, &json!({"lifts": lifts}), |data| {
            data["intents"][0]["max_classification"] = json!("public");
        });
        let mut agent = sidecar.agent();
        refused(&sidecar, &server, (ToolResult, expected), || {
            agent.call("echo", &hi())
        });
    }
    let lifts = json!({"lifts": ["grant", "classification"]});
    let both = sidecar(&server, &lifts, |data| {
        data["intents"][0]["max_classification"] = json!("public");
    });
    passes(&both, &mut both.agent());
}

#[test]
fn nothing_lifts_the_agent_the_scope_or_a_deny() {
    let server = ToolServer::start(vec![
        outrider_integration::Tool::echo("echo"),
        outrider_integration::Tool::echo("read"),
    ]);
    let all = json!({"lifts": ["grant", "intent", "classification"]});
    let revoked = sidecar(&server, &all, |data| {
        data["agents"][0]["state"] = json!("revoked");
    });
    let mut agent = revoked.agent();
    refused(&revoked, &server, (ToolResult, "agent_revoked"), || {
        agent.call("echo", &hi())
    });

    let scoped = sidecar(&server, &all, |_| ());
    let task = scoped.open_task(&["--tools", "tools/read"]);
    let mut agent = scoped.stranger().with_token(&task.token);
    refused(&scoped, &server, (ToolResult, "scope_exceeded"), || {
        agent.call("echo", &hi())
    });

    let exception = exception(&all);
    let denied = Setup::new(OUTRIDER, &server)
        .data(|data| data["exceptions"] = json!([exception]))
        .rules("package outrider.authz\n\ndeny contains {\"reason\": \"no\", \"message\": \"m\"} if input.call.arguments.message == \"hi\"\n")
        .start();
    let mut agent = denied.agent();
    refused(&denied, &server, (ToolResult, "policy_denied"), || {
        agent.call("echo", &hi())
    });
}
