//! Calls over keep-alive connections, from one thread: as fast as they are answered, or as a clock
//! says, whether they are answered or not.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::sleep_until,
};

/// When calls are made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// The next one with the answer to the last.
    Closed,
    /// So many a second together; a connection whose last call is not answered when the next is
    /// due misses it.
    Open(f64),
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was answered with 200.
    Good,
    /// It was refused with 503.
    Shed,
    /// It was answered with anything else.
    Other,
    /// The connection ended without an answer.
    Lost,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// When it was sent, from the start.
    pub(crate) at: Duration,
    /// Until its answer was whole.
    pub(crate) took: Duration,
    pub(crate) kind: Kind,
}

/// What a round gave.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) calls: Vec<Sample>,
    /// Calls that were due and could not be made.
    pub(crate) missed: usize,
    pub(crate) elapsed: Duration,
    /// One answer that was neither good nor lost.
    pub(crate) refusal: Option<String>,
}

impl Round {
    /// The times of the calls of one kind, sorted.
    pub(crate) fn times(&self, kind: Kind) -> Vec<Duration> {
        let calls = self.calls.iter().filter(|call| call.kind == kind);
        let mut times: Vec<_> = calls.map(|call| call.took).collect();
        times.sort_unstable();
        times
    }

    /// How many calls of one kind there were.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.calls.iter().filter(|call| call.kind == kind).count()
    }

    /// The same for each second.
    pub(crate) fn rate(&self, kind: Kind) -> f64 {
        self.count(kind) as f64 / self.elapsed.as_secs_f64()
    }

    /// The calls that were sent between two moments.
    pub(crate) fn between(&self, from: Duration, to: Duration) -> Self {
        let calls = self.calls.iter().copied();
        Self {
            calls: calls
                .filter(|call| call.at >= from && call.at < to)
                .collect(),
            elapsed: to.saturating_sub(from),
            ..Self::default()
        }
    }
}

/// The value below which that part of sorted times lies.
pub(crate) fn quantile(times: &[Duration], part: f64) -> Duration {
    let last = times.len().saturating_sub(1);
    let index = (last as f64 * part).round() as usize;
    times.get(index).copied().unwrap_or_default()
}

/// A runtime for this thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Makes the same call over that many connections for that long.
pub(crate) async fn fire(
    to: SocketAddr,
    bytes: &[u8],
    connections: usize,
    pace: Pace,
    time: Duration,
) -> Result<Round> {
    let begin = Instant::now();
    let mut running = JoinSet::new();
    for number in 0..connections {
        let (period, first) = match pace {
            Pace::Closed => (Duration::ZERO, Duration::ZERO),
            Pace::Open(rate) => (
                Duration::from_secs_f64(connections as f64 / rate),
                Duration::from_secs_f64(number as f64 / rate),
            ),
        };
        let gun = Gun {
            to,
            bytes: bytes.to_vec(),
            begin,
            end: begin + time,
            period,
        };
        running.spawn(gun.run(begin + first));
    }
    let mut round = Round::default();
    while let Some(one) = running.join_next().await {
        let one = one??;
        round.calls.extend(one.calls);
        round.missed += one.missed;
        round.refusal = round.refusal.or(one.refusal);
    }
    round.elapsed = begin.elapsed();
    Ok(round)
}

/// One connection, made again when it ends.
struct Gun {
    to: SocketAddr,
    bytes: Vec<u8>,
    begin: Instant,
    end: Instant,
    period: Duration,
}

impl Gun {
    async fn run(self, mut due: Instant) -> Result<Round> {
        let mut round = Round::default();
        let mut buffer = Vec::with_capacity(4096);
        let mut stream = None;
        loop {
            let now = Instant::now();
            if now < due {
                sleep_until(due.into()).await;
            } else if !self.period.is_zero() && now - due > self.period {
                let missed = (now - due).as_secs_f64() / self.period.as_secs_f64();
                round.missed += missed as usize;
                due = now;
            }
            let sent = Instant::now();
            if sent >= self.end {
                return Ok(round);
            }
            due += self.period;
            let kind = self.call(&mut stream, &mut buffer).await;
            let kind = kind.unwrap_or_else(|_| {
                stream = None;
                Kind::Lost
            });
            if matches!(kind, Kind::Shed | Kind::Other) && round.refusal.is_none() {
                round.refusal = Some(String::from_utf8_lossy(&buffer).into_owned());
            }
            round.calls.push(Sample {
                at: sent - self.begin,
                took: sent.elapsed(),
                kind,
            });
        }
    }

    async fn call(&self, stream: &mut Option<TcpStream>, buffer: &mut Vec<u8>) -> io::Result<Kind> {
        let wire = if let Some(wire) = stream {
            wire
        } else {
            let wire = TcpStream::connect(self.to).await?;
            wire.set_nodelay(true)?;
            stream.insert(wire)
        };
        buffer.clear();
        wire.write_all(&self.bytes).await?;
        let message = loop {
            if let Some(message) = parse(buffer) {
                break message;
            }
            if wire.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if message.closes {
            *stream = None;
        }
        Ok(match buffer.get(9..12) {
            Some(b"200") => Kind::Good,
            Some(b"503") => Kind::Shed,
            _ => Kind::Other,
        })
    }
}

/// A whole message at the start of a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) length: usize,
    pub(crate) closes: bool,
}

/// Finds the first message, whose length is announced.
pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let fields = bytes.get(..head)?;
    let mut length = head + 4;
    let mut closes = false;
    for line in fields.split(|byte| *byte == b'\n').skip(1) {
        if let Some(value) = value_of(line, b"content-length:") {
            length += std::str::from_utf8(value)
                .ok()?
                .trim()
                .parse::<usize>()
                .ok()?;
        } else if let Some(value) = value_of(line, b"connection:") {
            closes = value.trim_ascii().eq_ignore_ascii_case(b"close");
        }
    }
    (bytes.len() >= length).then_some(Message { length, closes })
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (field, value) = line.split_at_checked(name.len())?;
    field.eq_ignore_ascii_case(name).then_some(value)
}
