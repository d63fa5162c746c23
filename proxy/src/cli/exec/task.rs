//! The task of an agent that is run here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::control::{
    client,
    wire::{OfTask, OpenTask, Reply, Request, Token},
};

/// A task that was opened for what is run here; closed when dropped.
#[derive(Debug)]
pub(in crate::cli) struct TaskOf {
    control: PathBuf,
    /// Its ID.
    pub(super) id: String,
    /// Its token.
    pub(in crate::cli) token: Token,
}

impl TaskOf {
    /// Opens a task for an intent.
    ///
    /// # Errors
    /// There is no sidecar, or it refuses.
    pub(in crate::cli) fn open(
        control: &Path,
        intent: String,
        subject: Option<String>,
        ttl: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let open = OpenTask {
            intent: Some(intent),
            subject,
            tools: None,
            max_classification: None,
            calls: None,
            ttl_s: ttl.map(|ttl| ttl.as_secs()),
            parent: None,
            current: None,
        };
        match client::ask(control, &Request::TaskOpen(open))? {
            Reply::Opened { id, token, .. } => Ok(Self {
                control: control.to_owned(),
                id,
                token,
            }),
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => anyhow::bail!("the sidecar's answer is not understood: are both of one version?"),
        }
    }

    /// Says that the work is done.
    pub(super) fn close(self) {
        drop(self);
    }
}

impl Drop for TaskOf {
    fn drop(&mut self) {
        let done = OfTask {
            id: std::mem::take(&mut self.id),
            issuer: None,
            reason: Some("the agent has ended".into()),
        };
        // A sidecar that is gone has forgotten it, or keeps it no longer than its time.
        client::ask(&self.control, &Request::TaskClose(done)).ok();
    }
}
