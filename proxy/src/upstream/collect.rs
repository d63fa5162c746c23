//! A whole body in one buffer, bounded in size and time.

use std::{future::poll_fn, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::UpstreamBody;

/// Bytes that are set aside at once for a body that announces more.
const FIRST_PIECE: u64 = 64 * 1024;

/// Why a body is not there as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Uncollected {
    /// It is, or announces to be, larger than permitted.
    #[error("the body is too large")]
    TooLarge,
    /// It did not end in time.
    #[error("the body did not arrive in time")]
    Timeout,
    /// It was cut short, or its framing is broken.
    #[error("the body is incomplete")]
    Broken,
}

/// Reads an answer's body, at most `max` bytes within `time`.
///
/// # Errors
///
/// When it is larger, slower or incomplete; the upstream connection is closed then.
pub async fn collect(body: UpstreamBody, max: usize, time: Duration) -> Result<Bytes, Uncollected> {
    within(body, max, time).await
}

/// Reads a request's body, at most `max` bytes within `time`; trailers are dropped.
///
/// # Errors
///
/// When it is larger, slower or incomplete.
pub async fn collect_request(
    body: &mut Incoming,
    max: usize,
    time: Duration,
) -> Result<Bytes, Uncollected> {
    within(body, max, time).await
}

async fn within<B>(body: B, max: usize, time: Duration) -> Result<Bytes, Uncollected>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > max as u64 {
        return Err(Uncollected::TooLarge);
    }
    timeout(time, gather(body, max))
        .await
        .unwrap_or(Err(Uncollected::Timeout))
}

async fn gather<B>(mut body: B, max: usize) -> Result<Bytes, Uncollected>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Most bodies come in one piece, which is handed on without a copy.
    let announced = body.size_hint().lower().min(FIRST_PIECE);
    let Some(first) = next(&mut body, max).await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = next(&mut body, max - first.len()).await? else {
        return Ok(first);
    };
    let capacity = usize::try_from(announced)
        .unwrap_or(0)
        .max(first.len() + second.len());
    let mut whole = BytesMut::with_capacity(capacity);
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(more) = next(&mut body, max - whole.len()).await? {
        whole.extend_from_slice(&more);
    }
    Ok(whole.freeze())
}

/// The next data of a body, at most `room` bytes; `None` is its end.
async fn next<B>(body: &mut B, room: usize) -> Result<Option<Bytes>, Uncollected>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await else {
            return Ok(None);
        };
        match frame.map_err(|_| Uncollected::Broken)?.into_data() {
            Ok(data) if data.len() > room => return Err(Uncollected::TooLarge),
            Ok(data) => return Ok(Some(data)),
            Err(_trailers) => {}
        }
    }
}
