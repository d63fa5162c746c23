//! When a record counts as written: in the file, on the disk, or in memory.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use outrider_integration::{Setup, Tool, ToolServer, check_chain, text_result, until};

use crate::support::{OUTRIDER, check_record, echo, hi, keeping};

/// A server whose tool says how many decisions are in the log when it is called.
fn reading(log: &Arc<OnceLock<PathBuf>>) -> ToolServer {
    let log = Arc::clone(log);
    ToolServer::start(vec![Tool::doing("count", move |exchange| {
        let text = fs::read_to_string(log.get().unwrap()).unwrap();
        let decisions = text.matches(r#"{"type":"decision""#).count();
        exchange.result(&text_result(&decisions.to_string()));
    })])
}

#[test]
fn under_synced_a_decision_is_in_the_file_before_the_tool_is_called() {
    let log = Arc::new(OnceLock::new());
    let server = reading(&log);
    let sidecar = keeping("synced", &server);
    log.set(sidecar.path("decisions.jsonl")).unwrap();
    let mut agent = sidecar.agent();
    for number in 1..=10 {
        let answer = agent.call("count", &hi());
        assert_eq!(answer.tool_text(), number.to_string());
        assert_eq!(sidecar.decision(&answer.decision_id())["durable"], true);
    }
}

#[test]
fn under_synced_a_refusal_is_in_the_file_before_it_is_answered() {
    let server = echo();
    let sidecar = keeping("synced", &server);
    let answer = sidecar.agent().call("nope", &hi());
    assert_eq!(answer.code(), "tool_unknown");
    sidecar.decision(&answer.decision_id());
    assert_eq!(server.bytes(), 0);
}

#[test]
fn many_calls_at_once_keep_the_log_whole_however_it_is_kept() {
    for durability in ["synced", "memory"] {
        let server = echo();
        let mut sidecar = keeping(durability, &server);
        let token = sidecar.open_task(&[]).token;
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut agent = sidecar.stranger().with_token(&token);
                    for _ in 0..4 {
                        assert!(agent.call("echo", &hi()).is_tool_success());
                        agent.call("nope", &hi());
                    }
                });
            }
        });
        sidecar.signal("TERM");
        sidecar.wait();
        assert_eq!(sidecar.decisions().len(), 64, "{durability}");
        let durable = durability == "synced";
        let said = |line: &serde_json::Value| line["durable"] == durable;
        assert!(sidecar.decisions().iter().all(said), "{durability}");
        check_record(&sidecar);
        let text = sidecar.log_text();
        assert_eq!(check_chain(&text), Ok(text.lines().count()));
    }
}

#[test]
fn under_memory_what_was_decided_is_in_the_file_soon() {
    let server = echo();
    let sidecar = keeping("memory", &server);
    let answer = sidecar.agent().call("echo", &hi());
    sidecar.outcome(&answer.decision_id());
    let decision = sidecar.decision(&answer.decision_id());
    assert_eq!(decision["durable"], false, "{decision}");
    until("an empty queue", || {
        (sidecar.metric("outrider_decision_log_queue", &[]) == 0.0).then_some(())
    });
    let ready = sidecar.get("/readyz").text();
    assert!(ready.contains("lost with the process"), "{ready}");
}

#[test]
fn production_refuses_a_log_in_memory() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server).config(|config| {
        config["environment"] = "production".into();
        config["isolation"] = "container".into();
        config["decision_log"]["durability"] = "memory".into();
    });
    setup.write();
    for (command, status) in [("run", 2), ("check", 1)] {
        let run = setup.run(&[command, "-c", "outrider.yaml"]);
        assert_eq!(run.status, status, "{run:?}");
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("decision_log.durability"), "{said}");
    }
    assert!(!setup.path("decisions.jsonl").exists());
}

#[test]
fn a_log_in_memory_is_warned_of() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server)
        .config(|config| config["decision_log"]["durability"] = "memory".into());
    setup.write();
    let run = setup.run(&["check", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 0, "{run:?}");
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(said.contains("lost with the process"), "{said}");
}
