//! The connections of one worker to its upstreams.
//!
//! A connection belongs to the call that uses it: the call's own task drives it, so that no
//! other task is woken for a request, and dropping the call closes it at once. Only a
//! connection whose last exchange ended cleanly is kept.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, interval, timeout},
};

use super::{
    Flaw, PoolConfig, RequestBody, TlsRoots, Unreachable, Upstream, UpstreamBody,
    dial::{Stream, dial},
    http2::Lines,
};

/// Bytes of an answer's head.
const HEAD_MAX: usize = 64 * 1024;

/// The upstream connections of one worker. Clones share them.
#[derive(Clone)]
pub struct Pool {
    config: PoolConfig,
    roots: TlsRoots,
    idle: Rc<Idle>,
    lines: Rc<Lines>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Connections that wait for their next request, the last used last.
pub(super) struct Idle {
    links: RefCell<HashMap<u64, Vec<Parked>>>,
    max: usize,
    time: Duration,
}

struct Parked {
    link: Box<Link>,
    since: Instant,
}

/// One connection to an upstream.
pub(super) struct Link {
    pub(super) sender: SendRequest<RequestBody>,
    /// Gone when the connection has ended.
    pub(super) http: Option<http1::Connection<TokioIo<Stream>, RequestBody>>,
}

impl Pool {
    /// An empty pool.
    pub fn new(config: PoolConfig, roots: TlsRoots) -> Self {
        let links = RefCell::new(HashMap::new());
        let idle = Rc::new(Idle {
            links,
            max: config.max_idle,
            time: config.idle,
        });
        Self {
            config,
            roots,
            idle,
            lines: Rc::new(Lines::new(config)),
        }
    }

    /// Sends one request and waits up to `patience` for the head of its answer.
    ///
    /// The request's target is in origin form. `Host` and the framing headers are set here.
    /// A request is sent again only if a connection that had been used before gave it back
    /// unsent. Interim answers (1xx) are dropped. Dropping the future, or the body of the
    /// answer before its end, closes the connection.
    ///
    /// # Errors
    ///
    /// When there is no answer, or none whose framing is unambiguous.
    pub async fn send(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        patience: Duration,
    ) -> Result<Response<UpstreamBody>, Unreachable> {
        let exchange = async {
            if upstream.is_http2() {
                return self.shared(upstream, request).await;
            }
            frame(&mut request, upstream);
            self.exchange(upstream, request).await
        };
        timeout(patience, exchange)
            .await
            .unwrap_or(Err(Unreachable::Timeout))
    }

    /// Closes connections that have been idle for too long or whose upstream has closed them,
    /// again and again; runs beside the calls of a worker.
    pub async fn keep_clean(self) {
        let mut ticks = interval((self.config.idle / 2).max(Duration::from_secs(1)));
        loop {
            ticks.tick().await;
            self.idle.sweep();
            self.lines.sweep();
        }
    }

    /// One call of a connection that others share.
    async fn shared(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, Unreachable> {
        let exchange = Box::pin(self.lines.exchange(upstream, &self.roots, request));
        let (answer, used) = exchange.await?;
        inspect(answer.status(), answer.headers()).map_err(Unreachable::Unacceptable)?;
        Ok(answer.map(|body| UpstreamBody::shared(body, used)))
    }

    async fn exchange(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, Unreachable> {
        // As it is now: a connection is kept under what it was made with, or under less.
        let key = upstream.key();
        while let Some(link) = self.idle.take(key) {
            match link.exchange(request).await {
                Ok((answer, link)) => return self.admit(key, answer, link),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        // Boxed because it is large and seldom needed: every call's future would carry it.
        let link = Box::pin(self.connect(upstream)).await?;
        match link.exchange(request).await {
            Ok((answer, link)) => self.admit(key, answer, link),
            Err(error) => Err(error.into_error().into()),
        }
    }

    pub(super) async fn connect(&self, upstream: &Upstream) -> Result<Box<Link>, Unreachable> {
        let dialled = timeout(self.config.connect, dial(upstream, &self.roots)).await;
        let stream = dialled.unwrap_or(Err(Unreachable::Timeout))?;
        let mut engine = http1::Builder::new();
        engine.max_buf_size(HEAD_MAX).max_header_size(HEAD_MAX);
        let shake = engine.handshake(TokioIo::new(stream)).await;
        let (sender, http) = shake.map_err(Unreachable::Broken)?;
        Ok(Box::new(Link {
            sender,
            http: Some(http),
        }))
    }

    /// Takes an answer whose head is unambiguous.
    pub(super) fn admit(
        &self,
        key: u64,
        answer: Response<Incoming>,
        link: Box<Link>,
    ) -> Result<Response<UpstreamBody>, Unreachable> {
        inspect(answer.status(), answer.headers()).map_err(Unreachable::Unacceptable)?;
        let home = Rc::clone(&self.idle);
        Ok(answer.map(|body| UpstreamBody::new(body, link, home, key)))
    }
}

impl Idle {
    /// The connection used last, if it has not waited for too long.
    fn take(&self, key: u64) -> Option<Box<Link>> {
        let mut links = self.links.borrow_mut();
        let parked = links.get_mut(&key)?;
        let last = parked.pop()?;
        if last.since.elapsed() < self.time {
            return Some(last.link);
        }
        // All others have waited longer.
        parked.clear();
        None
    }

    /// Keeps a connection whose exchange is over; closes it when it is not fit or one too many.
    pub(super) fn put(&self, key: u64, link: Box<Link>) {
        if !link.is_fit() {
            return;
        }
        let mut links = self.links.borrow_mut();
        let parked = links.entry(key).or_default();
        if parked.len() < self.max {
            parked.push(Parked {
                link,
                since: Instant::now(),
            });
        }
    }

    fn sweep(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut links = self.links.borrow_mut();
        for parked in links.values_mut() {
            parked.retain_mut(|parked| {
                parked.link.drive(&mut cx);
                parked.since.elapsed() < self.time && parked.link.is_fit()
            });
        }
        links.retain(|_, parked| !parked.is_empty());
    }
}

impl Link {
    /// Moves bytes until nothing moves.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(http) = &mut self.http
            && Pin::new(http).poll(cx).is_ready()
        {
            // Whoever waits for an answer or a body has been told how it ended.
            self.http = None;
        }
    }

    /// Whether the connection waits for a request: the answer is read and the request sent to
    /// the last byte, and neither side asked to close.
    fn is_fit(&self) -> bool {
        self.http.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the answer.
    async fn exchange(
        mut self: Box<Self>,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Box<Self>), TrySendError<Request<RequestBody>>> {
        // Only `drive` makes this future ready, so it needs neither a waker nor a budget.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let answer = poll_fn(|cx| {
            self.drive(cx);
            answer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        });
        let answer: Result<Response<Incoming>, _> = answer.await;
        answer.map(|answer| (answer, self))
    }
}

/// Sets the headers that say where a request goes and how it is framed.
pub(super) fn frame(request: &mut Request<RequestBody>, upstream: &Upstream) {
    let unsized_post = request.body().is_end_stream()
        && matches!(
            *request.method(),
            Method::POST | Method::PUT | Method::PATCH
        );
    let headers = request.headers_mut();
    headers.insert(HOST, upstream.host_header().clone());
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONTENT_LENGTH);
    if unsized_post {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Refuses an answer that changes the protocol or whose length two readers could read
/// differently (RFC 9112 §6.3).
fn inspect(status: StatusCode, headers: &HeaderMap) -> Result<(), Flaw> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Flaw::Upgrade);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() || length.is_some_and(|l| l.as_bytes().contains(&b',')) {
        return Err(Flaw::Length);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None)
            if length.is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(())
        }
        _ => Err(Flaw::Coding),
    }
}
