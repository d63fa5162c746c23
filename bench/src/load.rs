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
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

pub(crate) use http::{Parsed, parse};
use timer::Timer;

use crate::process;

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
    /// The name that its certificate has to prove.
    pub(crate) name: &'static str,
    /// What asks for a tunnel first, where there is to be one.
    pub(crate) tunnel: Option<Arc<[u8]>>,
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

    /// Connects so many times.
    pub(crate) fn crew(&self, connections: usize) -> Result<Crew> {
        let runtime = runtime()?;
        let gunners = runtime.block_on(async {
            let mut gunners = Vec::with_capacity(connections);
            for number in 0..connections {
                gunners.push(Gunner {
                    shot: self.clone(),
                    wire: self.connect(number).await?,
                    number,
                    next: number,
                    buffer: Vec::with_capacity(8192),
                    times: Vec::new(),
                });
            }
            anyhow::Ok(gunners)
        });
        Ok(Crew {
            gunners: gunners?,
            runtime,
        })
    }

    async fn connect(&self, number: usize) -> Result<Wire> {
        let addresses = self.addresses.iter().cycle();
        let address = addresses.clone().nth(number % self.addresses.len().max(1));
        let mut stream = TcpStream::connect(address.context("an address")?).await?;
        stream.set_nodelay(true)?;
        if let Some(asked) = &self.tunnel {
            open(&mut stream, asked).await?;
        }
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some(tls) => {
                let name = ServerName::try_from(self.name.to_owned())?;
                Ok(Box::new(tls.connect(name, stream).await?))
            }
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

/// Asks for a tunnel, and reads that it is open.
async fn open(stream: &mut TcpStream, asked: &[u8]) -> Result<()> {
    stream.write_all(asked).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        bail!("no tunnel: {}", String::from_utf8_lossy(&head));
    }
    Ok(())
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}
type Wire = Box<dyn Duplex>;

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Connections, kept from one fire to the next.
pub(crate) struct Crew {
    gunners: Vec<Gunner>,
    runtime: tokio::runtime::Runtime,
}

impl Crew {
    /// Makes calls over all connections at that pace for that long.
    pub(crate) fn fire(&mut self, pace: Pace, time: Duration) -> Result<Round> {
        let gunners = std::mem::take(&mut self.gunners);
        let before = process::own_cpu();
        let mut round = self.runtime.block_on(async {
            let begin = Instant::now();
            let connections = gunners.len();
            let mut running = JoinSet::new();
            for gunner in gunners {
                match pace {
                    Pace::Closed => running.spawn(gunner.closed(begin + time)),
                    Pace::PerSecond(rate) => {
                        let due = Due::new(begin, rate, connections, gunner.number);
                        running.spawn(gunner.open(due, begin + time))
                    }
                };
            }
            let mut round = Round::default();
            while let Some(gunner) = running.join_next().await {
                let mut gunner = gunner??;
                round.times.append(&mut gunner.times);
                self.gunners.push(gunner);
            }
            round.elapsed = begin.elapsed();
            anyhow::Ok(round)
        })?;
        round.own = process::own_cpu().saturating_sub(before);
        round.times.sort_unstable();
        Ok(round)
    }
}

/// One connection and what it has measured.
struct Gunner {
    shot: Shot,
    wire: Wire,
    number: usize,
    /// The request that is next.
    next: usize,
    buffer: Vec<u8>,
    times: Vec<Duration>,
}

impl Gunner {
    async fn closed(mut self, end: Instant) -> Result<Self> {
        let mut begin = Instant::now();
        while begin < end {
            self.call().await?;
            let now = Instant::now();
            self.times.push(now - begin);
            begin = now;
        }
        Ok(self)
    }

    /// What is due before the end is sent, but nobody waits for a queue that grows and grows.
    async fn open(mut self, mut due: Due, end: Instant) -> Result<Self> {
        let timer = Timer::new()?;
        let give_up = end + (end - due.at);
        while due.at < end && Instant::now() < give_up {
            timer.until(due.at).await?;
            self.call().await?;
            self.times.push(due.at.elapsed());
            due.at += due.step;
        }
        Ok(self)
    }

    async fn call(&mut self) -> Result<()> {
        let requests = &self.shot.requests;
        let request = requests.get(self.next % requests.len().max(1));
        self.next += 1;
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
