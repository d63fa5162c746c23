//! `outrider log stats` and `outrider top`: what they tell is what was called.

use outrider_integration::{Request, Sidecar};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, before, echo, hi};

struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

/// A command that needs no control socket, where the sidecar's files are.
fn outrider(sidecar: &Sidecar, words: &[&str]) -> Said {
    let done = std::process::Command::new(OUTRIDER)
        .args(words)
        .current_dir(sidecar.path(""))
        .output()
        .unwrap();
    Said {
        status: done.status.code().unwrap(),
        stdout: String::from_utf8(done.stdout).unwrap(),
        stderr: String::from_utf8(done.stderr).unwrap(),
    }
}

fn counted(sidecar: &Sidecar, options: &[&str]) -> Value {
    let said = outrider(sidecar, &[&["log", "stats", "--json"], options].concat());
    assert_eq!(said.status, 0, "{}", said.stderr);
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn a_log_is_counted_as_it_was_called() {
    let server = echo();
    let sidecar = before(&server);
    let mut agent = sidecar.agent();
    for _ in 0..5 {
        agent.call("echo", &hi());
    }
    agent.call("nothing", &hi());
    let last = agent.send(&Request::call("echo", &json!({ "unheard": 1 })));
    sidecar.decision(&last.decision_id());
    let told = outrider_integration::until("every outcome", || {
        Some(counted(&sidecar, &[])).filter(|told| told["open"] == 0)
    });
    assert_eq!(told["outcomes"], json!({ "allow": 5, "deny": 2 }));
    assert_eq!(
        told["codes"],
        json!({ "tool_unknown": 1, "schema_violation": 1 })
    );
    let group = &told["groups"][0];
    assert_eq!(
        (&group["name"], &group["calls"], &group["refused"]),
        (&json!("tools/echo"), &json!(6), &json!(1))
    );
    assert_eq!(group["ended"], json!({ "completed": 5 }));
    assert!(group["overhead"]["p50_us"].as_u64().unwrap() > 0);
    let none = counted(&sidecar, &["--until", "2020-01-01T00:00:00Z"]);
    assert_eq!(none["calls"], 0);
    let table = outrider(&sidecar, &["log", "stats"]);
    assert!(table.stdout.contains("tools/echo"), "{}", table.stdout);
}

#[test]
fn a_log_that_is_not_there_is_said() {
    let server = echo();
    let sidecar = before(&server);
    let said = outrider(&sidecar, &["log", "stats", "nowhere.jsonl"]);
    assert_eq!(said.status, 2);
    assert!(said.stderr.contains("nowhere.jsonl"), "{}", said.stderr);
}

#[test]
fn top_tells_what_is_called_now() {
    let server = echo();
    let sidecar = before(&server);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut agent = sidecar.agent();
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                agent.call("echo", &hi());
                agent.call("nothing", &hi());
            }
        });
        let admin = sidecar.admin().to_string();
        let said = outrider(
            &sidecar,
            &[
                "top",
                "--admin",
                &admin,
                "--json",
                "--count",
                "2",
                "--interval",
                "300ms",
            ],
        );
        let plain = outrider(
            &sidecar,
            &[
                "top",
                "--admin",
                &admin,
                "--count",
                "1",
                "--interval",
                "300ms",
            ],
        );
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(said.status, 0, "{}", said.stderr);
        let lines: Vec<Value> = said
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        let now = &lines[1];
        assert!(now["calls_per_s"].as_f64().unwrap() > 0.0);
        assert!(
            now["refused_by_code_per_s"]["tool_unknown"]
                .as_f64()
                .unwrap()
                > 0.0
        );
        assert!(
            now["tools"]
                .as_array()
                .unwrap()
                .iter()
                .any(|tool| tool["tool"] == "tools/echo" && tool["mean_s"].as_f64().unwrap() > 0.0)
        );
        assert_eq!(
            (&now["ready"], &now["isolation"], &now["tasks"]["active"]),
            (&json!(true), &json!("none"), &json!(1.0))
        );
        assert!(
            plain.stdout.contains("TOOL, SLOWEST FIRST") && plain.stdout.contains("tools/echo"),
            "{}",
            plain.stdout
        );
    });
}

#[test]
fn a_sidecar_that_is_away_is_shown_as_away() {
    let server = echo();
    let sidecar = before(&server);
    let said = outrider(
        &sidecar,
        &[
            "top",
            "--admin",
            "127.0.0.1:1",
            "--json",
            "--count",
            "1",
            "--interval",
            "10ms",
        ],
    );
    assert_eq!(said.status, 0);
    let now: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(now["up"], false);
}
