use super::*;

/// Everything that can be counted, counted once.
fn used() -> Metrics {
    let metrics = Metrics::new("0.1.0", "uid");
    let tool = metrics.tool("tickets", "create \"x\"\n");
    tool.decided("allow", "ok");
    tool.decided("deny", "policy_denied");
    tool.ended(Duration::from_millis(3), None);
    tool.violated(Direction::Request);
    metrics.tool(OTHER, OTHER).decided("deny", "tool_unknown");
    metrics
        .service("tickets")
        .answered(Duration::from_millis(2), None);
    metrics.limit("per-agent").rejected();
    for stage in Stage::ALL {
        metrics.overhead(stage, Duration::from_micros(20), None);
    }
    metrics.policy_evaluated(Duration::from_micros(3), None);
    metrics.policy_in_force("r0", "shadow");
    metrics.policy_in_force("r1", "enforce");
    metrics.policy_reloaded("ok");
    metrics.telemetry("logs", "sent", 3);
    metrics.telemetry_lag("logs", 4096);
    metrics.revoked("control");
    metrics.record_written();
    metrics.record_refused();
    metrics.connection_error("parse");
    metrics.feed_tasks(Box::new(|| vec![("active", 2), ("suspended", 1)]));
    metrics.feed_approvals(Box::new(|| vec![("pending", 1)]));
    metrics.feed_credentials(Box::new(|| {
        vec![CredentialSample {
            service: "crm".into(),
            expires_s: Some(60),
            fetches: Some((3, 1)),
        }]
    }));
    metrics.feed_issuers(Box::new(|| {
        vec![
            (
                "https://a.example".into(),
                2,
                Some(Duration::from_millis(1500)),
            ),
            ("https://b.example".into(), 0, None),
        ]
    }));
    metrics
}

const FAMILIES: [(&str, &str); 24] = [
    ("outrider_calls_total", "counter"),
    ("outrider_call_duration_seconds", "histogram"),
    ("outrider_overhead_seconds", "histogram"),
    ("outrider_upstream_duration_seconds", "histogram"),
    ("outrider_schema_violations_total", "counter"),
    ("outrider_limit_rejections_total", "counter"),
    ("outrider_policy_eval_seconds", "histogram"),
    ("outrider_policy_info", "gauge"),
    ("outrider_policy_loaded_timestamp_seconds", "gauge"),
    ("outrider_telemetry_records_total", "counter"),
    ("outrider_telemetry_lag_bytes", "gauge"),
    ("outrider_policy_reload_total", "counter"),
    ("outrider_tasks", "gauge"),
    ("outrider_revocations_total", "counter"),
    ("outrider_approvals", "gauge"),
    ("outrider_credential_expiry_seconds", "gauge"),
    ("outrider_credential_fetches_total", "counter"),
    ("outrider_issuer_keys", "gauge"),
    ("outrider_issuer_keys_age_seconds", "gauge"),
    ("outrider_decision_log_records_total", "counter"),
    ("outrider_decision_log_queue", "gauge"),
    ("outrider_in_flight", "gauge"),
    ("outrider_connection_errors_total", "counter"),
    ("outrider_build_info", "gauge"),
];

#[test]
fn every_family_is_on_the_page_under_its_name_and_no_other() {
    let metrics = used();
    let _call = metrics.listener("reverse").enter();
    let page = metrics.page(Format::Prometheus);
    for (family, kind) in FAMILIES {
        assert!(
            page.contains(&format!("# TYPE {family} {kind}\n")),
            "{family}\n{page}"
        );
        assert!(page.contains(&format!("# HELP {family} ")), "{family}");
    }
    assert_eq!(page.matches("# TYPE ").count(), FAMILIES.len());
    assert!(!page.contains("# EOF") && !page.contains("# UNIT"));
}

#[test]
fn both_formats_have_the_same_samples() {
    let metrics = used();
    let samples = |format| {
        let page = metrics.page(format);
        page.lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(samples(Format::Prometheus), samples(Format::OpenMetrics));
    let page = metrics.page(Format::OpenMetrics);
    assert!(page.contains("# TYPE outrider_calls counter\n") && page.ends_with("# EOF\n"));
    assert!(page.contains("# TYPE outrider_build info\n"));
}

#[test]
fn samples_carry_the_documented_labels() {
    let metrics = used();
    let call = metrics.listener("reverse").enter();
    let page = metrics.page(Format::Prometheus);
    for sample in [
        r#"outrider_calls_total{service="tickets",tool="create \"x\"\n",outcome="allow",code="ok"} 1"#,
        r#"outrider_calls_total{service="tickets",tool="create \"x\"\n",outcome="deny",code="policy_denied"} 1"#,
        r#"outrider_calls_total{service="_other",tool="_other",outcome="deny",code="tool_unknown"} 1"#,
        r#"outrider_schema_violations_total{service="tickets",tool="create \"x\"\n",direction="request"} 1"#,
        r#"outrider_upstream_duration_seconds_count{service="tickets"} 1"#,
        r#"outrider_limit_rejections_total{limit="per-agent"} 1"#,
        r#"outrider_overhead_seconds_count{stage="total"} 1"#,
        "outrider_policy_eval_seconds_count 1",
        r#"outrider_policy_info{revision="r1",mode="enforce"} 1"#,
        r#"outrider_policy_reload_total{result="ok"} 1"#,
        r#"outrider_tasks{state="suspended"} 1"#,
        r#"outrider_revocations_total{source="control"} 1"#,
        r#"outrider_approvals{state="pending"} 1"#,
        r#"outrider_issuer_keys{issuer="https://a.example"} 2"#,
        r#"outrider_issuer_keys{issuer="https://b.example"} 0"#,
        r#"outrider_issuer_keys_age_seconds{issuer="https://a.example"} 1.5"#,
        r#"outrider_decision_log_records_total{result="written"} 1"#,
        r#"outrider_decision_log_records_total{result="refused"} 1"#,
        "outrider_decision_log_queue 0",
        r#"outrider_in_flight{listener="reverse"} 1"#,
        r#"outrider_connection_errors_total{reason="parse"} 1"#,
        r#"outrider_build_info{version="0.1.0",isolation="uid"} 1"#,
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
    }
    assert!(!page.contains("r0"), "one policy is in force");
    drop(call);
    assert!(
        metrics
            .page(Format::Prometheus)
            .contains("outrider_in_flight{listener=\"reverse\"} 0\n")
    );
}

#[test]
fn the_accept_header_chooses() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, format) in [
        (None, Format::Prometheus),
        (Some(""), Format::Prometheus),
        (Some("*/*"), Format::Prometheus),
        (Some("text/html"), Format::Prometheus),
        (Some(prometheus), Format::OpenMetrics),
        (Some("Application/OpenMetrics-Text"), Format::OpenMetrics),
        (
            Some("application/openmetrics-text; q=0, text/plain"),
            Format::Prometheus,
        ),
        (
            Some("application/openmetrics-text;q=0.2, text/plain;q=0.9"),
            Format::Prometheus,
        ),
        (Some("application/openmetrics-text;q=x"), Format::Prometheus),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept:?}");
    }
}
