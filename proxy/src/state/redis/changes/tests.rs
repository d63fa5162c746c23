use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::{
    state::Target,
    task::{Confidence, TaskKey},
};

/// Microseconds since 1970, at the time of these tests.
const NOW: u64 = 1_790_000_000_000_000;
const KEY: &[u8] = b"a key that is known to the fleet only";

/// Notes what it follows; whatever gives more is wider.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Edict>>>);

impl Follower for Notes {
    fn widens(&self, edict: &Edict) -> bool {
        match edict {
            Edict::Lift { .. } | Edict::Resume { .. } => true,
            Edict::Trust { confidence, .. } => confidence.get() > 0.5,
            Edict::Revoke { .. } | Edict::Close { .. } | Edict::Suspend { .. } => false,
        }
    }

    fn follow(&self, decree: Decree) -> bool {
        self.0.lock().unwrap().push(decree.edict);
        true
    }
}

impl Notes {
    fn all(&self) -> Vec<Edict> {
        self.0.lock().unwrap().clone()
    }
}

fn sidecar(key: Option<&[u8]>) -> (Changes, Notes) {
    let notes = Notes::default();
    let names = Names::new(key.unwrap_or(b"outrider"));
    let changes = Changes::new(names, key, Box::new(notes.clone()));
    (changes, notes)
}

fn target() -> Target {
    Target::Subject("alice".into())
}

fn revoke() -> Edict {
    Edict::Revoke {
        target: target(),
        issued_before: None,
    }
}

fn lift() -> Edict {
    Edict::Lift { target: target() }
}

fn decree(edict: Edict) -> Decree {
    Decree {
        edict,
        by: "uid:0".into(),
        why: None,
        at: Timestamp::from_second(1_790_000_000).unwrap(),
    }
}

/// What a sidecar says, as the store has it.
fn said(by: &Changes, edict: Edict, way: Way) -> String {
    let _wait = by.offer(&decree(edict), way, 0, NOW).unwrap();
    let told = by.next(1).pop().unwrap();
    let text = told.entry.text.clone();
    by.told(told, 0);
    text
}

#[test]
fn what_takes_back_counts_from_anybody_and_once() {
    let (stranger, _) = sidecar(None);
    let (changes, notes) = sidecar(Some(KEY));
    let text = said(&stranger, revoke(), Way::Narrower);
    changes.hear(text.as_bytes(), NOW);
    changes.hear(text.as_bytes(), NOW);
    assert_eq!(notes.all(), [revoke()]);
}

#[test]
fn what_gives_again_counts_under_the_key_of_the_fleet_only() {
    let (mate, _) = sidecar(Some(KEY));
    let (stranger, _) = sidecar(Some(b"another key, of another fleet entirely"));
    let (nobody, _) = sidecar(None);
    let (changes, notes) = sidecar(Some(KEY));
    for (speaker, counts) in [(&stranger, 0), (&nobody, 0), (&mate, 1)] {
        let text = said(speaker, lift(), Way::Wider);
        changes.hear(text.as_bytes(), NOW);
        assert_eq!(notes.all().len(), counts);
    }
    assert_eq!(changes.tally(), [("followed", 1), ("refused", 2)]);
}

#[test]
fn a_change_of_what_is_signed_does_not_count() {
    let (mate, _) = sidecar(Some(KEY));
    let text = said(&mate, lift(), Way::Wider);
    for (from, to) in [("alice", "alicf"), ("1790000000000000", "1790000000000001")] {
        let (changes, notes) = sidecar(Some(KEY));
        let forged = text.replacen(from, to, 1);
        assert_ne!(forged, text);
        changes.hear(forged.as_bytes(), NOW);
        assert!(notes.all().is_empty(), "{forged}");
    }
}

#[test]
fn an_old_word_that_gives_again_does_not_count_after_a_newer_one() {
    let (mate, _) = sidecar(Some(KEY));
    let (changes, notes) = sidecar(Some(KEY));
    let old = said(&mate, lift(), Way::Wider);
    let new = said(&mate, revoke(), Way::Narrower);
    for text in [&old, &new, &old] {
        changes.hear(text.as_bytes(), NOW);
    }
    assert_eq!(notes.all(), [lift(), revoke()]);
}

#[test]
fn an_old_word_that_takes_back_does_not_undo_a_newer_one() {
    let (mate, _) = sidecar(Some(KEY));
    let (changes, notes) = sidecar(Some(KEY));
    let old = said(&mate, revoke(), Way::Narrower);
    let new = said(&mate, lift(), Way::Wider);
    for text in [&old, &new, &old] {
        changes.hear(text.as_bytes(), NOW);
    }
    assert_eq!(notes.all(), [revoke(), lift()]);
}

#[test]
fn a_number_far_ahead_keeps_nobody_from_taking_back() {
    let (changes, notes) = sidecar(None);
    let task = TaskKey {
        issuer: "i".into(),
        id: "t".into(),
    };
    let suspend = decree(Edict::Suspend { task });
    let json = serde_json::to_string(&suspend).unwrap();
    changes.hear(format!("{} - {json}", u64::MAX).as_bytes(), NOW);
    let mut later = suspend.clone();
    later.why = Some("again".into());
    let json = serde_json::to_string(&later).unwrap();
    let number = NOW + micros(AHEAD) + 1;
    changes.hear(format!("{number} - {json}").as_bytes(), NOW);
    assert_eq!(notes.all().len(), 2);
    assert!(changes.offer(&suspend, Way::Narrower, 0, NOW).is_some());
    assert_eq!(changes.next(1).pop().unwrap().entry.number, number);
}

#[test]
fn garbage_is_counted_and_does_nothing() {
    let (changes, notes) = sidecar(Some(KEY));
    let long = format!("1 - {}", "x".repeat(LONGEST));
    let nested = format!("1 - {}", "[".repeat(4_000));
    for garbage in [
        "", "1", "1 -", "1 - {}", "x - {}", "-1 - {}", "1 - null", "\u{0}", &long, &nested,
    ] {
        changes.hear(garbage.as_bytes(), NOW);
    }
    changes.hear(&[0xff, 0xfe], NOW);
    assert!(notes.all().is_empty());
    assert_eq!(changes.tally(), [("followed", 0), ("refused", 11)]);
}

#[test]
fn everything_is_told_again_to_a_store_that_lost_it() {
    let (changes, _) = sidecar(None);
    let (stranger, _) = sidecar(None);
    let own = said(&changes, revoke(), Way::Narrower);
    let task = TaskKey {
        issuer: "i".into(),
        id: "t".into(),
    };
    let heard = said(&stranger, Edict::Close { task }, Way::Narrower);
    changes.hear(heard.as_bytes(), NOW);
    assert!(changes.next(10).is_empty());
    changes.all_again();
    changes.all_again();
    let mut again: Vec<_> = changes
        .next(10)
        .into_iter()
        .map(|told| told.entry.text)
        .collect();
    again.sort_unstable();
    let mut both = [own, heard];
    both.sort_unstable();
    assert_eq!(again, both);
    changes.sweep(NOW + micros(SHORT));
    changes.all_again();
    assert_eq!(
        changes.next(10).len(),
        1,
        "the task's is over, the subject's is not"
    );
}

#[test]
fn what_gives_again_is_not_told_once_nobody_waits() {
    let (changes, _) = sidecar(Some(KEY));
    drop(changes.offer(&decree(lift()), Way::Wider, 0, NOW));
    drop(changes.offer(&decree(revoke()), Way::Narrower, 0, NOW));
    let next = changes.next(10);
    assert_eq!(next.len(), 1);
    assert!(next[0].entry.text.contains("revoke"), "{:?}", next[0]);
}

#[test]
fn whoever_comes_second_learns_the_number_that_is_there() {
    let (changes, _) = sidecar(Some(KEY));
    let mut wait = changes.offer(&decree(lift()), Way::Wider, 0, NOW).unwrap();
    let told = changes.next(1).pop().unwrap();
    let there = told.entry.number + 5;
    changes.told(told, there);
    assert_eq!(wait.try_recv().unwrap(), Err(there));
    let _wait = changes.offer(&decree(lift()), Way::Wider, there + 1, NOW);
    assert_eq!(changes.next(1).pop().unwrap().entry.number, there + 1);
}

#[test]
fn a_lower_confidence_takes_back_and_a_higher_one_gives() {
    let (stranger, _) = sidecar(None);
    let (changes, notes) = sidecar(Some(KEY));
    let task = TaskKey {
        issuer: "i".into(),
        id: "t".into(),
    };
    for (confidence, way) in [(0.9, Way::Wider), (0.1, Way::Narrower)] {
        let trust = Edict::Trust {
            task: task.clone(),
            confidence: Confidence::try_from(confidence).unwrap(),
        };
        // Without a key nothing that gives is told, but somebody may try.
        let text = said(&stranger, trust, way);
        changes.hear(text.as_bytes(), NOW);
    }
    assert_eq!(notes.all().len(), 1);
}

#[test]
fn an_old_lift_does_not_undo_what_was_revoked_after_it() {
    let (by, _) = sidecar(Some(KEY));
    let (hears, notes) = sidecar(Some(KEY));
    let before = Edict::Revoke {
        target: target(),
        issued_before: Some(Timestamp::from_second(1_789_000_000).unwrap()),
    };
    let (lifted, revoked) = (
        said(&by, lift(), Way::Wider),
        said(&by, before.clone(), Way::Narrower),
    );
    hears.hear(revoked.as_bytes(), NOW);
    hears.hear(lifted.as_bytes(), NOW);
    assert_eq!(notes.all(), std::slice::from_ref(&before));
    // One that came after it does.
    let lifted = said(&by, lift(), Way::Wider);
    hears.hear(lifted.as_bytes(), NOW);
    assert_eq!(notes.all(), [before, lift()]);
}
