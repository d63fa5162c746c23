//! Accept: from a bound address to HTTP requests that one reader only can understand.
//!
//! Sockets come in, `(Connection, Request)` goes out to the [`Service`] of the worker that holds
//! the connection. What is no HTTP request head is answered by the engine and reported to the
//! [`Observer`]; it is not a call.

pub mod accept;
pub mod ca;
mod conn;
mod crowd;
mod forward;
mod framing;
mod h2;
mod hello;
pub mod host;
mod inside;
pub mod path;
mod replay;
pub mod reverse;
mod strict_head;
pub mod target;
pub mod tls;
mod transparent;

use std::{
    cell::OnceCell,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};

use self::host::Scheme;
pub(crate) use self::{
    hello::{Greeting, greet},
    inside::agrees,
};
pub use self::{
    replay::Replay,
    strict_head::Patience,
    target::{Named, Target, Unadmitted, admit},
};
use crate::{drain::Turn, identify::tcp_peer};

pub(crate) use conn::serve;
pub(crate) use crowd::{Crowd, Member};
pub(crate) use strict_head::Waits;

#[cfg(test)]
pub(crate) mod rig;
#[cfg(test)]
mod tests;

/// How agents reach a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Base URL `http://listener/<service>/…`.
    Reverse,
    /// `HTTP_PROXY` and `HTTPS_PROXY`.
    Forward,
    /// A redirect rule of the kernel.
    Transparent,
}

impl Mode {
    /// The mode's word in configuration, records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reverse => "reverse",
            Self::Forward => "forward",
            Self::Transparent => "transparent",
        }
    }
}

/// Where a listener listens: `HOST:PORT` with a literal IP address, `unix:PATH` or `/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum ListenAddress {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A listener's address that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an address: `127.0.0.1:15001`, `[::1]:15001` or `unix:/path`")]
pub struct BadAddress;

impl FromStr for ListenAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let path = text
            .strip_prefix("unix:")
            .or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path {
            let usable = !path.is_empty() && !path.ends_with('/') && !path.contains('\0');
            return if usable {
                Ok(Self::Unix(path.into()))
            } else {
                Err(BadAddress)
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| BadAddress)
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What holds for every connection of one listener.
#[derive(Debug)]
pub struct ListenerFacts {
    /// Its unique name: label of metrics and word of records.
    pub name: Arc<str>,
    /// How agents reach it.
    pub mode: Mode,
    /// The address it is bound to, with its real port.
    pub address: ListenAddress,
    /// The `Host` values it answers to.
    pub hosts: reverse::Hosts,
    /// The `Origin` values it answers to, in the form in which a browser sends them.
    pub origins: Vec<String>,
    /// How long its agents may take.
    pub patience: Patience,
    /// Connections at a time; one more takes the place of one that keeps us waiting, or is closed.
    pub max_connections: usize,
    /// What it proves itself by, where it speaks TLS.
    pub tls: Option<tls::Presented>,
    /// What it does about TLS that is meant for others.
    pub inside: Inside,
}

/// What a forward or transparent listener does about TLS to somebody else.
#[derive(Debug, Clone, Default)]
pub enum Inside {
    /// It refuses it.
    #[default]
    Refuse,
    /// It lets pass, unread, what services of `protocol: tunnel` name, and refuses the rest.
    Tunnel,
    /// It also looks into what is meant for other services, behind leaves of this authority.
    Intercept(Arc<ca::Authority>),
}

/// Connections of a listener when the configuration does not say: 1,024.
pub const MAX_CONNECTIONS: usize = 1024;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddr {
    /// Over TCP: its address, and ours that it connected to.
    Tcp {
        /// The agent's end.
        peer: SocketAddr,
        /// Our end.
        local: SocketAddr,
    },
    /// Over a Unix socket: its credentials at the time it connected.
    Unix {
        /// Its user ID.
        uid: u32,
        /// Its process ID; `None` when it is in another PID namespace.
        pid: Option<i32>,
    },
}

/// The other end of a connection and its text, made once for all records.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Who it is.
    pub address: PeerAddr,
    /// The same as text.
    pub name: Arc<str>,
}

impl From<PeerAddr> for Peer {
    fn from(address: PeerAddr) -> Self {
        Self {
            address,
            name: address.to_string().into(),
        }
    }
}

/// How the requests of a connection say where they go.
#[derive(Debug, Clone)]
pub enum Via {
    /// As its listener's mode has it.
    Listener,
    /// They are all for the host that the connection was opened for.
    Origin(Rc<Origin>),
}

/// What a tunnel was opened for, or a redirected connection.
#[derive(Debug)]
pub struct Origin {
    /// Whether its requests come in TLS.
    pub scheme: Scheme,
    /// The host's name or address; none where only its requests tell.
    pub name: Option<Box<str>>,
    /// The port.
    pub port: u16,
    /// The task tokens that were presented with the tunnel and hold for what is inside.
    pub tokens: Vec<HeaderValue>,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// The listener it came through.
    pub listener: Arc<ListenerFacts>,
    /// Who is at the other end.
    pub peer: Peer,
    /// How its requests say where they go.
    pub via: Via,
    /// The user at the other end, once asked.
    caller: OnceCell<Option<u32>>,
    turn: Turn,
    waits: Rc<Waits>,
}

impl Connection {
    pub(crate) fn new(
        listener: Arc<ListenerFacts>,
        peer: PeerAddr,
        turn: Turn,
        waits: Rc<Waits>,
    ) -> Self {
        Self {
            listener,
            peer: Peer::from(peer),
            via: Via::Listener,
            caller: OnceCell::new(),
            turn,
            waits,
        }
    }

    /// The same connection, whose further requests are for that origin, or another request of it.
    pub(crate) fn then(&self, via: Via, turn: Turn) -> Self {
        Self {
            listener: Arc::clone(&self.listener),
            peer: self.peer.clone(),
            via,
            caller: self.caller.clone(),
            turn,
            waits: Rc::clone(&self.waits),
        }
    }

    /// Whether more than its socket belongs to it, so that no other process can go on with it.
    fn stays(&self) -> bool {
        self.listener.tls.is_some() || matches!(self.via, Via::Origin(_))
    }

    /// The request under way is decided: what it still does changes no authority.
    pub(crate) fn decided(&self) {
        self.turn.give_back();
    }

    /// The user at the other end, if the kernel tells; asked once.
    pub fn caller(&self) -> Option<u32> {
        *self.caller.get_or_init(|| match self.peer.address {
            PeerAddr::Unix { uid, .. } => Some(uid),
            PeerAddr::Tcp { peer, local } => tcp_peer(peer, local).ok(),
        })
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { peer, .. } => peer.fmt(f),
            Self::Unix {
                uid,
                pid: Some(pid),
            } => write!(f, "unix:uid={uid},pid={pid}"),
            Self::Unix { uid, pid: None } => write!(f, "unix:uid={uid}"),
        }
    }
}

/// Answers the requests of one worker's connections.
///
/// The future, and later the body, is dropped as soon as the agent is gone.
pub trait Service: 'static {
    /// The body of an answer; an error of it ends the connection without the last chunk.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Unpin
        + 'static;

    /// Answers one request.
    fn call(
        self: Rc<Self>,
        connection: Rc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Reply<Self::Body>> + 'static;

    /// Decides about a connection that a redirect brought to a host in TLS; none where its
    /// requests are to be answered one by one.
    fn redirected(
        self: Rc<Self>,
        connection: Rc<Connection>,
        host: Box<str>,
        port: u16,
    ) -> impl Future<Output = Option<Redirected>> + 'static;
}

/// An answer, and what the connection becomes once it is out.
#[derive(Debug)]
pub struct Reply<B> {
    /// The answer.
    pub response: Response<B>,
    /// What follows it, where that is no further request.
    pub onward: Option<Onward>,
}

impl<B> From<Response<B>> for Reply<B> {
    fn from(response: Response<B>) -> Self {
        Self {
            response,
            onward: None,
        }
    }
}

/// What a connection becomes.
pub enum Onward {
    /// The requests inside a tunnel.
    Inside(Rc<Origin>),
    /// Bytes for somebody else.
    Relay(Relay),
}

/// What is done about a redirected connection whose requests are not looked into.
pub enum Redirected {
    /// It is relayed.
    Relay(Relay),
    /// It is closed.
    Refused,
}

/// Takes over the bytes of a connection.
pub type Relay = Box<dyn FnOnce(Raw) -> Pin<Box<dyn Future<Output = ()>>>>;

/// The bytes of a connection, in both directions.
pub type Raw = Box<dyn Io>;

/// A stream of bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

impl fmt::Debug for Onward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside(origin) => f.debug_tuple("Inside").field(origin).finish(),
            Self::Relay(_) => f.write_str("Relay"),
        }
    }
}

impl fmt::Debug for Redirected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relay(_) => "Relay",
            Self::Refused => "Refused",
        })
    }
}

/// Why a connection, not a call, ended or was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionFault {
    /// The bytes are not an HTTP request head; answered with 400 or 414.
    Parse,
    /// The head is larger than 64 KiB or has more than 100 lines; answered with 431.
    HeaderTooLarge,
    /// The head was not complete in time.
    HeaderTimeout,
    /// The agent did not begin a TLS session in time, or at all.
    Tls,
    /// What came through a tunnel or a redirect names another host, or is neither TLS nor HTTP.
    Tunnel,
    /// The framing of a body is ambiguous; the call saw a body error.
    Framing,
    /// The agent did not read its answer in time.
    AnswerUnread,
    /// The listener has its full number of connections, and all are in a call.
    TooManyConnections,
    /// It kept us waiting, and its place went to another when the listener was full.
    Displaced,
    /// The agent went away in the middle of a message, or its socket failed.
    Peer,
    /// The system could not accept a connection, for want of descriptors or memory.
    Accept,
}

impl ConnectionFault {
    /// Every fault, for a metric that shows zeros.
    pub const ALL: [Self; 11] = [
        Self::Parse,
        Self::HeaderTooLarge,
        Self::HeaderTimeout,
        Self::Tls,
        Self::Tunnel,
        Self::Framing,
        Self::AnswerUnread,
        Self::TooManyConnections,
        Self::Displaced,
        Self::Peer,
        Self::Accept,
    ];

    /// The label value of `outrider_connection_errors_total{reason}`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::HeaderTooLarge => "header_too_large",
            Self::HeaderTimeout => "header_timeout",
            Self::Tls => "tls",
            Self::Tunnel => "tunnel",
            Self::Framing => "framing",
            Self::AnswerUnread => "answer_unread",
            Self::TooManyConnections => "too_many_connections",
            Self::Displaced => "displaced",
            Self::Peer => "peer",
            Self::Accept => "accept",
        }
    }
}

/// Told of every connection fault; the peer is known unless accepting failed.
pub type Observer = Arc<dyn Fn(&ListenerFacts, Option<&PeerAddr>, ConnectionFault) + Send + Sync>;

/// An accepted socket on its way to a worker.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// Who is at the other end.
    fn peer(&self) -> io::Result<PeerAddr> {
        match self {
            Self::Tcp(socket) => Ok(PeerAddr::Tcp {
                peer: socket.peer_addr()?,
                local: socket.local_addr()?,
            }),
            Self::Unix(socket) => {
                let peer = rustix::net::sockopt::socket_peercred(socket)?;
                // A process of another PID namespace is shown as 0.
                let pid = Some(peer.pid.as_raw_pid()).filter(|pid| *pid > 0);
                Ok(PeerAddr::Unix {
                    uid: peer.uid.as_raw(),
                    pid,
                })
            }
        }
    }
}

/// An accepted connection on its way to a worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: Socket,
    pub(crate) listener: Arc<ListenerFacts>,
    pub(crate) peer: PeerAddr,
    pub(crate) place: Place,
    /// Bytes that were read from it already.
    pub(crate) ahead: Vec<u8>,
}

/// A connection without a call, on its way to a successor.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) socket: Socket,
    pub(crate) listener: Arc<str>,
    /// Bytes that were read from it already.
    pub(crate) ahead: Vec<u8>,
}

/// One unit of a shared count, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    count: Arc<AtomicUsize>,
    number: usize,
}

impl Place {
    /// Takes a place.
    pub(crate) fn take(count: &Arc<AtomicUsize>) -> Self {
        Self {
            number: count.fetch_add(1, Ordering::Relaxed) + 1,
            count: Arc::clone(count),
        }
    }

    /// Takes a place unless `max` are taken.
    pub(crate) fn take_below(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self::take(count);
        (place.number <= max).then_some(place)
    }

    /// How many were taken with this one.
    pub(crate) fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
