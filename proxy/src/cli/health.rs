//! `outrider health`: asks the admin address of a running sidecar whether it is ready, so that a
//! container without a shell can check itself.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use super::{DEFAULT, read};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ask a running sidecar whether it is ready
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file that names the admin address
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
}

/// Asks `/readyz`: 0 ready, 1 not ready or no answer.
///
/// # Errors
/// When the configuration cannot be read or names no admin address.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let admin = read(&args.config)?
        .config
        .admin
        .context("`admin.address` is missing: there is nothing to ask")?;
    Ok(if ready(admin.address).unwrap_or(false) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn ready(address: std::net::SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(head == *b"HTTP/1.1 200")
}
