//! Binding an address and accepting its connections, which go to the least busy worker.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use rustix::{
    fs::Mode as FileMode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{
    Accepted, ConnectionFault, ListenAddress, ListenerFacts, Observer, PeerAddr, Place, Socket,
};
use crate::{drain::Draining, workers::Dispatcher};

/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 1024;
/// Connections beyond a listener's number that may be on their way to take another's place.
const WAITING: usize = 64;
/// Rest after a failed accept: what it wants for (descriptors, memory) comes back slowly.
const REST: Duration = Duration::from_millis(50);

/// A listener's address that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error("`{0}` is in use by another program")]
    InUse(ListenAddress),
    /// Something that is no socket has the path.
    #[error("`{0}` exists and is not a socket")]
    NotASocket(ListenAddress),
    /// The system refused.
    #[error("cannot listen on `{address}`")]
    System {
        /// The address that was asked for.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound address that does not accept yet.
#[derive(Debug)]
pub struct Bound {
    socket: BoundSocket,
    address: ListenAddress,
}

#[derive(Debug)]
enum BoundSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed with the listener.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Bound {
    /// Binds `address`. A Unix socket has mode 0660; a stale one, which nobody answers, is
    /// replaced.
    ///
    /// # Errors
    ///
    /// When the address is in use, is no socket, or the system refuses.
    pub fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        let system = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address.clone()),
            _ => BindError::System {
                address: address.clone(),
                source,
            },
        };
        match address {
            ListenAddress::Tcp(wanted) => {
                let (listener, bound) = bind_tcp(*wanted).map_err(system)?;
                Ok(Self {
                    socket: BoundSocket::Tcp(listener),
                    address: ListenAddress::Tcp(bound),
                })
            }
            ListenAddress::Unix(path) => {
                clear_stale(address, path)?;
                let (listener, file) = bind_unix(path).map_err(system)?;
                Ok(Self {
                    socket: BoundSocket::Unix(listener, file),
                    address: address.clone(),
                })
            }
        }
    }

    /// The address with its real port.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Accepts connections until the drain begins. Faults go to `observer`.
    ///
    /// # Errors
    ///
    /// When the socket cannot be watched: nothing was accepted then.
    pub async fn accept(
        self,
        facts: Arc<ListenerFacts>,
        dispatcher: Dispatcher,
        observer: Observer,
        mut drain: Draining,
    ) -> io::Result<()> {
        let socket = Listening::new(self.socket)?;
        let places = Arc::new(AtomicUsize::new(0));
        loop {
            let next = tokio::select! {
                biased;
                () = drain.begun() => return Ok(()),
                next = socket.next() => next,
            };
            match next {
                Ok((socket, peer)) => {
                    let most = facts.max_connections + WAITING;
                    let Some(place) = Place::take_below(&places, most) else {
                        observer(&facts, Some(&peer), ConnectionFault::TooManyConnections);
                        continue;
                    };
                    let listener = Arc::clone(&facts);
                    dispatcher.dispatch(Accepted {
                        socket,
                        listener,
                        peer,
                        place,
                    });
                }
                Err(error) if lost_on_the_way(&error) => {
                    observer(&facts, None, ConnectionFault::Peer);
                }
                Err(_) => {
                    observer(&facts, None, ConnectionFault::Accept);
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

/// A bound socket in the runtime that accepts.
enum Listening {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, SocketFile),
}

impl Listening {
    fn new(socket: BoundSocket) -> io::Result<Self> {
        match socket {
            BoundSocket::Tcp(listener) => listener.try_into().map(Self::Tcp),
            BoundSocket::Unix(listener, file) => Ok(Self::Unix(listener.try_into()?, file)),
        }
    }

    /// Accepts one connection, and gives it up again for the worker that will carry it.
    async fn next(&self) -> io::Result<(Socket, PeerAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                let local = socket.local_addr()?;
                Ok((
                    Socket::Tcp(socket.into_std()?),
                    PeerAddr::Tcp { peer, local },
                ))
            }
            Self::Unix(listener, _file) => {
                let (socket, _) = listener.accept().await?;
                let peer = socket.peer_cred()?;
                // A process of another PID namespace is shown as 0.
                let (uid, pid) = (peer.uid(), peer.pid().filter(|pid| *pid > 0));
                Ok((
                    Socket::Unix(socket.into_std()?),
                    PeerAddr::Unix { uid, pid },
                ))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have replaced it meanwhile.
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            // A file that cannot be removed is stale, and cleared at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    // The standard library's backlog is short; listening again only changes it.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody can connect before `listen`, so nobody connects before the mode is right.
    rustix::fs::chmod(path, FileMode::from_raw_mode(0o660))?;
    rustix::net::listen(&socket, BACKLOG)?;
    let file = SocketFile {
        path: path.into(),
        inode: inode(path)?,
    };
    Ok((UnixListener::from(socket), file))
}

fn inode(path: &Path) -> io::Result<u64> {
    fs::symlink_metadata(path).map(|file| file.ino())
}

/// Removes a socket that nobody answers.
fn clear_stale(address: &ListenAddress, path: &Path) -> Result<(), BindError> {
    let system = |source| BindError::System {
        address: address.clone(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(BindError::NotASocket(address.clone()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(system)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system(error)),
        Ok(_) => Err(BindError::InUse(address.clone())),
    }
}

/// Whether an accept failed only because its connection was gone already.
fn lost_on_the_way(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | NotConnected
    )
}
