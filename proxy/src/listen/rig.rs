//! What the tests of this crate's edges share: a listener with workers, a raw agent, and a raw
//! upstream that counts.
use std::{
    future::Future,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    os::unix::net::UnixStream,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;

use super::{
    Connection, ConnectionFault, Inside, ListenAddress, ListenerFacts, MAX_CONNECTIONS, Mode,
    Patience, Redirected, Reply, Service,
    accept::{Bound, Entrance},
    reverse::Hosts,
};
use crate::{
    drain::Drain,
    upstream::UpstreamBody,
    workers::{Tasks, Workers},
};

/// A hang becomes a failure after this long; no test waits for it to pass.
pub(crate) const HANG: Duration = Duration::from_secs(20);

pub(crate) type TestBody = Either<Full<Bytes>, UpstreamBody>;

/// A service made of a closure.
pub(crate) struct Func<F>(pub(crate) F);

impl<F, A> Service for Func<F>
where
    F: Fn(Rc<Connection>, Request<Incoming>) -> A + 'static,
    A: Future<Output = Response<TestBody>> + 'static,
{
    type Body = TestBody;

    fn call(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Reply<TestBody>> + 'static {
        let answer = (self.0)(connection, request);
        async move { answer.await.into() }
    }

    async fn redirected(
        self: Rc<Self>,
        _: Rc<Connection>,
        _: Box<str>,
        _: u16,
    ) -> Option<Redirected> {
        None
    }
}

/// A plain answer.
pub(crate) fn text(status: u16, body: impl Into<Bytes>) -> Response<TestBody> {
    let body = Either::Left(Full::new(body.into()));
    Response::builder().status(status).body(body).unwrap()
}

/// How a rig's listener is set.
pub(crate) struct Setting {
    pub(crate) address: String,
    pub(crate) patience: Patience,
    pub(crate) max_connections: usize,
    pub(crate) workers: usize,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:0".into(),
            patience: Patience::default(),
            max_connections: MAX_CONNECTIONS,
            workers: 1,
        }
    }
}

/// A listener with its workers; drained when dropped.
pub(crate) struct Rig {
    pub(crate) address: ListenAddress,
    pub(crate) faults: mpsc::Receiver<ConnectionFault>,
    drain: Arc<Drain>,
    bound: Arc<Mutex<Duration>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Rig {
    pub(crate) fn start<S: Service>(
        setting: &Setting,
        build: impl Fn(&Tasks) -> S + Send + Sync + 'static,
    ) -> Self {
        let (fault, faults) = mpsc::channel();
        let fault = Mutex::new(fault);
        let bound = Bound::bind(&setting.address.parse().unwrap()).unwrap();
        let address = bound.address().clone();
        let facts = Arc::new(ListenerFacts {
            name: "reverse".into(),
            mode: Mode::Reverse,
            hosts: Hosts::new(&[], &address).unwrap(),
            address: address.clone(),
            origins: vec![],
            patience: setting.patience,
            max_connections: setting.max_connections,
            tls: None,
            inside: Inside::Refuse,
        });
        let observer: super::Observer = Arc::new(move |_, _, seen| {
            fault.lock().unwrap().send(seen).ok();
        });
        let (drain, draining) = Drain::new();
        let count = NonZeroUsize::new(setting.workers).unwrap();
        let workers = Workers::start(count, build, &observer, &draining).unwrap();
        let limit = Arc::new(Mutex::new(HANG));
        let thread_limit = Arc::clone(&limit);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let dispatcher = workers.dispatcher();
                bound
                    .accept(Entrance::new(facts, dispatcher, observer), draining)
                    .await
                    .unwrap();
                let limit = *thread_limit.lock().unwrap();
                workers.finish(limit).await;
            });
        });
        Self {
            address,
            faults,
            drain: Arc::new(drain),
            bound: limit,
            thread: Some(thread),
        }
    }

    /// A rig with one worker whose service is a closure.
    pub(crate) fn answering<F, A>(make: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Fn(Rc<Connection>, Request<Incoming>) -> A + 'static,
        A: Future<Output = Response<TestBody>> + 'static,
    {
        Self::start(&Setting::default(), move |_| Func(make()))
    }

    pub(crate) fn connect(&self) -> Agent<TcpStream> {
        let ListenAddress::Tcp(address) = self.address else {
            panic!("not TCP")
        };
        Agent::new(dial(address))
    }

    pub(crate) fn connect_unix(&self) -> Agent<UnixStream> {
        let ListenAddress::Unix(path) = &self.address else {
            panic!("not Unix")
        };
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        Agent::new(stream)
    }

    pub(crate) fn fault(&self) -> ConnectionFault {
        self.faults.recv_timeout(HANG).expect("a fault")
    }

    pub(crate) fn begin_drain(&self, bound: Duration) {
        *self.bound.lock().unwrap() = bound;
        self.drain.begin();
    }

    pub(crate) fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        *self.bound.lock().unwrap() = Duration::ZERO;
        self.drain.begin();
        self.wait();
    }
}

pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANG)).unwrap();
    stream.set_write_timeout(Some(HANG)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Waits for a word of another thread.
pub(crate) fn receive<T>(channel: &mpsc::Receiver<T>) -> T {
    channel.recv_timeout(HANG).expect("a word in time")
}

/// One HTTP message as read off a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A raw end of a connection.
pub(crate) struct Agent<S> {
    pub(crate) stream: S,
    seen: Vec<u8>,
}

impl<S: Read + Write> Agent<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            seen: vec![],
        }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    fn more(&mut self) -> bool {
        let mut space = vec![0; 65536];
        let count = match self.stream.read(&mut space) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no bytes in time"),
            // A reset, or a TLS session without its end.
            Err(_) => 0,
        };
        self.seen.extend_from_slice(&space[..count]);
        count > 0
    }

    fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.seen.windows(mark.len()).position(|w| w == mark) {
                let rest = self.seen.split_off(at + mark.len());
                return Some(std::mem::replace(&mut self.seen, rest));
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.seen.len() < count {
            if !self.more() {
                return None;
            }
        }
        let rest = self.seen.split_off(count);
        Some(std::mem::replace(&mut self.seen, rest))
    }

    /// The head of the next message; `None` when the connection ends before.
    pub(crate) fn head(&mut self) -> Option<Message> {
        let head = String::from_utf8(self.until(b"\r\n\r\n")?).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers = lines
            .map(|l| l.split_once(':').unwrap())
            .map(|(n, v)| (n.to_owned(), v.trim().to_owned()))
            .collect();
        Some(Message {
            line,
            headers,
            body: vec![],
        })
    }

    /// The next chunk's data; empty for the last one, `None` when cut.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = String::from_utf8(self.until(b"\r\n")?).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut data = self.take(size + 2)?;
        data.truncate(size);
        Some(data)
    }

    /// The next whole message; `None` when the connection ends before its end.
    pub(crate) fn message(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        if message.header("transfer-encoding").is_some() {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                message.body.extend(chunk);
            }
        } else if let Some(length) = message.header("content-length") {
            let length = length.parse().unwrap();
            message.body = self.take(length)?;
        }
        Some(message)
    }

    /// The next answer, which must come.
    pub(crate) fn answer(&mut self) -> Message {
        self.message().expect("an answer")
    }

    /// Whether the connection ends without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.seen.is_empty() && !self.more()
    }
}

impl Agent<TcpStream> {
    pub(crate) fn end_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset instead of an end.
    pub(crate) fn reset(self) {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.stream, linger).unwrap();
    }
}

/// An upstream that does with each connection what it is told, and counts them.
pub(crate) struct RawUpstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl RawUpstream {
    pub(crate) fn start(serve: impl Fn(usize, Agent<TcpStream>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, serve) = (Arc::clone(&connections), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(HANG)).unwrap();
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(number, Agent::new(stream)));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// An upstream that answers every request with `answer`, verbatim.
    pub(crate) fn repeating(answer: &'static [u8]) -> Self {
        Self::start(move |_, mut agent| {
            while agent.message().is_some() {
                agent.send(answer);
            }
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/base", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
