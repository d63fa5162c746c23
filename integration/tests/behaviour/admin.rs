//! Probes, metrics, keys: read only.

use outrider_integration::{Agent, Request, Setup, until};

use crate::support::{OUTRIDER, before, echo, hi};

#[test]
fn the_probes_answer() {
    let sidecar = before(&echo());
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(sidecar.get(path).status, 200, "{path}");
    }
    assert_eq!(sidecar.get("/nothing").status, 404);
}

#[test]
fn a_second_address_has_probes_and_numbers_and_nothing_else() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let probe = free.local_addr().unwrap();
    drop(free);
    let sidecar = Setup::new(OUTRIDER, &echo())
        .config(|config| config["admin"]["probe"] = probe.to_string().into())
        .start();
    let asked = |path: &str| {
        let mut agent = Agent::new(probe.into(), path);
        agent.send(&Request::raw("GET", path, Vec::new())).status
    };
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        assert_eq!(asked(path), 200, "{path}");
    }
    assert_eq!(asked("/.well-known/jwks.json"), 404);
    assert_eq!(sidecar.get("/.well-known/jwks.json").status, 200);
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

/// Labels come from the configuration and the catalogue alone.
#[test]
fn no_metric_tells_a_task_a_decision_or_a_subject() {
    let server = echo();
    let sidecar = before(&server);
    let task = sidecar.open_task(&["--subject", "alice@example.org"]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    let mut ids = vec![task.id, task.token, "alice@example.org".into()];
    for request in [
        Request::call("echo", &serde_json::json!({"message": "zz9 argument"})),
        Request::call("echo", &serde_json::json!({"zz9-key": 1})),
        Request::call("zz9-tool", &hi()),
        Request::list(),
        Request::call("echo", &hi()).target("/zz9-service"),
    ] {
        ids.push(agent.send(&request).decision_id());
    }
    sidecar.command(&["task", "close", &ids[0]]);
    let text = sidecar.get("/metrics").text();
    assert!(text.contains("outrider_calls_total"), "{text}");
    for id in ids.iter().map(String::as_str).chain(["zz9"]) {
        assert!(!id.is_empty() && !text.contains(id), "{id} is in\n{text}");
    }
}

#[test]
fn a_gauge_tells_when_the_agents_entry_expires_and_none_when_it_does_not() {
    let server = echo();
    let name = "outrider_agent_expiry_timestamp_seconds";
    let mut sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["agents"][0]["expires"] = "2096-10-02T07:06:40Z".into())
        .start();
    assert!((sidecar.metric(name, &[]) - 4_000_000_000.0).abs() < 0.5);
    sidecar.rewrite(|_, data| {
        let entry = data["agents"][0].as_object_mut();
        entry.expect("an entry").remove("expires");
    });
    let page = until("the entry to be read again", || {
        let page = sidecar.get("/metrics").text();
        let sample = |line: &str| line.starts_with(name);
        (!page.lines().any(sample)).then_some(page)
    });
    // What is not proved by anything that expires has no sample either.
    assert!(!page.contains("outrider_identity_expiry_timestamp_seconds{"));
}
