//! What is inside a tunnel, or behind a redirect: requests for the host that it was opened for.
//!
//! The first bytes tell TLS from HTTP. In TLS the name that is asked for agrees with the tunnel's,
//! and the session ends here, behind a leaf of the sidecar's authority; what is neither is closed.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc};

use http::HeaderValue;
use tokio::net::TcpStream;

use super::{
    Connection, ConnectionFault, Greeting, Inside, Origin, PeerAddr, Raw, Redirected, Replay,
    Service, Via,
    ca::Authority,
    conn::{plain, relayed, secure},
    hello::greet,
    host::Scheme,
    tls, transparent,
};
use crate::drain::Draining;

/// Serves what comes through a tunnel that was opened for `origin`.
pub(super) async fn tunnelled<S: Service>(
    mut stream: Raw,
    origin: Rc<Origin>,
    connection: &Rc<Connection>,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<(), ConnectionFault> {
    let bound = connection.listener.patience.head;
    let greeting = greet(&mut stream, bound).await;
    let (greeting, ahead) = greeting.map_err(|_| ConnectionFault::Tunnel)?;
    let name = origin.name.as_deref().unwrap_or_default();
    let scheme = match greeting {
        Greeting::Http => Scheme::Http,
        Greeting::Tls(asked) if agrees(asked.as_deref(), name) => Scheme::Https,
        Greeting::Tls(_) => return Err(ConnectionFault::Tunnel),
    };
    let origin = Origin {
        scheme,
        name: origin.name.clone(),
        port: origin.port,
        tokens: origin.tokens.clone(),
    };
    let stream: Raw = Box::new(Replay::new(ahead, stream));
    Box::pin(served(stream, origin, connection, service, drain)).await
}

/// Serves a connection that was going elsewhere before a rule of the kernel redirected it here.
pub(super) async fn redirected<S: Service>(
    mut stream: TcpStream,
    connection: &Rc<Connection>,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<(), ConnectionFault> {
    let direct = |_: io::Error| ConnectionFault::Tunnel;
    let destination = transparent::destination(&stream).map_err(direct)?;
    let connection = Rc::new(meant_for(connection, destination, drain));
    let bound = connection.listener.patience.head;
    let greeting = greet(&mut stream, bound).await;
    let (greeting, ahead) = greeting.map_err(|_| ConnectionFault::Tunnel)?;
    let stream: Raw = Box::new(Replay::new(ahead, stream));
    let mut origin = Origin {
        scheme: Scheme::Http,
        name: None,
        port: destination.port(),
        tokens: Vec::new(),
    };
    if let Greeting::Tls(asked) = greeting {
        let name = asked.unwrap_or_else(|| literal(destination));
        match Rc::clone(service)
            .redirected(Rc::clone(&connection), name.clone(), origin.port)
            .await
        {
            None => {}
            Some(Redirected::Relay(relay)) => {
                relayed(relay, stream, &connection).await;
                return Ok(());
            }
            Some(Redirected::Refused) => return Ok(()),
        }
        origin.scheme = Scheme::Https;
        origin.name = Some(name);
    }
    Box::pin(served(stream, origin, &connection, service, drain)).await
}

/// Serves requests for one origin.
async fn served<S: Service>(
    stream: Raw,
    origin: Origin,
    connection: &Rc<Connection>,
    service: &Rc<S>,
    drain: &Draining,
) -> Result<(), ConnectionFault> {
    let listener = Arc::clone(&connection.listener);
    let (scheme, name) = (origin.scheme, origin.name.clone());
    let via = Via::Origin(Rc::new(origin));
    let connection = Rc::new(connection.then(via, drain.turn()));
    match scheme {
        Scheme::Http => {
            plain(stream, Vec::new(), &connection, service, drain).await?;
            Ok(())
        }
        Scheme::Https => {
            let Inside::Intercept(authority) = &listener.inside else {
                return Err(ConnectionFault::Tunnel);
            };
            let config = leaf(authority, name.as_deref().unwrap_or_default())?;
            let stream = tls::accept(config, stream, listener.patience.head).await;
            let stream = stream.map_err(|_| ConnectionFault::Tls)?;
            secure(stream, &connection, service, drain).await
        }
    }
}

fn leaf(authority: &Authority, name: &str) -> Result<Arc<rustls::ServerConfig>, ConnectionFault> {
    authority.leaf(name).map_err(|error| {
        tracing::debug!(%error, "no leaf");
        ConnectionFault::Tunnel
    })
}

/// Whether a session is asked of the host that the tunnel was opened for. An address is never
/// asked for by name (RFC 6066 §3).
pub(crate) fn agrees(asked: Option<&str>, name: &str) -> bool {
    let is_address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
    match asked {
        Some(asked) => !is_address && asked.eq_ignore_ascii_case(name),
        None => is_address,
    }
}

/// The address of a host that was asked for without a name, as a URL spells it.
fn literal(destination: SocketAddr) -> Box<str> {
    match destination {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => match address.ip().to_ipv4_mapped() {
            Some(ip) => ip.to_string(),
            None => format!("[{}]", address.ip()),
        },
    }
    .into()
}

/// A redirected connection as its agent knows it: made to where it was going.
fn meant_for(connection: &Connection, to: SocketAddr, drain: &Draining) -> Connection {
    let mut connection = connection.then(connection.via.clone(), drain.turn());
    if let PeerAddr::Tcp { local, .. } = &mut connection.peer.address {
        *local = to;
    }
    connection
}

/// What a tunnel's opening presented, for what is inside.
impl Origin {
    /// Of a tunnel to `name:port`.
    pub fn of_tunnel(name: &str, port: u16, tokens: Vec<HeaderValue>) -> Self {
        Self {
            scheme: Scheme::Https,
            name: Some(name.to_ascii_lowercase().into()),
            port,
            tokens,
        }
    }
}
