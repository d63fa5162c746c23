//! The load: keep-alive connections over raw sockets, each sending the same bytes again. One thread, so that it costs
//! little beside what it measures; how much it cost is part of what it reports.
//!
//! In a closed loop a connection sends again as soon as the answer is whole. In an open loop calls are due at fixed
//! times whatever happens, and a call's time counts from when it was due, so that waiting behind a slow one is counted.

mod http;
mod timer;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

pub(crate) use http::{Parsed, parse};
use timer::Timer;

use crate::{process, tls};

/// When the next call is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// When the one before is answered.
    Closed,
    /// So many a second over all connections.
    PerSecond(f64),
}

/// What one round of one target gave.
#[derive(Debug, Default, Clone)]
pub(crate) struct Round {
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// The time of each call that was answered whole, sorted.
    pub(crate) times: Vec<Duration>,
    /// The processor time that the load itself took.
    pub(crate) own: Duration,
}

/// What is sent, where to, and the length of the only good answer's content, if known.
#[derive(Clone)]
pub(crate) struct Shot {
    /// Where to; connections take them in turn.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whole requests; connections take them in turn.
    pub(crate) requests: Arc<[Vec<u8>]>,
    /// Any other length is a failure: a refusal is not the call that was measured.
    pub(crate) expected: Option<usize>,
    /// TLS, where the target wants it.
    pub(crate) tls: Option<TlsConnector>,
}

impl Shot {
    /// Makes the call once over a connection of its own and returns the length of the answer's content.
    pub(crate) fn once(&self) -> Result<usize> {
        runtime()?.block_on(async {
            let mut wire = self.connect(0).await?;
            let request = self.requests.first().context("a request")?;
            self.exchange(&mut wire, request, &mut Vec::new()).await
        })
    }

    /// Makes calls over that many connections at that pace for that long.
    pub(crate) fn fire(&self, connections: usize, pace: Pace, time: Duration) -> Result<Round> {
        let before = process::own_cpu();
        let mut round = runtime()?.block_on(self.barrage(connections, pace, time))?;
        round.own = process::own_cpu().saturating_sub(before);
        round.times.sort_unstable();
        Ok(round)
    }

    async fn barrage(&self, connections: usize, pace: Pace, time: Duration) -> Result<Round> {
        let mut wires = Vec::with_capacity(connections);
        for number in 0..connections {
            wires.push(self.connect(number).await?);
        }
        let begin = Instant::now();
        let mut running = JoinSet::new();
        for (number, wire) in wires.into_iter().enumerate() {
            let gunner = Gunner {
                shot: self.clone(),
                wire,
                number,
                buffer: Vec::with_capacity(8192),
                times: Vec::with_capacity(16_384),
            };
            match pace {
                Pace::Closed => running.spawn(gunner.closed(begin + time)),
                Pace::PerSecond(rate) => {
                    let due = Due::new(begin, rate, connections, number);
                    running.spawn(gunner.open(due, begin + time))
                }
            };
        }
        let mut round = Round::default();
        while let Some(times) = running.join_next().await {
            round.times.extend(times??);
        }
        round.elapsed = begin.elapsed();
        Ok(round)
    }

    async fn connect(&self, number: usize) -> Result<Wire> {
        let addresses = self.addresses.iter().cycle();
        let address = addresses.clone().nth(number % self.addresses.len().max(1));
        let stream = TcpStream::connect(address.context("an address")?).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => Ok(Box::new(tls.connect(tls::server_name()?, stream).await?)),
        }
    }

    async fn exchange(
        &self,
        wire: &mut Wire,
        request: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<usize> {
        buffer.clear();
        wire.write_all(request).await?;
        wire.flush().await?;
        loop {
            if let Parsed::Whole { content, .. } = parse(buffer)? {
                self.check(buffer, content)?;
                return Ok(content);
            }
            if wire.read_buf(buffer).await? == 0 {
                bail!(
                    "the peer closed in the middle of an answer: {}",
                    String::from_utf8_lossy(buffer)
                );
            }
        }
    }

    fn check(&self, answer: &[u8], content: usize) -> Result<()> {
        if answer.starts_with(b"HTTP/1.1 200") && self.expected.is_none_or(|e| e == content) {
            return Ok(());
        }
        let shown = answer.get(..4096).unwrap_or(answer);
        bail!(
            "not the expected answer ({content} bytes of content, {:?} expected): {}",
            self.expected,
            String::from_utf8_lossy(shown)
        )
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}
type Wire = Box<dyn Duplex>;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// One connection and what it has measured.
struct Gunner {
    shot: Shot,
    wire: Wire,
    number: usize,
    buffer: Vec<u8>,
    times: Vec<Duration>,
}

impl Gunner {
    async fn closed(mut self, end: Instant) -> Result<Vec<Duration>> {
        let mut begin = Instant::now();
        while begin < end {
            self.call().await?;
            let now = Instant::now();
            self.times.push(now - begin);
            begin = now;
        }
        Ok(self.times)
    }

    /// What is due before the end is sent, but nobody waits for a queue that grows and grows.
    async fn open(mut self, mut due: Due, end: Instant) -> Result<Vec<Duration>> {
        let timer = Timer::new()?;
        let give_up = end + (end - due.at);
        while due.at < end && Instant::now() < give_up {
            timer.until(due.at).await?;
            self.call().await?;
            self.times.push(due.at.elapsed());
            due.at += due.step;
        }
        Ok(self.times)
    }

    async fn call(&mut self) -> Result<()> {
        let requests = &self.shot.requests;
        let request = requests.get(self.number % requests.len().max(1));
        self.number += 1;
        let request = request.context("a request")?;
        self.shot
            .exchange(&mut self.wire, request, &mut self.buffer)
            .await?;
        Ok(())
    }
}

/// When the calls of one connection are due, evenly between those of the others.
struct Due {
    at: Instant,
    step: Duration,
}

impl Due {
    fn new(begin: Instant, rate: f64, connections: usize, number: usize) -> Self {
        let after = |calls: usize| Duration::from_secs_f64(crate::sample::count(calls) / rate);
        Self {
            at: begin + after(number),
            step: after(connections),
        }
    }
}
