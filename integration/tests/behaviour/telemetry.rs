//! What is told of calls to others: by OTLP and as OPA tells it, and never in a call's way.

use std::{collections::HashMap, fs};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    metrics::v1::{Metric, metric::Data},
    trace::v1::{Span, status::StatusCode},
};
use outrider_integration::{
    Agent, Collector, Http2Server, Request, Setup, Sidecar, Told, ToolServer, until,
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{OUTRIDER, echo, hi};

const TRACES: &str = "/v1/traces";
const LOGS: &str = "/v1/logs";
const METRICS: &str = "/v1/metrics";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A sidecar that tells a collector by HTTP, but for what `change` says.
fn telling(server: &ToolServer, collector: &Collector, change: impl FnOnce(&mut Value)) -> Sidecar {
    let mut otlp = json!({ "endpoint": collector.url(), "protocol": "http", "interval": "200ms" });
    change(&mut otlp);
    Setup::new(OUTRIDER, server)
        .config(|config| config["telemetry"] = json!({ "otlp": otlp }))
        .start()
}

fn traced(agent: &mut Agent, tool: &str, flags: &str) -> String {
    let parent = format!("00-{TRACE}-{PARENT}-{flags}");
    let request = Request::call(tool, &hi()).field("traceparent", &parent);
    agent.send(&request).decision_id()
}

fn spans(collector: &Collector) -> Vec<Span> {
    let messages = collector.taken(TRACES).into_iter();
    let requests = messages.map(|one| ExportTraceServiceRequest::decode(&*one.body).unwrap());
    let resources = requests.flat_map(|one| one.resource_spans);
    let scopes = resources.flat_map(|one| one.scope_spans);
    scopes.flat_map(|one| one.spans).collect()
}

fn lines(collector: &Collector) -> Vec<String> {
    let messages = collector.taken(LOGS).into_iter();
    let requests = messages.map(|one| ExportLogsServiceRequest::decode(&*one.body).unwrap());
    let scopes = requests
        .flat_map(|one| one.resource_logs)
        .flat_map(|one| one.scope_logs);
    let records = scopes.flat_map(|one| one.log_records);
    records.map(|record| said(record.body.as_ref())).collect()
}

fn metrics(collector: &Collector) -> Vec<Metric> {
    let messages = collector.taken(METRICS).into_iter();
    let requests = messages.map(|one| ExportMetricsServiceRequest::decode(&*one.body).unwrap());
    let scopes = requests
        .flat_map(|one| one.resource_metrics)
        .flat_map(|one| one.scope_metrics);
    scopes.flat_map(|one| one.metrics).collect()
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn said(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

fn named(attributes: &[KeyValue]) -> HashMap<&str, String> {
    let all = attributes.iter();
    all.map(|one| (one.key.as_str(), said(one.value.as_ref())))
        .collect()
}

/// The span of a decision, waited for.
fn span_of(collector: &Collector, decision: &str) -> Span {
    until("the span", || {
        let mut all = spans(collector).into_iter();
        all.find(|span| named(&span.attributes)["outrider.decision.id"] == decision)
    })
}

#[test]
fn a_call_is_one_span_below_its_agents_with_the_names_that_were_agreed_upon() {
    let (server, collector) = (echo(), Collector::start());
    let sidecar = telling(&server, &collector, |_| {});
    let id = traced(&mut sidecar.agent(), "echo", "01");
    let span = span_of(&collector, &id);
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), PARENT);
    let sent = server.calls()[0]
        .head
        .get("traceparent")
        .unwrap()
        .to_owned();
    assert_eq!(sent, format!("00-{TRACE}-{}-01", hex(&span.span_id)));
    assert_eq!(span.name, "tools/call echo");
    assert!(span.end_time_unix_nano > span.start_time_unix_nano);
    assert_eq!(span.status, None);
    let attributes = named(&span.attributes);
    for (name, value) in [
        ("outrider.decision.outcome", "allow"),
        ("outrider.decision.code", "ok"),
        ("outrider.tool", "tools/echo"),
        ("outrider.service", "tools"),
        ("outrider.intent", "work"),
        ("outrider.classification", "internal"),
        ("outrider.ended", "completed"),
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("mcp.method.name", "tools/call"),
        ("mcp.protocol.version", "2026-07-28"),
        ("gen_ai.operation.name", "execute_tool"),
        ("gen_ai.tool.name", "echo"),
        ("network.transport", "tcp"),
    ] {
        assert_eq!(
            attributes.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    let decided: u64 = attributes["outrider.decided_ns"].parse().unwrap();
    assert!(decided > 0);
    let resource = ExportTraceServiceRequest::decode(&*collector.taken(TRACES)[0].body).unwrap();
    let resource = resource.resource_spans[0].resource.clone().unwrap();
    let resource = named(&resource.attributes);
    assert_eq!(resource["service.name"], "outrider");
    assert_eq!(
        resource["outrider.agent"],
        "spiffe://example.org/agent/test"
    );
}

#[test]
fn a_refused_call_is_a_span_that_failed_and_arguments_are_in_none() {
    let (server, collector) = (echo(), Collector::start());
    let sidecar = telling(&server, &collector, |_| {});
    let request = Request::call("echo", &json!({ "unheard": "a-secret-of-the-agent" }))
        .field("traceparent", &format!("00-{TRACE}-{PARENT}-01"));
    let id = sidecar.agent().send(&request).decision_id();
    let span = span_of(&collector, &id);
    assert!(server.calls().is_empty());
    let status = span.status.clone().unwrap();
    assert_eq!(status.code, i32::from(StatusCode::Error));
    let attributes = named(&span.attributes);
    assert_eq!(attributes["error.type"], "schema_violation");
    assert_eq!(attributes["outrider.decision.outcome"], "deny");
    until("the line", || {
        lines(&collector)
            .iter()
            .any(|line| line.contains(&id))
            .then_some(())
    });
    for path in [TRACES, LOGS, METRICS] {
        for message in collector.taken(path) {
            let text = String::from_utf8_lossy(&message.body).into_owned();
            assert!(!text.contains("a-secret-of-the-agent"), "{path}");
        }
    }
}

#[test]
fn who_samples_a_trace_out_gets_no_span_and_a_trace_that_we_start_is_sampled() {
    let (server, collector) = (echo(), Collector::start());
    let sidecar = telling(&server, &collector, |_| {});
    let mut agent = sidecar.agent();
    let out = traced(&mut agent, "echo", "00");
    let ours = agent.call("echo", &hi()).decision_id();
    let span = span_of(&collector, &ours);
    assert!(span.parent_span_id.is_empty());
    let flags = |at: usize| server.calls()[at].head.get("traceparent").unwrap()[53..].to_owned();
    assert_eq!((flags(0).as_str(), flags(1).as_str()), ("00", "01"));
    let told = spans(&collector);
    assert!(
        told.iter()
            .all(|span| named(&span.attributes)["outrider.decision.id"] != out)
    );
    assert_eq!(sidecar.decision(&out)["trace_flags"], "00");
    // Nobody collects: nobody is asked to.
    let alone = crate::support::before(&server);
    alone.agent().call("echo", &hi());
    assert_eq!(flags(2), "00");
}

#[test]
fn both_logs_are_told_line_by_line_as_they_stand() {
    let (server, collector) = (echo(), Collector::start());
    let sidecar = telling(&server, &collector, |_| {});
    let mut agent = sidecar.agent();
    for tool in ["echo", "nothing", "echo"] {
        traced(&mut agent, tool, "01");
    }
    let forged = Request::call("echo", &hi()).field("Outrider-Agent", "spiffe://somebody.else");
    agent.send(&forged);
    let written = |name: &str| fs::read_to_string(sidecar.path(name)).unwrap();
    until("all lines", || {
        let told = lines(&collector);
        let all = written("decisions.jsonl") + &written("security.jsonl");
        all.lines()
            .filter(|line| !line.contains("\"checkpoint\""))
            .all(|line| told.iter().any(|one| one == line))
            .then_some(())
    });
    let told = lines(&collector);
    assert!(told.iter().any(|line| line.contains("header_forgery")));
    let mut once = told.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), told.len(), "nothing is told twice");
}

#[test]
fn the_numbers_are_told_with_the_traces_they_come_from() {
    let (server, collector) = (echo(), Collector::start());
    let sidecar = telling(&server, &collector, |_| {});
    traced(&mut sidecar.agent(), "echo", "01");
    let point = until("the histogram", || {
        metrics(&collector)
            .into_iter()
            .rev()
            .find_map(|metric| match metric.data {
                Some(Data::Histogram(histogram))
                    if metric.name == "outrider_call_duration_seconds" =>
                {
                    let mut points = histogram.data_points.into_iter();
                    points.find(|point| {
                        point.count == 1 && named(&point.attributes)["tool"] == "echo"
                    })
                }
                _ => None,
            })
    });
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 1);
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.exemplars.len(), 1);
    let trace = hex(&point.exemplars[0].trace_id);
    assert_eq!(trace, TRACE);
    let calls = metrics(&collector)
        .into_iter()
        .rev()
        .find(|metric| metric.name == "outrider_calls");
    let Some(Data::Sum(calls)) = calls.unwrap().data else {
        panic!("a counter is a sum")
    };
    assert!(calls.is_monotonic);
}

#[test]
fn exemplars_stand_in_openmetrics_only() {
    let server = echo();
    let sidecar = crate::support::before(&server);
    traced(&mut sidecar.agent(), "echo", "01");
    let page = |accept: &str| {
        let mut agent = Agent::new(sidecar.admin().into(), "/metrics");
        agent
            .send(&Request::raw("GET", "/metrics", Vec::new()).field("accept", accept))
            .text()
    };
    let open = page("application/openmetrics-text");
    let exemplar = format!("# {{trace_id=\"{TRACE}\",span_id=");
    for family in [
        "call_duration",
        "upstream_duration",
        "overhead",
        "policy_eval",
    ] {
        let begin = format!("outrider_{family}_seconds_bucket");
        let shown = |line: &str| line.starts_with(&begin) && line.contains(&exemplar);
        assert!(open.lines().any(shown), "{family}");
    }
    assert!(!page("text/plain").contains("trace_id"));
}

fn opa(collector: &Collector) -> Vec<Value> {
    let messages = collector.taken("/opa/logs").into_iter();
    let arrays = messages.map(|one| serde_json::from_slice::<Vec<Value>>(&one.body).unwrap());
    arrays.flatten().collect()
}

#[test]
fn opa_gets_decisions_as_gzip_arrays_and_who_sends_them_proves_it() {
    let (server, collector) = (echo(), Collector::start());
    let setup = Setup::new(OUTRIDER, &server).config(|config| {
        config["telemetry"]["opa"] = json!({
            "url": format!("{}/opa", collector.url()),
            "headers": { "authorization": "Bearer ${file:opa-token}" },
        });
    });
    setup.file("opa-token", "of-the-log-service\n");
    let sidecar = setup.start();
    let mut agent = sidecar.agent();
    let ids = [
        traced(&mut agent, "echo", "01"),
        traced(&mut agent, "nothing", "01"),
    ];
    let events = until("both", || {
        Some(opa(&collector)).filter(|events| events.len() >= 2)
    });
    for (event, id) in events.iter().zip(&ids) {
        assert_eq!(event, &sidecar.decision(id));
        for member in [
            "labels",
            "decision_id",
            "bundles",
            "path",
            "input",
            "result",
            "timestamp",
            "metrics",
        ] {
            assert!(event.get(member).is_some(), "{member}");
        }
    }
    let head = &collector.taken("/opa/logs")[0].head;
    assert_eq!(head.get("content-encoding"), Some("gzip"));
    assert_eq!(head.get("content-type"), Some("application/json"));
    assert_eq!(head.get("authorization"), Some("Bearer of-the-log-service"));
}

#[test]
fn what_nobody_takes_waits_in_the_log_and_survives_a_crash() {
    let (server, collector) = (echo(), Collector::start());
    collector.answers(503);
    let sidecar = telling(&server, &collector, |_| {});
    let mut agent = sidecar.agent();
    let mut ids: Vec<_> = (0..20).map(|_| traced(&mut agent, "echo", "01")).collect();
    until("an attempt", || {
        (!collector.refused(LOGS).is_empty()).then_some(())
    });
    assert!(sidecar.metric("outrider_telemetry_lag_bytes", &["signal=\"logs\""]) > 0.0);
    assert!(
        sidecar.metric(
            "outrider_telemetry_records_total",
            &["signal=\"logs\"", "result=\"failed\""]
        ) > 0.0
    );
    let sidecar = sidecar.crash();
    collector.answers(200);
    ids.push(traced(&mut sidecar.agent(), "echo", "01"));
    until("every decision", || {
        let told = lines(&collector);
        ids.iter()
            .all(|id| told.iter().any(|line| line.contains(id.as_str())))
            .then_some(())
    });
}

#[test]
fn a_message_that_never_will_be_taken_is_counted_and_not_sent_again() {
    let (server, collector) = (echo(), Collector::start());
    collector.answers(400);
    let sidecar = telling(&server, &collector, |otlp| {
        otlp["traces"] = false.into();
        otlp["metrics"] = false.into();
    });
    let first = traced(&mut sidecar.agent(), "echo", "01");
    let dropped = ["signal=\"logs\"", "result=\"dropped\""];
    until("it was refused", || {
        (sidecar.metric("outrider_telemetry_records_total", &dropped) > 0.0).then_some(())
    });
    collector.answers(200);
    let second = traced(&mut sidecar.agent(), "echo", "01");
    until("the next", || {
        lines(&collector)
            .iter()
            .any(|line| line.contains(&second))
            .then_some(())
    });
    assert!(
        !lines(&collector)
            .iter()
            .any(|line| line.contains(&first) && line.contains("\"decision\""))
    );
}

#[test]
fn more_than_may_wait_is_passed_over_and_counted() {
    let (server, collector) = (echo(), Collector::start());
    collector.answers(503);
    let otlp = json!({ "endpoint": collector.url(), "protocol": "http", "traces": false, "metrics": false });
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["telemetry"] = json!({ "otlp": otlp, "queue": "16KiB" }))
        .start();
    let mut agent = sidecar.agent();
    traced(&mut agent, "echo", "01");
    until("an attempt", || {
        (!collector.refused(LOGS).is_empty()).then_some(())
    });
    // The queue is less than what is read at once: so much more, and the rest is passed over.
    for _ in 0..300 {
        traced(&mut agent, "echo", "01");
    }
    collector.answers(200);
    let last = traced(&mut agent, "echo", "01");
    until("the last", || {
        lines(&collector)
            .iter()
            .any(|line| line.contains(&last))
            .then_some(())
    });
    let dropped = ["signal=\"logs\"", "result=\"dropped\""];
    let dropped = sidecar.metric("outrider_telemetry_records_total", &dropped);
    assert!(dropped > 100.0, "{dropped}");
}

#[test]
fn a_log_that_is_put_aside_is_told_to_its_end() {
    let (server, collector) = (echo(), Collector::start());
    let otlp = json!({ "endpoint": collector.url(), "protocol": "http", "traces": false, "metrics": false });
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| {
            config["telemetry"] = json!({ "otlp": otlp });
            config["decision_log"]["rotate"] = json!({ "size": "8KiB" });
        })
        .start();
    let mut agent = sidecar.agent();
    let files = || {
        let folder = sidecar.path("decisions.jsonl");
        let names = fs::read_dir(folder.parent().unwrap()).unwrap().flatten();
        let aside = |name: &str| name.starts_with("decisions.jsonl.0");
        names
            .filter(|entry| aside(&entry.file_name().to_string_lossy()))
            .count()
    };
    let mut ids = Vec::new();
    while files() < 3 {
        ids.push(traced(&mut agent, "echo", "01"));
    }
    until("every decision", || {
        let told = lines(&collector);
        ids.iter()
            .all(|id| told.iter().any(|line| line.contains(id.as_str())))
            .then_some(())
    });
    let mut seqs: Vec<u64> = lines(&collector)
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["seq"].as_u64())
        .collect();
    let told = seqs.clone();
    seqs.dedup();
    assert_eq!(seqs, told);
    assert!(
        told.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{told:?}"
    );
}

#[test]
fn what_is_left_is_told_at_a_clean_stop() {
    let (server, collector) = (echo(), Collector::start());
    let mut sidecar = telling(&server, &collector, |_| {});
    let ids: Vec<_> = (0..5)
        .map(|_| traced(&mut sidecar.agent(), "echo", "01"))
        .collect();
    sidecar.signal("TERM");
    assert!(sidecar.wait().success());
    let told = lines(&collector);
    assert!(ids.iter().all(|id| {
        told.iter()
            .filter(|line| line.contains(id.as_str()))
            .count()
            == 2
    }));
    assert_eq!(
        told.iter()
            .filter(|line| line.contains("\"checkpoint\""))
            .count(),
        1
    );
    assert_eq!(spans(&collector).len(), 5);
}

#[test]
fn by_grpc_a_status_says_what_became_of_it() {
    let trailers = |code: &'static str| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static(code));
        trailers
    };
    let taker = Http2Server::start(10, move |reached| {
        let code = if reached.head.uri.path().contains("LogsService") {
            "3"
        } else {
            "0"
        };
        Told::answer("\0\0\0\0\0", Some(trailers(code)))
    });
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| {
            config["telemetry"]["otlp"] =
                json!({ "endpoint": format!("http://{}", taker.address()) });
        })
        .start();
    let id = traced(&mut sidecar.agent(), "echo", "01");
    let reached = until("the span", || {
        let mut all = taker.reached().into_iter();
        all.find(|one| one.head.uri.path().ends_with("TraceService/Export"))
    });
    assert_eq!(
        reached.head.uri.path(),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    );
    let request = ExportTraceServiceRequest::decode(&reached.body[5..]).unwrap();
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(named(&span.attributes)["outrider.decision.id"], id);
    until("the refusal", || {
        let dropped = ["signal=\"logs\"", "result=\"dropped\""];
        (sidecar.metric("outrider_telemetry_records_total", &dropped) > 0.0).then_some(())
    });
}

#[test]
fn nothing_goes_over_a_network_in_the_clear_unless_it_was_said() {
    let server = echo();
    let check = |otlp: Value| {
        let setup =
            Setup::new(OUTRIDER, &server).config(|config| config["telemetry"]["otlp"] = otlp);
        setup.write();
        setup.run(&["check"])
    };
    let clear = check(json!({ "endpoint": "http://collector.example.org:4317" }));
    assert_eq!(clear.status, 1);
    assert!(clear.stdout.contains("insecure: true"), "{clear:?}");
    let said = check(json!({ "endpoint": "http://collector.example.org:4317", "insecure": true }));
    assert_eq!(said.status, 0, "{}", said.stderr);
    for (otlp, expected) in [
        (
            json!({ "endpoint": "collector:4317" }),
            "expected an URL such as",
        ),
        (
            json!({ "endpoint": "https://c.example", "protocol": "thrift" }),
            "grpc",
        ),
        (
            json!({ "endpoint": "https://c.example", "conventions": "0.9" }),
            "1.44",
        ),
        (
            json!({ "endpoint": "https://c.example", "ca": "nowhere.pem" }),
            "cannot read",
        ),
    ] {
        let bad = check(otlp);
        assert_ne!(bad.status, 0);
        assert!((bad.stdout + &bad.stderr).contains(expected), "{expected}");
    }
}
