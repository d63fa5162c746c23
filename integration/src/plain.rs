//! A server of which a test plays every byte itself.

use std::net::{SocketAddr, TcpListener};

use crate::Connection;

/// A listening socket; nothing is answered unless the test does.
#[derive(Debug)]
pub struct PlainServer(TcpListener);

impl PlainServer {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// When there is none.
    pub fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never for a bound socket.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound address")
    }

    /// The next connection, waited for; its reads are bounded in time.
    ///
    /// # Panics
    /// When accepting fails.
    pub fn accept(&self) -> Connection {
        let (stream, _) = self.0.accept().expect("a connection");
        Connection::accepted(stream).expect("a connection")
    }
}
