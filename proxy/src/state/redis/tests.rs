//! Sidecars' parts of a fleet against a real store; without one they say so and pass.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use outrider_integration::{Kept, Store, until};

use super::*;
use crate::state::config::Section;

struct Nobody;

impl Follower for Nobody {
    fn widens(&self, _: &Edict) -> bool {
        false
    }

    fn follow(&self, _: Decree) -> bool {
        true
    }
}

fn member(store: &Store, more: &str) -> Fleet {
    let ca = store.ca().map(|ca| format!("ca: {}\n", ca.display()));
    let ca = ca.unwrap_or_default();
    let yaml = format!("store: {}\npassword: secret\n{ca}{more}", store.url());
    let section: Section = serde_saphyr::from_str(&yaml).unwrap();
    let settings = section.settings(Path::new("."), |_| None).unwrap().unwrap();
    let fleet = Fleet::start(settings, Box::new(Nobody)).unwrap();
    until("the store to count", || fleet.status().up.then_some(()));
    fleet
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

fn total(most: u64) -> Total {
    Total {
        key: [9; 16],
        most,
        used: 0,
        lasts: Duration::from_hours(1),
    }
}

/// Two members spend of one total until it is spent; `meanwhile` happens to the store. Gives how
/// many were spent.
fn spend_together(store: &Store, most: u64, meanwhile: impl FnOnce(&AtomicU64)) -> u64 {
    let members = [member(store, ""), member(store, "")];
    let spent = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..8 {
            let (fleet, spent) = (&members[number % 2], &spent);
            scope.spawn(move || {
                block_on(async {
                    loop {
                        match fleet.spend(&[total(most)]).await {
                            Ok(_) => {
                                spent.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(Unspent::Spent { .. }) => break,
                            Err(Unspent::Away(Away)) => {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                        }
                    }
                });
            });
        }
        meanwhile(&spent);
    });
    spent.into_inner()
}

#[test]
fn members_of_a_fleet_spend_a_total_exactly() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    assert_eq!(spend_together(&store, 100, |_| {}), 100);
}

#[test]
fn a_total_is_never_overspent_while_its_store_is_emptied() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let most = 3_000;
    let spent = spend_together(&store, most, |spent| {
        for part in 1..4 {
            until("a quarter to be spent", || {
                (spent.load(Ordering::SeqCst) >= most * part / 4).then_some(())
            });
            store.ask(&["FLUSHALL"]);
        }
    });
    assert!(spent <= most, "{spent}");
    // An answer may be lost when the store is emptied; what it spent is spent.
    assert!(spent > most * 9 / 10, "{spent}");
}

#[test]
fn of_several_totals_all_are_spent_or_none() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let fleet = member(&store, "");
    let small = Total {
        key: [1; 16],
        ..total(1)
    };
    let (large, totals) = (total(10), [total(10), small]);
    block_on(async {
        assert_eq!(fleet.spend(&totals).await, Ok(vec![1, 1]));
        let spent = Err(Unspent::Spent { at: 1, used: 1 });
        assert_eq!(fleet.spend(&totals).await, spent);
        assert_eq!(fleet.spend(&[large]).await, Ok(vec![2]));
        // What is known elsewhere counts as well.
        let known = Total { used: 8, ..large };
        assert_eq!(fleet.spend(&[known]).await, Ok(vec![9]));
    });
}

#[test]
fn a_stored_count_that_is_no_number_or_far_ahead_gives_nothing_away() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let store = Store::start(&binary, Kept::Nothing);
    let fleet = member(&store, "");
    let cell = Cell {
        key: [3; 16],
        interval: 3_600_000_000,
        span: 2 * 3_600_000_000,
    };
    let key = fleet.link.name(&cell.key);
    block_on(async {
        for spent in [false, false, true] {
            assert_eq!(fleet.admit(&[cell]).await.unwrap().spent, spent);
        }
        for garbage in [
            "nan",
            "-nan",
            "inf",
            "1e300",
            "-5",
            "x",
            "",
            "99999999999999999999",
        ] {
            store.ask(&["SET", &key, garbage]);
            let counted = fleet.admit(&[cell]).await.unwrap();
            assert!(counted.spent, "{garbage:?}");
            assert!(counted.until[0] <= counted.now + cell.span, "{garbage:?}");
        }
        store.ask(&["DEL", &key]);
        store.ask(&["LPUSH", &key, "x"]);
        assert_eq!(fleet.admit(&[cell]).await, Err(Away));
    });
}
