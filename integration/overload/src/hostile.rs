//! Slow, idle and malformed agents in great numbers: good calls are not slower by much, and none is
//! lost.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use outrider_integration::Request;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    fire::{Kind, Pace, Round, fire, quantile, runtime},
    rig::Rig,
};

/// Windows of each kind, in turn.
const ROUNDS: usize = 7;
const WINDOW: Duration = Duration::from_millis(1500);
/// Good calls, over few connections, as agents make them.
const GOOD: (usize, f64) = (8, 400.0);
/// Connections that say a byte now and then, and connections that say nothing.
const SLOW: usize = 1000;
const IDLE: usize = 1000;
/// When who was cut off comes again.
const AGAIN: Duration = Duration::from_secs(1);
/// Malformed calls a second, over so many connections.
const MALFORMED: (usize, f64) = (16, 1000.0);
/// What a machine that does other things besides adds to a quantile.
const NOISE: Duration = Duration::from_millis(1);

pub(crate) fn run(outrider: &Path) -> Result<()> {
    let rig = Rig::start(outrider, |_| {})?;
    let runtime = runtime()?;
    let shoot = |time| {
        let (connections, rate) = GOOD;
        let shots = fire(rig.address, &rig.call, connections, Pace::Open(rate), time);
        runtime.block_on(shots)
    };
    shoot(Duration::from_secs(2))?;
    let (mut quiet, mut hostile) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(shoot(WINDOW)?);
        let horde = Horde::start(&rig)?;
        // Until it is there; what it displaces it has displaced.
        shoot(WINDOW / 2)?;
        hostile.push(shoot(WINDOW)?);
        drop(horde);
    }
    let (before, during) = (median_p99(&quiet), median_p99(&hostile));
    println!(
        "good calls, p99, median of {ROUNDS} windows: quiet {before:.2?}, under attack {during:.2?}"
    );
    let bad = |rounds: &[Round]| -> usize {
        let bad = |round: &Round| round.calls.len() - round.count(Kind::Good);
        rounds.iter().map(bad).sum()
    };
    println!(
        "good calls that were not served: {} of {}",
        bad(&hostile),
        hostile.iter().map(|r| r.calls.len()).sum::<usize>()
    );
    for reason in [
        "displaced",
        "header_timeout",
        "parse",
        "header_too_large",
        "too_many_connections",
    ] {
        let label = format!("reason=\"{reason}\"");
        let count = rig
            .sidecar
            .metric("outrider_connection_errors_total", &[&label]);
        println!("    connections, {reason}: {count}");
    }
    ensure!(
        bad(&quiet) + bad(&hostile) == 0,
        "good calls were not served"
    );
    ensure!(
        during <= before * 2 + NOISE,
        "good calls are slower by more than twice"
    );
    Ok(())
}

fn median_p99(rounds: &[Round]) -> Duration {
    let mut all: Vec<_> = rounds
        .iter()
        .map(|round| quantile(&round.times(Kind::Good), 0.99))
        .collect();
    all.sort_unstable();
    quantile(&all, 0.5)
}

/// Everyone who means no good, on a thread of their own until this is dropped.
struct Horde {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Horde {
    fn start(rig: &Rig) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (address, malformed, told) = (rig.address, malformed(rig), Arc::clone(&over));
        let runtime = runtime()?;
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let mut all = JoinSet::new();
                for number in 0..SLOW.max(IDLE) {
                    all.spawn(slow(address, number));
                    all.spawn(idle(address));
                }
                for number in 0..MALFORMED.0 {
                    all.spawn(malform(address, malformed.clone(), number));
                }
                while !told.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Ok(Self {
            over,
            thread: Some(thread),
        })
    }
}

impl Drop for Horde {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its thread.
            thread.join().ok();
        }
    }
}

/// A head without end, a byte every half second; again when it is cut off.
async fn slow(to: SocketAddr, number: usize) {
    const HEAD: &[u8] = b"POST /tools HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    sleep(Duration::from_millis(number as u64 % 500)).await;
    loop {
        let told = async {
            let mut wire = TcpStream::connect(to).await?;
            for byte in HEAD.iter().chain([b'a'; 1000].iter()) {
                wire.write_all(&[*byte]).await?;
                sleep(Duration::from_millis(500)).await;
            }
            io::Result::Ok(())
        };
        // Whatever ended it, it is tried again.
        told.await.ok();
        sleep(AGAIN).await;
    }
}

/// A connection that says nothing; again when it is closed.
async fn idle(to: SocketAddr) {
    loop {
        if let Ok(mut wire) = TcpStream::connect(to).await {
            wire.read_u8().await.ok();
        }
        sleep(AGAIN).await;
    }
}

/// One malformed call after another, each over a connection that lasts as long as it is let.
async fn malform(to: SocketAddr, calls: Vec<Vec<u8>>, number: usize) {
    let (connections, rate) = MALFORMED;
    let pause = Duration::from_secs_f64(connections as f64 / rate);
    for call in calls.iter().cycle().skip(number) {
        let told = async {
            let mut wire = TcpStream::connect(to).await?;
            wire.write_all(call).await?;
            let mut answer = [0; 4096];
            wire.read(&mut answer).await
        };
        timeout(Duration::from_secs(1), told).await.ok();
        sleep(pause).await;
    }
}

/// Calls of which none is one.
fn malformed(rig: &Rig) -> Vec<Vec<u8>> {
    let host = rig.address.to_string();
    let call = |tool: &str| Request::call(tool, &json!({"message": "hi"}));
    let good = call("echo").field("Outrider-Task-Token", &rig.token);
    let bytes = |request: &Request| request.bytes(&host, "/tools");
    vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20),
        b"GET / HTTP/1.1\r\nno header\r\n\r\n".to_vec(),
        bytes(&good.clone().with_body(r#"{"jsonrpc":"2.0","id":1,"id":2,"#)),
        bytes(&good.clone().with_body("[".repeat(10_000))),
        good.bytes(&host, "/nobody"),
        bytes(&call("unknown").field("Outrider-Task-Token", &rig.token)),
        bytes(&call("echo")),
        bytes(&call("echo").field("Outrider-Task-Token", "no-token")),
        bytes(&good.clone().field("X-Large", &"a".repeat(70_000))),
    ]
}
