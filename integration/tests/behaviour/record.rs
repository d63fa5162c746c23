//! No act without a record: a log that cannot be written refuses calls.

use std::{fs, process::Command};

use outrider_integration::{
    Gate, Request, Setup, Sidecar, Tool, ToolServer, check_chain, text_result, until,
};

use crate::support::{OUTRIDER, before, echo, hi, keeping};

/// Waits until calls are refused because they cannot be recorded, and checks that those reach
/// nobody.
fn until_refused(sidecar: &Sidecar, server: &ToolServer) {
    let mut agent = sidecar.agent();
    until("the log to be missed", || {
        let before = server.bytes();
        let answer = agent.call("echo", &hi());
        let refused = answer.code() == "record_unavailable";
        assert!(
            !refused || server.bytes() == before,
            "an unrecorded call reached the server"
        );
        refused.then_some(())
    });
    until("not ready", || {
        (sidecar.get("/readyz").status == 503).then_some(())
    });
}

#[test]
fn a_log_that_cannot_be_written_refuses_calls_until_it_can() {
    for durability in ["written", "synced", "memory"] {
        refuses_until_it_can_be_written(durability);
    }
}

fn refuses_until_it_can_be_written(durability: &str) {
    let server = echo();
    let sidecar = keeping(durability, &server);
    sidecar.agent().call("echo", &hi());
    let log = sidecar.path("decisions.jsonl");
    fs::rename(&log, sidecar.path("aside.jsonl")).unwrap();
    fs::create_dir(&log).unwrap();
    until_refused(&sidecar, &server);
    fs::remove_dir(&log).unwrap();
    let mut agent = sidecar.agent();
    until("the recovery", || {
        agent.call("echo", &hi()).is_tool_success().then_some(())
    });
    until("ready again", || {
        (sidecar.get("/readyz").status == 200).then_some(())
    });
    let text = sidecar.log_text();
    assert!(
        text.ends_with('\n') && text.lines().all(|line| line.ends_with("\"}")),
        "{text}"
    );
}

/// Something else takes the log's place, and later the log takes it again; each at once, so that
/// the place is never free.
#[test]
fn a_call_that_ended_while_the_log_could_not_be_written_is_in_it_afterwards() {
    for durability in ["written", "synced", "memory"] {
        ends_while_it_cannot_be_written(durability);
    }
}

fn ends_while_it_cannot_be_written(durability: &str) {
    let gate = Gate::new();
    let inside = gate.clone();
    let server = ToolServer::start(vec![
        Tool::echo("echo"),
        Tool::doing("wait", move |exchange| {
            inside.pass();
            exchange.result(&text_result("done"));
        }),
    ]);
    let mut sidecar = keeping(durability, &server);
    let mut waiting = sidecar.agent().start(&Request::call("wait", &hi()));
    server.wait_for(1);
    let log = sidecar.path("decisions.jsonl");
    let aside = sidecar.path("aside.jsonl");
    let notes = sidecar.path("notes");
    fs::hard_link(&log, &aside).unwrap();
    fs::write(&notes, "a letter to a friend\n").unwrap();
    fs::rename(&notes, &log).unwrap();
    until_refused(&sidecar, &server);

    gate.open();
    let answer = waiting.answer().unwrap().expect("the call's answer");
    assert_eq!(answer.tool_text(), "done", "what runs may finish");
    let id = answer.decision_id();
    until("the call to have ended", || {
        (sidecar.metric("outrider_in_flight", &[]) == 0.0).then_some(())
    });
    let written = fs::read_to_string(&aside).unwrap();
    let about = |line: &&str| line.contains("\"type\":\"outcome\"") && line.contains(&id);
    assert_eq!(
        written.lines().find(about),
        None,
        "nothing is written aside"
    );
    assert_eq!(fs::read_to_string(&log).unwrap(), "a letter to a friend\n");

    fs::rename(&aside, &log).unwrap();
    let outcome = sidecar.outcome(&id);
    assert_eq!(outcome["ended"], "completed", "{outcome}");
    assert_eq!(sidecar.decision(&id)["outcome"], "allow");
    let after = until("the recovery", || {
        let answer = sidecar.agent().call("echo", &hi());
        answer.is_tool_success().then(|| answer.decision_id())
    });
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait().code(), Some(0));
    sidecar.outcome(&after);
    assert_eq!(sidecar.outcomes(&id).len(), 1, "one call, one outcome");
    let verify = sidecar.setup().run(&["log", "verify", "decisions.jsonl"]);
    assert_eq!(verify.status, 0, "{verify:?}");
    let said = format!("signed to seq {}", sidecar.log().len());
    assert!(verify.stdout.contains(&said), "{verify:?}");
}

#[test]
fn a_device_is_no_log() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server)
        .config(|config| config["decision_log"]["path"] = "/dev/full".into());
    setup.write();
    let run = setup.run(&["run", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 2, "a device is no log: {run:?}");
}

#[test]
fn what_is_no_log_is_not_written_to() {
    let server = echo();
    for kind in ["fifo", "symlink", "directory", "other"] {
        let setup = Setup::new(OUTRIDER, &server);
        setup.write();
        let log = setup.path("decisions.jsonl");
        match kind {
            "fifo" => assert!(Command::new("mkfifo").arg(&log).status().unwrap().success()),
            "symlink" => std::os::unix::fs::symlink(setup.path("elsewhere"), &log).unwrap(),
            "directory" => fs::create_dir(&log).unwrap(),
            _ => fs::write(&log, "a letter to a friend\n").unwrap(),
        }
        let run = setup.run(&["run", "-c", "outrider.yaml"]);
        assert_eq!(run.status, 2, "{kind}: {run:?}");
        assert!(run.stderr.contains("decisions.jsonl"), "{kind}: {run:?}");
        assert!(!setup.path("elsewhere").exists(), "{kind}");
        if kind == "other" {
            assert_eq!(fs::read_to_string(&log).unwrap(), "a letter to a friend\n");
        }
    }
}

#[test]
fn every_line_is_chained_to_the_one_before() {
    let server = echo();
    let sidecar = before(&server);
    let token = sidecar.open_task(&[]).token;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut agent = sidecar.stranger().with_token(&token);
                for number in 0..25 {
                    let arguments = if number % 5 == 0 {
                        serde_json::json!({})
                    } else {
                        hi()
                    };
                    agent.call("echo", &arguments);
                }
            });
        }
    });
    let calls = 8 * 25;
    until("all lines", || {
        let log = sidecar.log();
        let count = |kind: &str| log.iter().filter(|line| line["type"] == kind).count();
        (count("decision") >= calls && count("outcome") == calls * 4 / 5).then_some(())
    });
    let text = sidecar.log_text();
    assert_eq!(check_chain(&text), Ok(text.lines().count()));
}
