//! A tunnel: the host that was asked for is resolved once, after the decision, and an address that
//! was checked is dialled.

use std::time::Duration;

use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{
    Unreachable,
    guard::{Destination, Guard},
};
use crate::record::Permit;

/// Opens a permitted tunnel; the permit is used up.
///
/// # Errors
/// The host may not be dialled, or nobody answers there in time.
pub async fn tunnel(
    _permit: Permit,
    guard: &Guard,
    (host, port): (&str, u16),
    patience: Duration,
) -> Result<TcpStream, Unreachable> {
    let deadline = Instant::now() + patience;
    let destination = Destination::read(host, port).map_err(|_| Unreachable::Forbidden)?;
    let addresses = guard.resolve(&destination, deadline).await?;
    let connect = async {
        let mut failed = std::io::ErrorKind::AddrNotAvailable.into();
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream.set_nodelay(true).map(|()| stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    timeout_at(deadline, connect)
        .await
        .map_err(|_| Unreachable::Timeout)?
        .map_err(Unreachable::Connect)
}
