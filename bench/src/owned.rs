//! Processes that end with their value.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::tool_server;

/// A child that is asked to stop and then killed when the value goes.
#[derive(Debug)]
pub(crate) struct Owned(Child);

impl Owned {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        Ok(Self(
            child.with_context(|| format!("cannot start {command:?}"))?,
        ))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until somebody listens there.
    pub(crate) fn await_listener(&mut self, address: SocketAddr) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.0.try_wait()? {
                bail!("what should listen on {address} ended with {status}");
            }
            if Instant::now() > end {
                bail!("nobody listens on {address}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let stopped = Command::new("kill").arg(self.0.id().to_string()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while stopped.is_ok() && Instant::now() < end {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts the tool server as a process of this same program.
pub(crate) fn tool_server(options: &tool_server::Options) -> Result<(Owned, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("tool-server").args(options.arguments());
    let mut owned = Owned::spawn(command.stdout(Stdio::piped()))?;
    let mut line = String::new();
    let out = owned.0.stdout.take().context("a pipe")?;
    BufReader::new(out).read_line(&mut line)?;
    let port: u16 = line
        .trim()
        .parse()
        .context("the tool server names its port")?;
    Ok((owned, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// An address that was free a moment ago: most peers cannot be given port 0.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
