use std::fs;

use super::*;
use crate::{
    cli::parsed,
    record::chain::{Log, LogConfig},
};

/// A directory with a closed log of three decisions and an outcome.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let log = Log::open(&LogConfig::at(room.path("log")), now).unwrap();
        for (id, tool, outcome, code) in [
            ("d1", "tickets/list", "allow", "ok"),
            ("d2", "tickets/\\u001b[31mx", "deny", "tool_unknown"),
            ("d3", "crm/get", "hold", "approval_required"),
        ] {
            let members = format!(
                r#""type":"decision","decision_id":"{id}","timestamp":"2026-11-22T12:00:01Z","outcome":"{outcome}","code":"{code}","tool":"{tool}","agent":"spiffe://a""#
            );
            log.append(members.as_bytes()).unwrap();
        }
        log.append(br#""type":"outcome","decision_id":"d1","ended":"completed","code":"ok","response":{"status":200,"duration_ms":3}"#).unwrap();
        log.close(now);
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, command: &str) -> (anyhow::Result<Finding>, String) {
        let command = command.replace('@', &format!("{}/", self.0.path().display()));
        let args: LogArgs = parsed(command.split(' ')).unwrap();
        let mut out = Vec::new();
        let log = self.path("log");
        let locate = move |config: &Path| {
            anyhow::ensure!(
                config == Path::new("outrider.yaml"),
                "unexpected {config:?}"
            );
            Ok(log.clone())
        };
        let finding = execute(&args, &locate, &mut out, Style::Plain);
        (finding, String::from_utf8(out).unwrap())
    }

    fn found(&self, command: &str) -> (Finding, String) {
        let (finding, out) = self.run(command);
        (finding.unwrap(), out)
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(self.path("log"))
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[test]
fn a_whole_log_is_verified_to_its_end() {
    let room = Room::new();
    let (finding, out) = room.found("verify @log");
    assert_eq!(finding, Finding::So);
    assert!(
        out.starts_with("verified to seq 5, signed to seq 5\n"),
        "{out}"
    );
    assert!(out.contains("truncation could not be excluded"), "{out}");
    assert!(out.contains("keys were read from beside the log"), "{out}");
}

#[test]
fn a_given_key_and_a_found_head_leave_no_doubt() {
    let room = Room::new();
    fs::write(room.path("head"), format!("{}\n", room.lines()[4])).unwrap();
    let (finding, out) = room.found("verify @log --key @log.jwks --head @head");
    assert_eq!(finding, Finding::So);
    assert_eq!(
        out,
        "verified to seq 5, signed to seq 5\nhead found at seq 5: nothing up to it was cut off\n"
    );
}

#[test]
fn a_missing_head_is_a_finding() {
    let room = Room::new();
    let all = room.lines();
    fs::write(room.path("head"), &all[4]).unwrap();
    fs::write(room.path("log"), all[..4].join("\n") + "\n").unwrap();
    let (finding, out) = room.found("verify @log --head @head");
    assert_eq!(finding, Finding::NotSo);
    assert!(
        out.contains("head missing: the checkpoint at seq 5 is not in the log"),
        "{out}"
    );
    assert!(
        out.starts_with("verified to seq 4, signed to seq 0\n"),
        "{out}"
    );
}

#[test]
fn a_changed_line_is_named() {
    let room = Room::new();
    let text = fs::read_to_string(room.path("log"))
        .unwrap()
        .replace("\"code\":\"tool_unknown\"", "\"code\":\"ok\"");
    fs::write(room.path("log"), text).unwrap();
    let (finding, out) = room.found("verify @log");
    assert_eq!(finding, Finding::NotSo);
    assert!(
        out.contains("log:2 does not have the hash it states"),
        "{out}"
    );
    let (_, json) = room.found("verify --json @log");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (
            &json["ok"],
            &json["verified_to"],
            &json["first_bad"]["line"]
        ),
        (&false.into(), &1.into(), &2.into())
    );
}

#[test]
fn without_any_key_it_says_that_signatures_were_not_checked() {
    let room = Room::new();
    fs::remove_file(room.path("log.jwks")).unwrap();
    let (finding, out) = room.found("verify @log");
    assert_eq!(finding, Finding::So);
    assert!(
        out.contains("signed to seq 0") && out.contains("signatures were not checked"),
        "{out}"
    );
}

#[test]
fn unreadable_input_is_wrong_use() {
    let room = Room::new();
    fs::write(room.path("empty"), "").unwrap();
    for command in [
        "verify @none",
        "verify @",
        "verify @log --key @none",
        "verify @log --key @empty",
        "verify @log --head @none",
        "verify @log --head @log",
        "tail @none",
        "tail @",
        "show d1 @none",
    ] {
        let (finding, _) = room.run(command);
        assert!(finding.is_err(), "{command}");
    }
}

#[test]
fn tail_shows_the_last_lines_and_plays_nothing_an_agent_sent() {
    let room = Room::new();
    let (_, out) = room.found("tail");
    let shown: Vec<&str> = out.lines().collect();
    assert_eq!(shown.len(), 5);
    let fields: Vec<&str> = shown[0].split_whitespace().collect();
    assert_eq!(
        fields,
        [
            "2026-11-22T12:00:01Z",
            "tickets/list",
            "allow",
            "ok",
            "d1",
            "spiffe://a"
        ]
    );
    assert!(shown[1].contains("tickets/\\u{1b}[31mx"), "{}", shown[1]);
    assert!(
        shown[3].contains("answered 200 in 3 ms") && shown[3].contains("completed"),
        "{}",
        shown[3]
    );
    assert!(shown[4].contains("checkpoint at seq 5"));
    assert!(!out.contains('\x1b'));
    assert_eq!(room.found("tail -n 2 @log").1, shown[3..].join("\n") + "\n");
    assert_eq!(room.found("tail -n 0 @log").1, "");
}

#[test]
fn tail_as_json_is_the_recorded_lines() {
    let room = Room::new();
    assert_eq!(
        room.found("tail --json @log").1,
        fs::read_to_string(room.path("log")).unwrap()
    );
}

#[test]
fn show_gives_decision_and_outcome_of_one_id_only() {
    let room = Room::new();
    let (finding, out) = room.found("show d1 --json @log");
    assert_eq!(finding, Finding::So);
    assert_eq!(
        out.lines().collect::<Vec<_>>(),
        [&room.lines()[0], &room.lines()[3]]
    );
    let (_, text) = room.found("show d1");
    assert!(
        text.contains("  \"outcome\": \"allow\"") && text.contains("  \"ended\": \"completed\""),
        "{text}"
    );
    let (finding, out) = room.found("show d9 @log");
    assert_eq!((finding, out.as_str()), (Finding::NotSo, ""));
}

#[test]
fn following_goes_on_with_whole_lines_and_into_a_new_file() {
    let room = Room::new();
    let path = room.path("log");
    let mut follow = read::Follow::open(&path, 1).unwrap();
    assert_eq!(follow.lines().unwrap().len(), 1);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"a\":1}\n{\"b\"");
    fs::write(&path, &text).unwrap();
    assert_eq!(follow.lines().unwrap(), [b"{\"a\":1}".to_vec()]);
    text.push_str(":2}\n");
    fs::write(&path, &text).unwrap();
    assert_eq!(follow.lines().unwrap(), [b"{\"b\":2}".to_vec()]);
    fs::remove_file(&path).unwrap();
    assert!(follow.lines().unwrap().is_empty());
    fs::write(&path, "{\"c\":3}\n").unwrap();
    assert_eq!(follow.lines().unwrap(), [b"{\"c\":3}".to_vec()]);
}

#[test]
fn the_last_lines_are_found_in_a_log_of_many_chunks() {
    let room = Room::new();
    let line = "x".repeat(1_000);
    let text: Vec<String> = (0..2_000)
        .map(|number| format!("{number} {line}\n"))
        .collect();
    fs::write(room.path("big"), text.concat()).unwrap();
    let lines = read::Follow::open(&room.path("big"), 700)
        .unwrap()
        .lines()
        .unwrap();
    assert_eq!((lines.len(), lines[0].starts_with(b"1300 ")), (700, true));
}

#[test]
fn colours_are_for_terminals_without_no_color() {
    let set = std::ffi::OsStr::new("1");
    let empty = std::ffi::OsStr::new("");
    assert_eq!(Style::of(true, None), Style::Coloured);
    assert_eq!(Style::of(true, Some(empty)), Style::Coloured);
    assert_eq!(Style::of(true, Some(set)), Style::Plain);
    assert_eq!(Style::of(false, None), Style::Plain);
    let deny = human::line(br#"{"type":"decision","outcome":"deny"}"#, Style::Coloured);
    assert!(deny.contains("\x1b[31mdeny"), "{deny}");
}
