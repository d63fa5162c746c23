//! The file of the control socket: made so that nobody else can have it, not even for a moment.

use std::{
    fs,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Mode},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use tokio::net::UnixListener;

use super::{Config, Group};

const OWNER_ONLY: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o660;
const BACKLOG: i32 = 64;

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NotBound {
    /// A sidecar answers there already.
    #[error("another sidecar answers at `{}`: stop it, or set another `control.socket`", .0.display())]
    Taken(PathBuf),
    /// Something else is there.
    #[error("`{}` exists and is no socket: move it, or set another `control.socket`", .0.display())]
    NotASocket(PathBuf),
    /// Anyone could replace the socket.
    #[error("`{}` is writable for everyone: choose another directory for `control.socket`", .0.display())]
    OpenToAll(PathBuf),
    /// The path does not fit into a socket address.
    #[error("the path of `control.socket` is longer than a socket's may be (107 bytes)")]
    TooLong,
    /// There is no such group.
    #[error("there is no group `{0}` for `control.group`")]
    UnknownGroup(String),
    /// The system refused.
    #[error("cannot {doing} `{}`", path.display())]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// A bound socket that listens. Dropped, it takes its file away.
#[derive(Debug)]
pub struct Socket {
    listener: std::os::unix::net::UnixListener,
    file: File,
    group: Option<Gid>,
}

/// The file of a socket, known by its inode so that nobody else's is taken away.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Device and number while it is ours to remove.
    identity: Option<(u64, u64)>,
}

impl Socket {
    /// Makes the directory if there is none, clears away what a dead sidecar left, and listens.
    ///
    /// # Errors
    /// [`NotBound`]; then what was there is untouched.
    pub fn bind(config: &Config) -> Result<Self, NotBound> {
        let path = &config.socket;
        let address = SocketAddrUnix::new(path).map_err(|_| NotBound::TooLong)?;
        let group = config.group.as_ref().map(gid).transpose()?;
        prepare_directory(path)?;
        clear(path, &address)?;
        let socket = make(path, &address, group)?;
        let found = identity(path).map_err(|error| refused("find", path, error))?;
        let file = File {
            path: path.clone(),
            identity: Some(found),
        };
        Ok(Self {
            listener: socket.into(),
            file,
            group,
        })
    }

    /// The socket that a predecessor bound. Its file is ours once it is served.
    ///
    /// # Errors
    /// [`NotBound`] when there is no such group.
    pub(crate) fn inherit(config: &Config, socket: OwnedFd) -> Result<Self, NotBound> {
        let file = File {
            path: config.socket.clone(),
            identity: None,
        };
        Ok(Self {
            listener: socket.into(),
            file,
            group: config.group.as_ref().map(gid).transpose()?,
        })
    }

    /// The socket, for a successor.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// For the runtime that serves it. The file goes when the second part is dropped.
    pub(super) fn into_listener(self) -> io::Result<(UnixListener, File)> {
        let Self {
            listener,
            mut file,
            group,
        } = self;
        if file.identity.is_none() {
            open_to(&file.path, group).map_err(io::Error::other)?;
            file.identity = Some(identity(&file.path)?);
        }
        Ok((UnixListener::from_std(listener)?, file))
    }
}

impl File {
    /// Leaves the file to a successor.
    pub(super) fn leave(mut self) {
        self.identity = None;
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

impl Drop for File {
    fn drop(&mut self) {
        let gone = match identity(&self.path) {
            Ok(found) if Some(found) == self.identity => fs::remove_file(&self.path),
            _ => Ok(()),
        };
        if let Err(error) = gone {
            tracing::warn!(%error, "the control socket's file could not be removed");
        }
    }
}

/// Mode and group are right before anyone can connect: the file gets the socket's own mode when
/// it is bound, and connections are refused until the socket listens.
fn make(path: &Path, address: &SocketAddrUnix, group: Option<Gid>) -> Result<OwnedFd, NotBound> {
    let failed = |doing| move |error: rustix::io::Errno| refused(doing, path, error.into());
    let socket = socket().map_err(failed("make a socket for"))?;
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(OWNER_ONLY)).map_err(failed("protect"))?;
    rustix::net::bind(&socket, address).map_err(failed("bind"))?;
    open_to(path, group)?;
    rustix::net::listen(&socket, BACKLOG).map_err(failed("listen on"))?;
    Ok(socket)
}

/// Opens the file of a socket to this group, or to its owner alone.
fn open_to(path: &Path, group: Option<Gid>) -> Result<(), NotBound> {
    let failed = |error: io::Error| refused("protect", path, error);
    let permit = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    permit(OWNER_ONLY).map_err(failed)?;
    if group.is_some() {
        rustix::fs::chown(path, None, group).map_err(|error| failed(error.into()))?;
        permit(OWNER_AND_GROUP).map_err(failed)?;
    }
    Ok(())
}

fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Makes the directory of a control socket if there is none.
///
/// # Errors
/// [`NotBound`], also when everybody could put another socket there.
pub(crate) fn prepare_directory(path: &Path) -> Result<(), NotBound> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let directory = match path.parent() {
        None => return Ok(()),
        Some(here) if here.as_os_str().is_empty() => Path::new("."),
        Some(directory) => directory,
    };
    let failed = |error| refused("make the directory", directory, error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(failed)?;
    let mode = fs::metadata(directory).map_err(failed)?.mode();
    // Under the sticky bit only a file's owner can replace it.
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        return Err(NotBound::OpenToAll(directory.to_owned()));
    }
    Ok(())
}

/// Takes away a socket at which nobody answers any more, and nothing else.
fn clear(path: &Path, address: &SocketAddrUnix) -> Result<(), NotBound> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused("look at", path, error)),
        Ok(meta) if !meta.file_type().is_socket() => Err(NotBound::NotASocket(path.to_owned())),
        Ok(_) => match answers(address) {
            Ok(true) => Err(NotBound::Taken(path.to_owned())),
            Ok(false) => fs::remove_file(path).map_err(|error| refused("remove", path, error)),
            Err(error) => Err(refused("try", path, error)),
        },
    }
}

/// Without blocking: a sidecar too busy to accept is still one.
fn answers(address: &SocketAddrUnix) -> io::Result<bool> {
    match rustix::net::connect(&socket()?, address) {
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn gid(group: &Group) -> Result<Gid, NotBound> {
    match group {
        Group::Id(id) => Ok(Gid::from_raw(*id)),
        Group::Name(name) => {
            let path = Path::new("/etc/group");
            let mut groups = String::new();
            fs::File::open(path)
                .and_then(|file| file.take(1 << 20).read_to_string(&mut groups))
                .map_err(|error| refused("read", path, error))?;
            find_group(&groups, name).ok_or_else(|| NotBound::UnknownGroup(name.clone()))
        }
    }
}

/// A line is `name:password:number:members` (group(5)).
fn find_group(groups: &str, name: &str) -> Option<Gid> {
    let mut named = groups
        .lines()
        .map(|line| line.split(':'))
        .filter_map(|mut columns| {
            let found = columns.next()? == name;
            found.then(|| columns.nth(1))?
        });
    named.next()?.parse().ok().map(Gid::from_raw)
}

fn refused(doing: &'static str, path: &Path, error: io::Error) -> NotBound {
    NotBound::Refused {
        doing,
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn config(path: PathBuf) -> Config {
        Config {
            socket: path,
            group: None,
            allow: vec![],
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_its_new_directory_not_writable_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/outrider/control.sock");
        let _socket = Socket::bind(&config(path.clone())).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()) & 0o022, 0);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_group_may_connect_when_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let own = rustix::process::getgid();
        let group = Some(Group::Id(own.as_raw()));
        let _socket = Socket::bind(&Config {
            group,
            ..config(path.clone())
        })
        .unwrap();
        assert_eq!(mode(&path), 0o660);
        assert_eq!(fs::metadata(&path).unwrap().gid(), own.as_raw());
    }

    #[test]
    fn a_group_that_does_not_exist_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let group = Some(Group::Name("no-such-group-here".into()));
        let config = Config {
            group,
            ..config(dir.path().join("control.sock"))
        };
        assert!(matches!(
            Socket::bind(&config),
            Err(NotBound::UnknownGroup(_))
        ));
        assert!(!config.socket.exists());
    }

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let groups = "root:x:0:\nops:x:12:a,b\nbroken\nnumber:x:y:\n";
        assert_eq!(find_group(groups, "ops"), Some(Gid::from_raw(12)));
        for name in ["op", "a", "broken", "number", ""] {
            assert_eq!(find_group(groups, name), None, "{name}");
        }
    }

    #[test]
    fn a_second_sidecar_is_refused_while_the_first_one_answers() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path().join("control.sock"));
        let _first = Socket::bind(&config).unwrap();
        assert!(matches!(Socket::bind(&config), Err(NotBound::Taken(_))));
        UnixStream::connect(&config.socket).unwrap();
    }

    #[test]
    fn what_a_dead_sidecar_left_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _socket = Socket::bind(&config(path.clone())).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_or_a_link_in_its_place_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert!(matches!(
                Socket::bind(&config(path.clone())),
                Err(NotBound::NotASocket(_))
            ));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert!(
            fs::symlink_metadata(&link)
                .unwrap()
                .file_type()
                .is_symlink()
        );
    }

    #[test]
    fn a_directory_in_which_anyone_can_replace_the_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let config = config(dir.path().join("control.sock"));
        assert!(matches!(Socket::bind(&config), Err(NotBound::OpenToAll(_))));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(Socket::bind(&config).is_ok());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let long = PathBuf::from("/tmp").join("x".repeat(108));
        assert!(matches!(
            Socket::bind(&config(long)),
            Err(NotBound::TooLong)
        ));
    }

    #[test]
    fn the_file_goes_with_the_socket_unless_it_is_another_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(Socket::bind(&config(path.clone())).unwrap());
        assert!(!path.exists());
        let socket = Socket::bind(&config(path.clone())).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
