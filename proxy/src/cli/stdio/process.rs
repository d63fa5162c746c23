//! The server's process: a group of its own, that ends when we do.

use std::{process::Stdio, time::Duration};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::cli::exec::{Ended, Leash, this_program};

/// How long a server may take to end, each time it is told to.
const GRACE: Duration = Duration::from_secs(3);

/// The server.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
}

/// What it hears and says.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
}

impl Process {
    /// Starts a server without the variable `hidden`.
    pub(super) fn start(command: &[String], hidden: &str) -> anyhow::Result<(Self, Pipes)> {
        let mut child = Command::new(this_program()?)
            .arg(Leash::NAME)
            .arg("--")
            .args(command)
            .env_remove(hidden)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What is typed is for the client.
            .process_group(0)
            .spawn()
            .context("cannot start the server")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let pipes = stdin.zip(stdout);
        let (stdin, stdout) = pipes.context("the server has no pipes")?;
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok((Self { child, group }, Pipes { stdin, stdout }))
    }

    /// Waits until it is gone.
    pub(super) async fn wait(&mut self) -> anyhow::Result<Ended> {
        Ok(self.child.wait().await?.into())
    }

    /// Ends it, whose input is over: tells it what we were told, and then what it cannot but hear.
    pub(super) async fn end(&mut self, told: Option<Signal>) -> anyhow::Result<Ended> {
        for signal in [told, Some(Signal::TERM), Some(Signal::KILL)] {
            if let (Some(group), Some(signal)) = (self.group, signal) {
                // One that is gone already is waited for next.
                kill_process_group(group, signal).ok();
            }
            if let Ok(ended) = timeout(GRACE, self.wait()).await {
                return ended;
            }
        }
        self.wait().await
    }
}

impl Drop for Process {
    /// Whatever ends us, no part of it stays.
    fn drop(&mut self) {
        if let Some(group) = self.group {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}
