//! A restart continues the chain; what was torn is kept aside; a broken chain is found.

use std::fs;

use outrider_integration::{check_chain, until};

use crate::support::{before, echo, hi};

#[test]
fn a_restart_continues_the_same_chain() {
    let server = echo();
    let sidecar = before(&server);
    sidecar.agent().call("echo", &hi());
    let instance = sidecar.log()[0]["instance"].clone();
    let mut sidecar = sidecar.restart();
    let answer = sidecar.agent().call("echo", &hi());
    sidecar.outcome(&answer.decision_id());
    sidecar.signal("TERM");
    sidecar.wait();
    let log = sidecar.log();
    assert!(
        log.iter().all(|line| line["instance"] == instance),
        "one file, one instance"
    );
    assert_eq!(check_chain(&sidecar.log_text()), Ok(log.len()));
    let verify = sidecar.setup().run(&["log", "verify", "decisions.jsonl"]);
    assert_eq!(verify.status, 0, "{verify:?}");
    assert!(
        verify
            .stdout
            .contains(&format!("verified to seq {}", log.len())),
        "{verify:?}"
    );
}

#[test]
fn a_crash_loses_no_decision() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let ids: Vec<_> = (0..10)
        .map(|_| agent.call("echo", &hi()).decision_id())
        .collect();
    let sidecar = sidecar.crash();
    for id in ids {
        sidecar.decision(&id);
    }
    let answer = sidecar.agent().call("echo", &hi());
    sidecar.outcome(&answer.decision_id());
    until("a whole log", || check_chain(&sidecar.log_text()).ok());
}

#[test]
fn a_torn_last_line_is_moved_aside() {
    let server = echo();
    let sidecar = before(&server);
    sidecar.agent().call("echo", &hi());
    let mut sidecar = sidecar;
    sidecar.signal("TERM");
    sidecar.wait();
    let path = sidecar.path("decisions.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"type\":\"decision\",\"decis")).unwrap();
    let sidecar = sidecar.start_again();
    let answer = sidecar.agent().call("echo", &hi());
    sidecar.outcome(&answer.decision_id());
    assert!(
        sidecar.log_text().starts_with(&whole),
        "what was there is untouched"
    );
    let torn = fs::read_to_string(sidecar.path("decisions.jsonl.torn")).unwrap();
    assert!(torn.contains("{\"type\":\"decision\",\"decis"), "{torn}");
}

#[test]
fn a_changed_byte_is_found_and_its_line_is_named() {
    let server = echo();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    for _ in 0..3 {
        let id = agent.call("echo", &hi()).decision_id();
        sidecar.outcome(&id);
    }
    sidecar.signal("TERM");
    sidecar.wait();
    let path = sidecar.path("decisions.jsonl");
    let log = fs::read_to_string(&path).unwrap();
    fs::write(&path, log.replacen("tools/echo", "tools/ecHo", 1)).unwrap();
    let verify = sidecar.setup().run(&["log", "verify", "decisions.jsonl"]);
    assert_eq!(verify.status, 1, "{verify:?}");
    let line = log
        .lines()
        .position(|line| line.contains("tools/echo"))
        .unwrap()
        + 1;
    let said = format!("{}{}", verify.stdout, verify.stderr);
    assert!(said.contains(&line.to_string()), "line {line}: {said}");
}

#[test]
fn a_second_sidecar_does_not_share_the_log() {
    let server = echo();
    let mut sidecar = before(&server);
    let second = sidecar.setup().run(&["run", "-c", "outrider.yaml"]);
    assert_eq!(second.status, 2, "{second:?}");
    assert!(!second.stderr.is_empty());
    assert!(
        sidecar.agent().call("echo", &hi()).is_tool_success(),
        "the first goes on"
    );
}
