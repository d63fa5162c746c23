//! A closed loop over keep-alive connections: each sends the same bytes again as soon as the
//! answer is whole. One thread, raw sockets, so that it costs little beside what it measures.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// What one round of one target gave.
#[derive(Debug, Default, Clone)]
pub(crate) struct Round {
    /// Whole answers.
    pub(crate) calls: usize,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// The time of each call, sorted.
    pub(crate) times: Vec<Duration>,
}

/// A request for one target, and the length of the only good answer's body, if known.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    /// Where to.
    pub(crate) address: SocketAddr,
    /// The whole request.
    pub(crate) bytes: Vec<u8>,
    /// Any other length of body is a failure: a refusal is not the call that was measured.
    pub(crate) expected: Option<usize>,
}

impl Shot {
    /// Makes the call once over a connection of its own and returns the answer's body.
    pub(crate) fn once(&self) -> Result<Vec<u8>> {
        runtime()?.block_on(async {
            let mut stream = TcpStream::connect(self.address).await?;
            let mut buffer = Vec::new();
            let (head, length) = self.exchange(&mut stream, &mut buffer).await?;
            Ok(buffer.get(head..length).unwrap_or_default().to_vec())
        })
    }

    /// Makes calls over that many connections for that long.
    pub(crate) fn fire(&self, connections: usize, time: Duration) -> Result<Round> {
        runtime()?.block_on(async {
            let begin = Instant::now();
            let mut running = JoinSet::new();
            for _ in 0..connections {
                running.spawn(connection(self.clone(), begin + time));
            }
            let mut round = Round::default();
            while let Some(times) = running.join_next().await {
                round.times.extend(times??);
            }
            round.elapsed = begin.elapsed();
            round.calls = round.times.len();
            round.times.sort_unstable();
            Ok(round)
        })
    }

    async fn exchange(
        &self,
        stream: &mut TcpStream,
        buffer: &mut Vec<u8>,
    ) -> Result<(usize, usize)> {
        stream.write_all(&self.bytes).await?;
        loop {
            if let Parsed::Whole { head, length } = parse(buffer)? {
                self.check(buffer, length - head)?;
                return Ok((head, length));
            }
            if stream.read_buf(buffer).await? == 0 {
                bail!("the peer closed in the middle of an answer");
            }
        }
    }

    fn check(&self, answer: &[u8], length: usize) -> Result<()> {
        let good = answer.starts_with(b"HTTP/1.1 200") && self.expected.is_none_or(|e| e == length);
        if !good {
            bail!(
                "not the expected answer: {}",
                String::from_utf8_lossy(answer)
            );
        }
        Ok(())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

async fn connection(shot: Shot, end: Instant) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(shot.address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8192);
    let mut times = Vec::with_capacity(65_536);
    let mut begin = Instant::now();
    while begin < end {
        shot.exchange(&mut stream, &mut buffer).await?;
        buffer.clear();
        let now = Instant::now();
        times.push(now - begin);
        begin = now;
    }
    Ok(times)
}

/// How far a message has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The head takes the first `head` bytes, the message `length`.
    Whole {
        /// Length of the head with its empty line.
        head: usize,
        /// Length of the head and the body.
        length: usize,
    },
}

/// Finds the end of an HTTP/1.1 message with a `Content-Length` or in chunks.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(Parsed::Partial);
    };
    let fields = bytes.get(..head).unwrap_or_default();
    let head = head + 4;
    let mut length = None;
    for line in fields.split(|b| *b == b'\n').skip(1) {
        if let Some(value) = value_of(line, b"content-length:") {
            length = Some(std::str::from_utf8(value)?.trim().parse::<usize>()?);
        } else if value_of(line, b"transfer-encoding:").is_some() {
            return Ok(chunked(bytes, head));
        }
    }
    let length = head + length.context("a message without a length")?;
    Ok(if bytes.len() < length {
        Parsed::Partial
    } else {
        Parsed::Whole { head, length }
    })
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (field, value) = line.split_at_checked(name.len())?;
    field.eq_ignore_ascii_case(name).then_some(value)
}

/// The end of a chunked body without trailers, as nothing here sends any.
fn chunked(bytes: &[u8], head: usize) -> Parsed {
    if bytes.ends_with(b"0\r\n\r\n") {
        Parsed::Whole {
            head,
            length: bytes.len(),
        }
    } else {
        Parsed::Partial
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_message_is_whole_with_its_last_byte() {
        let message = b"POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 3\r\n\r\nabc";
        assert_eq!(
            parse(message).unwrap(),
            Parsed::Whole {
                head: 47,
                length: 50
            }
        );
        assert_eq!(
            parse(message.split_last().unwrap().1).unwrap(),
            Parsed::Partial
        );
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
