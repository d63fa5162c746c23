use proptest::prelude::*;

use super::*;
use crate::record::verify::{Fault, Truncation};

#[test]
fn a_whole_log_is_verified_and_signed_to_its_end() {
    let (bytes, keys) = log(25, 10);
    let report = check(&bytes, &keys, None);
    assert_eq!(
        (report.verified_to, report.signed_to),
        (28, 28),
        "25 decisions, 3 checkpoints"
    );
    assert!(report.is_whole());
    assert_eq!(report.truncation, Truncation::NotExcluded);
}

#[test]
fn an_empty_log_is_whole() {
    assert!(check(b"", &PublicKeys::default(), None).is_whole());
}

#[test]
fn without_keys_the_chain_is_verified_and_nothing_counts_as_signed() {
    let report = check(&log(5, 2).0, &PublicKeys::default(), None);
    assert_eq!((report.verified_to, report.signed_to), (8, 0));
    assert!(report.is_whole());
}

#[test]
fn checkpoints_of_a_key_that_was_not_given_are_a_fault() {
    let (bytes, _) = log(5, 2);
    let (_, other) = log(1, 1);
    let bad = check(&bytes, &other, None).first_bad.unwrap();
    assert_eq!((bad.line, bad.fault), (3, Fault::KeyUnknown));
}

#[test]
fn a_log_in_several_files_is_one_chain() {
    let (bytes, keys) = log(9, 4);
    let all = lines(&bytes);
    let mut verification = Verification::new(&keys, None);
    for (index, part) in all.chunks(3).enumerate() {
        verification
            .read(&format!("part{index}"), part.concat().as_slice())
            .unwrap();
    }
    let report = verification.finish();
    assert_eq!((report.verified_to, report.is_whole()), (12, true));

    let mut verification = Verification::new(&keys, None);
    verification
        .read("part0", all[..3].concat().as_slice())
        .unwrap();
    verification
        .read("part2", all[6..].concat().as_slice())
        .unwrap();
    let bad = verification.finish().first_bad.unwrap();
    assert_eq!((bad.file.as_str(), bad.line), ("part2", 1));
    assert_eq!(
        bad.fault,
        Fault::Seq {
            expected: 4,
            found: 7
        }
    );
}

#[test]
fn a_log_without_its_first_lines_says_from_where_it_starts() {
    let (bytes, keys) = log(4, 10);
    let rest = lines(&bytes)[2..].concat();
    assert_eq!(
        check(&rest, &keys, None).first_bad.unwrap().fault,
        Fault::Start { found: 3 }
    );
}

#[test]
fn a_witness_excludes_truncation_up_to_itself() {
    let (bytes, keys) = log(7, 3);
    let all = lines(&bytes);
    let head = String::from_utf8(all[all.len() - 1].clone()).unwrap();
    let witness = Witness::parse(&head, &keys).unwrap();
    assert_eq!(
        check(&bytes, &keys, Some(&witness)).truncation,
        Truncation::Excluded { up_to: 10 }
    );

    let cut = all[..all.len() - 1].concat();
    let report = check(&cut, &keys, Some(&witness));
    assert_eq!(report.truncation, Truncation::HeadMissing { seq: 10 });
    assert!(
        report.first_bad.is_none() && !report.is_whole(),
        "only the witness shows it"
    );
}

#[test]
fn a_witness_must_be_a_checkpoint_of_a_known_key() {
    let (bytes, keys) = log(2, 10);
    let all = lines(&bytes);
    let decision = String::from_utf8(all[0].clone()).unwrap();
    assert_eq!(Witness::parse(&decision, &keys).unwrap_err(), Fault::Form);
    let checkpoint = String::from_utf8(all[2].clone()).unwrap();
    let (_, other) = log(1, 1);
    assert_eq!(
        Witness::parse(&checkpoint, &other).unwrap_err(),
        Fault::KeyUnknown
    );
    let forged = checkpoint.replace("\"kid\":\"", "\"kid\":\"x");
    assert_eq!(Witness::parse(&forged, &keys).unwrap_err(), Fault::Hash);
}

/// Chains `bodies` anew with right hashes, as somebody does who can write the file but not sign.
fn rechain(bodies: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut prev = crate::record::verify::GENESIS.to_owned();
    for body in bodies {
        let mut line = format!("{body},\"prev\":\"{prev}\"").into_bytes();
        let mut hash = Vec::new();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &line);
        crate::json::write_hex(digest.as_ref(), &mut hash);
        prev = String::from_utf8(hash).unwrap();
        line.extend_from_slice(format!(",\"hash\":\"{prev}\"}}\n").as_bytes());
        out.extend_from_slice(&line);
    }
    out
}

fn bodies(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines()
        .map(|line| line.split_once(",\"prev\":\"").unwrap().0.to_owned())
        .collect()
}

#[test]
fn rechaining_an_unchanged_log_gives_the_same_bytes() {
    let (bytes, _) = log(3, 10);
    assert_eq!(rechain(&bodies(&bytes)), bytes);
}

#[test]
fn a_rewritten_and_rechained_log_fails_at_the_first_signature_after_the_change() {
    let (bytes, keys) = log(5, 10);
    let mut changed = bodies(&bytes);
    changed[1] = changed[1].replace("\"code\":\"ok\"", "\"code\":\"no\"");
    let report = check(&rechain(&changed), &keys, None);
    let bad = report.first_bad.unwrap();
    assert_eq!((bad.line, bad.fault), (6, Fault::Signature));
    assert_eq!((report.verified_to, report.signed_to), (5, 0));
}

#[test]
fn a_line_that_is_not_one_compact_object_is_refused_even_if_its_hash_is_right() {
    let ok = format!("{{\"type\":\"decision\",\"instance\":\"{INSTANCE}\",\"seq\":1");
    assert!(
        check(
            &rechain(std::slice::from_ref(&ok)),
            &PublicKeys::default(),
            None
        )
        .is_whole()
    );
    let cases = [
        ok.replace(":1", ": 1"),
        ok.replace(",\"seq\":1", ",\"seq\":1,\"seq\":1"),
        ok.replace(",\"seq\":1", ",\"a\":1,\"\\u0061\":2,\"seq\":1"),
        ok.replace(",\"seq\":1", ",\"seq\":\"1\""),
        ok.replace(",\"seq\":1", ",\"seq\":1,\"prev\":\"x\""),
        ok.replace("\"type\":\"decision\",", ""),
        ok.replace(&format!("\"instance\":\"{INSTANCE}\","), ""),
        ok.replace(",\"seq\":1", ""),
        ok.replace("\"type\":\"decision\"", "\"type\":\"checkpoint\""),
        ok.replace('{', "[{"),
        ok.replace('{', "{}{"),
        ok.replace('{', ""),
        format!("{ok},\"x\":\"\u{1}\""),
        format!("{ok},\"x\":{{\"y\":1"),
    ];
    for case in cases {
        let report = check(
            &rechain(std::slice::from_ref(&case)),
            &PublicKeys::default(),
            None,
        );
        assert_eq!(
            report.first_bad.map(|bad| bad.fault),
            Some(Fault::Form),
            "{case}"
        );
    }
}

#[test]
fn lines_of_another_instance_do_not_belong() {
    let one = format!("{{\"type\":\"decision\",\"instance\":\"{INSTANCE}\",\"seq\":1");
    let two = "{\"type\":\"decision\",\"instance\":\"other\",\"seq\":2".to_owned();
    let report = check(&rechain(&[one, two]), &PublicKeys::default(), None);
    assert_eq!(report.first_bad.unwrap().fault, Fault::Instance);
}

/// A change of a log, by which the log no longer is what was written.
#[derive(Debug, Clone)]
enum Tampering {
    Byte(usize, u8),
    CutByte(usize),
    AddByte(usize, u8),
    RemoveLine(usize),
    RepeatLine(usize, usize),
    SwapLines(usize, usize),
}

impl Tampering {
    fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut bytes, mut all) = (bytes.to_vec(), lines(bytes));
        let (size, count) = (bytes.len(), all.len());
        match *self {
            Self::Byte(at, flip) => bytes[at % size] ^= flip,
            Self::CutByte(at) => drop(bytes.remove(at % size)),
            Self::AddByte(at, byte) => bytes.insert(at % (size + 1), byte),
            // The last line is what only a witness protects.
            Self::RemoveLine(at) => {
                all.remove(at % (count - 1));
                return all.concat();
            }
            Self::RepeatLine(at, to) => {
                let line = all[at % count].clone();
                all.insert(to % (count + 1), line);
                return all.concat();
            }
            Self::SwapLines(one, two) => {
                all.swap(one % count, two % count);
                return all.concat();
            }
        }
        bytes
    }
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = any::<usize>;
    prop_oneof![
        (at(), 1_u8..).prop_map(|(at, flip)| Tampering::Byte(at, flip)),
        at().prop_map(Tampering::CutByte),
        (at(), any::<u8>()).prop_map(|(at, byte)| Tampering::AddByte(at, byte)),
        at().prop_map(Tampering::RemoveLine),
        (at(), at()).prop_map(|(at, to)| Tampering::RepeatLine(at, to)),
        (at(), at()).prop_map(|(one, two)| Tampering::SwapLines(one, two)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_changed_removed_inserted_or_reordered_byte_or_line_is_detected(
        count in 1_u64..12, each in 1_u64..5, tampering in tampering(),
    ) {
        let (bytes, keys) = log(count, each);
        let changed = tampering.apply(&bytes);
        prop_assume!(changed != bytes);
        prop_assert!(!check(&changed, &keys, None).is_whole(), "{tampering:?}");
        prop_assert!(!check(&changed, &PublicKeys::default(), None).is_whole(), "{tampering:?} without keys");
    }

    #[test]
    fn any_cut_is_detected_by_a_witness_or_shows_as_a_torn_line(
        count in 1_u64..12, each in 1_u64..5, cut in any::<prop::sample::Index>(),
    ) {
        let (bytes, keys) = log(count, each);
        let last = String::from_utf8(lines(&bytes).pop().unwrap()).unwrap();
        let witness = Witness::parse(&last, &keys).unwrap();
        let rest = &bytes[..cut.index(bytes.len())];
        prop_assert!(!check(rest, &keys, Some(&witness)).is_whole());
        let whole_lines = rest.is_empty() || rest.ends_with(b"\n");
        prop_assert_eq!(check(rest, &keys, None).is_whole(), whole_lines);
    }
}
