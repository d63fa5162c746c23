//! Where a connection was going before a rule of the kernel redirected it here.
//!
//! It is evidence only: which host is called is what TLS or the request says, and a call goes to
//! its service's upstream (contract: the original destination is never dialled for a service).

use std::{
    io,
    net::{SocketAddr, SocketAddrV6},
};

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// The original destination of a redirected connection.
///
/// # Errors
/// Nothing redirected it: it was made to the listener itself.
pub(super) fn destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    let original: SocketAddr = match local {
        SocketAddr::V4(_) => sockopt::ip_original_dst(stream)?.into(),
        SocketAddr::V6(own) => match own.ip().to_ipv4_mapped() {
            Some(_) => sockopt::ip_original_dst(stream)?.into(),
            None => SocketAddrV6::into(sockopt::ipv6_original_dst(stream)?),
        },
    };
    if original == local {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    Ok(original)
}
