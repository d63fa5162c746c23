//! What hostile requests cost in memory, for their bytes.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use outrider_integration::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    fire::runtime,
    process::{Memory, mib},
    rig::Rig,
};

/// What the memory of a request may be, in its own bytes.
const MOST: f64 = 10.0;
/// Requests at once, and the bytes of each: the largest there may be, and those that are judged in
/// passing.
const LARGE: (usize, usize) = (64, 1 << 20);
const SMALL: (usize, usize) = (512, 30 * 1024);

pub(crate) fn run(outrider: &Path) -> Result<()> {
    let mut worst = 0.0_f64;
    for (name, text) in shapes() {
        for (together, size) in [LARGE, SMALL] {
            let ratio = measure(outrider, name, &text, together, size)?;
            worst = worst.max(ratio);
        }
    }
    ensure!(
        worst <= MOST,
        "a hostile request takes {worst:.1} times its bytes"
    );
    Ok(())
}

/// What an argument is made of: a start, what is repeated, and an end that closes it.
type Shape = (String, String, String);

fn shapes() -> Vec<(&'static str, Shape)> {
    let shape =
        |begin: &str, again: &str, end: &str| (begin.to_owned(), again.to_owned(), end.to_owned());
    vec![
        ("one string", shape("\"", "a", "\"")),
        ("numbers", shape("[", "0,", "0]")),
        ("empty strings", shape("[", "\"\",", "0]")),
        ("empty arrays", shape("[", "[],", "0]")),
        ("empty objects", shape("[", "{},", "0]")),
        ("small objects", shape("[", "{\"\":0},", "0]")),
        (
            "deep arrays",
            shape("[", &format!("{}{},", "[".repeat(50), "]".repeat(50)), "0]"),
        ),
        ("escapes", shape("\"", "\\u0000", "\"")),
    ]
}

/// Sends as many of one shape at once, and returns how much memory they took for their bytes.
fn measure(
    outrider: &Path,
    name: &str,
    shape: &Shape,
    together: usize,
    size: usize,
) -> Result<f64> {
    let rig = Rig::start(outrider, |_| {})?;
    let memory = Memory(rig.sidecar.pid());
    let call = call(&rig, shape, size);
    let runtime = runtime()?;
    // What the first calls take is there for good.
    runtime.block_on(send(&rig, &rig.call, together))?;
    memory.forget()?;
    let before = memory.now()?;
    let statuses = runtime.block_on(send(&rig, &call, together))?;
    let grown = memory.peak()?.saturating_sub(before);
    let sent = (call.len() * together) as u64;
    let ratio = grown as f64 / sent as f64;
    println!(
        "{name}, {together} x {} KiB: {:.1} MiB more at the peak, {ratio:.1} times their bytes; {statuses}",
        call.len() / 1024,
        mib(grown)
    );
    Ok(ratio)
}

fn call(rig: &Rig, (begin, again, end): &Shape, size: usize) -> Vec<u8> {
    let mark = "\"MARK\"";
    let request = Request::call("echo", &serde_json::json!({"message": "MARK"}))
        .field("Outrider-Task-Token", &rig.token);
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let room = size.saturating_sub(body.len() + begin.len() + end.len());
    let hostile = format!("{begin}{}{end}", again.repeat(room / again.len()));
    let body = body.replace(mark, &hostile);
    request
        .with_body(body)
        .bytes(&rig.address.to_string(), "/tools")
}

/// Sends that many at once: all but their last byte, then that of each. Gives the answers' statuses.
async fn send(rig: &Rig, call: &[u8], count: usize) -> Result<String> {
    let mut all = JoinSet::new();
    let (last, most) = call.split_last().unwrap_or((&0, &[]));
    for _ in 0..count {
        let mut wire = TcpStream::connect(rig.address).await?;
        wire.write_all(most).await?;
        let last = *last;
        all.spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            wire.write_all(&[last]).await?;
            let mut answer = vec![0; 64 * 1024];
            let read = timeout(Duration::from_mins(1), wire.read(&mut answer)).await??;
            let status = answer.get(9..12.min(read)).unwrap_or_default();
            anyhow::Ok(String::from_utf8_lossy(status).into_owned())
        });
    }
    let mut statuses = std::collections::BTreeMap::new();
    while let Some(status) = all.join_next().await {
        let status = status?.unwrap_or_else(|_| "none".into());
        *statuses.entry(status).or_insert(0) += 1;
    }
    Ok(format!("{statuses:?}"))
}
