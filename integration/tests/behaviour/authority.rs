//! Tasks: tokens, scope, level, budget, time.

use outrider_integration::{Answer, Request, Setup, Tool, ToolServer, until};

use crate::support::{
    Form::ToolResult, OUTRIDER, at_the_same_time, before, echo, hi, large, refused,
};

#[test]
fn a_token_that_is_not_exactly_one_good_token_is_refused() {
    let server = echo();
    let sidecar = before(&server);
    let good = sidecar.open_task(&[]).token;
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let turned: String = signature.chars().rev().collect();
    let header = "Outrider-Task-Token";
    let call = || Request::call("echo", &hi());
    for (name, request) in [
        ("nonsense", call().field(header, "nonsense")),
        ("empty", call().field(header, "")),
        (
            "the same twice",
            call().field(header, &good).field(header, &good),
        ),
        (
            "a good one and an empty one",
            call().field(header, &good).field(header, ""),
        ),
        (
            "an empty one and a good one",
            call().field(header, "").field(header, &good),
        ),
        (
            "without a signature",
            call().field(header, &format!("{signed}.")),
        ),
        (
            "with another signature",
            call().field(header, &format!("{signed}.{turned}")),
        ),
        ("padded", call().field(header, &format!("{good}="))),
        (
            "with something behind it",
            call().field(header, &format!("{good}.x")),
        ),
    ] {
        eprintln!("{name}");
        let mut agent = sidecar.stranger();
        refused(&sidecar, &server, (ToolResult, "task_invalid"), || {
            agent.send(&request)
        });
    }
}

#[test]
fn a_token_in_another_spelling_of_its_header_is_none() {
    let server = echo();
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    for request in [
        Request::call("echo", &hi()).field("Outrider_Task_Token", &token),
        Request::call("echo", &hi()).field("Proxy-Authorization", &format!("Bearer {token}")),
        Request::call("echo", &hi()).field("Authorization", &format!("Bearer {token}")),
    ] {
        let mut agent = sidecar.stranger();
        refused(&sidecar, &server, (ToolResult, "task_missing"), || {
            agent.send(&request)
        });
    }
}

#[test]
fn a_token_of_another_sidecar_is_refused() {
    let server = echo();
    let (one, two) = (before(&server), before(&server));
    let token = one.open_task(&[]).token;
    let mut agent = two.stranger().with_token(&token);
    refused(&two, &server, (ToolResult, "task_invalid"), || {
        agent.call("echo", &hi())
    });
}

#[test]
fn a_task_reaches_only_its_own_tools() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("erase")]);
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--tools", "tools/echo"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    assert!(agent.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "scope_exceeded"), || {
        agent.call("erase", &hi())
    });
}

#[test]
fn a_budget_of_calls_is_spent_by_calls_and_not_by_lists() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--calls", "2"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    for _ in 0..3 {
        assert!(agent.send(&Request::list()).json()["result"].is_object());
    }
    for _ in 0..2 {
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
    refused(&sidecar, &server, (ToolResult, "budget_exhausted"), || {
        agent.call("echo", &hi())
    });
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn a_budget_holds_for_calls_at_the_same_time() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--calls", "5"]);
    let done = std::thread::scope(|scope| {
        let agent = || {
            sidecar
                .stranger()
                .with_token(&task.token)
                .call("echo", &hi())
        };
        let running: Vec<_> = (0..20).map(|_| scope.spawn(agent)).collect();
        let answers = running.into_iter().map(|thread| thread.join().unwrap());
        answers
            .filter(outrider_integration::Answer::is_tool_success)
            .count()
    });
    assert_eq!((done, server.calls().len()), (5, 5));
}

/// Bodies of this size are judged beside each other, not in turn.
#[test]
fn a_budget_holds_for_large_calls_at_the_same_time() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--calls", "5"]);
    let answers = at_the_same_time(16, || {
        sidecar
            .stranger()
            .with_token(&task.token)
            .call("echo", &large())
    });
    let passed = |answer: &&Answer| answer.is_tool_success();
    assert_eq!(answers.iter().filter(passed).count(), 5);
    assert_eq!(server.calls().len(), 5);
    for answer in answers.iter().filter(|answer| !passed(answer)) {
        assert_eq!(answer.code(), "budget_exhausted", "{}", answer.text());
        let line = sidecar.decision(&answer.decision_id());
        assert_eq!(line["outcome"], "deny", "{line}");
    }
}

#[test]
fn a_task_of_an_unknown_intent_cannot_be_opened() {
    let sidecar = before(&echo());
    let run = sidecar.command(&["task", "open", "--intent", "nobody.knows"]);
    assert_ne!(run.status, 0);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.contains("nobody.knows"), "{run:?}");
}

#[test]
fn without_json_a_task_is_its_token_alone() {
    let server = echo();
    let sidecar = before(&server);
    let run = sidecar.command(&["task", "open", "--intent", "work"]);
    let token = run.stdout.trim_end();
    assert_eq!(token.split('.').count(), 3, "{run:?}");
    assert!(
        sidecar
            .stranger()
            .with_token(token)
            .call("echo", &hi())
            .is_tool_success()
    );
}

#[test]
fn a_listener_with_a_current_task_serves_agents_that_send_nothing() {
    let server = echo();
    let sidecar = before(&server);
    sidecar.open_task(&["--current", "reverse"]);
    let answer = sidecar.stranger().call("echo", &hi());
    assert!(answer.is_tool_success(), "{}", answer.text());
    assert_eq!(
        sidecar.decision(&answer.decision_id())["task_source"],
        "current"
    );
    let mut bad = sidecar.stranger().with_token("nonsense");
    refused(&sidecar, &server, (ToolResult, "task_invalid"), || {
        bad.call("echo", &hi())
    });
}

#[test]
fn without_required_tasks_only_grants_without_intents_apply() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("bound")]);
    let agent = "spiffe://example.org/agent/test";
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["tasks"]["required"] = false.into())
        .data(|data| {
            data["grants"] = serde_json::json!([
                {"agent": agent, "tools": ["tools/echo"]},
                {"agent": agent, "tools": ["tools/bound"], "intents": ["work"]},
            ]);
        })
        .start();
    let mut stranger = sidecar.stranger();
    assert!(stranger.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        stranger.call("bound", &hi())
    });
    assert!(sidecar.agent().call("bound", &hi()).is_tool_success());
    let head = &server.calls()[0].head;
    assert!(
        head.get("outrider-task").is_none() && head.get("outrider-intent").is_none(),
        "{head:?}"
    );
}

#[test]
fn a_task_ends_with_its_time() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--ttl", "1s"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    // A call that was running when the time was over gets the same code, and has reached the server.
    until("the task to have expired before a call", || {
        let answer = agent.call("echo", &hi());
        let denied = || sidecar.decision(&answer.decision_id())["outcome"] == "deny";
        (answer.code() == "task_expired" && denied()).then_some(())
    });
    refused(&sidecar, &server, (ToolResult, "task_expired"), || {
        agent.call("echo", &hi())
    });
}

/// The server stays silent, so that only the end of the task's time can end the call.
#[test]
fn a_running_call_ends_with_the_time_of_its_task() {
    let server = ToolServer::start(vec![Tool::doing("wait", |exchange| {
        exchange.wait_until_gone();
    })]);
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--ttl", "1s"]);
    let answer = sidecar
        .stranger()
        .with_token(&task.token)
        .call("wait", &hi());
    assert_eq!(answer.code(), "task_expired", "{}", answer.text());
    if sidecar.decision(&answer.decision_id())["outcome"] == "allow" {
        assert_eq!(sidecar.outcome(&answer.decision_id())["ended"], "cut");
    }
}

#[test]
fn a_refused_call_spends_no_budget() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("erase")]);
    let sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["grants"][0]["tools"] = serde_json::json!(["tools/echo"]))
        .start();
    let task = sidecar.open_task(&["--calls", "1"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        agent.call("erase", &hi())
    });
    assert!(agent.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "budget_exhausted"), || {
        agent.call("echo", &hi())
    });
}
