//! 100 reloads in a minute, of good, bad and truncated files of every kind in turn.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use outrider_integration::{Setup, Sidecar, lock_file, until};
use serde_json::json;

use crate::{
    load::{Ending, Load, verify},
    server, setup,
};

const RELOADS: u32 = 100;
const MINUTE: Duration = Duration::from_mins(1);

/// What is put in place before a reload. What is bad is bad at its end: everything before would
/// refuse every call if it took effect.
#[derive(Debug, Clone, Copy)]
enum Change {
    GoodData,
    GoodRules,
    GoodLock,
    BadData,
    TruncatedData,
    BadRules,
    BadLock,
    TruncatedLock,
    BadConfiguration,
    TruncatedConfiguration,
    NeedsRestart,
}

use Change::{
    BadConfiguration, BadData, BadLock, BadRules, GoodData, GoodLock, GoodRules, NeedsRestart,
    TruncatedConfiguration, TruncatedData, TruncatedLock,
};

const CHANGES: [Change; 14] = [
    GoodData,
    BadData,
    TruncatedData,
    GoodRules,
    BadRules,
    GoodLock,
    BadLock,
    GoodData,
    TruncatedLock,
    BadConfiguration,
    GoodRules,
    TruncatedConfiguration,
    NeedsRestart,
    GoodLock,
];

impl Change {
    fn is_good(self) -> bool {
        matches!(self, GoodData | GoodRules | GoodLock)
    }
}

pub(crate) fn prove(binary: &str) {
    let server = server();
    let tools = lock_file(&server.definitions());
    let mut sidecar = setup(binary, &server).rules(&rules(0)).start();
    let mut good = HashSet::from([in_force(&sidecar)]);
    let load = Load::start(&sidecar, Ending::Never);
    let begun = Instant::now();
    let (mut well, mut badly) = (0, 0);
    for (number, change) in (1..=RELOADS).zip(CHANGES.into_iter().cycle()) {
        let next = begun + MINUTE * number / RELOADS;
        let setup = sidecar.setup();
        let put_right = put(setup, change, number, &tools);
        let tell = |result| {
            let before = reloads(&sidecar, result);
            sidecar.signal("HUP");
            until("the reload to be counted", || {
                (reloads(&sidecar, result) > before).then_some(())
            });
        };
        let same = matches!(change, GoodLock);
        if change.is_good() {
            let before = in_force(&sidecar);
            tell("ok");
            well += 1;
            // What was told may still be on its way behind a reload that the sidecar began itself.
            let there = || Some(in_force(&sidecar)).filter(|now| *now != before || same);
            good.insert(until("the new revision", there));
        } else {
            tell("failed");
            badly += 1;
            assert!(good.contains(&in_force(&sidecar)), "after {change:?}");
            put_right();
            tell("ok");
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let took = begun.elapsed();
    let tally = load.end();
    println!(
        "  {well} good and {badly} bad changes in {took:?}, {} revisions",
        good.len()
    );
    let seen = tally.check(&sidecar, &server);
    let strange: Vec<_> = seen
        .keys()
        .filter(|revision| !good.contains(*revision))
        .collect();
    assert!(
        strange.is_empty(),
        "decided by what was never in force: {strange:?}"
    );
    assert!(seen.len() > 10, "{seen:?}");
    let (ok, failed) = (reloads(&sidecar, "ok"), reloads(&sidecar, "failed"));
    assert!(
        ok > f64::from(well) && failed >= f64::from(badly),
        "{ok} {failed}"
    );
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait().code(), Some(0));
    verify(&mut sidecar);
}

/// Puts a change in place, and returns what takes a bad one back.
fn put(
    setup: &Setup,
    change: Change,
    number: u32,
    tools: &serde_json::Value,
) -> impl FnOnce() + use<> {
    let file = setup.path(match change {
        GoodData | BadData | TruncatedData => "data.yaml",
        GoodRules | BadRules => "policy/rules.rego",
        GoodLock | BadLock | TruncatedLock => "tools.json",
        BadConfiguration | TruncatedConfiguration | NeedsRestart => "outrider.yaml",
    });
    let kept = fs::read_to_string(&file).unwrap();
    let half = |text: &str| text.chars().take(text.len() / 2).collect();
    let mut data = setup.data.clone();
    let mut config = setup.config.clone();
    let text = match change {
        GoodData => {
            data["agents"][0]["purpose"] = json!(format!("Is test {number}"));
            data.to_string()
        }
        BadData => {
            data["grants"] = json!([]);
            data["intents"] = json!([{"id": "work", "nonsense": number}]);
            data.to_string()
        }
        TruncatedData => half(&data.to_string()),
        GoodRules => rules(number),
        BadRules => format!("{}\ndeny contains {{\"reason\": \"no\"}} if", denying()),
        GoodLock => {
            let mut tools = tools.clone();
            tools["tools"]["echo"]["version"] = json!(number.to_string());
            tools.to_string()
        }
        BadLock => {
            let mut tools = tools.clone();
            tools["tools"]["echo"]["inputSchema"] = json!({"type": number});
            tools.to_string()
        }
        TruncatedLock => half(&tools.to_string()),
        BadConfiguration => {
            config["services"] = json!([]);
            config["limits"] = json!([{"name": "no", "key": ["agent"], "rate": "many"}]);
            config.to_string()
        }
        TruncatedConfiguration => half(&config.to_string()),
        NeedsRestart => {
            config["services"] = json!([]);
            config["environment"] = json!("another");
            config.to_string()
        }
    };
    replace(&file, &text);
    move || replace(&file, &kept)
}

/// Puts a file in the place of another: what is good is there whole or not at all.
fn replace(file: &Path, text: &str) {
    let whole = file.with_extension("whole");
    fs::write(&whole, text).unwrap();
    fs::rename(whole, file).unwrap();
}

/// Rules that permit, told apart by a number.
fn rules(number: u32) -> String {
    format!(
        "package outrider.authz\n\ndeny contains {{\"reason\": \"never_{number}\", \"message\": \"never\"}} if input.call.method == \"never\"\n"
    )
}

/// Rules that refuse everything.
fn denying() -> &'static str {
    "package outrider.authz\n\ndeny contains {\"reason\": \"always\", \"message\": \"always\"} if input.call.phase != \"\"\n"
}

fn in_force(sidecar: &Sidecar) -> String {
    let ready = sidecar.get("/readyz").json();
    let policy = ready["policy"]["detail"].as_str().unwrap_or_default();
    policy.trim_start_matches("revision ").to_owned()
}

fn reloads(sidecar: &Sidecar, result: &str) -> f64 {
    let label = format!("result=\"{result}\"");
    sidecar.metric("outrider_policy_reload_total", &[&label])
}
