use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::*;
use crate::{
    call::DecisionId,
    record::{
        file::OpenError,
        security::{SecurityEvent, SecurityKind, SecurityLog},
    },
};

struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("security.jsonl")
    }

    fn open(&self) -> SecurityLog {
        SecurityLog::open(self.path(), now()).unwrap()
    }

    fn events(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn event(kind: SecurityKind) -> SecurityEvent<'static> {
    SecurityEvent {
        kind,
        agent: Some("spiffe://example.org/a"),
        decision_id: None,
        listener: None,
        what: &[],
    }
}

fn at(seconds: i64) -> Timestamp {
    now() + jiff::SignedDuration::from_secs(seconds)
}

#[test]
fn an_event_says_who_did_what_where_and_joins_by_decision() {
    let room = Room::new();
    let id = DecisionId::mint();
    let what: &[(&str, &str)] = &[("header", "Outrider-\"Agent\"\n")];
    let event = SecurityEvent {
        decision_id: Some(id),
        listener: Some("reverse"),
        what,
        ..event(SecurityKind::HeaderForgery)
    };
    room.open().write(&event, now());
    let expected = serde_json::json!({
        "type": "header_forgery", "timestamp": "2026-11-22T12:00:00.000Z", "agent": "spiffe://example.org/a",
        "decision_id": id.to_string(), "listener": "reverse", "header": "Outrider-\"Agent\"\n",
    });
    assert_eq!(room.events(), [expected]);
    assert_eq!(
        fs::metadata(room.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_flood_of_one_kind_is_counted_and_hides_no_other() {
    let room = Room::new();
    let log = room.open();
    for _ in 0..10_000 {
        log.write(&event(SecurityKind::SchemaViolation), now());
    }
    log.write(&event(SecurityKind::HeaderForgery), now());
    assert_eq!(room.events().len(), 101);
    log.tick(at(0));
    assert_eq!(
        room.events().len(),
        101,
        "no place for the counted line yet"
    );
    log.tick(at(5));
    let counted = room.events().pop().unwrap();
    assert_eq!(
        (counted["type"].as_str(), counted["count"].as_u64()),
        (Some("schema_violation"), Some(9_900))
    );
    assert_eq!(counted["window_ms"].as_u64(), Some(5_000));
    log.tick(at(6));
    assert_eq!(room.events().len(), 102, "counted once");
}

#[test]
fn changes_of_authority_are_never_capped() {
    let room = Room::new();
    let log = room.open();
    for _ in 0..500 {
        log.write(&event(SecurityKind::TaskOpened), now());
    }
    assert_eq!(room.events().len(), 500);
}

#[test]
fn a_clock_that_goes_back_admits_nothing_more_and_breaks_nothing() {
    let room = Room::new();
    let log = room.open();
    for second in (0..200).rev() {
        log.write(&event(SecurityKind::ToolDrift), at(second));
    }
    assert_eq!(room.events().len(), 100);
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    let room = Room::new();
    let long = "é".repeat(1_000);
    let what: &[(&str, &str)] = &[("path", &long)];
    room.open().write(
        &SecurityEvent {
            what,
            ..event(SecurityKind::DestinationRefused)
        },
        now(),
    );
    assert_eq!(room.events()[0]["path"].as_str().unwrap(), "é".repeat(256));
}

#[test]
fn a_restart_appends_and_ends_a_torn_line() {
    let room = Room::new();
    room.open().write(&event(SecurityKind::ToolDrift), now());
    let mut text = fs::read_to_string(room.path()).unwrap();
    text.push_str("{\"type\":\"to");
    fs::write(room.path(), &text).unwrap();
    room.open().write(&event(SecurityKind::LogFailed), now());
    let now = fs::read_to_string(room.path()).unwrap();
    let rest = now.strip_prefix(&text).unwrap();
    assert!(rest.starts_with("\n{\"type\":\"log_failed\""), "{rest}");
}

#[test]
fn something_else_at_its_path_is_refused_and_left_alone() {
    let room = Room::new();
    fs::write(room.path(), "notes\n").unwrap();
    assert!(matches!(
        SecurityLog::open(room.path(), now()),
        Err(OpenError::Occupied(_))
    ));
    assert_eq!(fs::read_to_string(room.path()).unwrap(), "notes\n");
}

#[test]
fn a_deleted_log_is_made_anew_and_a_blocked_one_counts_failures() {
    let room = Room::new();
    let log = room.open();
    fs::remove_file(room.path()).unwrap();
    fs::create_dir(room.path()).unwrap();
    log.tick(now());
    assert_eq!(log.failures(), 1);
    fs::remove_dir(room.path()).unwrap();
    log.tick(now());
    log.write(&event(SecurityKind::Revoked), now());
    assert_eq!((room.events().len(), log.failures()), (1, 1));
}

/// No tick has looked yet: the change itself finds that its file is gone.
#[test]
fn a_change_of_authority_is_never_written_to_a_file_that_is_gone() {
    let room = Room::new();
    let log = room.open();
    fs::remove_file(room.path()).unwrap();
    log.write(&event(SecurityKind::Revoked), now());
    assert_eq!((room.events().len(), log.failures()), (1, 0));
    fs::remove_file(room.path()).unwrap();
    fs::create_dir(room.path()).unwrap();
    log.write(&event(SecurityKind::TaskOpened), now());
    assert_eq!(log.failures(), 1);
}
