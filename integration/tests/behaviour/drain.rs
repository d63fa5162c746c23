//! SIGTERM: what runs may finish, nothing new begins, the log is closed with a checkpoint.

use std::fs;

use outrider_integration::{
    Connection, Gate, Request, Tool, ToolServer, check_chain, text_result, until,
};

use crate::support::{before, hi};

#[test]
fn a_running_call_finishes_and_the_log_is_signed_to_its_end() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![Tool::doing("wait", move |exchange| {
        inside.pass();
        exchange.result(&text_result("done"));
    })]);
    let mut sidecar = before(&server);
    let address = sidecar.listener("reverse");
    let mut waiting = sidecar.agent().start(&Request::call("wait", &hi()));
    server.wait_for(1);
    sidecar.signal("TERM");
    until("the listener to close", || {
        Connection::open(&address).is_err().then_some(())
    });
    assert!(sidecar.is_running(), "a call is still running");
    gate.open();
    let answer = waiting.answer().unwrap().expect("the call's answer");
    assert_eq!(answer.tool_text(), "done");
    assert_eq!(sidecar.wait().code(), Some(0));

    let log = fs::read_to_string(sidecar.path("decisions.jsonl")).unwrap();
    assert_eq!(check_chain(&log), Ok(log.lines().count()));
    assert_eq!(sidecar.log().last().unwrap()["type"], "checkpoint");
    assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "completed");
    let verify = sidecar.setup().run(&["log", "verify", "decisions.jsonl"]);
    assert_eq!(verify.status, 0, "{verify:?}");
}

#[test]
fn a_kept_connection_is_answered_until_it_is_told_that_it_ends() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![
        Tool::echo("echo"),
        Tool::doing("wait", move |exchange| {
            inside.pass();
            exchange.result(&text_result("done"));
        }),
    ]);
    let mut sidecar = before(&server);
    let agent = sidecar.agent();
    let echo = agent.bytes(&Request::call("echo", &hi()));
    let mut idle = agent.connect();
    idle.send(&echo).unwrap();
    let answer = idle.answer().unwrap().expect("an answer");
    assert_eq!(answer.head.get("connection"), None);
    let mut waiting = agent.start(&Request::call("wait", &hi()));
    server.wait_for(2);
    sidecar.signal("TERM");
    until("to be told that the connection ends", || {
        idle.send(&echo).unwrap();
        let answer = idle.answer().unwrap().expect("an answer");
        assert!(answer.is_tool_success(), "{}", answer.text());
        (answer.head.get("connection") == Some("close")).then_some(())
    });
    gate.open();
    let answer = waiting.answer().unwrap().expect("an answer");
    assert_eq!(answer.head.get("connection"), Some("close"));
    assert_eq!(sidecar.wait().code(), Some(0));
}
