//! Connections of an isolated agent to its sidecar.

use std::{io, net::TcpListener, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixStream},
    task::JoinSet,
    time::sleep,
};

use crate::listen::ListenAddress;

/// Connections at a time; the sidecar has its own bound.
const MOST: usize = 1024;
/// Until the next connection is accepted after one could not be.
const REST: Duration = Duration::from_millis(50);

/// Passes on what is accepted.
///
/// # Errors
/// The socket cannot be used.
pub(super) fn serve(
    inside: TcpListener,
    place: ListenAddress,
) -> io::Result<impl Future<Output = ()>> {
    inside.set_nonblocking(true)?;
    let inside = tokio::net::TcpListener::from_std(inside)?;
    Ok(async move {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            if connections.len() >= MOST {
                connections.join_next().await;
            }
            match inside.accept().await {
                Ok((stream, _)) => {
                    // One that breaks is the agent's or the sidecar's to notice.
                    let place = place.clone();
                    connections.spawn(async move { pass(stream, &place).await.ok() });
                }
                Err(_) => sleep(REST).await,
            }
        }
    })
}

async fn pass(mut inside: TcpStream, place: &ListenAddress) -> io::Result<()> {
    inside.set_nodelay(true)?;
    match place {
        ListenAddress::Tcp(address) => {
            let mut outside = TcpStream::connect(address).await?;
            outside.set_nodelay(true)?;
            copy_bidirectional(&mut inside, &mut outside).await?;
        }
        ListenAddress::Unix(path) => {
            let mut outside = UnixStream::connect(path).await?;
            copy_bidirectional(&mut inside, &mut outside).await?;
        }
    }
    Ok(())
}
