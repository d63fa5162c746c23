//! Files that only grow: opened without following links, locked, mode 0600, and watched.
//!
//! A path comes in; a locked regular file goes out, or the reason why what stands there was left
//! untouched.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{self, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};

/// Readable and writable by the sidecar's own uid only.
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);

/// Why a path cannot be opened as a file that only grows.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something that is no regular file stands there.
    #[error("{0} stands there; it was left untouched")]
    Occupied(&'static str),
    /// Another process holds it.
    #[error("another process holds it: each sidecar needs a log of its own")]
    Locked,
    /// The system refuses.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What stands at a path where an open file is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// The open file.
    Ours,
    /// Nothing.
    Nobody,
    /// Something else.
    Other,
}

/// Where bytes are appended; tests replace it by one that fails.
pub(crate) trait Sink {
    /// Appends with one system call; returns how many bytes were taken.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Removes the last `bytes` bytes.
    fn shorten(&mut self, bytes: usize) -> io::Result<()>;
    /// Makes what was appended survive a power loss.
    fn sync(&mut self) -> io::Result<()>;
}

/// A locked regular file in append mode.
#[derive(Debug)]
pub(crate) struct GrowingFile {
    file: File,
    identity: (u64, u64),
}

impl GrowingFile {
    /// Opens or creates the file at `path` and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        if let Some(stat) = look(path)? {
            refuse_special(&stat)?;
        }
        let file = open_append(path)?;
        lock(&file)?;
        let stat = fs::fstat(&file).map_err(io::Error::from)?;
        refuse_special(&stat)?;
        let opened = Self {
            file,
            identity: identity(&stat),
        };
        match opened.occupant(path)? {
            Occupant::Ours => Ok(opened),
            Occupant::Nobody | Occupant::Other => Err(OpenError::Occupied("a file that changes")),
        }
    }

    /// Takes over the file at `path` from the process that holds it and passed it on: with it, its
    /// lock.
    pub(crate) fn adopt(file: OwnedFd, path: &Path) -> Result<Self, OpenError> {
        let stat = fs::fstat(&file).map_err(io::Error::from)?;
        refuse_special(&stat)?;
        let adopted = Self {
            file: file.into(),
            identity: identity(&stat),
        };
        match adopted.occupant(path)? {
            Occupant::Ours => Ok(adopted),
            Occupant::Nobody | Occupant::Other => Err(OpenError::Occupied("another file")),
        }
    }

    /// The file and its lock, for another process.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.file.as_fd().try_clone_to_owned()
    }

    /// Takes a path that is free again: nothing, or an empty file, stands there.
    pub(crate) fn claim(path: &Path) -> Result<Self, OpenError> {
        if look(path)?.is_some_and(|stat| stat.st_size != 0) {
            return Err(OpenError::Occupied("another file"));
        }
        let file = Self::open(path)?;
        if file.size()? == 0 {
            Ok(file)
        } else {
            Err(OpenError::Occupied("another file"))
        }
    }

    /// Compares what stands at `path` with this file.
    pub(crate) fn occupant(&self, path: &Path) -> io::Result<Occupant> {
        Ok(match look(path)? {
            None => Occupant::Nobody,
            Some(stat) if identity(&stat) == self.identity => Occupant::Ours,
            Some(_) => Occupant::Other,
        })
    }

    /// Removes everybody else's rights.
    pub(crate) fn restrict(&self) -> io::Result<()> {
        Ok(fs::fchmod(&self.file, OWN)?)
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads the `length` bytes from `offset`.
    pub(crate) fn read_at(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

impl Sink for GrowingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.file, bytes) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn shorten(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = u64::try_from(bytes).map_err(io::Error::other)?;
        self.file.set_len(self.size()?.saturating_sub(bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Appends `bytes` to the small file at `path`, on a line of their own.
pub(crate) fn append_line(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let mut opened = GrowingFile::open(path)?;
    let size = opened.size()?;
    let ended = size == 0 || opened.read_at(size - 1, 1)? == b"\n";
    let mut line = if ended { Vec::new() } else { vec![b'\n'] };
    line.extend_from_slice(bytes);
    line.push(b'\n');
    Ok(opened.file.write_all(&line)?)
}

/// Makes the file at `path`, and its name, survive a power loss.
pub(crate) fn sync_with_name(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Moves a file to a path where nothing stands.
pub(crate) fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    Ok(fs::renameat_with(
        CWD,
        from,
        CWD,
        to,
        RenameFlags::NOREPLACE,
    )?)
}

/// `path` with `suffix` after its last character.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn open_append(path: &Path) -> io::Result<File> {
    // NONBLOCK: a FIFO put there after the look must not block; NOFOLLOW: nor a link lead astray.
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NONBLOCK;
    Ok(File::from(fs::open(path, flags, OWN)?))
}

fn lock(file: &File) -> Result<(), OpenError> {
    match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked),
        Err(other) => Err(OpenError::System(other.into())),
    }
}

fn look(path: &Path) -> io::Result<Option<Stat>> {
    match fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn refuse_special(stat: &Stat) -> Result<(), OpenError> {
    Err(OpenError::Occupied(
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Ok(()),
            FileType::Directory => "a directory",
            FileType::Symlink => "a symbolic link",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => "a device",
        },
    ))
}
