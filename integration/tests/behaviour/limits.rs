//! How often: rates, bursts, concurrency.

use outrider_integration::{Gate, Request, Setup, Tool, ToolServer, text_result, until};
use serde_json::{Value, json};

use crate::support::{Form::ToolResult, OUTRIDER, echo, hi, refused};

fn limited(server: &ToolServer, limits: Value) -> Setup {
    Setup::new(OUTRIDER, server).config(|config| config["limits"] = limits)
}

#[test]
fn a_spent_rate_refuses_and_says_when_to_come_back() {
    let server = echo();
    let limit = json!([{"name": "slow", "key": ["agent"], "rate": "1/h", "burst": 3}]);
    let sidecar = limited(&server, limit).start();
    let mut agent = sidecar.agent();
    for _ in 0..3 {
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
    let expected = (ToolResult, "rate_limited");
    let answer = refused(&sidecar, &server, expected, || agent.call("echo", &hi()));
    let decision = answer.decision();
    assert_eq!(decision["retry"], "after", "{decision}");
    let wait = decision["retry_after_s"].as_f64().unwrap();
    assert!(wait > 0.0 && wait <= 3600.0, "{decision}");
    assert!(sidecar.metric("outrider_limit_rejections_total", &["limit=\"slow\""]) >= 1.0);
}

#[test]
fn a_limit_is_spent_at_the_attempt() {
    let server = echo();
    let limit = json!([{"name": "slow", "key": ["agent"], "rate": "1/h", "burst": 2}]);
    let sidecar = limited(&server, limit)
        .data(|data| data["grants"] = json!([]))
        .start();
    let mut agent = sidecar.agent();
    for expected in ["policy_denied", "policy_denied", "rate_limited"] {
        refused(&sidecar, &server, (ToolResult, expected), || {
            agent.call("echo", &hi())
        });
    }
}

#[test]
fn lists_and_discoveries_are_not_counted() {
    let server = echo();
    let limit = json!([{"name": "slow", "key": ["agent"], "rate": "1/h", "burst": 1}]);
    let sidecar = limited(&server, limit).start();
    let mut agent = sidecar.agent();
    for _ in 0..5 {
        assert!(agent.send(&Request::list()).json()["result"].is_object());
        assert!(agent.send(&Request::discover()).json()["result"].is_object());
    }
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn a_limit_by_tool_keeps_tools_apart() {
    let server = ToolServer::start(vec![Tool::echo("one"), Tool::echo("two")]);
    let limit = json!([{"name": "each", "key": ["agent", "tool"], "rate": "1/h", "burst": 1}]);
    let sidecar = limited(&server, limit).start();
    let mut agent = sidecar.agent();
    assert!(agent.call("one", &hi()).is_tool_success());
    assert!(agent.call("two", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "rate_limited"), || {
        agent.call("one", &hi())
    });
}

#[test]
fn no_more_than_the_burst_pass_at_the_same_time() {
    let server = echo();
    let limit = json!([{"name": "slow", "key": ["agent"], "rate": "1/h", "burst": 5}]);
    let sidecar = limited(&server, limit).start();
    let token = sidecar.open_task(&[]).token;
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| sidecar.stranger().with_token(&token).call("echo", &hi()));
        }
    });
    assert_eq!(server.calls().len(), 5);
}

#[test]
fn a_place_of_a_concurrency_limit_comes_back() {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![
        Tool::doing("wait", move |exchange| {
            inside.pass();
            exchange.result(&text_result("done"));
        }),
        Tool::echo("echo"),
    ]);
    let limit = json!([{"name": "in-flight", "key": ["agent"], "concurrency": 1}]);
    let sidecar = limited(&server, limit).start();
    let mut agent = sidecar.agent();
    let mut waiting = agent.start(&Request::call("wait", &hi()));
    server.wait_for(1);
    refused(&sidecar, &server, (ToolResult, "rate_limited"), || {
        agent.call("echo", &hi())
    });
    gate.open();
    assert!(waiting.answer().unwrap().unwrap().is_tool_success());
    until("the place to come back", || {
        agent.call("echo", &hi()).is_tool_success().then_some(())
    });
}

#[test]
fn a_place_comes_back_when_its_agent_has_gone() {
    let server = ToolServer::start(vec![
        Tool::doing("wait", |exchange| {
            exchange.wait_until_gone();
        }),
        Tool::echo("echo"),
    ]);
    let limit = json!([{"name": "in-flight", "key": ["agent"], "concurrency": 1}]);
    let sidecar = limited(&server, limit).start();
    let mut agent = sidecar.agent();
    let waiting = agent.start(&Request::call("wait", &hi()));
    server.wait_for(1);
    waiting.hang_up();
    until("the place to come back", || {
        agent.call("echo", &hi()).is_tool_success().then_some(())
    });
}
