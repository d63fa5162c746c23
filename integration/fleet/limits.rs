//! One rate for two sidecars under three times that load.

use std::{
    thread,
    time::{Duration, Instant},
};

use outrider_integration::{Kept, Sidecar, Store, until};
use serde_json::{Value, json};

use crate::{
    Means,
    load::{Arrivals, Load},
    name, pair,
};

/// A rate so slow, and a burst so large, that a burst given back by mistake cannot hide in the time
/// that a recovery takes.
const RATE: f64 = 8.0;
const BURST: f64 = 60.0;
/// A call may take so long from its admission to the server.
const WAY: f64 = 0.25;

fn limit(config: &mut Value) {
    config["limits"] = json!([{"name": "slow", "key": ["agent"], "rate": "480/min", "burst": 60}]);
}

/// Checks that no interval saw more than the limit and `slack`; gives the closest call to it.
fn check(arrivals: &[Instant], slack: f64) -> f64 {
    let mut closest = f64::MIN;
    for (first, from) in arrivals.iter().enumerate() {
        for (last, to) in arrivals.iter().enumerate().skip(first) {
            #[expect(clippy::cast_precision_loss, reason = "few")]
            let admitted = (last - first + 1) as f64;
            let time = to.duration_since(*from).as_secs_f64() + WAY;
            closest = closest.max(admitted - (BURST + RATE * time + 1.0));
        }
    }
    assert!(
        closest <= slack,
        "{closest:.1} more than the limit admits, and the slack is {slack}"
    );
    closest
}

/// Waits until the burst is spent and both sidecars refuse for it.
fn spent(sidecars: &[Sidecar]) {
    for sidecar in sidecars {
        let refused = || sidecar.metric("outrider_limit_rejections_total", &[]);
        let before = refused();
        until("the burst to be spent", || {
            (refused() >= before + 5.0).then_some(())
        });
    }
}

/// Waits until calls reach the server again, one by one at the limit's rate.
fn recovered(arrivals: &Arrivals) {
    let begun = Instant::now();
    until("calls to be admitted again", || {
        (arrivals.since(begun) >= 3).then_some(())
    });
    println!("    admitted again after {:?}", begun.elapsed());
}

struct Scene<'a> {
    store: &'a mut Store,
    arrivals: &'a Arrivals,
}

type Fault = (&'static str, fn(&mut Scene<'_>));

const FAULTS: [Fault; 6] = [
    ("killed for 3 s and started again", |scene| {
        scene.store.kill();
        thread::sleep(Duration::from_secs(3));
        scene.store.start_again();
    }),
    ("killed and started at once", |scene| {
        scene.store.kill();
        scene.store.start_again();
    }),
    ("paused for 3 s", |scene| {
        scene.store.signal("STOP");
        thread::sleep(Duration::from_secs(3));
        scene.store.signal("CONT");
    }),
    ("emptied", |scene| {
        scene.store.ask(&["FLUSHALL"]);
    }),
    ("emptied five times", |scene| {
        for _ in 0..5 {
            scene.store.ask(&["FLUSHALL"]);
            thread::sleep(Duration::from_millis(700));
        }
    }),
    ("deprived of its epoch", |scene| {
        scene.store.ask(&["DEL", "outrider:epoch"]);
    }),
];

pub(crate) fn prove(means: &Means) {
    for kept in [Kept::Nothing, Kept::Appended] {
        println!("  {} keeps {kept:?}", name(&means.store));
        let mut store = Store::start(&means.store, kept);
        let arrivals = Arrivals::default();
        let server = arrivals.server();
        let sidecars = pair(means, &store, &server, limit);
        let load = Load::start(&sidecars);
        for (what, fault) in FAULTS {
            spent(&sidecars);
            println!("  {what}");
            fault(&mut Scene {
                store: &mut store,
                arrivals: &arrivals,
            });
            recovered(&arrivals);
        }
        spent(&sidecars);
        let codes = load.end();
        let all = arrivals.all();
        println!(
            "  {} admitted, {codes:?}; closest to the limit: {:.1}",
            all.len(),
            check(&all, 0.0)
        );
        for code in codes.keys() {
            assert!(
                ["ok", "rate_limited", "dependency_unavailable"].contains(&code.as_str()),
                "{codes:?}"
            );
        }
        assert!(codes.contains_key("rate_limited") && codes.contains_key("dependency_unavailable"));
        assert_eq!(
            codes["ok"],
            all.len(),
            "calls that were admitted and arrived"
        );
    }
}

/// The same while each goes on with its share: what is over the limit is at most one call of each
/// sidecar, and what one is admitted by the store while the other already takes its share.
pub(crate) fn prove_share(means: &Means) {
    let mut store = Store::start(&means.store, Kept::Nothing);
    let arrivals = Arrivals::default();
    let server = arrivals.server();
    let sidecars = pair(means, &store, &server, |config| {
        limit(config);
        config["state"]["on_failure"] = json!("local_share");
        config["state"]["sidecars"] = json!(2);
    });
    let load = Load::start(&sidecars);
    for (what, fault) in FAULTS {
        spent(&sidecars);
        println!("  {what}");
        let begun = Instant::now();
        let mut scene = Scene {
            store: &mut store,
            arrivals: &arrivals,
        };
        fault(&mut scene);
        until("calls to go on", || {
            (scene.arrivals.since(begun) >= 3).then_some(())
        });
    }
    let codes = load.end();
    let all = arrivals.all();
    println!(
        "  {} admitted, {codes:?}; closest to the limit: {:.1}",
        all.len(),
        check(&all, 2.0 + RATE)
    );
    assert!(!codes.contains_key("dependency_unavailable"), "{codes:?}");
}
