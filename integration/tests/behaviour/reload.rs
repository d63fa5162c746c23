//! Configuration and policy change under a running sidecar: whole or not at all.

use std::fs;

use outrider_integration::{Sidecar, until};
use serde_json::json;

use crate::support::{before, echo, hi};

fn attempts(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrider_policy_reload_total", &[])
}

#[test]
fn a_grant_that_is_withdrawn_holds_from_the_reload_on() {
    let server = echo();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    let first = agent.call("echo", &hi());
    assert!(first.is_tool_success());
    sidecar.rewrite(|_, data| data["grants"] = json!([]));
    let last = until("the reload", || {
        let answer = agent.call("echo", &hi());
        (answer.code() == "policy_denied").then_some(answer)
    });
    let revision = |id: &str| sidecar.decision(id)["policy"]["revision"].clone();
    assert_ne!(
        revision(&first.decision_id()),
        revision(&last.decision_id())
    );
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let server = echo();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    sidecar.setup().data["grants"] = json!([]);
    sidecar.setup().write();
    until("the change to be noticed", || {
        (agent.call("echo", &hi()).code() == "policy_denied").then_some(())
    });
}

#[test]
fn a_bad_file_keeps_what_was_and_is_reported() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for (file, bad) in [
        ("outrider.yaml", "agent: ["),
        ("data.yaml", "grants: {"),
        ("tools.json", "{\"outrider_lock\": 1, \"zz9\": 2}"),
        ("policy/rules.rego", "package outrider.authz\n\nallow if {"),
    ] {
        let path = sidecar.path(file);
        let good = fs::read(&path).ok();
        let attempts_before = attempts(&sidecar);
        fs::write(&path, bad).unwrap();
        sidecar.signal("HUP");
        until("the attempt", || {
            (attempts(&sidecar) > attempts_before).then_some(())
        });
        assert!(agent.call("echo", &hi()).is_tool_success(), "{file}");
        match good {
            Some(good) => fs::write(&path, good).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
}

#[test]
fn a_reload_forgets_no_task() {
    let server = echo();
    let mut sidecar = before(&server);
    let mut agent = sidecar.agent();
    let attempts_before = attempts(&sidecar);
    sidecar.rewrite(|_, data| data["agents"][0]["purpose"] = json!("Another purpose"));
    until("the attempt", || {
        (attempts(&sidecar) > attempts_before).then_some(())
    });
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn a_data_file_that_is_cut_to_nothing_keeps_what_was() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let failed = || sidecar.metric("outrider_policy_reload_total", &["result=\"failed\""]);
    for text in ["", " \n"] {
        let before = failed();
        fs::write(sidecar.path("data.yaml"), text).unwrap();
        sidecar.signal("HUP");
        until("the failed reload", || (failed() > before).then_some(()));
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
}
