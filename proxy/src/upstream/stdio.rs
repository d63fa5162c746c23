//! A server on somebody's standard input: reached through the socket of the wrapper that started it.
//!
//! `outrider stdio` names its socket with each message. To dial what a caller names is safe for two
//! reasons only. Whoever listens there must be the caller's own user, as the kernel knows both. And
//! it must speak first and say that it is a wrapper, by what the caller's key proves: an agent that
//! is kept from its user's other sockets (a bus, an agent of keys, an engine of containers) does not
//! reach them through us, since before that nothing is sent.

use std::{
    io,
    os::unix::net::UnixStream as Socket,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::InvalidUri};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::{io::AsyncReadExt as _, net::UnixStream, task::spawn_blocking, time::timeout};

use super::Unreachable;

/// How long a wrapper may take to say what it is.
const GREETING: Duration = Duration::from_secs(1);
/// Where a wrapper says that its socket is.
pub const WRAPPER: HeaderName = HeaderName::from_static("outrider-stdio");

/// A wrapper's socket, whose it has to be, and what its wrapper knows its sidecar by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapper {
    pub(super) place: Arc<Place>,
    pub(super) target: Uri,
}

/// What is dialled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    /// Whose it has to be; anybody's where nobody else named it.
    owner: Option<u32>,
    /// What it says first; nothing where it is no wrapper's.
    greeting: Option<Box<str>>,
}

/// Whom the kernel shows for users that are not known in our user namespace, all of them alike.
const NOBODY: u32 = 65_534;

impl Wrapper {
    /// How a wrapper names its socket: `unix:/path:/key`.
    ///
    /// # Errors
    /// What cannot be said in a header.
    pub fn told(socket: &Path, key: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        HeaderValue::from_str(&format!("unix:{}:/{key}", socket.display()))
    }

    /// What a wrapper says first to whoever connects: that it has the key, without saying it.
    pub fn greeting(key: &str) -> String {
        let proof = digest(&SHA256, key.as_bytes());
        format!("outrider-stdio {}\n", URL_SAFE_NO_PAD.encode(proof))
    }

    /// A wrapper that we started ourselves.
    ///
    /// # Errors
    /// Its key is no part of a URL.
    pub fn ours(path: &Path, key: &str) -> Result<Self, InvalidUri> {
        Self::at(path, key, None)
    }

    fn at(path: &Path, key: &str, owner: Option<u32>) -> Result<Self, InvalidUri> {
        let place = Arc::new(Place {
            path: path.into(),
            owner,
            greeting: Some(Self::greeting(key).into()),
        });
        let target = format!("/{key}").parse()?;
        Ok(Self { place, target })
    }

    /// What a caller names; taken out. None when it is not exactly one socket, or the caller could
    /// be anybody.
    pub fn take(headers: &mut HeaderMap, caller: u32) -> Option<Self> {
        let mut lines = headers.get_all(WRAPPER).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?;
        let named = line.to_str().ok()?.strip_prefix("unix:")?;
        let (path, key) = named.rsplit_once(":/")?;
        let usable = path.starts_with('/') && !key.is_empty() && caller != NOBODY;
        let wrapper = Self::at(Path::new(path), key, Some(caller)).ok();
        let wrapper = wrapper.filter(|_| usable)?;
        headers.remove(WRAPPER);
        Some(wrapper)
    }
}

impl Place {
    /// A socket that we name ourselves.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.into(),
            owner: None,
            greeting: None,
        }
    }

    /// Connects, and looks whose it is, and what, before a byte is sent.
    pub(super) async fn dial(self: Arc<Self>) -> Result<UnixStream, Unreachable> {
        // A path may lead to a file system that does not answer.
        let place = Arc::clone(&self);
        let connected = spawn_blocking(move || place.connect()).await;
        let socket = connected.map_err(|_| Unreachable::Connect(io::ErrorKind::Other.into()))??;
        let mut stream = UnixStream::from_std(socket).map_err(Unreachable::Connect)?;
        if let Some(greeting) = &self.greeting {
            let mut said = vec![0; greeting.len()];
            let read = timeout(GREETING, stream.read_exact(&mut said)).await;
            if !matches!(read, Ok(Ok(_))) || said != greeting.as_bytes() {
                return Err(Unreachable::Forbidden);
            }
        }
        Ok(stream)
    }

    fn connect(&self) -> Result<Socket, Unreachable> {
        let failed = |error: rustix::io::Errno| Unreachable::Connect(error.into());
        // Where nobody accepts, this one does not wait.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(failed)?;
        let address = SocketAddrUnix::new(&*self.path).map_err(failed)?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        let peer = sockopt::socket_peercred(&socket).map_err(failed)?;
        if self.owner.is_some_and(|owner| owner != peer.uid.as_raw()) {
            return Err(Unreachable::Forbidden);
        }
        Ok(socket.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
    };

    use super::*;

    fn named(lines: &[&str]) -> Option<Wrapper> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WRAPPER, HeaderValue::from_str(line).unwrap());
        }
        Wrapper::take(&mut headers, 1000)
    }

    #[test]
    fn a_caller_names_one_socket_by_its_whole_path() {
        let told = Wrapper::told(Path::new("/tmp/a:/b/sock"), "key").unwrap();
        let wrapper = named(&[told.to_str().unwrap()]).unwrap();
        assert_eq!(wrapper.place.path, Path::new("/tmp/a:/b/sock"));
        assert_eq!(wrapper.target, "/key");
        for wrong in [
            "",
            "/tmp/sock:/key",
            "unix:/tmp/sock",
            "unix:tmp/sock:/key",
            "unix:/tmp/sock:/",
            "unix::/key",
            "unix:/tmp/sock:/a b",
            "http://x:/key",
        ] {
            assert_eq!(named(&[wrong]), None, "{wrong}");
        }
        let one = "unix:/tmp/sock:/key";
        assert!(named(&[one]).is_some());
        assert_eq!(named(&[one, one]), None);
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn nobody_owns_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(WRAPPER, HeaderValue::from_static("unix:/tmp/sock:/key"));
        assert_eq!(Wrapper::take(&mut headers, NOBODY), None);
    }

    /// What a connection to a socket comes to that says so first, and all that it hears.
    async fn dialled(owner: u32, says: &str, key: &str) -> (Result<(), Unreachable>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let says = says.to_owned();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(says.as_bytes()).ok();
            let mut heard = Vec::new();
            // Whoever leaves with something unread breaks the connection.
            stream.read_to_end(&mut heard).ok();
            heard
        });
        let place = Wrapper::at(&path, key, Some(owner)).unwrap().place;
        let dialled = place.dial().await.map(drop);
        (dialled, server.join().unwrap())
    }

    #[tokio::test]
    async fn only_a_wrapper_of_the_callers_own_is_spoken_to() {
        let own = rustix::process::geteuid().as_raw();
        let greeting = Wrapper::greeting("key");
        assert!(!greeting.contains("key"));
        let (good, _) = dialled(own, &greeting, "key").await;
        assert!(good.is_ok(), "{good:?}");
        for (owner, says, key) in [
            (own + 1, &*greeting, "key"),
            (own, &*greeting, "another"),
            (
                own,
                "SSH-2.0-OpenSSH_9.9, and whatever else such a server may say at once\r\n",
                "key",
            ),
            (own, "", "key"),
        ] {
            let (refused, heard) = dialled(owner, says, key).await;
            assert!(
                matches!(refused, Err(Unreachable::Forbidden)),
                "{says} {refused:?}"
            );
            assert!(heard.is_empty(), "nothing is said to it");
        }
        let gone = Wrapper::at(Path::new("/zz9/sock"), "key", Some(own)).unwrap();
        let gone = gone.place.dial().await;
        assert!(matches!(gone, Err(Unreachable::Connect(_))));
    }
}
