//! The configuration in force: reloaded when it is told to, or when a file changes; whole or not at
//! all.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Order,
    beside::TICK,
    fixed,
    hand_over::{Succession, Successor},
};
use crate::{
    config::{Compiler, Loaded, load},
    listen::tls::Presented,
    outrider::{Outrider, Tidy},
    record::security::SecurityKind,
};

/// Ticks between two looks at the configuration's files.
const LOOK: u32 = 4;
/// Ticks between two sweeps of tasks and limits.
const SWEEP: u32 = 240;

/// The configuration in force, its files, and the clock of everything periodic.
pub(super) struct Watch {
    outrider: Arc<Outrider>,
    loaded: Loaded,
    compiler: Compiler,
    /// What listeners prove themselves by, by their names.
    presented: Vec<(Arc<str>, Presented)>,
    seen: Fingerprint,
    /// How files looked that have changed and may not be whole yet.
    unsettled: Option<Fingerprint>,
    healthy: bool,
}

/// What tells that a file was changed: its time, length and inode.
type Fingerprint = BTreeMap<PathBuf, Option<(SystemTime, u64, u64)>>;

impl Watch {
    pub(super) fn new(
        outrider: Arc<Outrider>,
        loaded: Loaded,
        compiler: Compiler,
        presented: Vec<(Arc<str>, Presented)>,
    ) -> Self {
        let seen = fingerprint(&loaded);
        Self {
            outrider,
            loaded,
            compiler,
            presented,
            seen,
            unsettled: None,
            healthy: true,
        }
    }

    /// Runs until it is told to stop, or a successor goes on.
    pub(super) async fn until_over(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        succession: &mut Succession,
    ) -> Option<Successor> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0u32;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Reload(done)) => {
                        // Whoever asked may be gone; the reload counts all the same.
                        done.send(self.reload().await).ok();
                    }
                    Some(Order::Stop) | None => return None,
                },
                heir = succession.heir() => {
                    let successor = succession.hand_over(heir, &self.outrider).await;
                    if successor.is_some() {
                        return successor;
                    }
                }
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    self.tick(count).await;
                }
            }
        }
    }

    async fn tick(&mut self, count: u32) {
        let now = Timestamp::now();
        self.tell_health();
        if count.is_multiple_of(LOOK) || self.unsettled.is_some() {
            self.look().await;
        }
        if count.is_multiple_of(SWEEP) {
            self.outrider.authority.sweep(now);
            self.outrider.snapshot().limits.sweep();
            if let Err(error) = self.outrider.keep_state(Tidy::WhereDue) {
                tracing::error!(%error, "the state file cannot be begun anew");
            }
        }
    }

    /// Reloads when files have changed, and not since the tick before: they may still be written to.
    async fn look(&mut self) {
        let now = fingerprint(&self.loaded);
        if now == self.seen {
            self.unsettled = None;
        } else if self.unsettled.as_ref() == Some(&now) {
            // The result is logged and counted.
            self.reload().await.ok();
        } else {
            self.unsettled = Some(now);
        }
    }

    /// Lets listeners prove themselves by what was read.
    fn present(&self) {
        for (listener, presented) in &self.presented {
            let mut identities = self.loaded.identities.iter();
            if let Some((_, identity)) = identities.find(|(name, _)| **name == **listener) {
                presented.replace(identity);
            }
        }
    }

    fn tell_health(&mut self) {
        let healthy = self.outrider.recorder.log.healthy();
        if healthy != self.healthy {
            self.healthy = healthy;
            if healthy {
                tracing::info!("the decision log can be written again");
            } else {
                tracing::error!(
                    "the decision log cannot be written: calls are refused until it can"
                );
                self.outrider
                    .recorder
                    .event(SecurityKind::LogFailed, None, &[]);
            }
        }
    }

    /// Puts what the files now say in force, or keeps everything as it is.
    async fn reload(&mut self) -> Result<(), String> {
        self.seen = fingerprint(&self.loaded);
        self.unsettled = None;
        let (outrider, compiler, file) = (
            Arc::clone(&self.outrider),
            self.compiler.clone(),
            self.loaded.file.clone(),
        );
        let before = fixed(&self.loaded);
        let outcome =
            tokio::task::spawn_blocking(move || replace(&outrider, &compiler, &file, &before))
                .await;
        let outcome = outcome.unwrap_or_else(|_| Err("the reload failed".into()));
        self.outrider
            .recorder
            .metrics
            .policy_reloaded(if outcome.is_ok() { "ok" } else { "failed" });
        match outcome {
            Ok(loaded) => {
                self.loaded = loaded;
                self.present();
                self.seen = fingerprint(&self.loaded);
                tracing::info!(
                    revision = %self.outrider.snapshot().policy.revision(),
                    "reloaded"
                );
                Ok(())
            }
            Err(why) => {
                tracing::error!("not reloaded, the old configuration stays in force:\n{why}");
                Err(why)
            }
        }
    }
}

fn replace(
    outrider: &Outrider,
    compiler: &Compiler,
    file: &Path,
    before: &std::collections::HashMap<&'static str, String>,
) -> Result<Loaded, String> {
    let lines = |problems: &[outrider_policy::Problem]| {
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let loaded = load(file).map_err(|failure| lines(&failure.problems))?;
    let after = fixed(&loaded);
    let mut changed: Vec<_> = before
        .iter()
        .filter(|(name, value)| after.get(*name) != Some(value))
        .map(|(name, _)| *name)
        .collect();
    changed.sort_unstable();
    if !changed.is_empty() {
        return Err(format!(
            "{}: `{}` changed: that needs a restart",
            file.display(),
            changed.join("`, `")
        ));
    }
    let built = loaded
        .build(compiler, Some(&outrider.snapshot()))
        .map_err(|problems| lines(&problems))?;
    outrider.recorder.prepare(&built.labels);
    outrider
        .recorder
        .metrics
        .policy_in_force(built.snapshot.policy.revision(), "enforce");
    outrider.replace(built.snapshot);
    let least = loaded.config.tasks.min_confidence;
    outrider.authority.least_confidence(least);
    Ok(loaded)
}

fn fingerprint(loaded: &Loaded) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let look = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok();
        found.and_then(|file| Some((file.modified().ok()?, file.len(), file.ino())))
    };
    let files = loaded.watched.iter().chain(std::iter::once(&loaded.file));
    files.map(|path| (path.clone(), look(path))).collect()
}
