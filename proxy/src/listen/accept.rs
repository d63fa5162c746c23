//! Binding an address and accepting its connections, which go to the least busy worker.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use rustix::{
    fs::Mode as FileMode,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with},
};

use super::{
    Accepted, ConnectionFault, ListenAddress, ListenerFacts, Observer, PeerAddr, Place, Socket,
};
use crate::{
    drain::{Draining, Phase},
    workers::Dispatcher,
};

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
    /// Its number while it is ours to remove.
    inode: Option<u64>,
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

    /// A listener that a predecessor bound, by its socket. Its file is ours once it is served.
    ///
    /// # Errors
    ///
    /// When it is no such socket.
    pub(crate) fn inherit(address: &ListenAddress, socket: OwnedFd) -> io::Result<Self> {
        Ok(match address {
            ListenAddress::Tcp(_) => {
                let listener = TcpListener::from(socket);
                let address = ListenAddress::Tcp(listener.local_addr()?);
                let socket = BoundSocket::Tcp(listener);
                Self { socket, address }
            }
            ListenAddress::Unix(path) => Self {
                socket: BoundSocket::Unix(UnixListener::from(socket), SocketFile::left(path)),
                address: address.clone(),
            },
        })
    }

    /// Its socket, for a successor.
    ///
    /// # Errors
    ///
    /// When there are too many descriptors.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        match &self.socket {
            BoundSocket::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            BoundSocket::Unix(listener, _) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Accepts connections until the drain begins; those that wait then are served yet. Faults go
    /// to `observer`.
    ///
    /// # Errors
    ///
    /// When the socket cannot be watched: nothing was accepted then.
    pub(crate) async fn accept(self, entrance: Entrance, mut drain: Draining) -> io::Result<()> {
        let socket = Listening::new(self.socket)?;
        loop {
            let next = match drain.phase() {
                Phase::Open => tokio::select! {
                    biased;
                    () = drain.changed() => continue,
                    next = socket.next() => next,
                },
                Phase::Held => {
                    drain.changed().await;
                    continue;
                }
                Phase::Ending => match socket.waiting() {
                    Err(error) if !lost_on_the_way(&error) => return Ok(()),
                    next => next,
                },
                Phase::Departing(_) => {
                    socket.leave();
                    return Ok(());
                }
            };
            entrance.admit(next).await;
        }
    }
}

/// Where the connections of one listener go.
#[derive(Clone)]
pub(crate) struct Entrance {
    facts: Arc<ListenerFacts>,
    dispatcher: Dispatcher,
    observer: Observer,
    places: Arc<AtomicUsize>,
}

impl Entrance {
    pub(crate) fn new(
        facts: Arc<ListenerFacts>,
        dispatcher: Dispatcher,
        observer: Observer,
    ) -> Self {
        Self {
            facts,
            dispatcher,
            observer,
            places: Arc::default(),
        }
    }

    /// The listener's name.
    pub(crate) fn name(&self) -> &str {
        &self.facts.name
    }

    /// Sends a connection to a worker, or notes why there is none.
    async fn admit(&self, next: io::Result<(Socket, PeerAddr)>) {
        let Self {
            facts, observer, ..
        } = self;
        match next {
            Ok((socket, peer)) => {
                match Place::take_below(&self.places, facts.max_connections + WAITING) {
                    Some(place) => self.dispatch(socket, peer, place, Vec::new()),
                    None => observer(facts, Some(&peer), ConnectionFault::TooManyConnections),
                }
            }
            Err(error) if lost_on_the_way(&error) => {
                observer(facts, None, ConnectionFault::Peer);
            }
            Err(_) => {
                observer(facts, None, ConnectionFault::Accept);
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Whether its connections are TCP, not Unix sockets.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.facts.address, ListenAddress::Tcp(_))
    }

    /// Takes a connection over that a predecessor accepted.
    ///
    /// # Errors
    ///
    /// When nobody is at its other end any more.
    pub(crate) fn inherit(&self, socket: Socket, ahead: Vec<u8>) -> io::Result<()> {
        let peer = socket.peer()?;
        let place = Place::take(&self.places);
        self.dispatch(socket, peer, place, ahead);
        Ok(())
    }

    fn dispatch(&self, socket: Socket, peer: PeerAddr, place: Place, ahead: Vec<u8>) {
        self.dispatcher.dispatch(Accepted {
            socket,
            listener: Arc::clone(&self.facts),
            peer,
            place,
            ahead,
        });
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
            BoundSocket::Unix(listener, mut file) => {
                file.own();
                Ok(Self::Unix(listener.try_into()?, file))
            }
        }
    }

    /// Accepts one connection, and gives it up again for the worker that will carry it.
    async fn next(&self) -> io::Result<(Socket, PeerAddr)> {
        let socket = match self {
            Self::Tcp(listener) => Socket::Tcp(listener.accept().await?.0.into_std()?),
            Self::Unix(listener, _) => Socket::Unix(listener.accept().await?.0.into_std()?),
        };
        let peer = socket.peer()?;
        Ok((socket, peer))
    }

    /// Accepts a connection that waits already. The kernel is asked: the runtime may not know yet.
    fn waiting(&self) -> io::Result<(Socket, PeerAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match self {
            Self::Tcp(listener) => Socket::Tcp(accept_with(listener, flags)?.into()),
            Self::Unix(listener, _) => Socket::Unix(accept_with(listener, flags)?.into()),
        };
        let peer = socket.peer()?;
        Ok((socket, peer))
    }

    /// Goes without the listener's file, which a successor serves.
    fn leave(self) {
        if let Self::Unix(_, mut file) = self {
            file.inode = None;
        }
    }
}

impl SocketFile {
    /// A file that somebody else still serves.
    fn left(path: &Path) -> Self {
        Self {
            path: path.into(),
            inode: None,
        }
    }

    /// Takes the file as ours, if it is nobody's.
    fn own(&mut self) {
        self.inode = self.inode.or_else(|| inode(&self.path).ok());
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have replaced it meanwhile.
        if inode(&self.path).is_ok_and(|inode| Some(inode) == self.inode) {
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
        inode: Some(inode(path)?),
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
