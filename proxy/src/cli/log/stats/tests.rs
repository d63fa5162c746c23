use clap::Parser as _;

use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: StatsArgs,
}

fn decision(id: &str, second: u32, tool: &str, outcome: &str, code: &str, more: &str) -> String {
    format!(
        r#"{{"type":"decision","decision_id":"{id}","timestamp":"2026-11-27T07:00:{second:02}Z","outcome":"{outcome}","code":"{code}","tool":"{tool}","agent":"a","method":"tools/call","metrics":{{"timer_server_handler_ns":250000}}{more}}}"#
    )
}

fn outcome(id: &str, millis: u64, ended: &str) -> String {
    format!(
        r#"{{"type":"outcome","decision_id":"{id}","timestamp":"2026-11-27T07:00:30Z","response":{{"status":200,"bytes":100,"duration_ms":{millis}}},"ended":"{ended}","code":"ok"}}"#
    )
}

fn log() -> String {
    let mut lines = vec![
        decision("1", 1, "crm/lookup", "allow", "ok", ""),
        decision("2", 2, "crm/lookup", "allow", "ok", ""),
        outcome("1", 12, "completed"),
        decision("3", 3, "crm/export", "deny", "policy_denied", ""),
        decision(
            "4",
            4,
            "",
            "deny",
            "rate_limited",
            r#","count":40,"window_ms":900"#,
        ),
        outcome("2", 900, "cut"),
        decision("5", 5, "crm/lookup", "allow", "ok", ""),
        r#"{"type":"checkpoint","seq":7}"#.to_owned(),
        "not a line of any log".to_owned(),
        outcome("0", 5, "completed"),
    ];
    lines.push(r#"{"type":"decision","torn"#.to_owned());
    lines.join("\n")
}

fn said(words: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log.jsonl");
    std::fs::write(&file, log()).unwrap();
    let words = ["stats", file.to_str().unwrap()]
        .into_iter()
        .chain(words.split_whitespace());
    let line = Line::try_parse_from(words).unwrap();
    let mut out = Vec::new();
    let nowhere = |_: &std::path::Path| -> anyhow::Result<PathBuf> { unreachable!() };
    stats(&line.args, &nowhere, &mut out, Style::Plain).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_in_a_log_is_counted_by_what_was_asked() {
    insta::assert_snapshot!(said(""));
    insta::assert_snapshot!(said("--by code --top 2"));
}

#[test]
fn the_same_as_json_has_units_in_its_names() {
    let told: Value = serde_json::from_str(&said("--json")).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&told).unwrap());
}

#[test]
fn only_what_arrived_in_time_counts() {
    let told: Value = serde_json::from_str(&said(
        "--json --since 2026-11-27T07:00:02Z --until 2026-11-27T07:00:04Z",
    ))
    .unwrap();
    assert_eq!(told["calls"], 2);
    assert_eq!(told["from"], "2026-11-27T07:00:02Z");
    let words = ["stats", "--since", "yesterday"];
    assert!(Line::try_parse_from(words).is_err());
    assert!(Line::try_parse_from(["stats", "--since", "15m"]).is_ok());
}
