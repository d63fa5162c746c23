//! A WebSocket towards an upstream: opened on a connection of its own, which is never shared.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    Flaw, Pool, RequestBody, Unreachable, Upstream, UpstreamBody,
    dial::Stream,
    pool::{Link, frame},
};
use crate::{listen::Replay, record::Permit, websocket};

/// What an upstream makes of being asked for a WebSocket.
#[derive(Debug)]
pub enum Upgraded {
    /// It is open: the head that says so, and the bytes that follow.
    Open(Response<()>, Replay<Stream>),
    /// There is none, but an answer.
    Declined(Response<UpstreamBody>),
}

/// Asks for a permitted WebSocket; the permit is used up.
///
/// # Errors
/// There is no answer in time, or none that proves that the request was read.
pub async fn upgrade(
    _permit: Permit,
    pool: &Pool,
    upstream: &Upstream,
    mut request: Request<RequestBody>,
    patience: Duration,
) -> Result<Upgraded, Unreachable> {
    let accept = websocket::accept(request.headers());
    let accept = accept.ok_or(Unreachable::Unacceptable(Flaw::Upgrade))?;
    frame(&mut request, upstream);
    let exchange = async {
        let link = Box::pin(pool.connect(upstream)).await?;
        ask(pool, upstream, link, request, &accept).await
    };
    timeout(patience, exchange)
        .await
        .unwrap_or(Err(Unreachable::Timeout))
}

async fn ask(
    pool: &Pool,
    upstream: &Upstream,
    link: Box<Link>,
    request: Request<RequestBody>,
    accept: &str,
) -> Result<Upgraded, Unreachable> {
    let Link { mut sender, http } = *link;
    let Some(mut http) = http else {
        return Err(Unreachable::Connect(
            std::io::ErrorKind::NotConnected.into(),
        ));
    };
    // The connection is over, for HTTP, when it becomes a WebSocket.
    let mut over = false;
    let answer = {
        let mut answer = pin!(sender.send_request(request));
        poll_fn(|cx| {
            over = over || http.poll_without_shutdown(cx).is_ready();
            match answer.as_mut().poll(cx) {
                // The engine has it, and only then gives its connection up.
                Poll::Ready(Ok(answer)) => {
                    over = over || http.poll_without_shutdown(cx).is_ready();
                    Poll::Ready(Ok(answer))
                }
                other => other,
            }
        })
        .await?
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let http = (!over).then_some(http);
        let link = Box::new(Link { sender, http });
        return pool
            .admit(upstream.key(), answer, link)
            .map(Upgraded::Declined);
    }
    if !over || !websocket::is_accepted(answer.headers(), accept) {
        return Err(Unreachable::Unacceptable(Flaw::Upgrade));
    }
    let parts = http.into_parts();
    let stream = TokioIo::into_inner(parts.io);
    Ok(Upgraded::Open(
        answer.map(drop),
        Replay::new(parts.read_buf.to_vec(), stream),
    ))
}
