//! The receiver: one process of a trust domain that takes security event tokens of identity providers
//! in (SSF 1.0, CAEP 1.0) and turns them into revocations which every sidecar obeys.
//!
//! In: tokens, delivered ([`push`]) or fetched ([`poll`]). Through one door ([`intake`]): verified
//! ([`set`]), understood ([`meaning`], [`subject`]), dealt with once ([`seen`]), told to who obeys
//! ([`sink`]), noted. Out: an acknowledgement, and never before all that. It can only take authority
//! back; nothing that comes in gives any.

mod admin;
pub mod config;
pub mod intake;
pub mod meaning;
pub mod metrics;
pub mod poll;
pub mod push;
pub mod seen;
pub mod set;
pub mod sink;
pub mod subject;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{JoinSet, LocalSet},
    time::{MissedTickBehavior, interval},
};

use self::{
    admin::Admin,
    config::{Obeys, Settings},
    intake::{Intake, Transmitter},
    poll::Polled,
    push::Push,
    seen::{BadFile, Place, Seen, SeenFile},
    sink::{Member, NotJoined, Sink},
};
use crate::{
    listen::tls::Presented,
    record::{OpenError, security::SecurityLog},
};

/// Between two looks at the logs.
const TICK: Duration = Duration::from_millis(250);

/// Ticks between two sweeps of what is remembered.
const SWEEP: u32 = 240;

/// How long work under way may take when the receiver stops, fetches included.
const DRAIN: Duration = Duration::from_secs(15);

/// Nothing could be started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// An address cannot be had.
    #[error("cannot listen at `{at}`: {error}")]
    Address {
        /// Which.
        at: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The security log.
    #[error("`security_log`: cannot open `{}`: {error}", path.display())]
    Log {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        error: OpenError,
    },
    /// The file of what was dealt with.
    #[error(transparent)]
    Seen(#[from] BadFile),
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] NotJoined),
    /// The runtime.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// A receiver that has its addresses and files, and does nothing yet.
#[derive(Debug)]
pub struct Receiver {
    runtime: Runtime,
    listen: Option<(TcpListener, Option<Presented>)>,
    admin: Option<TcpListener>,
    polled: Vec<Polled>,
    push: Push,
    intake: Arc<Intake>,
    transmitters: Vec<Arc<Transmitter>>,
}

impl Receiver {
    /// Opens files and addresses.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub fn open(settings: Settings) -> Result<Self, NotStarted> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let now = Timestamp::now();
        let path = settings.security_log;
        let log = SecurityLog::open(&path, now).map_err(|error| NotStarted::Log { path, error })?;
        let (sink, place) = obeys(settings.obeys, now)?;
        let intake = Arc::new(Intake {
            sink,
            seen: Seen::new(place),
            log,
            metrics: metrics::Metrics::default(),
        });
        let pushing = settings.senders.iter().map(|sender| &sender.transmitter);
        let polling = settings.polled.iter().map(|polled| &polled.transmitter);
        let transmitters = pushing.chain(polling).cloned().collect();
        let mut at = String::new();
        let listen = match settings.listen {
            None => None,
            Some(listen) => {
                at = listen.path;
                let tls = listen.tls.as_ref().map(Presented::new);
                Some((bind(&runtime, listen.address)?, tls))
            }
        };
        let admin = settings.admin.map(|address| bind(&runtime, address));
        Ok(Self {
            admin: admin.transpose()?,
            listen,
            polled: settings.polled,
            push: Push {
                path: at,
                senders: settings.senders,
                intake: Arc::clone(&intake),
            },
            intake,
            transmitters,
            runtime,
        })
    }

    /// Where tokens are delivered, with the real port.
    pub fn address(&self) -> Option<SocketAddr> {
        let (listener, _) = self.listen.as_ref()?;
        listener.local_addr().ok()
    }

    /// The admin address, with the real port.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Returns at SIGTERM or SIGINT, also at one that came before it is waited for.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn told_to_stop(&self) -> std::io::Result<impl Future<Output = ()> + use<>> {
        let _entered = self.runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        Ok(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }

    /// Works until `told` returns; what is under way comes to its end.
    pub fn run(self, told: impl Future<Output = ()>) {
        let Self {
            runtime,
            listen,
            admin,
            polled,
            push,
            intake,
            transmitters,
        } = self;
        let work = async {
            let (stop, stopping) = watch::channel(false);
            let mut working = JoinSet::new();
            let mut beside = JoinSet::new();
            for from in &transmitters {
                let from = Arc::clone(from);
                beside.spawn_local(async move { from.source.run().await });
            }
            beside.spawn_local(tend(Arc::clone(&intake)));
            if let Some(listener) = admin {
                let admin = Arc::new(Admin {
                    intake: Arc::clone(&intake),
                    transmitters,
                });
                let answer = move |request| {
                    let admin = Arc::clone(&admin);
                    async move { admin.answer(&request) }
                };
                beside.spawn_local(crate::server::serve(
                    listener,
                    None,
                    answer,
                    stopping.clone(),
                ));
            }
            if let Some((listener, tls)) = listen {
                let push = Arc::new(push);
                let answer = move |request| {
                    let push = Arc::clone(&push);
                    async move { push.answer(request).await }
                };
                working.spawn_local(crate::server::serve(
                    listener,
                    tls,
                    answer,
                    stopping.clone(),
                ));
            }
            for polled in polled {
                let (intake, stopping) = (Arc::clone(&intake), stopping.clone());
                working.spawn_local(async move { polled.run(&intake, stopping).await });
            }
            told.await;
            tracing::info!("draining");
            stop.send_replace(true);
            let drained = async { while working.join_next().await.is_some() {} };
            if tokio::time::timeout(DRAIN, drained).await.is_err() {
                tracing::warn!("work under way was given up: it is not acknowledged");
            }
            working.shutdown().await;
            beside.shutdown().await;
        };
        LocalSet::new().block_on(&runtime, work);
        intake.sink.stop();
        intake.tick(Timestamp::now());
        tracing::info!("stopped");
    }
}

fn obeys(obeys: Obeys, now: Timestamp) -> Result<(Sink, Place), NotStarted> {
    Ok(match obeys {
        Obeys::Fleet(settings) => {
            let member = Member::join(*settings)?;
            let fleet = Arc::clone(&member.fleet);
            (Sink::Fleet(member), Place::Fleet(fleet))
        }
        Obeys::Sidecars { sockets, seen } => {
            let file = Arc::new(SeenFile::open(seen, now)?);
            (Sink::Sidecars(sockets), Place::File(file))
        }
    })
}

fn bind(runtime: &Runtime, at: SocketAddr) -> Result<TcpListener, NotStarted> {
    let bound = runtime.block_on(TcpListener::bind(at));
    bound.map_err(|error| NotStarted::Address { at, error })
}

/// Does what is due, for ever.
async fn tend(intake: Arc<Intake>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        ticks.tick().await;
        let now = Timestamp::now();
        intake.tick(now);
        count = count.wrapping_add(1);
        if count.is_multiple_of(SWEEP) {
            intake.sweep(now);
        }
    }
}
