//! The admin address: probes, metrics, public keys. Read only.
//!
//! Connections and a few closures come in, short answers go out. Nothing asked here changes
//! anything, and nothing here knows another room: what it states is handed in as closures.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    future::Future,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};
use tower::{ServiceBuilder, ServiceExt as _};

/// How many connections there are at most; the oldest gives way to a new one, so that nobody keeps
/// a probe out by holding connections.
const MAX_CONNECTIONS: usize = 64;

/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may take to make.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last, slow readers included.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How large a request's head may be, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The state of one thing the sidecar needs; the text says more and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It is there.
    Ready(String),
    /// It is not.
    NotReady(String),
}

impl Check {
    fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    fn to_json(&self) -> serde_json::Value {
        let (Self::Ready(detail) | Self::NotReady(detail)) = self;
        serde_json::json!({ "ready": self.is_ready(), "detail": detail })
    }
}

/// What `/readyz` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether a policy is loaded.
    pub policy: Check,
    /// Whether the identity is obtained.
    pub identity: Check,
    /// Whether the decision log can be written.
    pub log: Check,
    /// Whether the fleet's store can be asked; without a fleet there is none.
    pub state: Option<Check>,
    /// What keeps the agent out: `exec`, `uid`, `declared` or `none`.
    pub isolation: &'static str,
}

impl Readiness {
    /// Whether calls can be served.
    pub fn is_ready(&self) -> bool {
        let Self {
            policy,
            identity,
            log,
            state,
            isolation: _,
        } = self;
        let state = state.as_ref().is_none_or(Check::is_ready);
        policy.is_ready() && identity.is_ready() && log.is_ready() && state
    }

    fn to_json(&self) -> String {
        let mut page = serde_json::json!({
            "ready": self.is_ready(),
            "policy": self.policy.to_json(),
            "identity": self.identity.to_json(),
            "log": self.log.to_json(),
            "isolation": self.isolation,
        });
        if let (Some(state), Some(page)) = (&self.state, page.as_object_mut()) {
            page.insert("state".into(), state.to_json());
        }
        page.to_string()
    }
}

/// A page and its media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The media type.
    pub content_type: &'static str,
    /// The text.
    pub text: String,
}

/// Writes the metrics page for an `Accept` header.
pub type MetricsPage = Box<dyn Fn(Option<&str>) -> Page + Send + Sync>;

/// Where the answers come from. Each closure returns at once.
pub struct AdminState {
    /// Tells what is ready.
    pub ready: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// Writes the metrics page in the form the given `Accept` header asks for.
    pub metrics: MetricsPage,
    /// Writes the public keys, a JWK set (RFC 7517 §5); none where they are not told.
    pub jwks: Option<Box<dyn Fn() -> String + Send + Sync>>,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").finish_non_exhaustive()
    }
}

/// The answers to all requests of the admin address.
#[derive(Debug)]
struct Admin {
    state: AdminState,
    /// Whether everything was ready once: then the start is over.
    started: AtomicBool,
}

type Answer = Response<Full<Bytes>>;

/// Serves `listener` until `stop` ends; connections under way are then closed.
pub async fn serve(listener: TcpListener, state: AdminState, stop: impl Future<Output = ()>) {
    let admin = Arc::new(Admin {
        state,
        started: AtomicBool::new(false),
    });
    let mut connections = Connections::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        match stream {
            Ok((stream, _)) => connections.add(Arc::clone(&admin), stream),
            // Out of file descriptors, or a peer that is gone already: a short rest, then on.
            Err(error) => {
                tracing::warn!(%error, "the admin address could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    order: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, admin: Arc<Admin>, stream: TcpStream) {
        while self.tasks.try_join_next().is_some() {}
        self.order.retain(|task| !task.is_finished());
        if self.order.len() >= MAX_CONNECTIONS
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.order
            .push_back(self.tasks.spawn(connection(admin, stream)));
    }
}

async fn connection(admin: Arc<Admin>, stream: TcpStream) {
    let answers = ServiceBuilder::new()
        .timeout(ANSWER_TIMEOUT)
        .service_fn(move |request| {
            let answer = admin.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
    let service = service_fn(move |request: Request<Incoming>| answers.clone().oneshot(request));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection"),
        Err(_) => tracing::debug!("admin connection took too long"),
    }
}

impl Admin {
    fn answer<B>(&self, request: &Request<B>) -> Answer {
        let page = match request.uri().path() {
            "/livez" => self.live(),
            "/readyz" => self.ready(),
            "/startupz" => self.startup(),
            "/metrics" => self.metrics(request),
            "/.well-known/jwks.json" => match &self.state.jwks {
                Some(jwks) => json(StatusCode::OK, jwks()),
                None => return not_found(),
            },
            _ => return not_found(),
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            page
        } else {
            method_not_allowed()
        }
    }

    #[expect(clippy::unused_self, reason = "it answers like the others")]
    fn live(&self) -> Answer {
        plain(StatusCode::OK, "live\n")
    }

    fn ready(&self) -> Answer {
        let readiness = self.look();
        let status = if readiness.is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(status, readiness.to_json())
    }

    fn startup(&self) -> Answer {
        if self.started.load(Ordering::Relaxed) || self.look().is_ready() {
            plain(StatusCode::OK, "started\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n")
        }
    }

    fn look(&self) -> Readiness {
        let readiness = (self.state.ready)();
        if readiness.is_ready() {
            self.started.store(true, Ordering::Relaxed);
        }
        readiness
    }

    fn metrics<B>(&self, request: &Request<B>) -> Answer {
        let accept = request
            .headers()
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok());
        let page = (self.state.metrics)(accept);
        answer(StatusCode::OK, page.content_type, page.text)
    }
}

fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "not found\n")
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

fn json(status: StatusCode, text: String) -> Answer {
    answer(status, "application/json", text)
}

fn method_not_allowed() -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

fn answer(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

#[cfg(test)]
mod tests;
