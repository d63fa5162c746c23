//! The client's side: each message of the client is a request to the sidecar, and what comes back is
//! said to the client, a line each.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _},
    sync::{Notify, mpsc, oneshot},
    task::AbortHandle,
    time::sleep,
};

use super::{
    lines::{Line, Lines},
    message::{Id, Kind, Message, failed, on_one_line},
};
use crate::{
    protocol::sse::{self, Decoder},
    upstream::{Pool, PoolConfig, RequestBody, TlsRoots, Upstream, UpstreamBody, collect},
};

/// A sidecar keeps the times of its configuration; this one only ends what would never end.
const PATIENCE: Duration = Duration::from_hours(24);
/// Bytes of an answer or an event: more than a sidecar passes.
const LARGEST: usize = 64 * 1024 * 1024;
/// Before the session's stream is opened anew.
const PAUSE: Duration = Duration::from_millis(500);
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// The client, as the sidecar sees it.
#[derive(Debug)]
pub(super) struct Agent {
    pool: Pool,
    upstream: Upstream,
    /// With each request.
    headers: HeaderMap,
    session: RefCell<Option<HeaderValue>>,
    calls: RefCell<HashMap<Id, Under>>,
    /// Told when a call is over.
    moved: Notify,
    /// To the client, whole lines; each is told when it was written.
    said: mpsc::Sender<(Bytes, oneshot::Sender<()>)>,
}

/// A call under way.
#[derive(Debug)]
struct Under {
    work: AbortHandle,
    /// Its revision takes the end of its request for a cancellation.
    ends: bool,
}

/// What came in place of an answer.
#[derive(Debug)]
struct Unanswered(String, Option<Value>);

impl Agent {
    pub(super) fn new(upstream: Upstream, headers: HeaderMap) -> anyhow::Result<Self> {
        let roots = TlsRoots::needed_by(&upstream)?;
        Ok(Self {
            pool: Pool::new(PoolConfig::default(), roots),
            upstream,
            headers,
            session: RefCell::default(),
            calls: RefCell::default(),
            moved: Notify::new(),
            said: writer(),
        })
    }

    /// Passes on what the client says, until it has no more to say and all is answered.
    pub(super) async fn run(self: &Rc<Self>, stdin: impl AsyncRead + Unpin) {
        let mut lines = Lines::of(stdin);
        loop {
            match lines.next().await {
                Line::Whole(line) if line.is_empty() => {}
                Line::Whole(line) => self.take(line).await,
                Line::TooLong => {
                    let refused = failed(None, "the message is too large", None);
                    self.say(refused).await;
                }
                Line::End => break,
            }
        }
        self.settled().await;
        self.leave().await;
    }

    /// Waits until no call is under way.
    pub(super) async fn settled(&self) {
        loop {
            let moved = self.moved.notified();
            if self.calls.borrow().is_empty() {
                return;
            }
            moved.await;
        }
    }

    async fn take(self: &Rc<Self>, line: Bytes) {
        let Some(message) = Message::read(&line) else {
            // Refused, and recorded, by whoever decides.
            return self.exchange(line, Message::default()).await;
        };
        match (message.kind(), message.id.clone()) {
            (Kind::Request, Some(id)) => self.call(id, message, line),
            _ if message.is("notifications/cancelled") && self.cancel(&message) => {}
            _ => {
                let initialized = message.is("notifications/initialized");
                // In the order in which they were said.
                self.exchange(line, message).await;
                if initialized && self.session.borrow().is_some() {
                    tokio::task::spawn_local(Rc::clone(self).feed());
                }
            }
        }
    }

    fn call(self: &Rc<Self>, id: Id, message: Message, line: Bytes) {
        let ends = message.version.is_some();
        let (agent, key) = (Rc::clone(self), id.clone());
        let work = tokio::task::spawn_local(async move {
            agent.exchange(line, message).await;
            agent.calls.borrow_mut().remove(&key);
            agent.moved.notify_waiters();
        });
        let work = work.abort_handle();
        self.calls.borrow_mut().insert(id, Under { work, ends });
    }

    /// Ends the request of a call that is cancelled, where that says it; whether it was.
    fn cancel(&self, message: &Message) -> bool {
        let Some(id) = &message.cancels else {
            return false;
        };
        let mut calls = self.calls.borrow_mut();
        if !calls.get(id).is_some_and(|call| call.ends) {
            return false;
        }
        if let Some(call) = calls.remove(id) {
            call.work.abort();
        }
        self.moved.notify_waiters();
        true
    }

    /// One message, and all that comes back for it.
    async fn exchange(&self, line: Bytes, message: Message) {
        let answered = match self.post(line, &message) {
            Ok(request) => self.answered(request, &message).await,
            Err(bad) => Err(Unanswered(bad.to_string(), None)),
        };
        let Err(Unanswered(why, data)) = answered else {
            return;
        };
        match (message.kind(), &message.id) {
            (Kind::Request, id @ Some(_)) => self.say(failed(id.as_ref(), &why, data)).await,
            _ => eprintln!("outrider: a message did not pass: {why}"),
        }
    }

    async fn answered(
        &self,
        request: Request<RequestBody>,
        message: &Message,
    ) -> Result<(), Unanswered> {
        let sent = self.pool.send(&self.upstream, request, PATIENCE).await;
        let answer = sent.map_err(|error| Unanswered(format!("the sidecar: {error}"), None))?;
        let (head, body) = answer.into_parts();
        if message.is("initialize")
            && let Some(session) = head.headers.get(&SESSION)
        {
            self.session.replace(Some(session.clone()));
        }
        if is(&head, "text/event-stream") {
            return self.events(body, message.id.as_ref()).await;
        }
        let broken = |_| Unanswered("the answer broke off".into(), None);
        let body = collect(body, LARGEST, PATIENCE).await.map_err(broken)?;
        let tree: Option<Value> = serde_json::from_slice(&body).ok();
        if tree
            .as_ref()
            .is_some_and(|tree| tree.get("jsonrpc").is_some())
        {
            self.say(body).await;
            return Ok(());
        }
        if head.status == StatusCode::ACCEPTED && message.kind() != Kind::Request {
            return Ok(());
        }
        // Problem details (RFC 9457).
        let text = |name: &str| tree.as_ref()?.get(name)?.as_str().map(str::to_owned);
        let why = text("detail").or_else(|| text("title"));
        let why = why.unwrap_or_else(|| format!("the sidecar answered {}", head.status));
        Err(Unanswered(why, tree))
    }

    /// Says what comes on a stream, up to the answer if there is to be one.
    async fn events(&self, mut body: UpstreamBody, id: Option<&Id>) -> Result<(), Unanswered> {
        let broken = || Unanswered("the answer broke off".into(), None);
        let mut decoder = Decoder::new(LARGEST);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| broken())?;
            let Ok(mut bytes) = frame.into_data() else {
                continue;
            };
            while let Some(item) = decoder.push(&mut bytes).map_err(|_| broken())? {
                let sse::Item::Event(sse::Event {
                    data: Some(data), ..
                }) = item
                else {
                    continue;
                };
                let Some(message) = Message::read(&data) else {
                    continue;
                };
                self.say(data).await;
                if message.kind() == Kind::Answer && message.id.as_ref() == id {
                    return Ok(());
                }
            }
        }
        if id.is_some() { Err(broken()) } else { Ok(()) }
    }

    /// What the server says by itself, as long as there is a session.
    async fn feed(self: Rc<Self>) {
        while let Ok(request) = self.of_session(Method::GET) {
            let sent = self.pool.send(&self.upstream, request, PATIENCE).await;
            if let Ok(answer) = sent {
                let (head, body) = answer.into_parts();
                if !is(&head, "text/event-stream") {
                    eprintln!(
                        "outrider: what the server says by itself is not heard: {}",
                        head.status
                    );
                    return;
                }
                // One that broke is opened anew.
                self.events(body, None).await.ok();
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends the session.
    async fn leave(&self) {
        let session = self.session.borrow().is_some();
        if let (true, Ok(request)) = (session, self.of_session(Method::DELETE)) {
            // It ends with the server anyway.
            self.pool.send(&self.upstream, request, PAUSE).await.ok();
        }
    }

    fn post(&self, line: Bytes, message: &Message) -> http::Result<Request<RequestBody>> {
        let mut request = Request::post(self.upstream.target())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(RequestBody::from(line))?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        if let Some(version) = &message.version {
            headers.insert(VERSION, HeaderValue::from_str(version)?);
        } else if let Some(session) = &*self.session.borrow() {
            headers.insert(SESSION, session.clone());
        }
        Ok(request)
    }

    fn of_session(&self, method: Method) -> http::Result<Request<RequestBody>> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.upstream.target())
            .header(header::ACCEPT, "text/event-stream")
            .body(RequestBody::Empty)?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        if let Some(session) = &*self.session.borrow() {
            headers.insert(SESSION, session.clone());
        }
        Ok(request)
    }

    /// Says one message to the client, whole, whatever becomes of who says it.
    async fn say(&self, text: Bytes) {
        let (written, told) = oneshot::channel();
        if self.said.send((on_one_line(text), written)).await.is_ok() {
            // Where nobody reads any more, the end of our standard input tells.
            told.await.ok();
        }
    }
}

/// Writes lines to standard output, one after the other, until that is closed.
fn writer() -> mpsc::Sender<(Bytes, oneshot::Sender<()>)> {
    let (said, mut lines) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>(1);
    tokio::task::spawn_local(async move {
        let mut stdout = tokio::io::stdout();
        while let Some((line, written)) = lines.recv().await {
            let said = async {
                stdout.write_all(&line).await?;
                stdout.write_all(b"\n").await?;
                stdout.flush().await
            };
            if said.await.is_err() {
                return;
            }
            // Whoever was cancelled meanwhile does not wait.
            written.send(()).ok();
        }
    });
    said
}

fn is(head: &response::Parts, kind: &str) -> bool {
    let told = head.headers.get(header::CONTENT_TYPE);
    told.and_then(|told| told.to_str().ok())
        .and_then(|told| told.split(';').next())
        .is_some_and(|told| told.trim().eq_ignore_ascii_case(kind))
}
