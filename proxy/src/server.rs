//! A small server: connections in, each request to one function, bounded in number and time.

use std::{collections::VecDeque, convert::Infallible, io, pin::pin, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::listen::tls::Presented;

/// How many connections there are at most; the oldest gives way to a new one.
const MAX_CONNECTIONS: usize = 256;

/// How long a connection may say nothing, and a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How large a request's head may be, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How long requests under way may take to their end when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Door {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// Serves a door until it is told to stop; requests under way come to their end.
pub(crate) async fn serve<F, A>(
    door: impl Into<Door>,
    tls: Option<Presented>,
    answer: F,
    mut stop: watch::Receiver<bool>,
) where
    F: Fn(Request<Incoming>) -> A + Clone + 'static,
    A: Future<Output = Answer> + 'static,
{
    let listener = door.into();
    let mut connections = JoinSet::new();
    let mut order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        order.retain(|connection| !connection.is_finished());
        if order.len() >= MAX_CONNECTIONS
            && let Some(oldest) = order.pop_front()
        {
            oldest.abort();
        }
        match accepted {
            Ok(stream) => {
                let served = connection(stream, tls.clone(), answer.clone(), stop.clone());
                order.push_back(connections.spawn_local(served));
            }
            // Out of file descriptors, or a peer that is gone already: a short rest, then on.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let drained = timeout(DRAIN, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!("connections were cut at the end of the drain");
    }
}

async fn connection<F, A>(
    stream: Stream,
    tls: Option<Presented>,
    answer: F,
    stop: watch::Receiver<bool>,
) where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Answer>,
{
    let served = match (stream, tls) {
        (Stream::Unix(stream), _) => spoken(stream, answer, stop).await,
        (Stream::Tcp(stream), None) => spoken(stream, answer, stop).await,
        (Stream::Tcp(stream), Some(tls)) => match tls.accept_http1(stream, HANDSHAKE).await {
            Ok(stream) => spoken(stream, answer, stop).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection");
    }
}

async fn spoken<F, A>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: F,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()>
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Answer>,
{
    let answers = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), answers)
    );
    tokio::select! {
        served = connection.as_mut() => return served.map_err(io::Error::other),
        _ = stop.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(io::Error::other)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    text(status, "text/plain; charset=utf-8", "")
}

/// An answer with a body of that type, never stored.
pub(crate) fn text(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Bytes>,
) -> Answer {
    let text = text.into();
    let silent = text.is_empty();
    let mut answer = Response::new(Full::new(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    if !silent {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}
