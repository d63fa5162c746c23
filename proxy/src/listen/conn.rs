//! One connection: its socket becomes requests, its faults are reported.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Accepted, Connection, ConnectionFault, Observer, Service, Socket,
    strict_head::{Gate, StrictHead},
};
use crate::drain::Draining;

/// Bytes of a head, request line and trailers included.
const HEAD_MAX: usize = 64 * 1024;

/// Serves one accepted socket until it ends or the drain does.
pub(crate) async fn serve<S: Service>(
    accepted: Accepted,
    service: Rc<S>,
    observer: Observer,
    drain: Draining,
    gate: Rc<Gate>,
) {
    let Accepted {
        socket,
        listener,
        peer,
        place,
    } = accepted;
    let connection = Rc::new(Connection::new(listener, peer));
    let outcome = match socket {
        Socket::Tcp(socket) => match open_tcp(socket) {
            Ok(stream) => requests(stream, &connection, service, drain, gate).await,
            Err(_) => Err(ConnectionFault::Peer),
        },
        Socket::Unix(socket) => match tokio::net::UnixStream::from_std(socket) {
            Ok(stream) => requests(stream, &connection, service, drain, gate).await,
            Err(_) => Err(ConnectionFault::Peer),
        },
    };
    drop(place);
    if let Err(fault) = outcome {
        observer(&connection.listener, Some(&connection.peer), fault);
    }
}

/// Registers a TCP socket with this worker.
fn open_tcp(socket: std::net::TcpStream) -> std::io::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::from_std(socket)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Serves the requests of one stream.
async fn requests<S, T>(
    stream: T,
    connection: &Rc<Connection>,
    service: Rc<S>,
    drain: Draining,
    gate: Rc<Gate>,
) -> Result<(), ConnectionFault>
where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let stream = StrictHead::new(stream, Rc::clone(&gate), connection.listener.patience);
    let answer = service_fn(|request: Request<Incoming>| {
        let gate = Rc::clone(&gate);
        let answer = Rc::clone(&service).call(Rc::clone(connection), request);
        async move {
            let answer = answer.await;
            Ok::<_, Infallible>(answer.map(|body| Answer { body, gate }))
        }
    });
    let http = pin!(engine().serve_connection(TokioIo::new(stream), answer));
    let outcome = until_drained(http, drain).await;
    match (outcome, gate.fault()) {
        (_, Some(fault)) => Err(fault),
        (Ok(()), None) => Ok(()),
        (Err(error), None) => classify(&error),
    }
}

/// The HTTP engine's settings. Its own head time-out is not used: it is idle time and head time
/// in one, and a timer per request. `max_headers` is left alone: 100 is the default, and setting
/// it moves the table to the heap.
fn engine() -> http1::Builder {
    let mut engine = http1::Builder::new();
    engine
        .max_buf_size(HEAD_MAX)
        .max_header_size(HEAD_MAX)
        .half_close(false);
    engine
}

/// Runs a connection; once the drain begins it takes no further request.
async fn until_drained<T, F, B>(
    mut http: Pin<&mut http1::Connection<TokioIo<T>, F>>,
    mut drain: Draining,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: hyper::service::HttpService<Incoming, ResBody = B>,
    F::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    tokio::select! {
        biased;
        outcome = http.as_mut() => return outcome,
        () = drain.begun() => {}
    }
    http.as_mut().graceful_shutdown();
    http.await
}

/// What an error of the engine means; an answer that we ended ourselves is no fault.
fn classify(error: &hyper::Error) -> Result<(), ConnectionFault> {
    if error.is_user() {
        Ok(())
    } else if error.is_parse_too_large() {
        Err(ConnectionFault::HeaderTooLarge)
    } else if error.is_parse() {
        Err(ConnectionFault::Parse)
    } else {
        Err(ConnectionFault::Peer)
    }
}

/// The body of an answer; when it is gone, the next request may come.
struct Answer<B> {
    body: B,
    gate: Rc<Gate>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.gate.answered();
    }
}
