//! Not a proof: what a call costs more where its limit is shared, in one run.

use std::time::{Duration, Instant};

use outrider_integration::{Kept, Setup, Sidecar, Store, Tool, ToolServer};
use serde_json::{Value, json};

use crate::{Means, counted};

/// Calls of each kind, alternating.
const CALLS: usize = 4_000;

pub(crate) fn measure(means: &Means) {
    let store = Store::start(&means.store, Kept::Nothing);
    let server = ToolServer::start(vec![Tool::echo("echo")]);
    let limit = |config: &mut Value| {
        config["limits"] =
            json!([{"name": "fast", "key": ["agent", "tool"], "rate": "1000000/min"}]);
    };
    let local = Setup::new(&means.binary, &server).config(limit).start();
    let shared = store.shared(Setup::new(&means.binary, &server));
    let shared = shared.config(limit).start();
    counted(&shared);
    let budgeted = shared.open_task(&["--calls", "1000000"]).token;
    let mut kinds = [
        ("a limit of its own", local.agent(), Vec::new()),
        ("a shared limit", shared.agent(), Vec::new()),
        (
            "a shared limit and a shared budget",
            shared.stranger().with_token(&budgeted),
            Vec::new(),
        ),
    ];
    let arguments = json!({"message": "hi"});
    for call in 0..CALLS + 100 {
        for (_, agent, took) in &mut kinds {
            let begun = Instant::now();
            assert!(agent.call("echo", &arguments).is_tool_success());
            if call >= 100 {
                took.push(begun.elapsed());
            }
        }
    }
    for (name, _, took) in &mut kinds {
        took.sort_unstable();
        let at = |share: f64| took[share_of(took.len(), share)];
        println!("  {name}: p50 {:?}, p99 {:?}", at(0.5), at(0.99));
    }
    for (name, sidecar) in [("its own", &local), ("shared", &shared)] {
        println!("  the stage `limit`, {name}: mean {:?}", stage(sidecar));
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "few"
)]
fn share_of(count: usize, share: f64) -> usize {
    (count as f64 * share) as usize
}

fn stage(sidecar: &Sidecar) -> Duration {
    let of = |name| sidecar.metric(name, &["stage=\"limit\""]);
    let sum = of("outrider_overhead_seconds_sum");
    Duration::from_secs_f64(sum / of("outrider_overhead_seconds_count"))
}
