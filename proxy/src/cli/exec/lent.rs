//! What `exec` gives an agent, for a command that wants to know how a runtime does with it.

use std::{net::SocketAddr, path::Path};

use tokio::process::Command;

use super::{
    environment::{Trust, Ways, told},
    sidecar::Sidecar,
    task::TaskOf,
};
use crate::config::Loaded;

/// A sidecar, a task and the files that an agent trusts; gone when dropped.
#[derive(Debug)]
pub(in crate::cli) struct Lent {
    // In this order: the task is closed while there is a sidecar.
    task: TaskOf,
    trust: Trust,
    sidecar: Sidecar,
}

impl Lent {
    /// Starts a sidecar of that configuration and opens a task for the intent.
    ///
    /// # Errors
    /// What `exec` would say.
    pub(in crate::cli) fn of(file: &Path, loaded: &Loaded, intent: &str) -> anyhow::Result<Self> {
        let sidecar = Sidecar::find_or_start(file, loaded, false)?;
        let task = TaskOf::open(sidecar.control(), intent.to_owned(), None, None)?;
        let trust = Trust::of(loaded)?;
        Ok(Self {
            task,
            trust,
            sidecar,
        })
    }

    /// The forward listener.
    pub(in crate::cli) fn proxy(&self) -> Option<SocketAddr> {
        self.sidecar.proxy()
    }

    /// The task's token.
    pub(in crate::cli) fn token(&self) -> &str {
        self.task.token.expose()
    }

    /// Sets the variables of an agent whose proxy is there.
    ///
    /// # Errors
    /// A path that no variable can hold.
    pub(in crate::cli) fn dress(
        &self,
        command: &mut Command,
        proxy: SocketAddr,
    ) -> anyhow::Result<()> {
        let ways = Ways {
            proxy: Some(proxy),
            base: self.sidecar.base(),
        };
        told(&ways, self.token(), &self.trust)?.apply(command);
        Ok(())
    }
}
