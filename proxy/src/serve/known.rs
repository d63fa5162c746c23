//! How the agent's identity is kept while a sidecar runs, and who hears of its changes.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{
    runtime::Builder,
    sync::mpsc,
    time::{interval, timeout},
};

use crate::{
    config::Loaded,
    identify::agent::{Change, Identity, Keeper, Settings},
    outrider::Outrider,
    record::security::SecurityKind,
    svid::CurrentSvid,
    tag::Signer,
};

/// How long a successor waits for its own identity before it asks for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks whether it has expired.
const LOOK: Duration = Duration::from_secs(1);

/// The agent's identity, and what keeps it proved.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) identity: Arc<Identity>,
    _keeper: Keeper,
    notes: mpsc::UnboundedReceiver<Note>,
}

/// A change for the security log.
#[derive(Debug)]
enum Note {
    Obtained(Timestamp),
    Lost(String),
}

impl Known {
    /// Begins to prove the agent, which takes its time. Assertions are signed by its SVID, where it has
    /// one, before calls see it.
    pub(super) fn begin(
        loaded: &Loaded,
        agent: Arc<str>,
        signer: &Arc<Signer>,
        svid: CurrentSvid,
    ) -> anyhow::Result<Self> {
        let settings = loaded.identity().context("`identity`")?;
        let (note, notes) = mpsc::unbounded_channel();
        let signer = matches!(settings, Settings::Spiffe(..)).then(|| Arc::clone(signer));
        let told = Box::new(move |change: Change<'_>| {
            if let Some(signer) = &signer {
                sign(signer, &change);
            }
            // Nobody listens any more when the sidecar ends.
            match change {
                Change::Obtained(until, _) => {
                    tracing::info!(%until, "the agent's identity is obtained");
                    note.send(Note::Obtained(until)).ok();
                }
                Change::Renewed(until, _) => {
                    tracing::info!(%until, "the agent's identity is renewed");
                }
                Change::Lost(why) => {
                    tracing::error!("the agent's identity is lost, calls are refused: {why}");
                    note.send(Note::Lost(why.to_owned())).ok();
                }
            }
        });
        let (identity, keeper) = Keeper::start(agent, settings, svid, told)?;
        Ok(Self {
            identity,
            _keeper: keeper,
            notes,
        })
    }

    /// Waits for the identity.
    pub(super) fn obtained(&self) -> anyhow::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let proved = runtime.block_on(async { timeout(PATIENCE, self.identity.proved()).await });
        proved
            .ok()
            .with_context(|| format!("the agent's identity: {}", self.identity.status().detail))
    }

    /// Notes changes in the security log, and keeps the identity until it is dropped.
    pub(super) async fn note(mut self, outrider: Arc<Outrider>) {
        let source = self.identity.status().source;
        let note = |kind, name, value: &str| {
            let what = [("source", source), (name, value)];
            outrider.recorder.event(kind, None, &what);
        };
        let mut looks = interval(LOOK);
        let mut proved = false;
        loop {
            tokio::select! {
                Some(change) = self.notes.recv() => match change {
                    Note::Obtained(until) => {
                        proved = true;
                        note(SecurityKind::IdentityObtained, "until", &until.to_string());
                    }
                    Note::Lost(why) => {
                        proved = false;
                        note(SecurityKind::IdentityLost, "why", &why);
                    }
                },
                // Nobody tells of what expires.
                _ = looks.tick(), if proved => if self.identity.check().is_err() {
                    proved = false;
                    tracing::error!("the agent's identity has expired, calls are refused");
                    note(SecurityKind::IdentityLost, "why", "expired");
                },
                else => std::future::pending().await,
            }
        }
    }
}

/// Assertions are signed by the SVID in force and by nothing else.
fn sign(signer: &Signer, change: &Change<'_>) {
    let now = Timestamp::now();
    match change {
        Change::Obtained(_, Some(svid)) | Change::Renewed(_, Some(svid)) => {
            let chain: Vec<_> = svid.chain().iter().map(|one| one.to_vec()).collect();
            // An SVID whose key cannot sign was refused.
            match svid.signing_key() {
                Ok(key) => signer.replace(key, &chain, now),
                Err(_) => signer.retire(now),
            }
        }
        Change::Lost(_) => signer.retire(now),
        Change::Obtained(_, None) | Change::Renewed(_, None) => {}
    }
}

/// Says when inventory and identity expire.
pub(super) fn feed(outrider: &Arc<Outrider>) {
    let metrics = &outrider.recorder.metrics;
    let inventory = Arc::clone(outrider);
    metrics.feed_agent_expiry(Box::new(move || {
        let snapshot = inventory.snapshot();
        let expires = snapshot.data.agent(&inventory.agent)?.expires?;
        Some((None, expires.as_second()))
    }));
    let identity = Arc::clone(&outrider.identity);
    metrics.feed_identity_expiry(Box::new(move || {
        let status = identity.status();
        Some((Some(status.source), status.expires?.as_second()))
    }));
}
