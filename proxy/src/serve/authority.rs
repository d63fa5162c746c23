//! The control socket of a running sidecar: what may be named there, and who is told of changes.

use std::{io, sync::Arc};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{agents, link::TaskEnd};
use crate::{
    config::Loaded,
    control::{self, Act, Change, Control, CurrentTasks, Declared, Heir},
    drain::Draining,
    outrider::Outrider,
    record::{Recorder, security::SecurityKind},
};

/// What serves the control socket; processes that take over go to `heirs`, tasks that end to `ends`.
pub(super) fn control(
    loaded: &Loaded,
    outrider: &Arc<Outrider>,
    draining: &Draining,
    heirs: mpsc::UnboundedSender<Heir>,
    ends: mpsc::UnboundedSender<TaskEnd>,
) -> Control {
    let listeners = loaded
        .config
        .listeners
        .iter()
        .map(|listener| listener.name().to_owned())
        .collect();
    Control {
        tasks: Arc::clone(&outrider.tasks),
        declared: Box::new(Names {
            outrider: Arc::clone(outrider),
            listeners,
        }),
        observer: Box::new(Notes {
            recorder: Arc::clone(&outrider.recorder),
            ends,
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
}

impl Declared for Names {
    fn agent(&self) -> Arc<str> {
        Arc::clone(&self.outrider.agent)
    }

    fn intent(&self, name: &str) -> bool {
        self.outrider.snapshot().data.intent(name).is_some()
    }

    fn listener(&self, name: &str) -> bool {
        self.listeners.iter().any(|listener| listener == name)
    }
}

/// Writes changes of authority into the security log, and tells a predecessor of ends.
struct Notes {
    recorder: Arc<Recorder>,
    ends: mpsc::UnboundedSender<TaskEnd>,
}

impl control::Observer for Notes {
    fn changed(&self, change: &Change<'_>) -> io::Result<()> {
        let kind = match change.act {
            Act::TaskOpened => SecurityKind::TaskOpened,
            Act::TaskClosed => SecurityKind::TaskClosed,
            Act::TaskRevoked => SecurityKind::Revoked,
        };
        if change.act == Act::TaskRevoked {
            self.recorder.metrics.revoked("control");
        }
        let id = || change.task.id.to_string();
        let end = match change.act {
            Act::TaskOpened => None,
            Act::TaskClosed => Some(TaskEnd::Closed(id())),
            Act::TaskRevoked => Some(TaskEnd::Revoked(id())),
        };
        if let Some(end) = end {
            // Without a predecessor nobody listens.
            self.ends.send(end).ok();
        }
        let who = format!("uid:{}", change.by);
        let what = [
            ("who", who.as_str()),
            ("task", &change.task.id),
            ("subject", &change.task.subject),
            ("intent", &change.task.intent),
            ("why", change.reason.unwrap_or("")),
        ];
        let failures = self.recorder.security.failures();
        self.recorder.event(kind, change.listener, &what);
        if self.recorder.security.failures() == failures {
            Ok(())
        } else {
            Err(io::Error::other("the security log cannot be written"))
        }
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
