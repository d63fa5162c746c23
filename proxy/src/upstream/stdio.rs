//! A server on somebody's standard input: reached through the socket of the wrapper that started it.
//!
//! `outrider stdio` names its socket with each message. To dial what a caller names is safe for one
//! reason only: whoever listens there must be the caller's own user, as the kernel knows both, so
//! that we are nobody's way to a socket that he could not use himself.

use std::{
    io,
    os::unix::net::UnixStream as Socket,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::{net::UnixStream, task::spawn_blocking};

use super::Unreachable;

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
}

impl Wrapper {
    /// How a wrapper names its socket: `unix:/path:/key`.
    ///
    /// # Errors
    /// What cannot be said in a header.
    pub fn told(socket: &Path, key: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        HeaderValue::from_str(&format!("unix:{}:/{key}", socket.display()))
    }

    /// What a caller names; taken out. None when it is not exactly one socket.
    pub fn take(headers: &mut HeaderMap, caller: u32) -> Option<Self> {
        let mut lines = headers.get_all(WRAPPER).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?;
        let named = line.to_str().ok()?.strip_prefix("unix:")?;
        let (path, key) = named.rsplit_once(":/")?;
        let usable = path.starts_with('/') && !key.is_empty();
        let target = format!("/{key}").parse().ok().filter(|_| usable)?;
        let place = Arc::new(Place {
            path: path.into(),
            owner: Some(caller),
        });
        headers.remove(WRAPPER);
        Some(Self { place, target })
    }
}

impl Place {
    /// A socket that we name ourselves.
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.into(),
            owner: None,
        }
    }

    /// Connects, and looks whose it is before a byte is sent.
    pub(super) async fn dial(self: Arc<Self>) -> Result<UnixStream, Unreachable> {
        // A path may lead to a file system that does not answer.
        let connected = spawn_blocking(move || self.connect()).await;
        let socket = connected.map_err(|_| Unreachable::Connect(io::ErrorKind::Other.into()))??;
        UnixStream::from_std(socket).map_err(Unreachable::Connect)
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
    use std::os::unix::net::UnixListener;

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

    #[tokio::test]
    async fn a_socket_of_somebody_else_is_not_spoken_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let of = |owner| {
            Arc::new(Place {
                path: path.clone(),
                owner,
            })
        };
        assert!(of(Some(own)).dial().await.is_ok() && of(None).dial().await.is_ok());
        let refused = of(Some(own + 1)).dial().await;
        assert!(matches!(refused, Err(Unreachable::Forbidden)));
        drop(listener);
        let gone = of(Some(own)).dial().await;
        assert!(matches!(gone, Err(Unreachable::Connect(_))));
    }
}
