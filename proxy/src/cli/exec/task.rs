//! The task of an agent that is run here.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::task::ttl,
    config::Loaded,
    control::{
        client,
        wire::{OfTask, OpenTask, Reply, Request, Token},
    },
};

/// What a task is opened for.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct OpenedFor {
    /// What the task is for: an intent of the policy data [default: the only one]
    #[arg(long)]
    intent: Option<String>,
    /// Who the agent acts for [default: uid:<n> of who runs this]
    #[arg(long)]
    subject: Option<String>,
    /// How long the task lasts at most, up to 24h [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    ttl: Option<Duration>,
}

impl OpenedFor {
    /// The intent, which needs no name where there is no other.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub(in crate::cli) fn intent(&self, loaded: &Loaded) -> anyhow::Result<String> {
        if let Some(intent) = &self.intent {
            return Ok(intent.clone());
        }
        let intents = loaded.intents();
        match intents.as_slice() {
            [one] => Ok(one.clone()),
            [] => anyhow::bail!("the policy data declares no intent: add one under `intents`"),
            several => anyhow::bail!(
                "say what the agent is for by `--intent`: {}",
                several.join(", ")
            ),
        }
    }

    /// Opens the task.
    ///
    /// # Errors
    /// There is no sidecar, or it refuses.
    pub(in crate::cli) fn open(&self, control: &Path, intent: String) -> anyhow::Result<TaskOf> {
        TaskOf::open(control, intent, self.subject.clone(), self.ttl)
    }
}

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
    pub(super) fn open(
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
