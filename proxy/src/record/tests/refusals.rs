use std::time::Instant;

use super::*;
use crate::{
    call::DecisionId,
    limit::Rate,
    record::refusals::{Likeness, Refusals},
    rejection::Code,
};

fn rate(text: &str) -> Rate {
    text.to_owned().try_into().unwrap()
}

fn of(listener: &str) -> Likeness {
    Likeness {
        listener: listener.into(),
        uid: None,
        task: None,
        service: None,
        tool: None,
        method: "".into(),
        code: Code::ToolUnknown,
        cause: "".into(),
        revision: None,
        rule: String::new(),
    }
}

/// One more refusal; the decision it shares.
fn one(refusals: &Refusals, likeness: Likeness, now: Instant) -> Option<DecisionId> {
    refusals.share(likeness, now, DecisionId::mint(), |line| {
        line.extend_from_slice(b"\"type\":\"decision\"");
    })
}

#[test]
fn so_many_have_lines_of_their_own_and_the_others_share_one() {
    let (refusals, start) = (Refusals::beyond(rate("3/s")), Instant::now());
    let after = |ms| start + Duration::from_millis(ms);
    for ms in [0, 1, 2] {
        assert_eq!(one(&refusals, of("a"), after(ms)), None);
    }
    let id = one(&refusals, of("a"), after(10)).expect("a shared line");
    for ms in 11..20 {
        assert_eq!(one(&refusals, of("a"), after(ms)), Some(id));
    }
    assert_eq!(one(&refusals, of("b"), after(20)), None, "another kind");
    assert!(refusals.due(after(1_009)).is_empty());
    let mut counted = refusals.due(after(1_010));
    let line = counted.pop().unwrap();
    assert!(counted.is_empty());
    assert_eq!((line.id, line.count, line.window_ms), (id, 10, 1_000));
    assert_eq!(
        line.members,
        br#""type":"decision","count":10,"window_ms":1000"#
    );
    assert_eq!(one(&refusals, of("a"), after(1_011)), None, "a new second");
}

#[test]
fn a_slow_rate_still_closes_its_line_each_second() {
    let (refusals, start) = (Refusals::beyond(rate("1/h")), Instant::now());
    let after = |ms| start + Duration::from_millis(ms);
    assert_eq!(one(&refusals, of("a"), start), None);
    let first = one(&refusals, of("a"), after(1)).unwrap();
    assert_eq!(refusals.due(after(1_001)).len(), 1);
    let second = one(&refusals, of("a"), after(1_002)).unwrap();
    assert_ne!(first, second);
    let rest = refusals.rest(after(1_003));
    assert_eq!((rest.len(), rest[0].count), (1, 1));
    assert!(refusals.rest(after(1_004)).is_empty());
}

#[test]
fn kinds_and_bytes_are_bounded_and_what_is_beyond_has_its_own_line() {
    let (refusals, start) = (Refusals::beyond(rate("1/s")), Instant::now());
    for number in 0..2_000 {
        let likeness = of(&number.to_string());
        assert_eq!(one(&refusals, likeness.clone(), start), None);
        let shares = one(&refusals, likeness, start).is_some();
        assert_eq!(shares, number < 1_024, "{number}");
    }
    let later = start + Duration::from_secs(2);
    assert_eq!(refusals.due(later).len(), 1_024);
    assert!(refusals.due(later).is_empty());

    let large = |name: &str| {
        one(&refusals, of(name), later);
        let megabyte = |line: &mut Vec<u8>| line.resize(1 << 20, b'x');
        refusals.share(of(name), later, DecisionId::mint(), megabyte)
    };
    let shared = ["a", "b", "c", "d", "e"].map(|name| large(name).is_some());
    assert_eq!(shared, [true, true, true, true, false]);
    assert_eq!(refusals.rest(later).len(), 4);
    assert!(large("f").is_some(), "their room is given back");
}
