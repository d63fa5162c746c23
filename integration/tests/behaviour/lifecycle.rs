//! The life of a task from opening to its end, whoever ends it; and what a restart does not forget.

use outrider_integration::{
    Agent, Request, Setup, Sidecar, Task, Tool, ToolServer, jwt_header, until,
};
use serde_json::{Value, json};

use crate::support::{
    Form::{Rpc, ToolResult},
    OUTRIDER, at_the_same_time, echo, hi, refused,
};

const AGENT: &str = "spiffe://example.org/agent/test";

/// A server that streams one event and then stays silent, so that only our side can end it.
fn streaming() -> ToolServer {
    ToolServer::start(vec![
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
    ])
}

fn sidecar(server: &ToolServer) -> Sidecar {
    Setup::new(OUTRIDER, server)
        .config(|config| config["tasks"]["min_confidence"] = json!(0.5))
        .start()
}

fn keeping(server: &ToolServer) -> Setup {
    Setup::new(OUTRIDER, server).config(|config| {
        config["state"] = json!({"store": "file:state.jsonl"});
        config["tasks"]["min_confidence"] = json!(0.5);
    })
}

fn with(sidecar: &Sidecar, task: &Task) -> Agent {
    sidecar.stranger().with_token(&task.token)
}

fn done(sidecar: &Sidecar, arguments: &[&str]) {
    let run = sidecar.command(arguments);
    assert_eq!(run.status, 0, "{arguments:?}: {run:?}");
}

/// Runs a command while a stream is open under the task, and checks that it is cut with that code.
fn cuts(sidecar: &Sidecar, task: &Task, arguments: &[&str], code: &str) {
    let agent = with(sidecar, task);
    let mut stream = agent.start(&Request::call("stream", &hi()));
    let head = stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();
    done(sidecar, arguments);
    let (rest, complete) = stream.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(
        !complete || rest.contains(code),
        "a clean end without a word: {rest:?}"
    );
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
    assert_eq!(outcome["code"], code, "{outcome}");
}

fn event(sidecar: &Sidecar, kind: &str) -> Value {
    let log = sidecar.security_log();
    let found = log.iter().rev().find(|line| line["type"] == kind);
    found
        .unwrap_or_else(|| panic!("no {kind} in {log:?}"))
        .clone()
}

#[test]
fn a_suspended_task_stops_at_once_and_goes_on_when_it_is_resumed() {
    let server = streaming();
    let sidecar = sidecar(&server);
    let task = sidecar.open_task(&[]);
    let suspend = ["task", "suspend", &task.id, "--reason", "odd calls"];
    cuts(&sidecar, &task, &suspend, "task_suspended");
    let mut agent = with(&sidecar, &task);
    refused(&sidecar, &server, (ToolResult, "task_suspended"), || {
        agent.call("echo", &hi())
    });
    let noted = event(&sidecar, "task_suspended");
    assert_eq!(noted["why"], "odd calls", "{noted}");
    assert_eq!(noted["task"], *task.id, "{noted}");
    assert!(
        noted["who"].as_str().unwrap().starts_with("uid:"),
        "{noted}"
    );
    done(&sidecar, &["task", "resume", &task.id]);
    assert!(agent.call("echo", &hi()).is_tool_success());
    event(&sidecar, "task_resumed");
}

#[test]
fn a_task_whose_confidence_drops_is_stopped_at_once() {
    let server = streaming();
    let sidecar = sidecar(&server);
    let task = sidecar.open_task(&[]);
    let mut agent = with(&sidecar, &task);
    done(&sidecar, &["task", "confidence", &task.id, "0.5"]);
    assert!(agent.call("echo", &hi()).is_tool_success());
    let line = sidecar.decision(&agent.call("echo", &hi()).decision_id());
    assert_eq!(line["input"]["task"]["confidence"], 0.5, "{line}");
    let drop = ["task", "confidence", &task.id, "0.4", "--reason", "drifts"];
    cuts(&sidecar, &task, &drop, "task_suspended");
    refused(&sidecar, &server, (ToolResult, "task_suspended"), || {
        agent.call("echo", &hi())
    });
    let noted = event(&sidecar, "task_confidence");
    assert_eq!(
        (&noted["confidence"], &noted["why"]),
        (&json!("0.4"), &json!("drifts"))
    );
    let resume = sidecar.command(&["task", "resume", &task.id]);
    assert_eq!(resume.status, 2, "{resume:?}");
    assert!(
        resume.stderr.contains("outrider task confidence"),
        "{resume:?}"
    );
    done(&sidecar, &["task", "confidence", &task.id, "0.9"]);
    refused(&sidecar, &server, (ToolResult, "task_suspended"), || {
        agent.call("echo", &hi())
    });
    done(&sidecar, &["task", "resume", &task.id]);
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn whoever_is_revoked_loses_streams_and_calls_and_that_is_noted() {
    let server = streaming();
    let subject = ["--subject", "user:42"];
    for (kind, code) in [
        ("subject", "task_revoked"),
        ("token", "task_revoked"),
        ("key", "task_revoked"),
        ("agent", "agent_revoked"),
    ] {
        let sidecar = sidecar(&server);
        let task = sidecar.open_task(&subject);
        let shown = sidecar.command(&["task", "show", &task.id, "--json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let key = jwt_header(&task.token)["kid"].as_str().unwrap().to_owned();
        let id = match kind {
            "subject" => "user:42",
            "token" => shown["token_id"].as_str().unwrap(),
            "key" => &key,
            _ => AGENT,
        };
        let revoke = ["revoke", kind, id, "--reason", "leaked"];
        cuts(&sidecar, &task, &revoke, code);
        let mut agent = with(&sidecar, &task);
        refused(&sidecar, &server, (ToolResult, code), || {
            agent.call("echo", &hi())
        });
        refused(&sidecar, &server, (Rpc(200, 4030), code), || {
            agent.send(&Request::list())
        });
        let noted = event(&sidecar, "revoked");
        assert_eq!(noted["revoked"], kind, "{noted}");
        assert_eq!(
            (&noted["id"], &noted["why"]),
            (&json!(id), &json!("leaked"))
        );
        let listed = sidecar.command(&["revoke", "list"]);
        assert!(listed.stdout.contains(id), "{listed:?}");
        let counted = sidecar.metric("outrider_revocations_total", &["source=\"control\""]);
        assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
    }
}

#[test]
fn an_agent_that_is_revoked_gets_not_even_a_ping_until_that_is_lifted() {
    let server = echo();
    let sidecar = sidecar(&server);
    let mut agent = sidecar.agent();
    done(&sidecar, &["revoke", "agent", AGENT]);
    refused(&sidecar, &server, (Rpc(200, 4030), "agent_revoked"), || {
        agent.send(&Request::discover())
    });
    let open = sidecar.command(&["task", "open", "--intent", "work"]);
    assert_eq!(open.status, 1, "{open:?}");
    done(
        &sidecar,
        &["revoke", "lift", "agent", AGENT, "--reason", "all clear"],
    );
    event(&sidecar, "revocation_lifted");
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        agent.call("echo", &hi())
    });
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
}

#[test]
fn what_was_issued_later_than_a_revocation_says_may_stay() {
    let server = echo();
    let sidecar = sidecar(&server);
    let mut before = sidecar.agent();
    let run = sidecar.command(&[
        "revoke",
        "agent",
        AGENT,
        "--issued-before",
        "2100-01-01T00:00:00Z",
    ]);
    assert_eq!(run.status, 0, "{run:?}");
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        before.call("echo", &hi())
    });
    let other = crate::support::before(&server);
    let mut untouched = other.agent();
    let run = other.command(&[
        "revoke",
        "agent",
        AGENT,
        "--issued-before",
        "2020-01-01T00:00:00Z",
    ]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(untouched.call("echo", &hi()).is_tool_success());
}

#[test]
fn a_child_reaches_no_further_than_its_parent_and_ends_with_it() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("other")]);
    let setup = Setup::new(OUTRIDER, &server).data(|data| {
        let intents = data["intents"].as_array_mut().unwrap();
        intents.push(json!({
            "id": "wide",
            "owner": "owner@example.org",
            "tools": ["tools/*"],
            "max_classification": "restricted",
        }));
    });
    let sidecar = setup.start();
    let parent = sidecar.open_task(&["--tools", "tools/echo", "--calls", "3"]);
    // The child leaves its tools to an intent that is wider than its parent.
    let child = sidecar.open_task_for("wide", &["--parent", &parent.id]);
    let mut agent = with(&sidecar, &child);
    assert!(agent.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "scope_exceeded"), || {
        agent.call("other", &hi())
    });
    let listed = agent.send(&Request::list()).json();
    let names = listed["result"]["tools"].as_array().unwrap().iter();
    assert_eq!(
        names.map(|tool| &tool["name"]).collect::<Vec<_>>(),
        ["echo"]
    );
    let wider = ["task", "open", "--parent", &parent.id, "--tools", "tools/*"];
    let run = sidecar.command(&wider);
    assert_eq!(run.status, 1, "{run:?}");
    let noted = event(&sidecar, "delegation_widened");
    assert_eq!(noted["reason"], "tools", "{noted}");
    // What the child spends is its parent's.
    let mut above = with(&sidecar, &parent);
    assert!(above.call("echo", &hi()).is_tool_success());
    assert!(agent.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "budget_exhausted"), || {
        agent.call("echo", &hi())
    });
    done(&sidecar, &["revoke", "task", &parent.id]);
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        agent.call("echo", &hi())
    });
}

#[test]
fn no_exception_lifts_what_a_parent_does_not_reach() {
    let server = ToolServer::start(vec![Tool::echo("echo"), Tool::echo("other")]);
    let setup = Setup::new(OUTRIDER, &server).data(|data| {
        data["exceptions"] = json!([{
            "id": "EX-1",
            "owner": "owner@example.org",
            "reason": "everything",
            "agent": AGENT,
            "tools": ["tools/*"],
            "lifts": ["grant", "intent", "classification"],
            "expires": "2100-01-01T00:00:00Z",
        }]);
    });
    let sidecar = setup.start();
    let parent = sidecar.open_task(&["--tools", "tools/echo"]);
    let child = sidecar.open_task(&["--parent", &parent.id]);
    let mut agent = with(&sidecar, &child);
    assert!(agent.call("echo", &hi()).is_tool_success());
    refused(&sidecar, &server, (ToolResult, "scope_exceeded"), || {
        agent.call("other", &hi())
    });
}

#[test]
fn a_budget_shared_with_a_parent_is_never_overspent() {
    let server = echo();
    let sidecar = sidecar(&server);
    let parent = sidecar.open_task(&["--calls", "10"]);
    let children: Vec<_> = (0..4)
        .map(|_| sidecar.open_task(&["--parent", &parent.id]))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let passed = at_the_same_time(8, || {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut agent = with(&sidecar, &children[number % children.len()]);
        (0..5)
            .filter(|_| agent.call("echo", &hi()).is_tool_success())
            .count()
    });
    assert_eq!(passed.iter().sum::<usize>(), 10);
}

#[test]
fn a_state_file_carries_tasks_budgets_and_revocations_over_crash_and_restart() {
    let server = echo();
    let sidecar = keeping(&server).start();
    let [plain, counted, stopped, taken] = [
        &[][..],
        &["--calls", "3"],
        &["--subject", "user:7"],
        &["--subject", "user:8"],
    ]
    .map(|options| sidecar.open_task(options));
    for _ in 0..2 {
        assert!(
            with(&sidecar, &counted)
                .call("echo", &hi())
                .is_tool_success()
        );
    }
    done(&sidecar, &["task", "confidence", &stopped.id, "0.1"]);
    done(&sidecar, &["revoke", "subject", "user:8"]);
    let check = |sidecar: &Sidecar| {
        assert!(with(sidecar, &plain).call("echo", &hi()).is_tool_success());
        for (task, code) in [(&stopped, "task_suspended"), (&taken, "task_revoked")] {
            let mut agent = with(sidecar, task);
            refused(sidecar, &server, (ToolResult, code), || {
                agent.call("echo", &hi())
            });
        }
        let open = ["task", "open", "--intent", "work", "--subject", "user:8"];
        assert_eq!(sidecar.command(&open).status, 1);
    };
    let sidecar = sidecar.crash();
    check(&sidecar);
    let mut agent = with(&sidecar, &counted);
    assert!(agent.call("echo", &hi()).is_tool_success());
    let sidecar = sidecar.restart();
    check(&sidecar);
    let mut agent = with(&sidecar, &counted);
    refused(&sidecar, &server, (ToolResult, "budget_exhausted"), || {
        agent.call("echo", &hi())
    });
    done(&sidecar, &["revoke", "lift", "subject", "user:8"]);
    done(&sidecar, &["task", "close", &plain.id]);
    let sidecar = sidecar.crash();
    sidecar.open_task(&["--subject", "user:8"]);
    let mut agent = with(&sidecar, &plain);
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        agent.call("echo", &hi())
    });
}

#[test]
fn a_crash_never_gives_calls_of_a_budget_back() {
    let server = echo();
    let mut sidecar = keeping(&server).start();
    let task = sidecar.open_task(&["--calls", "100"]);
    let mut passed = 0;
    for _ in 0..4 {
        let mut agent = with(&sidecar, &task);
        passed += (0..40)
            .filter(|_| agent.call("echo", &hi()).is_tool_success())
            .count();
        sidecar = sidecar.crash();
    }
    // Four crashes may each take what is left of a block of five.
    assert!((80..=100).contains(&passed), "{passed}");
}

#[test]
fn the_uses_of_an_exception_survive_a_crash() {
    let server = echo();
    let setup = keeping(&server).data(|data| {
        data["grants"] = json!([]);
        data["exceptions"] = json!([{
            "id": "EX-7",
            "owner": "owner@example.org",
            "reason": "migration week",
            "agent": AGENT,
            "tools": ["tools/echo"],
            "lifts": ["grant"],
            "expires": "2100-01-01T00:00:00Z",
            "max_uses": 2,
        }]);
    });
    let sidecar = setup.start();
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    let sidecar = sidecar.crash();
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    let sidecar = sidecar.crash();
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, (ToolResult, "policy_denied"), || {
        agent.call("echo", &hi())
    });
}

#[test]
fn a_state_file_of_something_else_is_left_untouched() {
    let server = echo();
    let setup = keeping(&server);
    setup.write();
    setup.file("state.jsonl", "my shopping list\n");
    let run = setup.run(&["run", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("move it away"), "{run:?}");
    let text = std::fs::read_to_string(setup.path("state.jsonl")).unwrap();
    assert_eq!(text, "my shopping list\n");
}

#[test]
fn two_sidecars_do_not_share_a_state_file() {
    let server = echo();
    let sidecar = keeping(&server).start();
    let second = keeping(&server).config(|config| {
        config["state"]["store"] = json!(format!("file:{}", sidecar.path("state.jsonl").display()));
    });
    second.write();
    let run = second.run(&["run", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("another process holds it"), "{run:?}");
}

#[test]
fn a_successor_with_another_state_file_writes_there_what_holds() {
    let server = echo();
    let mut sidecar = keeping(&server).start();
    let (task, other) = (sidecar.open_task(&[]), sidecar.open_task(&[]));
    assert!(with(&sidecar, &task).call("echo", &hi()).is_tool_success());
    let file = sidecar.path("outrider.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("file:state.jsonl"), "{text}");
    sidecar.setup().file(
        "outrider.yaml",
        &text.replace("file:state.jsonl", "file:other.jsonl"),
    );
    let predecessor = sidecar.take_over();
    assert_eq!(predecessor.wait().code(), Some(0));
    done(&sidecar, &["task", "close", &other.id]);
    let sidecar = sidecar.restart();
    assert!(with(&sidecar, &task).call("echo", &hi()).is_tool_success());
    assert_eq!(
        with(&sidecar, &other).call("echo", &hi()).code(),
        "task_revoked"
    );
}

#[test]
fn a_successor_goes_on_with_the_state_file_and_cuts_calls_of_before() {
    let server = streaming();
    let mut sidecar = keeping(&server).start();
    let task = sidecar.open_task(&["--subject", "user:9"]);
    let child = sidecar.open_task(&["--parent", &task.id]);
    let agent = with(&sidecar, &child);
    let mut stream = agent.start(&Request::call("stream", &hi()));
    stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();
    let predecessor = sidecar.take_over();
    done(&sidecar, &["revoke", "subject", "user:9"]);
    let (rest, complete) = stream.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(!complete || rest.contains("task_revoked"), "{rest:?}");
    assert!(predecessor.wait().success());
    let sidecar = sidecar.crash();
    for task in [&task, &child] {
        let mut agent = with(&sidecar, task);
        refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
            agent.call("echo", &hi())
        });
    }
}

#[test]
fn in_production_budgets_need_a_store_that_lasts() {
    let server = echo();
    let production = |store: &str| {
        let setup = Setup::new(OUTRIDER, &server).config(|config| {
            config["environment"] = json!("production");
            config["isolation"] = json!("container");
            config["state"] = json!({"store": store});
        });
        setup.start()
    };
    let memory = production("memory");
    let run = memory.command(&["task", "open", "--intent", "work", "--calls", "3"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("state.store"), "{run:?}");
    memory.open_task(&[]);
    let file = production("file:state.jsonl");
    file.open_task(&["--calls", "3"]);
    let setup = Setup::new(OUTRIDER, &server)
        .config(|config| {
            config["environment"] = json!("production");
            config["isolation"] = json!("container");
        })
        .data(|data| {
            data["exceptions"] = json!([{
                "id": "EX-7",
                "owner": "owner@example.org",
                "reason": "migration week",
                "agent": AGENT,
                "tools": ["tools/echo"],
                "lifts": ["grant"],
                "expires": "2100-01-01T00:00:00Z",
                "max_uses": 2,
            }]);
        });
    setup.write();
    let run = setup.run(&["check", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(
        run.stdout.contains("max_uses") || run.stderr.contains("max_uses"),
        "{run:?}"
    );
}

/// Revoking never lets one more call through after it was acknowledged.
#[test]
fn no_call_that_begins_after_the_acknowledgement_reaches_the_server() {
    let server = echo();
    let sidecar = sidecar(&server);
    for round in 0..10 {
        let subject = format!("user:{round}");
        let tasks: Vec<_> = (0..3)
            .map(|_| sidecar.open_task(&["--subject", &subject]))
            .collect();
        let revoked = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for task in &tasks {
                let (revoked, sidecar) = (&revoked, &sidecar);
                scope.spawn(move || {
                    let mut agent = with(sidecar, task);
                    until("a refusal", || {
                        let acknowledged = revoked.load(std::sync::atomic::Ordering::SeqCst);
                        let passed = agent.call("echo", &hi()).is_tool_success();
                        assert!(!(acknowledged && passed), "a call got through");
                        (acknowledged && !passed).then_some(())
                    });
                });
            }
            done(&sidecar, &["revoke", "subject", &subject]);
            revoked.store(true, std::sync::atomic::Ordering::SeqCst);
        });
    }
}
