//! No act without a record: a log that cannot be written refuses calls.

use std::{fs, process::Command};

use outrider_integration::{Setup, Sidecar, ToolServer, check_chain, until};

use crate::support::{OUTRIDER, before, echo, hi};

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
    let server = echo();
    let sidecar = before(&server);
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
