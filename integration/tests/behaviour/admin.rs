//! Probes, metrics, keys: read only.

use outrider_integration::{Agent, Request};

use crate::support::{before, echo, hi};

#[test]
fn the_probes_answer() {
    let sidecar = before(&echo());
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(sidecar.get(path).status, 200, "{path}");
    }
    assert_eq!(sidecar.get("/nothing").status, 404);
}

#[test]
fn nothing_on_the_admin_address_changes_state() {
    let sidecar = before(&echo());
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/.well-known/jwks.json",
        "/",
    ] {
        let answer =
            Agent::new(sidecar.admin().into(), path).send(&Request::raw("POST", "", Vec::new()));
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.head.line
        );
    }
}

#[test]
fn the_families_are_there_and_count() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    let id = agent.call("echo", &hi()).decision_id();
    agent.call("echo", &serde_json::json!({}));
    agent.call("no such tool, and a label it must not become", &hi());
    sidecar.outcome(&id);
    let text = sidecar.get("/metrics").text();
    for family in [
        "outrider_calls_total",
        "outrider_call_duration_seconds",
        "outrider_overhead_seconds",
        "outrider_upstream_duration_seconds",
        "outrider_schema_violations_total",
        "outrider_policy_eval_seconds",
        "outrider_policy_info",
        "outrider_tasks",
        "outrider_decision_log_records_total",
        "outrider_in_flight",
        "outrider_build_info",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(family)),
            "no {family} in\n{text}"
        );
    }
    let calls = |labels: &[&str]| sidecar.metric("outrider_calls_total", labels);
    let echo = "tool=\"echo\"";
    let named = if text.contains(echo) {
        echo
    } else {
        "tool=\"tools/echo\""
    };
    assert!(
        (calls(&[named, "outcome=\"allow\"", "code=\"ok\""]) - 1.0).abs() < 0.1,
        "{text}"
    );
    assert!(
        (calls(&[named, "outcome=\"deny\"", "code=\"schema_violation\""]) - 1.0).abs() < 0.1,
        "{text}"
    );
    assert!(
        calls(&["tool=\"_other\"", "code=\"tool_unknown\""]) > 0.9,
        "{text}"
    );
    assert!(
        !text.contains("must not become"),
        "an unknown tool is a label"
    );
}

#[test]
fn a_sidecar_that_shares_its_agents_user_says_so() {
    let sidecar = before(&echo());
    assert!(sidecar.metric("outrider_build_info", &["isolation=\"none\""]) > 0.9);
    assert!(sidecar.get("/readyz").text().contains("none"));
    let answer = sidecar.agent().call("echo", &hi());
    assert_eq!(sidecar.decision(&answer.decision_id())["isolation"], "none");
}

#[test]
fn bytes_that_are_no_request_are_counted() {
    let server = echo();
    let sidecar = before(&server);
    let mut connection = sidecar.stranger().connect();
    connection.send(b"this is not HTTP\r\n\r\n").unwrap();
    connection.head().ok();
    outrider_integration::until("the count", || {
        (sidecar.metric("outrider_connection_errors_total", &[]) > 0.9).then_some(())
    });
    assert_eq!(server.bytes(), 0);
}
