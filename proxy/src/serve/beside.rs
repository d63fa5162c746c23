//! What runs beside the calls, on one thread: accepting, admin, control, ticks, reload, drain.

use std::{pin::Pin, sync::Arc, time::Duration};

use jiff::Timestamp;
use rustix::process::Signal;
use secrecy::SecretString;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    DRAIN, Edge, Order, STACK, authority, doctor, hand_over::Succession, known::Known, watch::Watch,
};
use crate::{
    admin::{self, AdminState, Check, Page, Readiness},
    config::Isolation,
    credentials::{AgentToken, Credential, Fault},
    drain::Draining,
    listen::accept::Entrance,
    metrics::Format,
    outrider::Outrider,
    state::redis::Fleet,
    upstream::TlsRoots,
};

/// Between two looks at logs and files.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// How long the outcome of a call may wait for the next write to the decision log.
const OUTCOMES: Duration = Duration::from_millis(5);

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
        probe,
        control,
        workers,
        observer,
        drain,
        draining,
        heritage,
        predecessor,
        known,
        roots,
        mut telemetry,
    } = edge;
    let (stop, stopped) = watch::channel(false);
    let (heir, heirs) = mpsc::unbounded_channel();
    let (decree, decrees) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    for (listener, offers) in [(admin, Offers::All), (probe, Offers::Probes)] {
        let state = admin_state(&outrider, isolation, &draining, offers);
        running.spawn_local(answer(listener, state, told(stopped.clone())));
    }
    if let Some(socket) = control {
        let doctor = doctor::doctor(&outrider, isolation);
        let control = authority::control(&loaded, &outrider, &draining, heir, decree, doctor);
        let control = Arc::new(control);
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
        let gone = predecessor.see_off(outrider, entrances, decrees, draining.clone());
        succession.leaving.spawn_local(gone);
    } else {
        drop(entrances);
    }
    let mut keeping = keep(&outrider, known, roots);
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
        // It tells what is told from now on.
        if let Some(telemetry) = telemetry.take() {
            telemetry.leave();
        }
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
    if let Some(fleet) = outrider.store.fleet() {
        fleet.stop();
    }
    keeping.shutdown().await;
    outrider.recorder.close(Timestamp::now());
    if let Some(telemetry) = telemetry {
        telemetry.stop();
    }
    tracing::info!("stopped");
}

/// Answers at an address of the admin kind, where there is one.
async fn answer(
    listener: Option<std::net::TcpListener>,
    state: AdminState,
    stop: impl Future<Output = ()>,
) {
    let listener = listener.and_then(|one| tokio::net::TcpListener::from_std(one).ok());
    if let Some(listener) = listener {
        admin::serve(listener, state, stop).await;
    }
}

/// Starts what is done beside calls, to the end of the drain.
fn keep(outrider: &Arc<Outrider>, known: Option<Known>, roots: TlsRoots) -> JoinSet<()> {
    let mut keeping = JoinSet::new();
    keeping.spawn_local(keep_logs(Arc::clone(outrider)));
    for issuer in outrider.issuers.all() {
        let source = Arc::clone(&issuer.source);
        keeping.spawn_local(async move { source.run().await });
    }
    if let Some(known) = known {
        keeping.spawn_local(known.note(Arc::clone(outrider)));
    }
    keeping.spawn_local(keep_credentials(Arc::clone(outrider), roots));
    keeping
}

/// Does what is due on the logs, to the end of the drain.
async fn keep_logs(outrider: Arc<Outrider>) {
    let recorder = &outrider.recorder;
    // Taken, it kills nobody: a file that may not grow is a write that fails.
    let file_size = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
    if let Err(error) = &file_size {
        tracing::warn!(%error, "a limit on the size of files would end the sidecar");
    }
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = recorder.log.outcomes_wait() => {
                // Those that come meanwhile go with them, or with the next decision.
                sleep(OUTCOMES).await;
                recorder.log.flush();
            }
            _ = ticks.tick() => recorder.tick(Timestamp::now()),
        }
    }
}

/// Fetches credentials, to the end of the drain: calls under way may still need some.
async fn keep_credentials(outrider: Arc<Outrider>, roots: TlsRoots) {
    let each = |show: &mut dyn FnMut(&Credential)| {
        if outrider.authority.standing.is_revoked() {
            outrider.forget_all_credentials();
        } else {
            outrider.each_credential(show);
        }
    };
    let agent = Arc::new(JwtSvids(Arc::clone(&outrider)));
    outrider.fetching.keep(roots, Some(agent), each).await;
}

/// Shows the agent's JWT-SVIDs to token servers.
struct JwtSvids(Arc<Outrider>);

impl AgentToken for JwtSvids {
    fn token(
        &self,
        audience: String,
    ) -> Pin<Box<dyn Future<Output = Result<SecretString, Fault>> + Send + '_>> {
        Box::pin(async move {
            let svid = self.0.identity.jwt_svid(&audience).await;
            svid.map(|svid| svid.token.clone())
                .map_err(|_| Fault::NoIdentity)
        })
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

/// What an address of the admin kind tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offers {
    All,
    Probes,
}

fn admin_state(
    outrider: &Arc<Outrider>,
    isolation: Isolation,
    draining: &Draining,
    offers: Offers,
) -> AdminState {
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
        jwks: (offers == Offers::All)
            .then(|| Box::new(move || keys.signer.jwks(Timestamp::now())) as _),
    }
}

fn readiness(outrider: &Outrider, isolation: Isolation, draining: bool) -> Readiness {
    let snapshot = outrider.snapshot();
    let log = if outrider.recorder.log.healthy() {
        Check::Ready(outrider.recorder.log.durability().promise().into())
    } else {
        Check::NotReady("cannot be written: calls are refused".into())
    };
    let known = outrider.identity.status();
    let identity = if draining {
        Check::NotReady("draining".into())
    } else if known.proved {
        Check::Ready(known.detail)
    } else {
        Check::NotReady(known.detail)
    };
    Readiness {
        policy: Check::Ready(format!("revision {}", snapshot.policy.revision())),
        identity,
        log,
        state: outrider.store.fleet().map(|fleet| store(fleet)),
        isolation: isolation.as_str(),
    }
}

fn store(fleet: &Fleet) -> Check {
    let status = fleet.status();
    if status.up || fleet.shares() {
        Check::Ready(status.detail)
    } else {
        Check::NotReady(format!("{}: calls are refused", status.detail))
    }
}
