//! One connection: its socket becomes requests, its faults are reported.

use std::{
    cell::Cell,
    convert::Infallible,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_rustls::server::TlsStream;

use super::{
    Accepted, Connection, ConnectionFault, Io, Mode, Observer, Onward, Parked, Raw, Relay, Replay,
    Reply, Service, Socket, h2, inside,
    strict_head::{Gate, StrictHead, Waits},
    tls::speaks_h2,
};
use crate::drain::Draining;

/// Bytes of a head, request line and trailers included.
const HEAD_MAX: usize = 64 * 1024;
/// How long an idle connection has for the last request, which is answered with
/// `Connection: close`: one that is sent while we close would be lost.
const LAST: Duration = Duration::from_millis(500);

/// Serves one accepted socket until it ends, the drain does, or it goes to a successor.
pub(crate) async fn serve<S: Service>(
    accepted: Accepted,
    service: Rc<S>,
    observer: Observer,
    mut drain: Draining,
    waits: Rc<Waits>,
) {
    let Accepted {
        mut socket,
        listener,
        peer,
        place,
        mut ahead,
    } = accepted;
    let outcome = loop {
        let connection =
            Connection::new(Arc::clone(&listener), peer, drain.turn(), Rc::clone(&waits));
        match carry(socket, ahead, connection, &service, &drain).await {
            Err(fault) => break Err(fault),
            Ok(None) => break Ok(()),
            Ok(Some(rest)) => (socket, ahead) = rest,
        }
        if let Some(way) = drain.departure().await {
            let listener = Arc::clone(&listener.name);
            let parked = Parked {
                socket,
                listener,
                ahead,
            };
            // A successor that is gone takes nothing: the connection ends.
            way.send(parked).ok();
            break Ok(());
        }
    };
    drop(place);
    if let Err(fault) = outcome {
        observer(&listener, Some(&peer), fault);
    }
}

/// What is left of a connection that is parked.
type Rest = (Socket, Vec<u8>);

/// Serves a socket until it ends or is parked.
async fn carry<S: Service>(
    socket: Socket,
    ahead: Vec<u8>,
    connection: Connection,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<Option<Rest>, ConnectionFault> {
    let lost = |_| ConnectionFault::Peer;
    let connection = Rc::new(connection);
    match socket {
        Socket::Tcp(socket) => {
            let stream = open_tcp(socket).map_err(lost)?;
            if connection.listener.mode == Mode::Transparent {
                inside::redirected(stream, &connection, service, drain).await?;
                return Ok(None);
            }
            if let Some(presented) = &connection.listener.tls {
                let secured = presented.accept(stream, connection.listener.patience.head);
                let stream = secured.await.map_err(|_| ConnectionFault::Tls)?;
                // Its session stays here: it is never parked.
                secure(stream, &connection, service, drain).await?;
                return Ok(None);
            }
            let rest = plain(stream, ahead, &connection, service, drain).await?;
            rest.map(|(stream, ahead)| Ok((Socket::Tcp(stream.into_std()?), ahead)))
        }
        Socket::Unix(socket) => {
            let stream = tokio::net::UnixStream::from_std(socket).map_err(lost)?;
            let rest = plain(stream, ahead, &connection, service, drain).await?;
            rest.map(|(stream, ahead)| Ok((Socket::Unix(stream.into_std()?), ahead)))
        }
    }
    .transpose()
    .map_err(|_: io::Error| ConnectionFault::Peer)
}

/// Registers a TCP socket with this worker.
fn open_tcp(socket: std::net::TcpStream) -> io::Result<tokio::net::TcpStream> {
    let stream = tokio::net::TcpStream::from_std(socket)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Serves what was agreed upon in TLS.
pub(super) async fn secure<S: Service, T: Io + 'static>(
    stream: TlsStream<T>,
    connection: &Rc<Connection>,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<(), ConnectionFault> {
    if speaks_h2(&stream) {
        h2::serve(stream, connection, service, drain).await
    } else {
        plain(stream, Vec::new(), connection, service, drain).await?;
        Ok(())
    }
}

/// Serves HTTP of any version, and what follows a request that asks for something else; returns the
/// stream, with what was read ahead, when it is parked.
pub(super) async fn plain<S: Service, T: Io + 'static>(
    stream: T,
    ahead: Vec<u8>,
    connection: &Rc<Connection>,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<Option<(T, Vec<u8>)>, ConnectionFault> {
    match requests(stream, ahead, connection, service, drain).await? {
        End::Closed => {}
        End::Parked(stream, ahead) => return Ok(Some((stream, ahead))),
        End::Preface(stream, ahead) => {
            let stream = Replay::new(ahead, stream);
            h2::serve(stream, connection, service, drain).await?;
        }
        End::Onward(onward, stream, ahead) => {
            let stream: Raw = Box::new(Replay::new(ahead, stream));
            match onward {
                Onward::Relay(relay) => relayed(relay, stream, connection).await,
                Onward::Inside(origin) => {
                    inside::tunnelled(stream, origin, connection, service, drain).await?;
                }
            }
        }
    }
    Ok(None)
}

/// Hands the bytes of a connection over; to nobody it is as if it kept us waiting meanwhile.
pub(super) async fn relayed(relay: Relay, stream: Raw, connection: &Connection) {
    connection.waits.enter();
    relay(stream).await;
    connection.waits.leave();
}

/// How a stream of requests ended.
enum End<T> {
    Closed,
    /// Between two requests: its socket goes on elsewhere.
    Parked(T, Vec<u8>),
    /// Before the first: it is HTTP/2.
    Preface(T, Vec<u8>),
    /// With a request for something else.
    Onward(Onward, T, Vec<u8>),
}

/// Serves the HTTP/1 requests of one stream.
async fn requests<S, T>(
    stream: T,
    ahead: Vec<u8>,
    connection: &Rc<Connection>,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<End<T>, ConnectionFault>
where
    S: Service,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let gate = Rc::new(Gate::new(Rc::clone(connection)));
    let next = Rc::new(Cell::new(None));
    let patience = connection.listener.patience;
    let stream = StrictHead::new(stream, ahead, Rc::clone(&gate), patience);
    let answer = service_fn(|request: Request<Incoming>| {
        let (gate, next) = (Rc::clone(&gate), Rc::clone(&next));
        let answer = Rc::clone(service).call(Rc::clone(connection), request);
        async move {
            let Reply {
                mut response,
                onward,
            } = answer.await;
            if onward.is_some() {
                next.set(onward);
            } else if drain.is_ending() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(response.map(|body| Answer { body, gate }))
        }
    });
    let mut http = engine().serve_connection(TokioIo::new(stream), answer);
    let outcome = until_drained(&mut http, drain.clone()).await;
    let onward = next.take();
    match (outcome, gate.fault()) {
        (_, Some(fault)) => return Err(fault),
        (Err(error), None) => return classify(&error).map(|()| End::Closed),
        (Ok(()), None) => {}
    }
    if onward.is_none() && !gate.parked() && !gate.preface() {
        return Ok(End::Closed);
    }
    let parts = http.into_parts();
    let (stream, rest) = parts.io.into_inner().into_parts();
    let ahead = [&parts.read_buf, rest.as_slice()].concat();
    Ok(match onward {
        Some(onward) => End::Onward(onward, stream, ahead),
        None if gate.parked() => End::Parked(stream, ahead),
        None => End::Preface(stream, ahead),
    })
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

/// Runs a connection; once the drain begins it takes no further request but the last.
async fn until_drained<T, F, B>(
    http: &mut http1::Connection<TokioIo<T>, F>,
    mut drain: Draining,
) -> hyper::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: hyper::service::HttpService<Incoming, ResBody = B>,
    F::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    while !drain.is_ending() {
        // Polled anew in another phase, the stream parks if it is to.
        tokio::select! {
            biased;
            outcome = &mut *http => return outcome,
            () = drain.changed() => {}
        }
    }
    tokio::select! {
        biased;
        outcome = &mut *http => return outcome,
        () = sleep(LAST) => {}
    }
    Pin::new(&mut *http).graceful_shutdown();
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
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // The engine takes trailers that it may not send for the end that it then does not write.
        frame.map(|frame| frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
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
