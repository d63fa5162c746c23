//! The private socket: MCP over streamable HTTP towards the sidecar, for the server behind it.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::mpsc,
    time::{Interval, interval, sleep},
};

use super::{
    message::{Kind, Message},
    server::{Asked, Said, Server, Undelivered},
};
use crate::{cli::exec::private_directory, upstream::Wrapper};

/// Bytes of a message: more than a sidecar passes.
const LARGEST: usize = 64 * 1024 * 1024;
/// How often a silent stream says that it is there.
const ALIVE: Duration = Duration::from_secs(30);
/// How long whoever connects may take to ask for something.
const HEAD: Duration = Duration::from_secs(5);
/// Connections at a time of users who have not shown the key.
const STRANGERS: usize = 16;
/// Before another connection is accepted where one could not be.
const PAUSE: Duration = Duration::from_millis(50);
const SESSION: &str = "mcp-session-id";

/// The socket, and what only its sidecar is told; gone when dropped.
#[derive(Debug)]
pub(super) struct Socket {
    directory: PathBuf,
    path: PathBuf,
    key: String,
    listener: UnixListener,
}

impl Socket {
    /// Binds it where a sidecar of another user can reach it.
    pub(super) fn bind() -> anyhow::Result<Self> {
        let directory = private_directory("outrider-stdio")?;
        let path = directory.join("sock");
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot listen at `{}`", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(Self {
            directory,
            path,
            // Whoever cannot name it is answered nothing.
            key: uuid::Uuid::new_v4().simple().to_string(),
            listener,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Serves the sidecar's requests.
    pub(super) async fn serve(self, server: Rc<Server>) {
        let guests = Rc::<Guests>::default();
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                // Whoever uses up our descriptors is waited for.
                sleep(PAUSE).await;
                continue;
            };
            let Some(guest) = Guest::enter(&guests, &stream) else {
                continue;
            };
            let (server, target) = (Rc::clone(&server), format!("/{}", self.key));
            let greeting = Wrapper::greeting(&self.key);
            tokio::task::spawn_local(async move {
                if stream.write_all(greeting.as_bytes()).await.is_err() {
                    return;
                }
                let answer = service_fn(|request: Request<Incoming>| {
                    let (server, known) = (Rc::clone(&server), request.uri().path() == target);
                    let guest = Rc::clone(&guest);
                    async move {
                        if !known {
                            return Ok(plain(StatusCode::NOT_FOUND));
                        }
                        guest.has_the_key();
                        answer(server, request).await
                    }
                });
                let http = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .serve_connection(TokioIo::new(stream), answer);
                // The sidecar is told by the end of the connection what there is to tell.
                http.await.ok();
            });
        }
    }
}

/// Who is connected. Users of whom one has shown the key may come as often as they like.
#[derive(Debug, Default)]
struct Guests {
    known: RefCell<HashSet<u32>>,
    strangers: Cell<usize>,
}

/// One connection.
#[derive(Debug)]
struct Guest {
    guests: Rc<Guests>,
    uid: u32,
    stranger: Cell<bool>,
}

impl Guest {
    /// Lets a connection in; not a stranger's where there are enough.
    fn enter(guests: &Rc<Guests>, stream: &UnixStream) -> Option<Rc<Self>> {
        let uid = stream.peer_cred().ok()?.uid();
        let stranger = !guests.known.borrow().contains(&uid);
        if stranger && guests.strangers.get() == STRANGERS {
            return None;
        }
        let strangers = guests.strangers.get() + usize::from(stranger);
        guests.strangers.set(strangers);
        Some(Rc::new(Self {
            guests: Rc::clone(guests),
            uid,
            stranger: Cell::new(stranger),
        }))
    }

    fn has_the_key(&self) {
        self.guests.known.borrow_mut().insert(self.uid);
        self.leave();
    }

    fn leave(&self) {
        if self.stranger.take() {
            self.guests.strangers.update(|strangers| strangers - 1);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// The server is gone before it answered: the connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the server is gone")]
struct Gone;

async fn answer(server: Rc<Server>, request: Request<Incoming>) -> Result<Response<Answer>, Gone> {
    match *request.method() {
        Method::POST => posted(server, request).await,
        Method::GET => Ok(stream(Source::Feed(server.feed()), None)),
        // The session ends with the process.
        Method::DELETE => Ok(plain(StatusCode::NO_CONTENT)),
        _ => Ok(plain(StatusCode::METHOD_NOT_ALLOWED)),
    }
}

async fn posted(server: Rc<Server>, request: Request<Incoming>) -> Result<Response<Answer>, Gone> {
    let body = Limited::new(request.into_body(), LARGEST).collect().await;
    let Ok(body) = body.map(http_body_util::Collected::to_bytes) else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE));
    };
    // An end of line would end the message; inside of JSON texts there is none.
    let line = super::message::on_one_line(body);
    let Some(message) = Message::read(&line) else {
        return Ok(plain(StatusCode::BAD_REQUEST));
    };
    match (message.kind(), message.id.clone()) {
        (Kind::Request, Some(id)) => match server.ask(id, message, line).await {
            Ok(asked) => answered(&server, asked).await,
            Err(Undelivered::Twice) => Ok(plain(StatusCode::CONFLICT)),
            Err(Undelivered::Gone) => Err(Gone),
        },
        _ => match server.tell(line).await {
            Ok(()) => Ok(plain(StatusCode::ACCEPTED)),
            Err(_) => Err(Gone),
        },
    }
}

/// One JSON answer, or a stream where the server has something to say before it.
async fn answered(server: &Server, mut asked: Asked) -> Result<Response<Answer>, Gone> {
    let mut response = match asked.said().await {
        None => return Err(Gone),
        Some(Said::Last(line)) => {
            let mut response = Response::new(Answer::Whole(Some(line.take())));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            if !asked.opens() {
                return Ok(response);
            }
            response
        }
        Some(Said::Meanwhile(line)) => stream(Source::Asked(asked), Some(line.take())),
    };
    let session = server.session();
    if let Some(session) = session.and_then(|id| HeaderValue::from_str(&id).ok()) {
        response.headers_mut().insert(SESSION, session);
    }
    Ok(response)
}

fn plain(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(None));
    *response.status_mut() = status;
    response
}

fn stream(source: Source, first: Option<Bytes>) -> Response<Answer> {
    let mut ticks = interval(ALIVE);
    ticks.reset();
    let mut response = Response::new(Answer::Events(Box::new(Events {
        source,
        first,
        ticks,
        over: false,
    })));
    let events = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, events);
    response
}

/// The body of an answer.
enum Answer {
    Whole(Option<Bytes>),
    Events(Box<Events>),
}

struct Events {
    source: Source,
    first: Option<Bytes>,
    ticks: Interval,
    over: bool,
}

enum Source {
    Asked(Asked),
    Feed(mpsc::Receiver<Said>),
}

impl Events {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(event(&first))));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let said = match &mut self.source {
            Source::Asked(asked) => asked.poll(cx),
            Source::Feed(feed) => feed.poll_recv(cx),
        };
        match said {
            Poll::Ready(Some(Said::Meanwhile(line))) => Poll::Ready(Some(Ok(event(&line.take())))),
            Poll::Ready(Some(Said::Last(line))) => {
                self.over = true;
                Poll::Ready(Some(Ok(event(&line.take()))))
            }
            Poll::Ready(None) => {
                self.over = true;
                Poll::Ready(match &self.source {
                    Source::Asked(_) => Some(Err(Gone)),
                    Source::Feed(_) => None,
                })
            }
            Poll::Pending if self.ticks.poll_tick(cx).is_ready() => {
                Poll::Ready(Some(Ok(Bytes::from_static(b": alive\n\n"))))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// An event with a message, which is one line.
fn event(line: &Bytes) -> Bytes {
    let mut event = BytesMut::with_capacity(line.len() + 24);
    event.put_slice(b"event: message\ndata: ");
    event.put_slice(line);
    event.put_slice(b"\n\n");
    event.freeze()
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => events
                .poll(cx)
                .map(|next| next.map(|bytes| bytes.map(Frame::data).map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }
}
