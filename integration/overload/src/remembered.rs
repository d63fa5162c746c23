//! What is remembered between calls, up to its caps: opening a task does not get dearer with the
//! tasks that are open, a call neither, and what is too much is refused.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use outrider::{
    limit::{self, Limits, MAX_KEYS, Subjects, ToolTraits},
    state::MOST_TASKS,
};
use outrider_policy::Level;
use serde_json::{Value, json};

use crate::{
    fire::{Kind, Pace, fire, quantile, runtime},
    process::{Memory, mib},
    rig::Rig,
};

/// Tasks that are opened between two looks.
const STEP: usize = 20_000;
/// How much dearer the last ones may be than the first, and a call among them than alone.
const DEARER: f64 = 3.0;
/// What a task and a key may take in memory.
const TASK: f64 = 4096.0;
const KEY: f64 = 256.0;

pub(crate) fn run(outrider: &Path) -> Result<()> {
    tasks(outrider)?;
    keys()
}

fn tasks(outrider: &Path) -> Result<()> {
    let rig = Rig::start(outrider, |_| {})?;
    let memory = Memory(rig.sidecar.pid());
    let socket = rig.sidecar.path("control.sock");
    let alone = call(&rig)?;
    let before = memory.now()?;
    let mut steps = Vec::new();
    let mut open = 1;
    while open + STEP <= MOST_TASKS {
        let begin = Instant::now();
        for _ in 0..STEP {
            let reply = open_task(&socket)?;
            ensure!(reply.get("opened").is_some(), "no task was opened: {reply}");
        }
        open += STEP;
        steps.push(begin.elapsed() / u32::try_from(STEP)?);
    }
    let grown = memory.now()?.saturating_sub(before);
    let among = call(&rig)?;
    let each = grown as f64 / open as f64;
    println!(
        "{open} tasks open: {:.0} MiB, {each:.0} bytes each; opening one took {steps:.0?}; a call takes {alone:.0?} alone, {among:.0?} among them",
        mib(grown)
    );
    while open < MOST_TASKS {
        open_task(&socket)?;
        open += 1;
    }
    let refused = open_task(&socket)?;
    println!("one more: {refused}");
    let last = among_last(&rig)?;
    ensure!(
        refused.pointer("/refused/fault") == Some(&json!("unavailable")),
        "one task too many was opened"
    );
    ensure!(last, "a task that was open before does not stand any more");
    ensure!(each <= TASK, "a task takes too much");
    let (Some(first), Some(latest)) = (steps.first(), steps.last()) else {
        bail!("no tasks were opened");
    };
    ensure!(
        latest.as_secs_f64() <= first.as_secs_f64() * DEARER,
        "opening gets dearer"
    );
    ensure!(
        among.as_secs_f64() <= alone.as_secs_f64() * DEARER,
        "calls get dearer"
    );
    Ok(())
}

/// The usual time of a call, one after another.
fn call(rig: &Rig) -> Result<Duration> {
    let time = Duration::from_secs(2);
    let round = runtime()?.block_on(fire(rig.address, &rig.call, 1, Pace::Closed, time))?;
    ensure!(
        round.count(Kind::Good) == round.calls.len(),
        "a call failed: {:?}",
        round.refusal
    );
    Ok(quantile(&round.times(Kind::Good), 0.5))
}

/// Whether the first task still stands when the last one is open.
fn among_last(rig: &Rig) -> Result<bool> {
    let time = Duration::from_millis(100);
    let round = runtime()?.block_on(fire(rig.address, &rig.call, 1, Pace::Closed, time))?;
    Ok(round.count(Kind::Good) == round.calls.len())
}

fn open_task(socket: &Path) -> Result<Value> {
    let mut wire = UnixStream::connect(socket)?;
    wire.write_all(b"{\"task_open\":{\"intent\":\"work\",\"ttl_s\":3600}}\n")?;
    let mut line = String::new();
    BufReader::new(wire).read_line(&mut line)?;
    serde_json::from_str(&line).context("a reply")
}

/// One limit with as many keys as it remembers, and one more.
fn keys() -> Result<()> {
    let config: limit::Config =
        serde_json::from_value(json!({"name": "subjects", "key": ["subject"], "rate": "2/d"}))?;
    let limits = Limits::new(&[config]);
    let memory = Memory(std::process::id());
    let before = memory.now()?;
    let begin = Instant::now();
    for number in 0..MAX_KEYS {
        ensure!(spend(&limits, number), "key {number} was refused");
    }
    let each = begin.elapsed() / u32::try_from(MAX_KEYS)?;
    let grown = memory.now()?.saturating_sub(before) as f64 / MAX_KEYS as f64;
    let (more, again) = (spend(&limits, MAX_KEYS), spend(&limits, 7));
    println!(
        "{MAX_KEYS} keys of one limit: {grown:.0} bytes each, {each:.0?} to add one; one more passes: {more}, one that is known: {again}"
    );
    ensure!(
        !more && again,
        "a key beyond the cap passes, or a known one does not"
    );
    ensure!(grown <= KEY, "a key takes too much");
    Ok(())
}

fn spend(limits: &Limits, number: usize) -> bool {
    let subject = number.to_string();
    let who = Subjects {
        agent: "spiffe://example.org/agent/test",
        subject: &subject,
        task: "",
        service: "tools",
        tool: "tools/echo",
    };
    let tool = ToolTraits {
        read_only: true,
        destructive: false,
        idempotent: true,
        open_world: false,
        classification: Level::Internal,
    };
    limits.check(&who, tool).is_ok()
}
