//! Three times what can be carried: the rest is refused fast and recorded, what is carried is not
//! slow, and as soon as it is over everything is as before.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    fire::{Kind, Pace, Round, fire, quantile, runtime},
    rig::Rig,
};

/// Connections of those who stay within what can be carried, and of the flood.
const FEW: usize = 32;
const MANY: usize = 512;
/// How many times what can be carried.
const TIMES: f64 = 3.0;
/// The part of it that is quiet.
const QUIET: f64 = 0.3;
/// The part of it that is carried in the flood, at the least; what is refused costs something too,
/// and who floods shares the machine.
const CARRIED: f64 = 0.25;
/// The longest that all but one in a hundred carried calls take in the flood.
const SLOWEST: Duration = Duration::from_secs(1);
/// When everything is as before, at the latest.
const BACK: Duration = Duration::from_secs(2);
/// What is looked at together afterwards.
const WINDOW: Duration = Duration::from_millis(250);
/// What a machine that does other things besides adds to a quantile.
const NOISE: Duration = Duration::from_millis(3);

pub(crate) fn run(outrider: &Path) -> Result<()> {
    let rig = Rig::start(outrider, |config| {
        config["limits"] = json!([{"name": "all", "key": ["agent"], "rate": "1000000/s"}]);
    })?;
    let runtime = runtime()?;
    let shoot = |connections, pace, seconds| {
        let time = Duration::from_secs(seconds);
        runtime.block_on(fire(rig.address, &rig.call, connections, pace, time))
    };
    shoot(FEW, Pace::Closed, 1)?;
    let knees: Result<Vec<_>> = (0..3).map(|_| shoot(FEW, Pace::Closed, 2)).collect();
    let mut knees: Vec<_> = knees?.iter().map(|round| round.rate(Kind::Good)).collect();
    knees.sort_unstable_by(f64::total_cmp);
    let knee = *knees.get(1).context("three rounds")?;
    println!("the knee: {knee:.0} calls/s over {FEW} connections, of {knees:.0?}");
    let quiet = shoot(FEW, Pace::Open(knee * QUIET), 3)?;
    report(&format!("{QUIET} of it over {FEW}"), &quiet);
    let flood = shoot(MANY, Pace::Open(knee * TIMES), 5)?;
    report(&format!("{TIMES} times it over {MANY}"), &flood);
    let after = shoot(FEW, Pace::Open(knee * QUIET), 4)?;
    report("afterwards", &after);
    judge(&rig, knee, [&quiet, &flood, &after])
}

fn judge(rig: &Rig, knee: f64, [quiet, flood, after]: [&Round; 3]) -> Result<()> {
    let shed = flood.count(Kind::Shed);
    ensure!(shed > 0, "nothing was refused: {:?}", flood.refusal);
    let refusal = flood.refusal.as_deref().unwrap_or_default();
    for part in [
        "HTTP/1.1 503",
        "application/problem+json",
        r#""code":"overloaded""#,
    ] {
        ensure!(refusal.contains(part), "no `{part}` in {refusal}");
    }
    let lower = refusal.to_ascii_lowercase();
    ensure!(
        lower.contains("retry-after: 1"),
        "no Retry-After in {refusal}"
    );
    let strange = flood.count(Kind::Other) + flood.count(Kind::Lost);
    ensure!(
        strange == 0,
        "{strange} calls were neither carried nor refused as they should be"
    );
    let carried = flood.rate(Kind::Good) / knee;
    let slowest = quantile(&flood.times(Kind::Good), 0.99);
    let (told, recorded) = (
        [quiet, flood, after]
            .map(|round| round.count(Kind::Shed))
            .iter()
            .sum::<usize>() as u64,
        recorded(&rig.sidecar.path("decisions.jsonl"))?,
    );
    let usual = quantile(&quiet.times(Kind::Good), 0.99) * 2 + NOISE;
    let windows = 0..(BACK.as_millis() / WINDOW.as_millis()) as u32 + 1;
    let back = windows.map(|n| WINDOW * n).find(|at| {
        let times = after.between(*at, *at + WINDOW).times(Kind::Good);
        !times.is_empty() && quantile(&times, 0.99) <= usual
    });
    println!(
        "carried {carried:.2} of the knee; refused {told}, recorded {recorded}; as before {back:.2?} after it"
    );
    ensure!(carried >= CARRIED, "too little is carried");
    ensure!(slowest <= SLOWEST, "what is carried is slow");
    ensure!(told == recorded, "not every refusal is recorded");
    ensure!(back.is_some(), "it stays slow");
    Ok(())
}

/// The refusals that are in the log, those that share a line counted one by one.
fn recorded(log: &Path) -> Result<u64> {
    let mut count = 0;
    for line in BufReader::new(File::open(log)?).lines() {
        let line = line?;
        if line.contains(r#""code":"overloaded""#) {
            let line: Value = serde_json::from_str(&line)?;
            count += line.get("count").and_then(Value::as_u64).unwrap_or(1);
        }
    }
    Ok(count)
}

fn report(name: &str, round: &Round) {
    println!(
        "{name}: {:.0} carried/s, {:.0} refused/s, {} otherwise, {} lost, {} not made",
        round.rate(Kind::Good),
        round.rate(Kind::Shed),
        round.count(Kind::Other),
        round.count(Kind::Lost),
        round.missed
    );
    for (word, kind) in [("carried", Kind::Good), ("refused", Kind::Shed)] {
        let times = round.times(kind);
        if !times.is_empty() {
            let [half, most, nearly] = [0.5, 0.99, 0.999].map(|part| quantile(&times, part));
            println!("    {word}: p50 {half:.2?}, p99 {most:.2?}, p99.9 {nearly:.2?}");
        }
    }
}
