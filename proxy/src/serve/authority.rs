//! The control socket of a running sidecar: what may be named there, and who is told of changes.

use std::{io, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{agents, assertion_key};
use crate::{
    config::Loaded,
    control::{self, Control, CurrentTasks, Declared, Heir},
    drain::Draining,
    keys::SigningKey,
    outrider::Outrider,
    record::{Recorder, security::SecurityKind},
    state::{
        Authority, Decree, Depth, Edict, Effect, NotDone, Reach, Target, Widened, redis::Follower,
    },
    tag,
    task::{Confidence, Task},
};

/// What serves the control socket; processes that take over go to `heirs`, decrees to `decrees`.
pub(super) fn control(
    loaded: &Loaded,
    outrider: &Arc<Outrider>,
    draining: &Draining,
    heirs: mpsc::UnboundedSender<Heir>,
    decrees: mpsc::UnboundedSender<Decree>,
) -> Control {
    let listeners = loaded
        .config
        .listeners
        .iter()
        .map(|listener| listener.name().to_owned())
        .collect();
    Control {
        authority: Arc::clone(&outrider.authority),
        store: outrider.store.clone(),
        declared: Box::new(Names {
            outrider: Arc::clone(outrider),
            listeners,
            forgets: loaded.forgets(),
            local: loaded.config.tasks.local,
        }),
        keys: Box::new(Ring {
            outrider: Arc::clone(outrider),
            section: loaded.config.assertion.clone(),
            file: loaded
                .config
                .assertion
                .key
                .as_deref()
                .map(|file| loaded.resolve(file)),
        }),
        observer: Box::new(Notes {
            recorder: Arc::clone(&outrider.recorder),
            decrees,
        }),
        current: if loaded.config.production() {
            CurrentTasks::Off
        } else {
            CurrentTasks::Permitted
        },
        access: access(loaded),
        clock: Timestamp::now,
        drain: draining.clone(),
        heirs,
    }
}

/// Who is served, and from whom and to whom everything may go.
pub(super) fn access(loaded: &Loaded) -> control::Access {
    let control = loaded.config.control.as_ref();
    control::Access {
        own: rustix::process::geteuid().as_raw(),
        allow: control
            .map(|control| control.allow.clone())
            .unwrap_or_default(),
        peers: agents(loaded),
    }
}

/// What may be named when a task is opened.
struct Names {
    outrider: Arc<Outrider>,
    listeners: Vec<String>,
    forgets: bool,
    local: bool,
}

impl Declared for Names {
    fn agent(&self) -> Arc<str> {
        Arc::clone(&self.outrider.agent)
    }

    fn intent(&self, name: &str) -> Option<Reach> {
        self.outrider.snapshot().reach(name)
    }

    fn listener(&self, name: &str) -> bool {
        self.listeners.iter().any(|listener| listener == name)
    }

    fn issuer(&self, name: &str) -> bool {
        self.outrider.issuers.find(name).is_some()
    }

    fn depth(&self) -> Depth {
        self.outrider.snapshot().max_depth
    }

    fn forgets(&self) -> bool {
        self.forgets
    }

    fn opens(&self) -> bool {
        self.local
    }
}

/// What signs assertions, and where the next key comes from.
struct Ring {
    outrider: Arc<Outrider>,
    section: tag::Config,
    file: Option<PathBuf>,
}

impl control::Keys for Ring {
    fn kid(&self) -> String {
        self.outrider.signer.kid()
    }

    fn jwks(&self, now: Timestamp) -> String {
        self.outrider.signer.jwks(now)
    }

    fn next(&self) -> Result<SigningKey, String> {
        let next = assertion_key(&self.section, self.file.as_deref());
        let next = next.map_err(|error| format!("{error:#}"))?;
        if next.kid() == self.kid() {
            return Err("`assertion.key` still holds the key that signs: put a new one there first, under the same name".into());
        }
        Ok(next)
    }

    fn replace(&self, key: SigningKey, now: Timestamp) {
        self.outrider.signer.replace(key, &[], now);
    }
}

/// Writes changes of authority into the security log, and tells a predecessor of decrees.
struct Notes {
    recorder: Arc<Recorder>,
    decrees: mpsc::UnboundedSender<Decree>,
}

impl control::Observer for Notes {
    fn opened(&self, task: &Task, listener: Option<&str>) -> io::Result<()> {
        let mut what = vec![
            ("who", &*task.opened_by),
            ("task", &*task.id),
            ("subject", &*task.subject),
            ("intent", &*task.intent),
        ];
        what.extend(task.parent.as_deref().map(|parent| ("parent", parent)));
        self.note(SecurityKind::TaskOpened, listener, &what)
    }

    fn decreed(&self, decree: &Decree, task: Option<&Task>, effect: &Effect) -> io::Result<()> {
        // Without a predecessor nobody listens.
        self.decrees.send(decree.clone()).ok();
        if let Edict::Revoke { .. } = decree.edict {
            self.recorder.metrics.revoked("control");
        }
        note(&self.recorder, decree, task, effect)
    }

    fn rotated(&self, by: &str, old: &str, new: &str, why: Option<&str>) -> io::Result<()> {
        let what = [
            ("who", by),
            ("key", new),
            ("before", old),
            ("why", why.unwrap_or_default()),
        ];
        self.note(SecurityKind::KeyRotated, None, &what)
    }

    fn widened(&self, by: &str, parent: &Task, widened: Widened) {
        let what = [
            ("who", by),
            ("parent", &parent.id),
            ("subject", &parent.subject),
            ("reason", widened.as_str()),
        ];
        self.recorder
            .event(SecurityKind::DelegationWidened, None, &what);
    }

    fn turned_away(&self, uid: u32) {
        let who = format!("uid:{uid}");
        self.recorder.event(
            SecurityKind::ConnectionError,
            None,
            &[("reason", "control_refused"), ("who", &who)],
        );
    }
}

impl Notes {
    fn note(
        &self,
        kind: SecurityKind,
        listener: Option<&str>,
        what: &[(&'static str, &str)],
    ) -> io::Result<()> {
        noted(&self.recorder, kind, listener, what)
    }
}

/// Does what other sidecars of the fleet say, and writes it down.
pub(super) struct Followed {
    pub(super) authority: Arc<Authority>,
    pub(super) recorder: Arc<Recorder>,
}

impl Follower for Followed {
    fn widens(&self, edict: &Edict) -> bool {
        match edict {
            // One that was only heard of is trusted fully until something is said.
            Edict::Trust { task, confidence } => {
                let task = self.authority.tasks.newest(task);
                let known = task.map_or(Confidence::FULL, |task| task.life().confidence());
                *confidence > known
            }
            edict => self.authority.widens(edict),
        }
    }

    fn follow(&self, mut decree: Decree) -> bool {
        decree.at = decree.at.min(Timestamp::now());
        let effect = match self.authority.carry_out(&decree) {
            Ok(effect) => effect,
            // It is as it should be: nothing of it was ever heard here.
            Err(NotDone::NotRevoked | NotDone::Over) => return true,
            Err(error @ (NotDone::Revocations(_) | NotDone::Tasks(_) | NotDone::Distrusted)) => {
                tracing::error!(%error, "what the fleet says cannot be done here");
                return false;
            }
        };
        if let Edict::Revoke { .. } = decree.edict {
            self.recorder.metrics.revoked("fleet");
        }
        decree.by = format!("fleet:{}", decree.by).into();
        let task = decree.edict.task();
        let task = task.and_then(|task| self.authority.tasks.newest(task));
        if let Err(error) = note(&self.recorder, &decree, task.as_deref(), &effect) {
            tracing::error!(%error, "a change of authority could not be logged");
        }
        true
    }
}

/// Writes a decree into the security log: who, what, why.
///
/// # Errors
/// When it could not be written.
pub(crate) fn note(
    recorder: &Recorder,
    decree: &Decree,
    task: Option<&Task>,
    effect: &Effect,
) -> io::Result<()> {
    let mut what = vec![
        ("who", &*decree.by),
        ("why", decree.why.as_deref().unwrap_or("")),
    ];
    let (confidence, ended, before);
    let kind = match &decree.edict {
        Edict::Close { .. } => SecurityKind::TaskClosed,
        Edict::Suspend { .. } => SecurityKind::TaskSuspended,
        Edict::Resume { .. } => SecurityKind::TaskResumed,
        Edict::Trust {
            confidence: number, ..
        } => {
            confidence = number.to_string();
            what.push(("confidence", &confidence));
            SecurityKind::TaskConfidence
        }
        Edict::Revoke {
            target,
            issued_before,
        } => {
            what.extend(named(target));
            if let Some(time) = issued_before {
                before = time.to_string();
                what.push(("issued_before", &before));
            }
            ended = effect.tasks.to_string();
            what.push(("tasks", &ended));
            SecurityKind::Revoked
        }
        Edict::Lift { target } => {
            what.extend(named(target));
            SecurityKind::RevocationLifted
        }
    };
    match (task, decree.edict.task()) {
        (Some(task), _) => what.extend([
            ("task", &*task.id),
            ("subject", &*task.subject),
            ("intent", &*task.intent),
        ]),
        (None, Some(task)) => what.push(("task", &task.id)),
        (None, None) => {}
    }
    noted(recorder, kind, None, &what)
}

fn named(target: &Target) -> impl Iterator<Item = (&'static str, &str)> {
    let issuer = target.issuer().map(|issuer| ("issuer", &**issuer));
    let named = [("revoked", target.kind()), ("id", target.id())];
    named.into_iter().chain(issuer)
}

fn noted(
    recorder: &Recorder,
    kind: SecurityKind,
    listener: Option<&str>,
    what: &[(&'static str, &str)],
) -> io::Result<()> {
    let failures = recorder.security.failures();
    recorder.event(kind, listener, what);
    if recorder.security.failures() == failures {
        Ok(())
    } else {
        Err(io::Error::other("the security log cannot be written"))
    }
}
