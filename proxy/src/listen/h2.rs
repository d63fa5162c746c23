//! HTTP/2 with an agent: many calls at a time over one connection.
//!
//! In: a stream that begins with the preface. Each request goes to the same [`Service`] as one of
//! HTTP/1; an agent that resets its stream cancels that call alone. A connection that is idle, that
//! does not read its answers or that does not answer a ping ends, as over HTTP/1.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::http2::{self, Builder},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep};

use super::{Connection, ConnectionFault, Io, Reply, Service, strict_head::Waits};
use crate::{
    drain::Draining,
    workers::{Beside, Starts},
};

/// Calls at a time over one connection.
const STREAMS: u32 = 100;
/// Bytes of a head, after decompression.
const HEAD_MAX: u32 = 64 * 1024;
/// Lines of a head.
const LINES: usize = 100;
/// What an agent may send ahead of us, on one stream and on all.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;
/// Bytes that wait here for an agent, on one stream.
const UNSENT: usize = 64 * 1024;
/// How often an agent that says nothing is asked whether it is there, and how long it may take.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);
/// Between two looks at what keeps us waiting.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last calls of a connection may take to be over after we said that it ends.
const LAST: Duration = Duration::from_millis(500);

/// Serves one connection until it ends or the drain does.
pub(super) async fn serve<S: Service, T: Io + 'static>(
    stream: T,
    connection: &Rc<Connection>,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<(), ConnectionFault> {
    let calls = Calls::new(connection);
    let answer = service_fn(|request: Request<Incoming>| {
        let call = calls.begin();
        let (service, connection) = (Rc::clone(service), Rc::clone(connection));
        let drain = drain.clone();
        async move {
            if request.headers().len() > LINES {
                return Err(Unserved::from(h2::Reason::ENHANCE_YOUR_CALM));
            }
            let turn = drain.clone().granted().await;
            let turn = turn.ok_or(h2::Reason::REFUSED_STREAM)?;
            let connection = Rc::new(connection.then(connection.via.clone(), turn));
            let Reply { response, onward } = service.call(connection, request).await;
            // A tunnel is never opened over HTTP/2: `admit` refuses it.
            drop(onward);
            Ok(response.map(|body| Answer { body, call }))
        }
    });
    let tasks = Beside::default();
    let http = engine(tasks.starts()).serve_connection(TokioIo::new(stream), answer);
    let outcome = watched(http, &calls, drain.clone()).await;
    drop(tasks);
    outcome
}

fn engine(tasks: Starts) -> Builder<Starts> {
    let mut engine = Builder::new(tasks);
    engine
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(UNSENT)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    engine
}

/// Runs a connection until it ends by itself, is idle, keeps us waiting, or the drain begins.
async fn watched<I, F, B>(
    mut http: http2::Connection<I, F, Starts>,
    calls: &Calls,
    mut drain: Draining,
) -> Result<(), ConnectionFault>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    F: hyper::service::HttpService<Incoming, ResBody = B>,
    F::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    F::Future: 'static,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut ending = None;
    loop {
        tokio::select! {
            biased;
            outcome = &mut http => return outcome.or_else(|error| fault(&error)),
            () = drain.changed(), if ending.is_none() => {}
            () = sleep(LOOK) => {}
        }
        if calls.unread() {
            return Err(ConnectionFault::AnswerUnread);
        }
        match ending {
            None if drain.has_begun() || calls.idle() => {
                Pin::new(&mut http).graceful_shutdown();
                ending = Some(Instant::now());
            }
            // All is said; an agent that does not hang up is left.
            Some(since) if calls.under_way() == 0 && since.elapsed() > LAST => return Ok(()),
            _ => {}
        }
    }
}

fn fault(error: &hyper::Error) -> Result<(), ConnectionFault> {
    if error.is_user() || error.is_canceled() {
        Ok(())
    } else if error.is_parse() {
        Err(ConnectionFault::Parse)
    } else {
        Err(ConnectionFault::Peer)
    }
}

/// A request that is not answered, or not to the end: its stream is reset.
#[derive(Debug, thiserror::Error)]
#[error("the request is not served")]
struct Unserved(#[source] h2::Error);

impl From<h2::Reason> for Unserved {
    fn from(reason: h2::Reason) -> Self {
        Self(reason.into())
    }
}

/// The calls of one connection.
#[derive(Clone)]
struct Calls {
    connection: Rc<Connection>,
    /// The answers under way.
    unread: Rc<RefCell<Vec<Unread>>>,
}

/// Since when an answer waits for its agent.
type Unread = Rc<Cell<Option<Instant>>>;

impl Calls {
    fn new(connection: &Rc<Connection>) -> Self {
        connection.waits.begin();
        Self {
            connection: Rc::clone(connection),
            unread: Rc::default(),
        }
    }

    fn waits(&self) -> &Waits {
        &self.connection.waits
    }

    fn begin(&self) -> Call {
        self.waits().enter();
        let since = Unread::default();
        self.unread.borrow_mut().push(Rc::clone(&since));
        Call {
            calls: self.clone(),
            since,
        }
    }

    fn under_way(&self) -> usize {
        self.unread.borrow().len()
    }

    /// Whether an agent with no call under way has been silent for too long.
    fn idle(&self) -> bool {
        let patience = self.connection.listener.patience.idle;
        let owed = self.waits().keeps_waiting();
        self.under_way() == 0 && owed.is_some_and(|since| since.elapsed() > patience)
    }

    /// Whether an answer was not read for too long.
    fn unread(&self) -> bool {
        let patience = self.connection.listener.patience.idle;
        let unread = self.unread.borrow();
        let mut waits = unread.iter().filter_map(|since| since.get());
        waits.any(|since| since.elapsed() > patience)
    }
}

/// One call, from its head to the last byte of its answer.
struct Call {
    calls: Calls,
    since: Unread,
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut unread = self.calls.unread.borrow_mut();
        unread.retain(|since| !Rc::ptr_eq(since, &self.since));
        drop(unread);
        self.calls.waits().leave();
    }
}

/// The body of an answer; between two frames it is the agent that we wait for.
struct Answer<B> {
    body: B,
    call: Call,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = Unserved;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unserved>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let waits = frame.is_ready().then(Instant::now);
        self.call.since.set(waits);
        // An end before the end is said to be one (RFC 9113 §8.7).
        frame.map_err(|_| h2::Reason::CANCEL.into())
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
