//! Three times what can be carried: the rest is refused fast and recorded, what is carried is not
//! slow, and as soon as it is over everything is as before.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    fire::{Kind, Pace, Round, fire, quantile, runtime},
    rig::Rig,
};

const CONNECTIONS: usize = 512;

pub(crate) fn run(outrider: &Path) -> Result<()> {
    let rig = Rig::start(outrider, |config| {
        config["limits"] = json!([{"name": "all", "key": ["agent"], "rate": "1000000/s"}]);
    })?;
    let runtime = runtime()?;
    let shoot = |connections, pace, seconds| {
        let time = Duration::from_secs_f64(seconds);
        runtime.block_on(fire(rig.address, &rig.call, connections, pace, time))
    };
    shoot(32, Pace::Closed, 1.0)?;
    let mut knees = vec![];
    for _ in 0..3 {
        knees.push(shoot(32, Pace::Closed, 2.0)?.rate(Kind::Good));
    }
    knees.sort_unstable_by(f64::total_cmp);
    let knee = knees[1];
    println!("knee: {knee:.0} calls/s over 32 connections");
    let quiet = shoot(32, Pace::Open(knee * 0.3), 3.0)?;
    report("quiet, 0.3 of the knee", &quiet);
    let flood = shoot(CONNECTIONS, Pace::Open(knee * 3.0), 5.0)?;
    report("flood, 3 times the knee", &flood);
    let after = shoot(32, Pace::Open(knee * 0.3), 3.0)?;
    report("after it", &after);
    for n in 0..12 {
        let ms = Duration::from_millis;
        let window = after.between(ms(n * 250), ms(n * 250 + 250));
        println!("{} {:?}", n, quantile(&window.times(Kind::Good), 0.99));
    }
    println!("{:?}", flood.refusal);
    ensure!(flood.count(Kind::Shed) > 0, "nothing was refused");
    Ok(())
}

fn report(name: &str, round: &Round) {
    println!(
        "{name}: {:.0} good/s, {:.0} shed/s, {} other, {} lost, {} missed",
        round.rate(Kind::Good),
        round.rate(Kind::Shed),
        round.count(Kind::Other),
        round.count(Kind::Lost),
        round.missed
    );
    for (word, kind) in [("good", Kind::Good), ("shed", Kind::Shed)] {
        let times = round.times(kind);
        if !times.is_empty() {
            println!(
                "    {word}: p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}",
                quantile(&times, 0.5),
                quantile(&times, 0.99),
                quantile(&times, 0.999)
            );
        }
    }
}
