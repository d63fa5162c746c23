//! HTTP/2 to upstreams: many calls at a time over one connection, and trailers both ways.
//!
//! A connection is shared by the calls of a worker, so a task of its own drives it; it ends when
//! nobody needs it any more. A call that is dropped resets its stream and no other.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    error::Error as _,
    fmt,
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri, Version, header, uri};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{PoolConfig, RequestBody, TlsRoots, Unreachable, Upstream, dial::dial, pool::frame};
use crate::workers::{Beside, Starts};

/// Bytes of an answer's head, after decompression.
const HEAD_MAX: u32 = 64 * 1024;
/// Calls at a time over one connection, where the upstream permits more.
const STREAMS: usize = 100;
/// What an upstream may send ahead of us, on one stream and on all: agents that do not read their
/// answers keep no other call from its own.
const STREAM_WINDOW: u32 = 128 * 1024;
const WINDOW: u32 = 100 * STREAM_WINDOW;
/// Bytes that wait here for an upstream, on one stream.
const UNSENT: usize = 64 * 1024;
/// How often an upstream that says nothing during a call is asked whether it is there, and how long it may take.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);
/// How many calls an upstream takes that has not said so yet.
const UNKNOWN: usize = 0;
/// How long one waits before looking again whether it has.
const SETTLING: Duration = Duration::from_millis(1);
/// How often a request is sent that was provably not looked at.
const TRIES: usize = 3;

/// The connections of one worker, by upstream.
pub(super) struct Lines {
    open: RefCell<HashMap<u64, Vec<Line>>>,
    coming: RefCell<HashMap<u64, Rc<Coming>>>,
    config: PoolConfig,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// One connection.
#[derive(Clone)]
struct Line {
    sender: SendRequest<RequestBody>,
    carried: Rc<Carried>,
}

/// A connection that is being made: whoever needs one waits for it.
#[derive(Default)]
struct Coming {
    over: Notify,
    made: Cell<bool>,
}

/// Tells those who wait that it is over, however it ends.
struct Making<'a> {
    lines: &'a Lines,
    key: u64,
    coming: Rc<Coming>,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.lines.coming.borrow_mut().remove(&self.key);
        self.coming.over.notify_waiters();
    }
}

/// What a connection carries.
struct Carried {
    /// Its driver and what that started; gone with the last user.
    _beside: Beside,
    calls: Cell<usize>,
    /// Calls that it may carry.
    room: Rc<Cell<usize>>,
    /// When the last call was over.
    since: Cell<Instant>,
}

/// One call's part of a connection.
pub(super) struct Use {
    carried: Rc<Carried>,
    /// Once gone, nothing more of the call's body is sent.
    sending: Option<oneshot::Sender<Infallible>>,
}

impl Use {
    fn of(line: &Line) -> Self {
        let carried = &line.carried;
        carried.calls.set(carried.calls.get() + 1);
        Self {
            carried: Rc::clone(carried),
            sending: None,
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let carried = &self.carried;
        carried.calls.set(carried.calls.get() - 1);
        carried.since.set(Instant::now());
    }
}

/// A request that nobody looked at, and why it is not answered.
struct Unsent(Option<Request<RequestBody>>, Unreachable);

impl Lines {
    pub(super) fn new(config: PoolConfig) -> Self {
        Self {
            open: RefCell::default(),
            coming: RefCell::default(),
            config,
        }
    }

    /// Sends one request and waits for the head of its answer.
    pub(super) async fn exchange(
        &self,
        upstream: &Upstream,
        roots: &TlsRoots,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Use), Unreachable> {
        let key = upstream.key();
        let mut request = absolute(request, upstream)?;
        let mut tries = 0;
        loop {
            let used = match self.free(key) {
                Some(used) => used,
                // Boxed because it is large and seldom needed.
                None => Box::pin(self.another(upstream, roots)).await?,
            };
            match send(used, request).await {
                Ok(answered) => return Ok(answered),
                Err(Unsent(Some(again), _)) if tries + 1 < TRIES => request = again,
                Err(Unsent(_, why)) => return Err(why),
            }
            tries += 1;
        }
    }

    /// A connection with room, once there is one: the one that comes, or another.
    async fn another(
        &self,
        upstream: &Upstream,
        roots: &TlsRoots,
    ) -> Result<(Line, Use), Unreachable> {
        let key = upstream.key();
        loop {
            let coming = self.coming.borrow().get(&key).cloned();
            let Some(coming) = coming else {
                return self.connect(upstream, roots).await;
            };
            coming.over.notified().await;
            if !coming.made.get() {
                // It failed, or whoever needed it is gone.
                return self.connect(upstream, roots).await;
            }
            if let Some(used) = self.free(key) {
                return Ok(used);
            }
        }
    }

    /// A connection with room for one more call, which is taken.
    fn free(&self, key: u64) -> Option<(Line, Use)> {
        let mut lines = self.open.borrow_mut();
        let lines = lines.get_mut(&key)?;
        lines.retain(|line| !line.sender.is_closed());
        let free = |line: &&Line| line.carried.calls.get() < line.carried.room.get();
        let line = lines.iter().find(free)?;
        Some((line.clone(), Use::of(line)))
    }

    async fn connect(
        &self,
        upstream: &Upstream,
        roots: &TlsRoots,
    ) -> Result<(Line, Use), Unreachable> {
        let key = upstream.key();
        let coming = Rc::<Coming>::default();
        let making = Making {
            lines: self,
            key,
            coming: Rc::clone(&coming),
        };
        self.coming.borrow_mut().insert(key, coming);
        let dialled = timeout(self.config.connect, dial(upstream, roots)).await;
        let stream = dialled.unwrap_or(Err(Unreachable::Timeout))?;
        let beside = Beside::default();
        let shake = engine(beside.starts())
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, mut http) = shake?;
        // What is sent before an upstream has said how much it takes is refused beyond that.
        let settled = async {
            while http.current_max_send_streams() == UNKNOWN {
                tokio::select! {
                    over = &mut http => {
                        let gone = Unreachable::Connect(io::ErrorKind::ConnectionReset.into());
                        return Err(over.err().map_or(gone, Unreachable::from));
                    }
                    () = sleep(SETTLING) => {}
                }
            }
            Ok(())
        };
        let settled = timeout(self.config.connect, settled).await;
        settled.unwrap_or(Err(Unreachable::Timeout))?;
        let room = Rc::new(Cell::new(http.current_max_send_streams().clamp(1, STREAMS)));
        let told = Rc::clone(&room);
        beside.spawn(async move {
            poll_fn(|cx| {
                let over = pin!(&mut http).poll(cx);
                told.set(http.current_max_send_streams().clamp(1, STREAMS));
                over
            })
            .await
            // Whoever waits for an answer is told how it ended.
            .ok();
        });
        let line = Line {
            sender,
            carried: Rc::new(Carried {
                _beside: beside,
                calls: Cell::default(),
                room,
                since: Cell::new(Instant::now()),
            }),
        };
        let used = Use::of(&line);
        let mut lines = self.open.borrow_mut();
        let lines = lines.entry(key).or_default();
        if lines.len() < self.config.max_idle {
            lines.push(line.clone());
        }
        making.coming.made.set(true);
        Ok((line, used))
    }

    /// Closes connections that have carried nothing for too long.
    pub(super) fn sweep(&self) {
        let mut lines = self.open.borrow_mut();
        for lines in lines.values_mut() {
            lines.retain(|line| {
                let idle = line.carried.calls.get() == 0
                    && line.carried.since.get().elapsed() >= self.config.idle;
                !idle && !line.sender.is_closed()
            });
        }
        lines.retain(|_, lines| !lines.is_empty());
    }
}

async fn send(
    (mut line, mut used): (Line, Use),
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Use), Unsent> {
    let copy = copied(&request);
    // The engine sends a body by a task of its own, which an answer does not end.
    let request = request.map(|body| match body {
        RequestBody::Stream(body) | RequestBody::Trailed(body, _) => {
            let (sending, until) = oneshot::channel();
            used.sending = Some(sending);
            RequestBody::Trailed(body, until)
        }
        body => body,
    });
    match line.sender.try_send_request(request).await {
        Ok(answer) => Ok((answer, used)),
        Err(mut failed) => {
            let unsent = failed.take_message();
            let error = failed.into_error();
            let again = unsent.or(copy.filter(|_| is_refused(&error)));
            Err(Unsent(again, error.into()))
        }
    }
}

fn engine(starts: Starts) -> Builder<Starts> {
    let mut engine = Builder::new(starts);
    engine
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .initial_max_send_streams(UNKNOWN)
        .max_send_buf_size(UNSENT)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    engine
}

/// Whether an upstream says that it has not looked at the request (RFC 9113 §8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_remote() && cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// The same request, as far as its body can be sent again.
fn copied(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let body = match request.body() {
        RequestBody::Empty => RequestBody::Empty,
        RequestBody::Whole(bytes) => RequestBody::Whole(bytes.clone()),
        RequestBody::Stream(_) | RequestBody::Trailed(..) => return None,
    };
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// A request as HTTP/2 has it: where it goes is in its target.
fn absolute(
    mut request: Request<RequestBody>,
    upstream: &Upstream,
) -> Result<Request<RequestBody>, Unreachable> {
    frame(&mut request, upstream);
    let bad = |_| Unreachable::Connect(io::ErrorKind::InvalidInput.into());
    let mut parts = uri::Parts::from(std::mem::take(request.uri_mut()));
    parts.scheme = Some(upstream.scheme());
    parts.authority = Some(upstream.authority().parse().map_err(bad)?);
    *request.uri_mut() = Uri::from_parts(parts)
        .map_err(|_| Unreachable::Connect(io::ErrorKind::InvalidInput.into()))?;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}
