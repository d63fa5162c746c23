//! What a state file holds after a crash is what was acknowledged.

use std::fs;

use super::*;

fn journal(dir: &tempfile::TempDir) -> (Journal, Authority) {
    let (journal, kept) = Journal::open(dir.path().join("state.jsonl")).unwrap();
    let issuer = kept
        .issuer
        .clone()
        .unwrap_or_else(|| "outrider:test".into());
    let tasks = Tasks::new(issuer, SigningKey::generate().unwrap());
    let authority = Authority::new("spiffe://example.org/agent/triage".into(), Arc::new(tasks));
    kept.give(&authority);
    (journal, authority)
}

/// Opens a task as the control socket does.
fn opened(journal: &Journal, authority: &Authority, open: Open) -> Opened {
    let opened = authority.open(open, at(0)).unwrap();
    let digest = token_digest(opened.token.as_bytes());
    journal.token(digest, opened.task.terms()).unwrap();
    opened
}

fn decree(edict: Edict) -> Decree {
    Decree {
        edict,
        by: "uid:0".into(),
        why: Some("a test".into()),
        at: at(1),
    }
}

#[test]
fn everything_is_there_again_after_a_crash_and_after_a_fresh_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, authority) = self::journal(&dir);
    journal.tidy(&authority, &[], false).unwrap();
    let parent = opened(&journal, &authority, open());
    let child = opened(
        &journal,
        &authority,
        Open {
            parent: Some(Arc::clone(&parent.task)),
            budget: Some(40),
            ..open()
        },
    );
    child.task.spend().unwrap();
    journal.spent(&child.task).unwrap();
    parent
        .task
        .raise_high_water(outrider_policy::Level::Confidential);
    journal.touched(&parent.task).unwrap();
    let suspend = decree(Edict::Suspend {
        task: parent.task.terms().task(),
    });
    authority.carry_out(&suspend).unwrap();
    journal.decree(&suspend, authority.after(&suspend)).unwrap();
    let revoke = decree(Edict::Revoke {
        target: Target::Subject("user:7".into()),
        issued_before: None,
    });
    authority.carry_out(&revoke).unwrap();
    journal.decree(&revoke, None).unwrap();
    journal.used(&"EX-1".into(), 3).unwrap();
    drop((journal, authority));
    for round in 0..2 {
        let (journal, kept) = Journal::open(dir.path().join("state.jsonl")).unwrap();
        let issuer = kept.issuer.clone().unwrap();
        let tasks = Tasks::new(issuer, SigningKey::generate().unwrap());
        let authority = Authority::new("spiffe://example.org/agent/triage".into(), Arc::new(tasks));
        let uses = kept.give(&authority);
        assert_eq!(uses, [("EX-1".into(), 3)], "{round}");
        let found = authority.tasks.by_token(child.token.as_bytes()).unwrap();
        assert_eq!(found.state(at(2)), State::Suspended);
        assert_eq!(
            found.used(),
            2,
            "a block of a twentieth of 40 counts as spent"
        );
        let above = found.ancestors().next().unwrap();
        assert_eq!(above.id, parent.task.id);
        assert_eq!(above.high_water(), outrider_policy::Level::Confidential);
        let subject = Target::Subject("user:7".into());
        assert!(authority.revocations().has(&subject));
        journal.tidy(&authority, &uses, false).unwrap();
    }
}

#[test]
fn what_was_set_aside_counts_as_spent_in_a_file_that_was_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, authority) = self::journal(&dir);
    journal.tidy(&authority, &[], false).unwrap();
    let budget = Some(40);
    let task = opened(&journal, &authority, Open { budget, ..open() });
    task.task.spend().unwrap();
    journal.spent(&task.task).unwrap();
    journal.tidy(&authority, &[], false).unwrap();
    // Within the block nothing is written.
    task.task.spend().unwrap();
    journal.spent(&task.task).unwrap();
    drop((journal, authority));
    let (_, authority) = self::journal(&dir);
    let found = authority.tasks.by_token(task.token.as_bytes()).unwrap();
    assert_eq!(found.used(), 2, "never fewer than were spent");
}

#[test]
fn a_torn_last_line_is_left_out_and_what_stands_before_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.jsonl");
    let (journal, authority) = self::journal(&dir);
    journal.tidy(&authority, &[], false).unwrap();
    let task = opened(&journal, &authority, open());
    let whole = fs::read(&path).unwrap();
    let other = opened(&journal, &authority, open());
    drop((journal, authority));
    let more = fs::read(&path).unwrap();
    for cut in whole.len()..more.len() {
        fs::write(&path, &more[..cut]).unwrap();
        let (journal, authority) = self::journal(&dir);
        assert!(authority.tasks.by_token(task.token.as_bytes()).is_some());
        assert!(authority.tasks.by_token(other.token.as_bytes()).is_none());
        // What comes next does not stand behind half a line.
        journal.tidy(&authority, &[], false).unwrap();
        drop(journal);
        let (_, authority) = self::journal(&dir);
        assert!(authority.tasks.by_token(task.token.as_bytes()).is_some());
    }
}

#[test]
fn a_line_that_is_not_ours_is_named_and_nothing_is_changed() {
    for (text, number) in [
        ("x\n", 1),
        ("{}\n", 1),
        ("{\"outrider_state\":{\"version\":2,\"issuer\":\"i\"}}\n", 1),
        (
            "{\"outrider_state\":{\"version\":1,\"issuer\":\"i\"}}\n{\"decree\":1}\n{}\n",
            2,
        ),
        ("torn", 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.jsonl");
        fs::write(&path, text).unwrap();
        match Journal::open(path.clone()) {
            Err(BadJournal::Foreign { line, .. }) => assert_eq!(line, number, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }
}

#[test]
fn a_file_that_is_gone_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.jsonl");
    let (journal, authority) = self::journal(&dir);
    journal.tidy(&authority, &[], false).unwrap();
    let task = opened(&journal, &authority, open());
    fs::remove_file(&path).unwrap();
    journal.tidy(&authority, &[], true).unwrap();
    drop((journal, authority));
    let (_, authority) = self::journal(&dir);
    assert!(authority.tasks.by_token(task.token.as_bytes()).is_some());
}

#[test]
fn no_token_stands_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, authority) = self::journal(&dir);
    journal.tidy(&authority, &[], false).unwrap();
    let task = opened(&journal, &authority, open());
    journal.tidy(&authority, &[], false).unwrap();
    let text = fs::read_to_string(journal.path()).unwrap();
    assert!(text.contains(&*task.task.id));
    assert!(!text.contains("eyJ"), "{text}");
}
