//! Refusals that repeat beyond a rate share a counted line, whose decision they carry.

use std::collections::HashMap;

use outrider_integration::{Request, Setup, Sidecar, ToolServer, check_chain, until};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, echo, hi};

/// A sidecar under which five refusals of a kind have lines of their own in an hour.
fn sharing(server: &ToolServer) -> Sidecar {
    Setup::new(OUTRIDER, server)
        .config(|config| config["decision_log"]["refusals"] = "5/h".into())
        .start()
}

/// The lines of all decisions by ID, after a clean stop.
fn stopped(sidecar: &mut Sidecar) -> HashMap<String, Value> {
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait().code(), Some(0));
    let text = sidecar.log_text();
    assert_eq!(check_chain(&text), Ok(text.lines().count()));
    let decisions = sidecar.decisions();
    let count = decisions.len();
    let named = |line: Value| (line["decision_id"].as_str().unwrap().to_owned(), line);
    let lines: HashMap<_, _> = decisions.into_iter().map(named).collect();
    assert_eq!(lines.len(), count, "one line, one decision");
    lines
}

/// How many refusals a line stands for.
fn count(line: &Value) -> u64 {
    line["count"].as_u64().unwrap_or(1)
}

#[test]
fn refusals_beyond_the_rate_carry_the_id_of_a_counted_line() {
    let server = echo();
    let mut sidecar = sharing(&server);
    let token = sidecar.open_task(&[]).token;
    let ids: Vec<String> = std::thread::scope(|scope| {
        let fire = || {
            let mut agent = sidecar.stranger().with_token(&token);
            let mut refused = || {
                let answer = agent.call("echo", &json!({"message": 7}));
                assert_eq!(answer.code(), "schema_violation");
                assert_eq!(answer.decision()["id"], answer.decision_id().as_str());
                answer.decision_id()
            };
            (0..50).map(|_| refused()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(fire)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(server.bytes(), 0);
    let lines = stopped(&mut sidecar);
    let mut carried: HashMap<&String, u64> = HashMap::new();
    for id in &ids {
        *carried.entry(id).or_default() += 1;
    }
    for (id, times) in &carried {
        let line = lines.get(*id).expect("the line of a refusal");
        assert_eq!(count(line), *times, "{line}");
        assert_eq!(line["code"], "schema_violation");
        assert_eq!(line["tool"], "tools/echo");
    }
    let own = lines.values().filter(|line| line.get("count").is_none());
    assert_eq!(own.count(), 5);
    let counted = lines.values().find(|line| line.get("count").is_some());
    assert!(counted.unwrap()["window_ms"].is_u64());
}

#[test]
fn security_is_told_of_refusals_that_repeat_once_and_how_many_there_were() {
    let server = echo();
    let mut sidecar = sharing(&server);
    let mut agent = sidecar.agent();
    for _ in 0..25 {
        agent.call("echo", &json!({}));
    }
    let lines = stopped(&mut sidecar);
    let events = sidecar.security_log();
    let of = |kind: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|event| event["type"] == kind)
            .collect()
    };
    assert_eq!(of("schema_violation").len(), 5);
    let mut repeated = 0;
    for event in of("repeated_refusals") {
        let line = &lines[event["decision_id"].as_str().unwrap()];
        assert_eq!(event["count"], count(line).to_string());
        assert_eq!(event["code"], "schema_violation");
        repeated += count(line);
    }
    assert_eq!(repeated, 20);
}

#[test]
fn refusals_of_another_kind_keep_lines_of_their_own() {
    let server = echo();
    let mut sidecar = sharing(&server);
    let (mut agent, mut other) = (sidecar.agent(), sidecar.agent());
    for _ in 0..25 {
        agent.call("nope", &hi());
    }
    let kinds = [
        agent.call("echo", &json!({})),
        other.call("nope", &hi()),
        sidecar.stranger().call("nope", &hi()),
    ];
    let lines = stopped(&mut sidecar);
    for answer in kinds {
        let line = &lines[&answer.decision_id()];
        assert_eq!(line.get("count"), None, "{line}");
    }
}

#[test]
fn a_counted_line_is_written_when_its_second_is_over() {
    let server = echo();
    let sidecar = sharing(&server);
    let mut agent = sidecar.agent();
    let ids: Vec<_> = (0..8)
        .map(|_| agent.call("nope", &hi()).decision_id())
        .collect();
    let last = ids.last().unwrap();
    until("the counted line", || {
        let decisions = sidecar.decisions();
        decisions
            .iter()
            .any(|line| line["decision_id"] == last.as_str())
            .then_some(())
    });
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn a_name_that_the_agent_makes_up_makes_no_kind() {
    let server = echo();
    let mut sidecar = sharing(&server);
    let mut agent = sidecar.agent();
    for number in 0..25 {
        let twin = Request::call("echo", &hi()).with(&format!("Content_{number}"), "x");
        assert_eq!(agent.send(&twin).code(), "header_mismatch");
    }
    assert_eq!(server.bytes(), 0);
    let lines = stopped(&mut sidecar);
    let own = lines.values().filter(|line| line.get("count").is_none());
    assert_eq!(own.count(), 5);
    assert_eq!(lines.values().map(count).sum::<u64>(), 25);
}
