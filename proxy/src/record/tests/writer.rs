use super::*;
use crate::record::chain::Unwritable;

const MEMBERS: &[u8] = br#""type":"decision","code":"ok""#;

#[test]
fn a_line_is_the_members_and_the_four_of_the_chain() {
    let (mut writer, memory, _) = writer(1_000);
    assert_eq!(writer.append(MEMBERS), Ok(1));
    let text = String::from_utf8(memory.bytes()).unwrap();
    let expected = format!(
        r#"{{"type":"decision","code":"ok","instance":"{INSTANCE}","seq":1,"prev":"{}","hash":""#,
        crate::record::verify::GENESIS
    );
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(text.len(), expected.len() + 64 + 3);
}

#[test]
fn a_checkpoint_follows_the_given_number_of_lines() {
    let (mut writer, memory, keys) = writer(3);
    for expected in [1, 2, 3, 5, 6, 7, 9] {
        assert_eq!(writer.append(MEMBERS), Ok(expected));
    }
    assert_eq!(check(&memory.bytes(), &keys, None).signed_to, 8);
}

#[test]
fn a_checkpoint_follows_ten_seconds_after_the_last_if_there_is_anything_new() {
    let (mut writer, memory, keys) = writer(1_000);
    let at = |seconds: i64| now() + jiff::SignedDuration::from_secs(seconds);
    writer.tick(at(60));
    assert!(memory.bytes().is_empty(), "an idle log does not grow");
    writer.append(MEMBERS).unwrap();
    writer.tick(at(61));
    writer.tick(at(62));
    let report = check(&memory.bytes(), &keys, None);
    assert_eq!((report.verified_to, report.signed_to), (2, 2));
    writer.append(MEMBERS).unwrap();
    writer.tick(at(70));
    assert_eq!(
        check(&memory.bytes(), &keys, None).verified_to,
        3,
        "nine seconds after the last"
    );
    writer.tick(at(71));
    assert_eq!(check(&memory.bytes(), &keys, None).signed_to, 4);
}

#[test]
fn members_that_would_tear_the_line_are_not_written() {
    let (mut writer, memory, _) = writer(10);
    assert_eq!(
        writer.append(b"\"type\":\"decision\",\n\"x\":1"),
        Err(Unwritable)
    );
    assert_eq!(writer.append(b""), Err(Unwritable));
    assert!(memory.bytes().is_empty() && !writer.failed());
}

/// Whatever fails, the log holds the accepted lines, whole and chained, and nothing else.
fn check_failing(fates: &[Fate], refused_repairs: usize) {
    let (mut writer, memory, keys) = writer(1_000);
    writer.append(MEMBERS).unwrap();
    memory.plan(fates, refused_repairs);
    let mut accepted = 1;
    for attempt in 0..=fates.len() + refused_repairs {
        match writer.append(MEMBERS) {
            Ok(seq) => {
                accepted += 1;
                assert_eq!(seq, accepted, "no gap");
                assert!(!writer.failed());
            }
            Err(Unwritable) => assert!(writer.failed(), "attempt {attempt}"),
        }
    }
    assert!(!writer.failed(), "recovery is automatic");
    let report = check(&memory.bytes(), &keys, None);
    assert!(report.is_whole(), "{fates:?} {refused_repairs}: {report:?}");
    assert_eq!(report.verified_to, accepted);
}

#[test]
fn a_failed_write_leaves_no_partial_line_and_no_gap() {
    let shorts = [
        Fate::Short(0),
        Fate::Short(1),
        Fate::Short(100),
        Fate::Short(usize::MAX),
    ];
    for fate in shorts.into_iter().chain([Fate::Refused]) {
        check_failing(&[fate], 0);
        check_failing(&[Fate::Whole, fate, fate, Fate::Whole, fate], 0);
    }
    for refused in 1..4 {
        check_failing(&[Fate::Short(50), Fate::Short(10)], refused);
    }
}

#[test]
fn a_failed_log_recovers_on_a_tick_without_traffic() {
    let (mut writer, memory, keys) = writer(1_000);
    memory.plan(&[Fate::Short(20), Fate::Refused], 0);
    assert_eq!(writer.append(MEMBERS), Err(Unwritable));
    writer.tick(now());
    assert!(writer.failed());
    writer.tick(now());
    assert!(!writer.failed());
    let report = check(&memory.bytes(), &keys, None);
    assert_eq!(
        (report.verified_to, report.signed_to),
        (1, 1),
        "the try was a checkpoint"
    );
}

#[test]
fn a_checkpoint_that_fails_does_not_take_back_the_line_before() {
    let (mut writer, memory, keys) = writer(2);
    writer.append(MEMBERS).unwrap();
    memory.plan(&[Fate::Whole, Fate::Short(30)], 0);
    assert_eq!(writer.append(MEMBERS), Ok(2));
    assert!(writer.failed());
    assert_eq!(writer.append(MEMBERS), Ok(3));
    let report = check(&memory.bytes(), &keys, None);
    assert_eq!(
        (report.verified_to, report.signed_to),
        (4, 4),
        "it was made up for"
    );
}

const LATER: &[u8] = br#""type":"outcome","code":"ok""#;

#[test]
fn what_waits_goes_with_the_next_line_in_the_order_in_which_it_came() {
    let (mut writer, memory, keys) = writer(1_000);
    writer.defer(LATER).unwrap();
    writer.defer(LATER).unwrap();
    assert!(memory.bytes().is_empty());
    assert_eq!(writer.append(MEMBERS), Ok(3));
    writer.defer(LATER).unwrap();
    writer.flush();
    writer.flush();
    let kinds: Vec<bool> = lines(&memory.bytes())
        .iter()
        .map(|line| line.starts_with(br#"{"type":"outcome""#))
        .collect();
    assert_eq!(kinds, [true, true, false, true]);
    assert_eq!(check(&memory.bytes(), &keys, None).verified_to, 4);
}

#[test]
fn a_checkpoint_covers_what_waited() {
    let (mut writer, memory, keys) = writer(1_000);
    writer.defer(LATER).unwrap();
    writer.sign();
    let report = check(&memory.bytes(), &keys, None);
    assert_eq!((report.verified_to, report.signed_to), (2, 2));
}

#[test]
fn what_waits_outlasts_a_failing_log_until_too_much_does() {
    let (mut writer, memory, keys) = writer(u64::MAX);
    memory.plan(&[Fate::Short(100), Fate::Refused, Fate::Short(700)], 0);
    writer.defer(LATER).unwrap();
    writer.flush();
    assert_eq!(writer.append(MEMBERS), Err(Unwritable));
    writer.defer(LATER).unwrap();
    for _ in 0..2 {
        writer.tick(now());
        assert!(writer.failed() && memory.bytes().is_empty());
    }
    writer.tick(now());
    assert_eq!((writer.failed(), writer.waiting()), (false, 0));
    assert_eq!(writer.append(MEMBERS), Ok(3));
    assert_eq!(check(&memory.bytes(), &keys, None).verified_to, 3);

    let kept = std::iter::repeat_with(|| writer.defer(LATER))
        .take(1_000_000)
        .take_while(Result::is_ok)
        .count();
    assert!((100_000..200_000).contains(&kept), "{kept}");
}

#[test]
fn a_log_that_takes_a_checkpoint_but_not_what_waits_has_not_recovered() {
    let (mut writer, memory, _) = writer(1_000);
    memory.plan(&[Fate::Short(100), Fate::Short(100)], 0);
    writer.defer(LATER).unwrap();
    writer.tick(now());
    writer.tick(now());
    assert!(writer.failed() && memory.bytes().is_empty());
}

#[test]
fn much_that_waits_is_written_in_pieces_and_what_was_written_stays() {
    let (mut writer, memory, keys) = writer(1_000_000);
    while !writer.is_full() {
        writer.defer(LATER).unwrap();
    }
    for _ in 0..3_000 {
        writer.defer(LATER).unwrap();
    }
    let waited = writer.waiting();
    memory.plan(&[Fate::Whole, Fate::Short(1_000)], 0);
    writer.flush();
    assert!(writer.failed());
    let left = writer.waiting();
    assert!((1..waited).contains(&left), "{left} of {waited}");
    writer.flush();
    assert_eq!(writer.append(MEMBERS).unwrap(), waited as u64 + 1);
    assert!(check(&memory.bytes(), &keys, None).is_whole());
}

#[test]
fn lines_that_waited_count_towards_a_checkpoint() {
    let (mut writer, memory, keys) = writer(3);
    for _ in 0..3 {
        writer.defer(LATER).unwrap();
    }
    writer.flush();
    assert_eq!(check(&memory.bytes(), &keys, None).signed_to, 4);
}

#[test]
fn another_sink_begins_with_a_checkpoint_whatever_waits() {
    let (mut writer, _, _) = writer(1_000);
    writer.append(MEMBERS).unwrap();
    writer.defer(LATER).unwrap();
    let memory = Memory::default();
    memory.plan(&[Fate::Refused], 0);
    writer.move_to(memory.clone(), now());
    writer.flush();
    let kinds: Vec<bool> = lines(&memory.bytes())
        .iter()
        .map(|line| line.starts_with(br#"{"type":"checkpoint""#))
        .collect();
    assert_eq!(kinds, [true, false]);
}

#[test]
fn a_synced_line_counts_once_it_is_on_the_disk() {
    let (mut writer, memory, keys) = writer_counting(Counts::Synced, 2);
    for seq in [1, 2, 4] {
        assert_eq!(writer.append(MEMBERS), Ok(seq));
        assert_eq!(memory.synced(), memory.bytes().len());
    }
    assert_eq!(check(&memory.bytes(), &keys, None).signed_to, 3);
}

#[test]
fn many_lines_are_one_write_and_one_sync() {
    let (mut writer, memory, keys) = writer_counting(Counts::Synced, 1_000);
    memory.plan(&[Fate::Whole, Fate::Refused], 0);
    let lines = || std::iter::repeat_n(MEMBERS, 50);
    assert_eq!(writer.append_first(lines()), Ok(50));
    assert_eq!(memory.synced(), memory.bytes().len());
    assert_eq!(writer.append_first(lines()), Err(Unwritable));
    assert_eq!(writer.append_first(lines()), Ok(50));
    assert_eq!(check(&memory.bytes(), &keys, None).verified_to, 100);
}

#[test]
fn lines_whose_sync_failed_are_taken_back_and_leave_no_gap() {
    for refused_repairs in 0..3 {
        let (mut writer, memory, keys) = writer_counting(Counts::Synced, 1_000);
        writer.append(MEMBERS).unwrap();
        memory.plan(&[], refused_repairs);
        memory.refuse_syncs(1);
        assert_eq!(
            writer.append_first(std::iter::repeat_n(MEMBERS, 3)),
            Err(Unwritable)
        );
        assert!(writer.failed());
        for _ in 0..refused_repairs {
            writer.tick(now());
        }
        assert!(!writer.failed() || refused_repairs == 0);
        let seq = writer.append(MEMBERS).unwrap();
        let report = check(&memory.bytes(), &keys, None);
        assert!(report.is_whole() && !writer.failed(), "{report:?}");
        assert_eq!(report.verified_to, seq);
        let kept = lines(&memory.bytes());
        let decisions = kept
            .iter()
            .filter(|line| line.starts_with(br#"{"type":"decision""#));
        assert_eq!(decisions.count(), 2, "the refused ones are not there");
    }
}
