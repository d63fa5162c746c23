//! A body that arrives late: the call is judged by what holds when it is whole.

use outrider_integration::{Agent, Connection, Request, Sidecar, ToolServer, lock_file, until};
use serde_json::json;

use crate::support::{Form::ToolResult, before, echo, hi, refused};

/// A call of which the sidecar has the head and half of the body, and the other half.
fn half_sent(sidecar: &Sidecar, agent: &Agent) -> (Connection, Vec<u8>) {
    let mut bytes = agent.bytes(&Request::call("echo", &hi()));
    let rest = bytes.split_off(bytes.len() - 20);
    let mut connection = agent.connect();
    connection.send(&bytes).unwrap();
    until("the head to arrive", || {
        (sidecar.metric("outrider_in_flight", &[]) > 0.5).then_some(())
    });
    (connection, rest)
}

/// Sends the other half, which must be refused with that code.
fn refused_at_its_end(
    sidecar: &Sidecar,
    server: &ToolServer,
    (mut connection, rest): (Connection, Vec<u8>),
    code: &str,
) {
    refused(sidecar, server, (ToolResult, code), || {
        connection.send(&rest).unwrap();
        connection.answer().unwrap().expect("an answer")
    });
}

#[test]
fn a_call_that_is_permitted_when_it_is_whole_passes() {
    let server = echo();
    let sidecar = before(&server);
    let (mut connection, rest) = half_sent(&sidecar, &sidecar.agent());
    assert_eq!(server.bytes(), 0);
    connection.send(&rest).unwrap();
    assert!(connection.answer().unwrap().unwrap().is_tool_success());
}

#[test]
fn a_task_that_is_revoked_meanwhile_is_of_no_use() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let agent = sidecar.stranger().with_token(&task.token);
    let half = half_sent(&sidecar, &agent);
    assert_eq!(sidecar.command(&["revoke", "task", &task.id]).status, 0);
    refused_at_its_end(&sidecar, &server, half, "task_revoked");
}

/// When the head came, the task had time left.
#[test]
fn a_task_whose_time_ends_meanwhile_is_of_no_use() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--ttl", "2s"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let half = half_sent(&sidecar, &agent);
    until("the task to expire", || {
        (agent.call("echo", &hi()).code() == "task_expired").then_some(())
    });
    refused_at_its_end(&sidecar, &server, half, "task_expired");
}

#[test]
fn a_grant_that_is_withdrawn_meanwhile_permits_nothing() {
    let server = echo();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    let half = half_sent(&sidecar, &agent);
    sidecar.rewrite(|_, data| data["grants"] = json!([]));
    until("the reload", || {
        (agent.call("echo", &hi()).code() == "policy_denied").then_some(())
    });
    refused_at_its_end(&sidecar, &server, half, "policy_denied");
}

#[test]
fn a_tool_that_is_withdrawn_meanwhile_is_unknown() {
    let server = echo();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    let half = half_sent(&sidecar, &agent);
    let nothing = lock_file(&[].into()).to_string();
    sidecar.setup().file("tools.json", &nothing);
    sidecar.reload();
    until("the reload", || {
        (agent.call("echo", &hi()).code() == "tool_unknown").then_some(())
    });
    let (mut connection, rest) = half;
    let reached = server.bytes();
    connection.send(&rest).unwrap();
    let answer = connection.answer().unwrap().expect("an answer");
    assert_eq!(answer.code(), "tool_unknown", "{}", answer.text());
    assert_eq!(server.bytes(), reached);
}

/// The rest of the body is never read, so that the connection is of no further use.
#[test]
fn a_refusal_that_leaves_a_body_unread_says_that_the_connection_ends() {
    let server = echo();
    let sidecar = before(&server);
    let agent = sidecar.agent();
    let call = Request::call("echo", &hi());
    for (request, ends) in [
        (call.clone().target("/nothing"), true),
        (call.clone().with("Content-Type", "text/plain"), true),
        (call.clone().without("Mcp-Method"), false),
        (Request::call("nothing", &hi()), false),
    ] {
        let mut bytes = agent.bytes(&request);
        let rest = bytes.split_off(bytes.len() - 20);
        let mut connection = agent.connect();
        connection.send(&bytes).unwrap();
        if !ends {
            connection.send(&rest).unwrap();
        }
        let answer = connection.answer().unwrap().expect("an answer");
        assert_eq!(
            answer.head.get("connection") == Some("close"),
            ends,
            "{:?}",
            answer.head
        );
        if !ends {
            connection.send(&agent.bytes(&call)).unwrap();
            let next = connection.answer().unwrap().expect("an answer");
            assert!(next.is_tool_success());
        }
    }
}

#[test]
fn a_refusal_whose_body_has_arrived_keeps_the_connection() {
    let server = echo();
    let sidecar = before(&server);
    let agent = sidecar.agent();
    let call = Request::call("echo", &hi());
    for request in [
        call.clone().target("/nothing"),
        call.clone().with("Content-Type", "text/plain"),
    ] {
        let mut connection = agent.connect();
        connection.send(&agent.bytes(&request)).unwrap();
        let answer = connection.answer().unwrap().expect("an answer");
        assert_eq!(answer.head.get("connection"), None, "{:?}", answer.head);
        connection.send(&agent.bytes(&call)).unwrap();
        let next = connection.answer().unwrap().expect("an answer");
        assert!(next.is_tool_success());
    }
    assert_eq!(server.calls().len(), 2);
}
