//! What runs beside the calls, on one thread: accepting, admin, control, ticks, reload, drain.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    DRAIN, Edge, Order, STACK, agents, fixed,
    hand_over::{Heritage, Successor},
    link::TaskEnd,
};
use crate::{
    admin::{self, AdminState, Check, Page, Readiness},
    config::{Compiler, Isolation, Loaded, load},
    control::{self, Act, Change, Control, CurrentTasks, Declared, Heir},
    drain::{Drain, Draining},
    keys::jwks,
    listen::{accept::Entrance, tls::Presented},
    metrics::Format,
    outrider::Outrider,
    record::{Recorder, security::SecurityKind},
};

/// Between two looks at logs and files.
const TICK: Duration = Duration::from_millis(250);
/// How long the outcome of a call may wait for the next write to the decision log.
const OUTCOMES: Duration = Duration::from_millis(5);
/// Ticks between two looks at the configuration's files.
const LOOK: u32 = 4;
/// Ticks between two sweeps of tasks and limits.
const SWEEP: u32 = 240;

/// Runs the edge until it is told to stop.
pub(super) fn run(edge: Edge, orders: mpsc::UnboundedReceiver<Order>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build();
    match runtime {
        Ok(runtime) => LocalSet::new().block_on(&runtime, serve(edge, orders)),
        Err(error) => tracing::error!(%error, "the sidecar cannot run"),
    }
}

async fn serve(edge: Edge, mut orders: mpsc::UnboundedReceiver<Order>) {
    let Edge {
        outrider,
        loaded,
        compiler,
        isolation,
        listeners,
        admin,
        control,
        workers,
        observer,
        drain,
        draining,
        heritage,
        predecessor,
    } = edge;
    let (stop, stopped) = watch::channel(false);
    let (heir, heirs) = mpsc::unbounded_channel();
    let (end, ends) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    if let Some(admin) = admin.and_then(|admin| tokio::net::TcpListener::from_std(admin).ok()) {
        let state = admin_state(&outrider, isolation, &draining);
        running.spawn_local(admin::serve(admin, state, told(stopped.clone())));
    }
    if let Some(socket) = control {
        let control = Arc::new(control_of(&loaded, &outrider, &draining, heir, end));
        running.spawn_local(async move {
            if let Err(error) = control.serve(socket, told(stopped)).await {
                tracing::error!(%error, "the control socket cannot be served");
            }
        });
    }
    let mut accepting = JoinSet::new();
    let (mut entrances, mut presented) = (Vec::new(), Vec::new());
    for (bound, facts) in listeners {
        presented.extend(facts.tls.clone().map(|tls| (Arc::clone(&facts.name), tls)));
        let entrance = Entrance::new(facts, workers.dispatcher(), Arc::clone(&observer));
        entrances.push(entrance.clone());
        accepting.spawn_local(bound.accept(entrance, draining.clone()));
    }
    let mut succession = Succession {
        heirs,
        heritage,
        drain,
        leaving: JoinSet::new(),
    };
    if let Some(predecessor) = predecessor {
        let outrider = Arc::clone(&outrider);
        let gone = predecessor.see_off(outrider, entrances, ends, draining.clone());
        succession.leaving.spawn_local(gone);
    } else {
        drop(entrances);
    }
    let mut keeping = JoinSet::new();
    keeping.spawn_local(keep_logs(Arc::clone(&outrider)));
    let successor = Watch::new(outrider.clone(), loaded, compiler, presented)
        .until_over(&mut orders, &mut succession)
        .await;
    outrider.memory.stopping.send_replace(true);
    let Succession {
        drain,
        mut leaving,
        heritage,
        heirs,
    } = succession;
    // A listener is closed when nobody holds it any more.
    drop((heritage, heirs));
    if let Some(successor) = successor {
        tracing::info!("a successor goes on; what runs here ends");
        stop.send_replace(true);
        while accepting.join_next().await.is_some() {}
        let ended = workers.finish(DRAIN);
        successor.see_through(&outrider, ended).await;
    } else {
        tracing::info!("draining");
        drain.begin();
        while accepting.join_next().await.is_some() {}
        workers.finish(DRAIN).await;
        // The calls of a predecessor began before ours.
        timeout(DRAIN, leaving.join_next()).await.ok();
        stop.send_replace(true);
    }
    while running.join_next().await.is_some() {}
    keeping.shutdown().await;
    outrider.recorder.log.close(Timestamp::now());
    tracing::info!("stopped");
}

/// Does what is due on the logs, to the end of the drain.
async fn keep_logs(outrider: Arc<Outrider>) {
    let recorder = &outrider.recorder;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = recorder.log.outcomes_wait() => {
                // Those that come meanwhile go with them, or with the next decision.
                sleep(OUTCOMES).await;
                recorder.log.flush();
            }
            _ = ticks.tick() => {
                let now = Timestamp::now();
                recorder.log.tick(now);
                recorder.security.tick(now);
                let waiting = i64::try_from(recorder.log.waiting()).unwrap_or(i64::MAX);
                recorder.metrics.log_queue().set(waiting);
            }
        }
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    stopped
        .wait_for(|stopped| *stopped)
        .await
        .map(drop)
        .unwrap_or_default();
}

/// Who goes on after us, and who went before.
struct Succession {
    heirs: mpsc::UnboundedReceiver<Heir>,
    heritage: Heritage,
    drain: Drain,
    /// The predecessor, while its calls still run.
    leaving: JoinSet<()>,
}

impl Succession {
    /// Waits for a process that takes over. One that comes while our own predecessor still has
    /// calls waits: their ends are to come to us.
    async fn heir(&mut self) -> Heir {
        while self.leaving.join_next().await.is_some() {}
        match self.heirs.recv().await {
            Some(heir) => heir,
            None => std::future::pending().await,
        }
    }

    /// Hands everything over, or goes on.
    async fn hand_over(&self, heir: Heir, outrider: &Outrider) -> Option<Successor> {
        let who = format!("uid:{}", heir.uid);
        let outcome = self.heritage.hand_over(heir, outrider, &self.drain).await;
        match outcome {
            Ok(successor) => {
                let (kind, what) = (SecurityKind::TakenOver, [("who", who.as_str())]);
                outrider.recorder.event(kind, None, &what);
                Some(successor)
            }
            Err(why) => {
                tracing::error!("nobody took over, the sidecar goes on: {why:#}");
                None
            }
        }
    }
}

/// The configuration in force, its files, and the clock of everything periodic.
struct Watch {
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
    fn new(
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
    async fn until_over(
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
            self.outrider.tasks.sweep(now);
            self.outrider.snapshot().limits.sweep();
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

fn admin_state(outrider: &Arc<Outrider>, isolation: Isolation, draining: &Draining) -> AdminState {
    let (ready, pages, keys) = (
        Arc::clone(outrider),
        Arc::clone(outrider),
        Arc::clone(outrider),
    );
    let draining = draining.clone();
    AdminState {
        ready: Box::new(move || readiness(&ready, isolation, draining.has_begun())),
        metrics: Box::new(move |accept| {
            let format = Format::accepted(accept);
            Page {
                content_type: format.content_type(),
                text: pages.recorder.metrics.page(format),
            }
        }),
        jwks: Box::new(move || jwks([keys.signer.key()])),
    }
}

fn readiness(outrider: &Outrider, isolation: Isolation, draining: bool) -> Readiness {
    let snapshot = outrider.snapshot();
    let log = if outrider.recorder.log.healthy() {
        Check::Ready("written before each act".into())
    } else {
        Check::NotReady("cannot be written: calls are refused".into())
    };
    let identity = if draining {
        Check::NotReady("draining".into())
    } else {
        Check::Ready(format!("static: {}", outrider.agent))
    };
    Readiness {
        policy: Check::Ready(format!("revision {}", snapshot.policy.revision())),
        identity,
        log,
        isolation: isolation.as_str(),
    }
}

fn control_of(
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
        access: control::Access {
            own: rustix::process::geteuid().as_raw(),
            allow: loaded
                .config
                .control
                .as_ref()
                .map(|control| control.allow.clone())
                .unwrap_or_default(),
            peers: agents(loaded),
        },
        clock: Timestamp::now,
        drain: draining.clone(),
        heirs,
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
