//! Authority that is taken back: open streams are cut at once, the next call is refused.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use outrider_integration::{Gate, Request, Tool, ToolServer, text_result, until};
use serde_json::json;

use crate::support::{
    Form::{Rpc, ToolResult},
    before, echo, hi, refused,
};

/// The server stays silent, so that only the revocation itself can end the stream.
#[test]
fn a_revoked_task_loses_its_running_stream_and_its_next_call() {
    let server = ToolServer::start(vec![
        Tool::doing("stream", |exchange| {
            exchange.begin_events();
            exchange.event(&json!({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": 1, "progress": 1},
            }));
            exchange.wait_until_gone();
        }),
        Tool::echo("echo"),
    ]);
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let mut other = sidecar.agent();
    let mut stream = agent.start(&Request::call("stream", &hi()));
    let head = stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();

    let run = sidecar.command(&["revoke", "task", &task.id]);
    assert_eq!(run.status, 0, "{run:?}");
    let (rest, complete) = stream.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(
        !complete || rest.contains("task_revoked"),
        "a clean end without a word: {rest:?}"
    );
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");

    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        agent.call("echo", &hi())
    });
    refused(&sidecar, &server, (Rpc(200, 4030), "task_revoked"), || {
        agent.send(&Request::list())
    });
    assert!(
        other.call("echo", &hi()).is_tool_success(),
        "another task goes on"
    );
}

/// A server that streams without end and opens the gate when its peer has gone; the events that it
/// could write are counted.
fn endless(gone: &Gate) -> (ToolServer, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let (counted, gone) = (Arc::clone(&written), gone.clone());
    let event = json!({
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": 1, "progress": 1, "message": "x".repeat(20_000)},
    });
    let server = ToolServer::start(vec![Tool::doing("stream", move |exchange| {
        exchange.begin_events();
        while exchange.event(&event) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        gone.open();
    })]);
    (server, written)
}

/// Everything between server and agent is full, so that nothing the agent does ends the call: the
/// time for an answer that nobody reads is longer than this test waits.
#[test]
fn a_stream_that_its_agent_does_not_read_is_cut_all_the_same() {
    let gone = Gate::new();
    let (server, written) = endless(&gone);
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let agent = sidecar.stranger().with_token(&task.token);
    let mut unread = agent.start(&Request::call("stream", &hi()));
    let head = unread.head().unwrap().unwrap();
    let (mut last, mut same) = (0, 0);
    until("the stream to be stuck", || {
        let now = written.load(Ordering::SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (now > 0 && same == 50).then_some(())
    });

    let run = sidecar.command(&["revoke", "task", &task.id]);
    assert_eq!(run.status, 0, "{run:?}");
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
    assert_eq!(outcome["code"], "task_revoked", "{outcome}");
    assert!(gone.pass(), "the upstream call was not cancelled");
    until("no call in flight", || {
        (sidecar.metric("outrider_in_flight", &[]) == 0.0).then_some(())
    });
    let (_, complete) = unread.rest();
    assert!(!complete, "what was cut does not look whole");
}

#[test]
fn a_call_that_waits_for_its_answer_is_cut_too() {
    let server = ToolServer::start(vec![Tool::doing("wait", |exchange| {
        exchange.wait_until_gone();
    })]);
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let agent = sidecar.stranger().with_token(&task.token);
    let mut waiting = agent.start(&Request::call("wait", &hi()));
    server.wait_for(1);
    assert_eq!(sidecar.command(&["revoke", "task", &task.id]).status, 0);
    let answer = waiting
        .answer()
        .unwrap()
        .expect("a word rather than silence");
    assert_eq!(answer.code(), "task_revoked", "{}", answer.text());
    assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "cut");
}

#[test]
fn revoking_what_is_not_there_says_so() {
    let sidecar = before(&echo());
    let run = sidecar.command(&["revoke", "task", "no-such-task"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(!run.stderr.is_empty());
}

#[test]
fn a_closed_task_is_of_no_more_use() {
    let server = ToolServer::start(vec![Tool::doing("echo", |exchange| {
        exchange.result(&text_result("x"));
    })]);
    let sidecar = before(&server);
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    assert!(agent.call("echo", &hi()).is_tool_success());
    assert_eq!(sidecar.command(&["task", "close", &task.id]).status, 0);
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        agent.call("echo", &hi())
    });
}

#[test]
fn a_change_of_authority_is_in_the_security_log() {
    let sidecar = before(&echo());
    let task = sidecar.open_task(&[]);
    assert_eq!(
        sidecar
            .command(&["revoke", "task", &task.id, "--reason", "a drill"])
            .status,
        0
    );
    let log = sidecar.security_log();
    let about = |line: &&serde_json::Value| line.to_string().contains(&task.id);
    let lines: Vec<_> = log.iter().filter(about).collect();
    assert!(
        lines
            .iter()
            .any(|line| line.to_string().contains("a drill")),
        "{log:?}"
    );
}
