//! An HTTP/2 server and a client, of which a test says what they do.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use http_body::{Body, Frame};
use hyper::{
    body::Incoming, client::conn::http2::SendRequest, server::conn::http2::Builder,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{mpsc, oneshot},
};

/// Bytes of a piece of what is sent without end.
const PIECE: usize = 16 * 1024;

/// What reached a server.
#[derive(Debug, Clone)]
pub struct Reached {
    /// The request's head.
    pub head: Parts,
    /// Its body.
    pub body: Bytes,
    /// What followed its body.
    pub trailers: Option<HeaderMap>,
}

/// What a server does about it.
#[derive(Debug)]
pub enum Told {
    /// It answers, with these trailers if there are any.
    Answer(Box<Response<Bytes>>, Option<HeaderMap>),
    /// It says that it did not look at it.
    Refuse,
    /// It never answers.
    Hang,
    /// It sends that many bytes as fast as they are taken.
    Flood(usize),
}

/// The header of a request that is answered before its body is read.
pub const EARLY: &str = "x-answered-early";

/// A server; it ends with this value.
pub struct Http2Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    _turning: Turning,
}

type Does = dyn Fn(&Reached) -> Told + Send + Sync;

struct Shared {
    does: Box<Does>,
    reached: Mutex<Vec<Reached>>,
    connections: AtomicUsize,
    given_up: AtomicUsize,
    sent: AtomicUsize,
    taken: AtomicUsize,
    broken: AtomicUsize,
}

impl Shared {
    fn note(&self, reached: Reached) {
        let all = self.reached.lock();
        all.unwrap_or_else(PoisonError::into_inner).push(reached);
    }
}

/// A runtime on a thread of its own; both end with this value.
struct Turning {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Turning {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            // Whoever is gone wants it to stop, too.
            runtime.block_on(stopped).ok();
        });
        Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Turning {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Told {
    /// An answer of these bytes, and of trailers if there are any.
    pub fn answer(bytes: &'static str, trailers: Option<HeaderMap>) -> Self {
        Self::Answer(Box::new(Response::new(Bytes::from(bytes))), trailers)
    }
}

impl fmt::Debug for Http2Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Http2Server {
    /// A server that does so, with that many calls at a time over one connection.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(streams: u32, does: impl Fn(&Reached) -> Told + Send + Sync + 'static) -> Self {
        let turning = Turning::start();
        let listener = turning
            .handle
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            does: Box::new(does),
            reached: Mutex::default(),
            connections: AtomicUsize::default(),
            given_up: AtomicUsize::default(),
            sent: AtomicUsize::default(),
            taken: AtomicUsize::default(),
            broken: AtomicUsize::default(),
        });
        turning
            .handle
            .spawn(accept(listener, streams, Arc::clone(&shared)));
        Self {
            address,
            shared,
            _turning: turning,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Everything that reached it so far.
    pub fn reached(&self) -> Vec<Reached> {
        let reached = self.shared.reached.lock();
        reached.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many requests were given up before they were answered.
    pub fn given_up(&self) -> usize {
        self.shared.given_up.load(Ordering::SeqCst)
    }

    /// How many bytes it has of bodies that it answered before it had read them.
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// How many of those broke off before their end.
    pub fn broken(&self) -> usize {
        self.shared.broken.load(Ordering::SeqCst)
    }

    /// How many bytes were taken of what it sends without end.
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, streams: u32, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, Arc::clone(&shared)));
            let mut engine = Builder::new(TokioExecutor::new());
            engine.max_concurrent_streams(streams);
            engine
                .serve_connection(TokioIo::new(stream), answer)
                .await
                .ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Says>, h2::Error> {
    let (head, body) = request.into_parts();
    if head.headers.contains_key(EARLY) {
        tokio::spawn(taken(body, shared));
        return Ok(Response::new(Says::Sent(Sends::of(b"early", None))));
    }
    let (body, trailers) = whole(body).await.map_err(|_| h2::Reason::CANCEL)?;
    let reached = Reached {
        head,
        body,
        trailers,
    };
    let told = (shared.does)(&reached);
    shared.note(reached);
    match told {
        Told::Answer(response, trailers) => {
            let (head, bytes) = (*response).into_parts();
            Ok(Response::from_parts(
                head,
                Says::Sent(Sends::of(&bytes, trailers)),
            ))
        }
        Told::Refuse => Err(h2::Reason::REFUSED_STREAM.into()),
        Told::Hang => {
            let _given_up = GivenUp(shared);
            std::future::pending().await
        }
        Told::Flood(bytes) => Ok(Response::new(Says::Flood(bytes, shared))),
    }
}

/// Reads what comes after the answer.
async fn taken(mut body: Incoming, shared: Arc<Shared>) {
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(frame) = frame else {
            shared.broken.fetch_add(1, Ordering::SeqCst);
            return;
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        shared.taken.fetch_add(bytes, Ordering::SeqCst);
    }
}

struct GivenUp(Arc<Shared>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(1, Ordering::SeqCst);
    }
}

/// The body of an answer.
enum Says {
    Sent(Sends),
    Flood(usize, Arc<Shared>),
}

impl Body for Says {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Poll::Ready(match &mut *self {
            Self::Sent(sends) => return Pin::new(sends).poll_frame(cx),
            Self::Flood(0, _) => None,
            Self::Flood(left, shared) => {
                let piece = PIECE.min(*left);
                *left -= piece;
                shared.sent.fetch_add(piece, Ordering::SeqCst);
                Some(Ok(Frame::data(vec![0; piece].into())))
            }
        })
    }
}

/// A body and what followed it.
async fn whole(mut body: Incoming) -> hyper::Result<(Bytes, Option<HeaderMap>)> {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((bytes.into(), trailers))
}

/// What is sent: bytes and trailers that are there, or bytes as they are fed.
#[derive(Debug)]
pub struct Sends {
    /// What is to come, the last first.
    frames: Vec<Frame<Bytes>>,
    fed: Option<mpsc::UnboundedReceiver<Bytes>>,
}

impl Sends {
    /// These bytes, and then these trailers if there are any.
    pub fn of(bytes: &[u8], trailers: Option<HeaderMap>) -> Self {
        let data = (!bytes.is_empty()).then(|| Frame::data(Bytes::copy_from_slice(bytes)));
        let frames = data.into_iter().chain(trailers.map(Frame::trailers)).rev();
        Self {
            frames: frames.collect(),
            fed: None,
        }
    }

    /// What is fed to it, until whoever feeds it is gone.
    pub fn fed() -> (mpsc::UnboundedSender<Bytes>, Self) {
        let (feed, bytes) = mpsc::unbounded_channel();
        let sends = Self {
            frames: Vec::new(),
            fed: Some(bytes),
        };
        (feed, sends)
    }
}

impl Body for Sends {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match &mut self.fed {
            Some(fed) => fed
                .poll_recv(cx)
                .map(|bytes| bytes.map(|one| Ok(Frame::data(one)))),
            None => Poll::Ready(self.frames.pop().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.fed.is_none()
    }
}

/// A client with one connection.
pub struct Http2Agent {
    sender: SendRequest<Sends>,
    turning: Turning,
}

impl fmt::Debug for Http2Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Agent").finish_non_exhaustive()
    }
}

/// What a client got.
#[derive(Debug)]
pub struct Got {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
}

impl Http2Agent {
    /// Speaks HTTP/2 there at once.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn open(address: SocketAddr) -> Self {
        let turning = Turning::start();
        let sender = turning.handle.block_on(async {
            let stream = tokio::net::TcpStream::connect(address)
                .await
                .expect("a connection");
            let (sender, http) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .expect("HTTP/2");
            tokio::spawn(http);
            sender
        });
        Self { sender, turning }
    }

    /// Sends one request and reads its answer to the end.
    ///
    /// # Errors
    /// The stream or the connection ended before.
    pub fn send(&mut self, request: Request<Sends>) -> hyper::Result<Got> {
        let answer = self.sender.send_request(request);
        self.turning.handle.block_on(async {
            let (head, body) = answer.await?.into_parts();
            let (body, trailers) = whole(body).await?;
            Ok(Got {
                status: head.status,
                headers: head.headers,
                body,
                trailers,
            })
        })
    }

    /// Sends one request and reads nothing of its answer's body.
    ///
    /// # Errors
    /// The stream or the connection ended before.
    pub fn begin(&mut self, request: Request<Sends>) -> hyper::Result<Response<Incoming>> {
        let answer = self.sender.send_request(request);
        self.turning.handle.block_on(answer)
    }

    /// Sends requests all at once, and reads what comes back.
    pub fn send_all(&mut self, requests: Vec<Request<Sends>>) -> Vec<hyper::Result<StatusCode>> {
        let answers: Vec<_> = requests
            .into_iter()
            .map(|request| self.sender.send_request(request))
            .map(|answer| self.turning.handle.spawn(answer))
            .collect();
        let status = |answer: hyper::Result<Response<Incoming>>| answer.map(|one| one.status());
        self.turning.handle.block_on(async {
            let mut got = Vec::new();
            for answer in answers {
                got.push(status(answer.await.expect("it ran")));
            }
            got
        })
    }

    /// Sends one request and gives it up before its answer, once `until` says so.
    pub fn give_up(&mut self, request: Request<Sends>, until: impl FnOnce() + Send + 'static) {
        let answer = self.sender.send_request(request);
        let task = self.turning.handle.spawn(answer);
        thread::spawn(until).join().expect("it came so far");
        task.abort();
    }
}
