//! Asks a running sidecar, from the command line.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::wire::{Fault, Reply, Request};

/// How long a sidecar may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many bytes a reply may have: room for every task there can be.
const LONGEST_REPLY: u64 = 64 * 1024 * 1024;

/// No answer was had.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody listens there.
    #[error(
        "no sidecar answers at `{}`: start one with `outrider run`, or name its socket with `--control`",
        .0.display()
    )]
    NoSidecar(PathBuf),
    /// The file's mode keeps this user out.
    #[error(
        "this user may not use `{}`: ask as root, as the sidecar's user or as one in `control.allow`",
        .0.display()
    )]
    NotAllowed(PathBuf),
    /// The connection broke.
    #[error("the sidecar did not answer")]
    Broken(#[from] io::Error),
    /// The answer is not one this version knows.
    #[error("the sidecar's answer is not understood: are both of one version?")]
    Garbled(#[source] serde_json::Error),
}

/// Between two questions to a sidecar that is being replaced.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks one thing and waits for the reply, of a successor if there is one in a moment.
///
/// # Errors
/// [`NoAnswer`].
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, NoAnswer> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask_once(socket, request)? {
            Reply::Refused(refusal) if refusal.fault == Fault::Replaced && Instant::now() < end => {
                thread::sleep(PAUSE);
            }
            reply => return Ok(reply),
        }
    }
}

fn ask_once(socket: &Path, request: &Request) -> Result<Reply, NoAnswer> {
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    say(&mut stream, request)?;
    let mut reply = Vec::new();
    BufReader::new(stream.take(LONGEST_REPLY)).read_until(b'\n', &mut reply)?;
    serde_json::from_slice(&reply).map_err(NoAnswer::Garbled)
}

/// Sends a request.
///
/// # Errors
/// [`NoAnswer`].
pub fn say(stream: &mut UnixStream, request: &Request) -> Result<(), NoAnswer> {
    let mut line = serde_json::to_vec(request).map_err(NoAnswer::Garbled)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// Connects to a sidecar's control socket.
///
/// # Errors
/// [`NoAnswer`].
pub fn connect(socket: &Path) -> Result<UnixStream, NoAnswer> {
    UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            NoAnswer::NoSidecar(socket.to_owned())
        }
        io::ErrorKind::PermissionDenied => NoAnswer::NotAllowed(socket.to_owned()),
        _ => NoAnswer::Broken(error),
    })
}
