use std::sync::Mutex;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A clock that stands still until it is told otherwise.
#[derive(Clone, Default)]
struct Hands(Arc<Mutex<Duration>>);

impl Hands {
    fn clock(&self) -> Clock {
        let hands = self.clone();
        Arc::new(move || *hands.0.lock().unwrap())
    }

    fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

fn config(written: serde_json::Value) -> Config {
    serde_json::from_value(written).unwrap()
}

fn limits(written: &[serde_json::Value]) -> (Limits, Hands) {
    let hands = Hands::default();
    let configs: Vec<_> = written.iter().cloned().map(config).collect();
    (Limits::with_clock(&configs, hands.clock()), hands)
}

const WHO: Subjects<'_> = Subjects {
    agent: "spiffe://example.org/a",
    subject: "alice",
    task: "issuer t1",
    service: "tickets",
    tool: "tickets/get",
};

const TOOL: ToolTraits = ToolTraits {
    read_only: false,
    destructive: true,
    idempotent: false,
    open_world: true,
    classification: Level::Internal,
};

/// How many of `attempts` pass.
fn passed(limits: &Limits, who: &Subjects<'_>, attempts: usize) -> usize {
    (0..attempts)
        .filter(|_| limits.check(who, TOOL).is_ok())
        .count()
}

#[test]
fn a_burst_passes_and_then_the_steady_rate() {
    let (limits, hands) = limits(&[json!({ "name": "a", "key": ["agent"], "rate": "60/min" })]);
    assert_eq!(passed(&limits, &WHO, 100), 60);
    hands.advance(Duration::from_millis(999));
    assert_eq!(passed(&limits, &WHO, 5), 0);
    hands.advance(Duration::from_millis(1));
    assert_eq!(passed(&limits, &WHO, 5), 1);
    hands.advance(Duration::from_hours(1));
    assert_eq!(passed(&limits, &WHO, 100), 60);
}

#[test]
fn a_refusal_names_the_limit_and_when_to_come_back() {
    let (limits, hands) =
        limits(&[json!({ "name": "a", "key": ["agent"], "rate": "6/min", "burst": 1 })]);
    let admitted = limits.check(&WHO, TOOL).unwrap();
    let policy = Policy {
        quota: 6,
        window_s: Some(60),
    };
    let left = Remaining {
        name: "a".into(),
        remaining: 0,
        reset_s: 10,
        policy,
    };
    assert_eq!(admitted.remaining, [left]);
    hands.advance(Duration::from_secs(4));
    let throttled = limits.check(&WHO, TOOL).unwrap_err();
    assert_eq!((&*throttled.limit, throttled.policy), ("a", policy));
    assert_eq!(throttled.retry_after, Duration::from_secs(6));
    hands.advance(throttled.retry_after);
    drop(limits.check(&WHO, TOOL).unwrap());
}

#[test]
fn what_is_left_is_counted_down() {
    let (limits, _) =
        limits(&[json!({ "name": "a", "key": ["agent"], "rate": "1/h", "burst": 3 })]);
    let left: Vec<_> = (0..3)
        .map(|_| limits.check(&WHO, TOOL).unwrap().remaining[0].remaining)
        .collect();
    assert_eq!(left, [2, 1, 0]);
}

#[test]
fn each_key_has_its_own_count() {
    let (limits, _) = limits(&[json!({ "name": "a", "key": ["agent", "tool"], "rate": "1/h" })]);
    assert_eq!(passed(&limits, &WHO, 3), 1);
    assert_eq!(
        passed(
            &limits,
            &Subjects {
                tool: "tickets/put",
                ..WHO
            },
            3
        ),
        1
    );
    assert_eq!(
        passed(
            &limits,
            &Subjects {
                agent: "spiffe://example.org/b",
                ..WHO
            },
            3
        ),
        1
    );
    // Not named by the key, so it makes no difference.
    assert_eq!(
        passed(
            &limits,
            &Subjects {
                task: "issuer t2",
                subject: "bob",
                ..WHO
            },
            3
        ),
        0
    );
}

#[test]
fn parts_of_a_key_do_not_run_together() {
    let (limits, _) = limits(&[json!({ "name": "a", "key": ["agent", "subject"], "rate": "1/h" })]);
    assert_eq!(
        passed(
            &limits,
            &Subjects {
                agent: "ab",
                subject: "c",
                ..WHO
            },
            2
        ),
        1
    );
    assert_eq!(
        passed(
            &limits,
            &Subjects {
                agent: "a",
                subject: "bc",
                ..WHO
            },
            2
        ),
        1
    );
    assert_eq!(
        passed(
            &limits,
            &Subjects {
                agent: "",
                subject: "abc",
                ..WHO
            },
            2
        ),
        1
    );
}

#[test]
fn limits_are_spent_in_file_order_up_to_the_one_that_refuses() {
    let (limits, _) = limits(&[
        json!({ "name": "first", "key": ["agent"], "rate": "3/h" }),
        json!({ "name": "second", "key": ["tool"], "rate": "1/h" }),
        json!({ "name": "third", "key": ["service"], "rate": "2/h" }),
    ]);
    let names: Vec<_> = limits
        .check(&WHO, TOOL)
        .unwrap()
        .remaining
        .into_iter()
        .map(|r| r.name)
        .collect();
    assert_eq!(
        names.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
        ["first", "second", "third"]
    );
    // The second refuses twice, and each time the first has been spent.
    for _ in 0..2 {
        assert_eq!(&*limits.check(&WHO, TOOL).unwrap_err().limit, "second");
    }
    assert_eq!(&*limits.check(&WHO, TOOL).unwrap_err().limit, "first");
    // The third was spent once only: of its two, one is left to another agent and tool.
    let other = Subjects {
        agent: "b",
        tool: "tickets/put",
        ..WHO
    };
    assert_eq!(
        limits.check(&other, TOOL).unwrap().remaining[2].remaining,
        0
    );
}

#[test]
fn a_limit_applies_when_all_facts_are_as_written() {
    let facts = [
        (json!({ "destructive": true }), true),
        (json!({ "destructive": false }), false),
        (json!({ "read_only": true }), false),
        (json!({ "idempotent": false, "open_world": true }), true),
        (json!({ "idempotent": false, "open_world": false }), false),
        (json!({ "classification": "internal" }), true),
        (json!({ "classification": "restricted" }), false),
        (
            json!({ "classification": "internal", "destructive": false }),
            false,
        ),
        (json!({}), true),
    ];
    for (when, applies) in facts {
        let (limits, _) = limits(&[
            json!({ "name": "a", "key": ["agent"], "rate": "1/h", "when": when.clone() }),
        ]);
        assert_eq!(
            passed(&limits, &WHO, 3),
            if applies { 1 } else { 3 },
            "{when}"
        );
    }
}

#[test]
fn places_come_back_when_calls_end() {
    let (limits, _) = limits(&[json!({ "name": "a", "key": ["agent"], "concurrency": 2 })]);
    let first = limits.check(&WHO, TOOL).unwrap();
    let second = limits.check(&WHO, TOOL).unwrap();
    assert_eq!(
        (first.remaining[0].remaining, second.remaining[0].remaining),
        (1, 0)
    );
    let throttled = limits.check(&WHO, TOOL).unwrap_err();
    assert_eq!(
        throttled.policy,
        Policy {
            quota: 2,
            window_s: None
        }
    );
    drop(limits.check(&Subjects { agent: "b", ..WHO }, TOOL).unwrap());
    drop(first);
    let third = limits.check(&WHO, TOOL).unwrap();
    limits.check(&WHO, TOOL).unwrap_err();
    drop((second, third));
    let Counts::Places(table) = &limits.all[0].counts else {
        unreachable!()
    };
    assert_eq!(table.keys(), 0);
}

#[test]
fn a_call_that_a_later_limit_refuses_keeps_no_place() {
    let (limits, _) = limits(&[
        json!({ "name": "places", "key": ["agent"], "concurrency": 1 }),
        json!({ "name": "rate", "key": ["agent"], "rate": "1/h" }),
    ]);
    drop(limits.check(&WHO, TOOL).unwrap());
    for _ in 0..3 {
        assert_eq!(&*limits.check(&WHO, TOOL).unwrap_err().limit, "rate");
    }
}

#[test]
fn unchanged_definitions_keep_their_counts_on_renewal() {
    let rate = json!({ "name": "a", "key": ["agent"], "rate": "2/h" });
    let (limits, _) = limits(std::slice::from_ref(&rate));
    assert_eq!(passed(&limits, &WHO, 1), 1);
    let added = json!({ "name": "b", "key": ["agent"], "rate": "100/h" });
    let renewed = limits.renew(&[config(added), config(rate)]);
    assert_eq!(passed(&renewed, &WHO, 5), 1);
    let changed = json!({ "name": "a", "key": ["agent"], "rate": "3/h" });
    assert_eq!(passed(&renewed.renew(&[config(changed)]), &WHO, 5), 3);
}

#[test]
fn places_stay_taken_over_a_renewal_that_changes_their_number() {
    let places = |most: u32| json!({ "name": "a", "key": ["agent"], "concurrency": most });
    let (limits, _) = limits(&[places(3)]);
    let held = [
        limits.check(&WHO, TOOL).unwrap(),
        limits.check(&WHO, TOOL).unwrap(),
    ];
    let renewed = limits.renew(&[config(places(1))]);
    renewed.check(&WHO, TOOL).unwrap_err();
    drop(held);
    drop(renewed.check(&WHO, TOOL).unwrap());
}

#[test]
fn a_sweep_forgets_only_what_has_nothing_spent() {
    let (limits, hands) = limits(&[json!({ "name": "a", "key": ["agent"], "rate": "1/min" })]);
    assert_eq!(passed(&limits, &WHO, 2), 1);
    hands.advance(Duration::from_secs(59));
    assert_eq!(passed(&limits, &Subjects { agent: "b", ..WHO }, 2), 1);
    let Counts::Rate(buckets) = &limits.all[0].counts else {
        unreachable!()
    };
    limits.sweep();
    assert_eq!(buckets.keys(), 2);
    assert_eq!(passed(&limits, &WHO, 2), 0);
    hands.advance(Duration::from_secs(61));
    limits.sweep();
    assert_eq!(buckets.keys(), 1);
    hands.advance(Duration::from_secs(61));
    limits.sweep();
    assert_eq!(buckets.keys(), 0);
}

#[test]
fn a_key_beyond_the_cap_is_refused_and_forgets_nobody() {
    let hands = Hands::default();
    let rate = Rate::try_from("2/min".to_owned()).unwrap();
    let burst = std::num::NonZeroU32::new(2).unwrap();
    let buckets = local::Buckets::with_most(rate, burst, hands.clock(), 2);
    assert_eq!(buckets.spend(1), Ok(1));
    assert_eq!(buckets.spend(2), Ok(1));
    buckets.spend(3).unwrap_err();
    assert_eq!(buckets.spend(1), Ok(0));
    buckets.spend(1).unwrap_err();
    hands.advance(Duration::from_mins(10));
    buckets.sweep();
    assert_eq!(buckets.spend(3), Ok(1));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_was_expected() {
    let cases = [
        (
            json!({ "name": "a", "key": [], "rate": "1/s" }),
            "`key` is empty",
        ),
        (
            json!({ "name": "a", "key": ["agent", "tool", "agent"], "rate": "1/s" }),
            "twice",
        ),
        (
            json!({ "name": "a", "key": ["model"], "rate": "1/s" }),
            "model",
        ),
        (json!({ "name": "a", "key": ["agent"] }), "exactly one"),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1/s", "concurrency": 1 }),
            "exactly one",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "burst": 1 }),
            "exactly one",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "concurrency": 1, "burst": 1 }),
            "`burst`",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "concurrency": 0 }),
            "nonzero",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1/s", "burst": 0 }),
            "nonzero",
        ),
        (
            json!({ "name": "a b", "key": ["agent"], "rate": "1/s" }),
            "name",
        ),
        (
            json!({ "name": "", "key": ["agent"], "rate": "1/s" }),
            "name",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1/s", "per": 1 }),
            "per",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1/s", "when": { "x": true } }),
            "x",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1/s", "when": { "classification": "top" } }),
            "top",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1/d", "burst": 400 }),
            "within a year",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1/d", "burst": u32::MAX }),
            "a year",
        ),
        (
            json!({ "name": "a", "key": ["agent"], "rate": "1000001/s" }),
            "1000000/s",
        ),
    ];
    for (written, expected) in cases {
        let text = serde_json::from_value::<Config>(written.clone())
            .unwrap_err()
            .to_string();
        assert!(text.contains(expected), "{written}: {text}");
    }
    for rate in [
        "60",
        "60/m",
        "60/minute",
        "0/s",
        "-1/s",
        "+1/s",
        "1.5/s",
        "/s",
        "60 /min",
        "60/min ",
        "99999999999/s",
        "",
        "60/MIN",
    ] {
        assert_eq!(
            Rate::try_from(rate.to_owned()),
            Err(BadLimit::Rate),
            "{rate}"
        );
    }
}

#[test]
fn a_name_that_two_limits_bear_is_found() {
    let named = |name: &str| config(json!({ "name": name, "key": ["agent"], "concurrency": 1 }));
    assert!(repeated_name(&[named("a"), named("b")]).is_none());
    let twice = [named("a"), named("b"), named("a")];
    assert_eq!(repeated_name(&twice).unwrap().as_str(), "a");
}

#[test]
fn limits_are_shared_between_threads_and_count_exactly() {
    let (limits, _) = limits(&[json!({ "name": "a", "key": ["agent"], "rate": "100/h" })]);
    let total: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| passed(&limits, &WHO, 100)))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    assert_eq!(total, 100);
}

proptest! {
    /// Over any interval at most burst + rate × interval + 1 are admitted.
    #[test]
    fn no_interval_admits_more_than_its_share(
        count in 1_u32..200,
        unit in prop::sample::select(vec![("s", 1_u64), ("min", 60), ("h", 3_600)]),
        burst in 1_u32..50,
        steps in prop::collection::vec((0_u64..5_000_000_000, 0_usize..30), 1..40),
    ) {
        let rate = format!("{count}/{}", unit.0);
        let (limits, hands) =
            limits(&[json!({ "name": "a", "key": ["agent"], "rate": rate, "burst": burst })]);
        let mut admitted: Vec<u128> = Vec::new();
        let mut now = 0_u128;
        for (wait, attempts) in steps {
            hands.advance(Duration::from_nanos(wait));
            now += u128::from(wait);
            admitted.extend(std::iter::repeat_n(now, passed(&limits, &WHO, attempts)));
        }
        for (first, start) in admitted.iter().enumerate() {
            for (last, end) in admitted.iter().enumerate().skip(first) {
                let calls = (last - first + 1) as u128;
                let earned = u128::from(count) * (end - start) / (u128::from(unit.1) * 1_000_000_000);
                prop_assert!(calls <= u128::from(burst) + earned + 1);
            }
        }
    }

    /// The window here is shorter than the time in which one more is earned.
    #[test]
    fn one_call_more_than_the_burst_never_passes_within_a_window(
        burst in 1_u32..40,
        waits in prop::collection::vec(0_u64..1_000_000, 0..60),
    ) {
        let (limits, hands) =
            limits(&[json!({ "name": "a", "key": ["agent"], "rate": "1/s", "burst": burst })]);
        let mut total = passed(&limits, &WHO, 1);
        for wait in waits {
            hands.advance(Duration::from_nanos(wait));
            total += passed(&limits, &WHO, 2);
        }
        prop_assert!(total <= burst as usize);
    }
}
