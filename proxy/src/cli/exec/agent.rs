//! The agent as a process: started, told what we are told, waited for.

use std::{
    io::{self, IsTerminal as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{self, ExitCode, ExitStatus},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{environment::Variables, this_program};

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Ended(u8);

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal));
        Self(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(ended.0)
    }
}

/// Runs an agent that ends when we do, to its end.
pub(super) async fn run(command: &[String], variables: &Variables) -> anyhow::Result<Ended> {
    let mut leashed = Command::new(this_program()?);
    leashed.arg(Leash::NAME).arg("--").args(command);
    variables.apply(&mut leashed);
    // On a terminal the agent gets what is typed by itself: it is in our group.
    wait(leashed.spawn()?, std::io::stdin().is_terminal()).await
}

/// Waits for a child, and passes on what we are told by signals.
pub(super) async fn wait(mut child: Child, typed: bool) -> anyhow::Result<Ended> {
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let pass_on = |signal| {
        if let Some(pid) = pid {
            // A child that is gone already is waited for next.
            kill_process(pid, signal).ok();
        }
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    loop {
        tokio::select! {
            biased;
            status = child.wait() => return Ok(status?.into()),
            _ = terminate.recv() => pass_on(Signal::TERM),
            _ = hang_up.recv() => pass_on(Signal::HUP),
            // What is typed is taken here as well, so that it does not end us before the agent.
            _ = interrupt.recv() => if !typed { pass_on(Signal::INT) },
            _ = quit.recv() => if !typed { pass_on(Signal::QUIT) },
        }
    }
}

/// What an agent is started by: it ends when whoever started it is gone.
#[derive(Debug, clap::Args)]
pub struct Leash {
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Leash {
    /// The hidden command.
    pub const NAME: &'static str = "exec-leash";

    /// Becomes the agent.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        let (program, arguments) = self.command.split_first().context("no command was given")?;
        let failed: io::Error = process::Command::new(program).args(arguments).exec();
        Err(failed).with_context(|| format!("cannot start `{program}`"))
    }
}
