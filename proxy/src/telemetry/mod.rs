//! What is known of calls, told to others: spans, logs and numbers by OTLP, decisions as OPA tells them.
//!
//! Nothing here stands in a call's way, and no call knows of it. The logs are written anyway, before
//! anybody acts; here they are read again, behind, and sent in batches. So the queue is the log, on
//! disk: what could not be sent waits there, a place is kept of how far it was read, and a collector
//! that is away costs neither memory nor calls.
//!
//! In: lines of the logs ([`tail`]) and the metrics page. Out: messages of OTLP ([`traces`],
//! [`logs`], [`numbers`]) and of OPA ([`opa`]), each by a [`sender`] of its own.

pub mod config;
mod logs;
mod numbers;
mod opa;
mod otlp;
mod sender;
mod ship;
mod tail;
mod traces;

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinSet, LocalSet},
    time::timeout,
};

pub use self::config::{BadTelemetry, Config, Plan};
use self::ship::{Shipment, pages};
use crate::metrics::Metrics;

/// How long what is left may take when the sidecar stops.
const LAST: Duration = Duration::from_secs(5);

/// What is told, and of what.
#[derive(Debug)]
pub struct Sources {
    /// The decision log.
    pub decisions: PathBuf,
    /// The security log.
    pub security: PathBuf,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Who tells it.
    pub standing: Standing,
}

/// Who tells it: the resource of OTLP.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The agent beside us.
    pub agent: String,
    /// The configured environment.
    pub environment: String,
    /// The log's instance.
    pub instance: String,
}

/// Whether to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    WhenTold,
    Now,
}

impl Stop {
    fn is_said(self) -> bool {
        self != Self::No
    }
}

/// The thread that tells it; ends when this is dropped, or stopped.
#[derive(Debug)]
pub struct Telemetry {
    stop: watch::Sender<Stop>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Telemetry {
    /// Starts to tell; nothing where nobody listens.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(plan: Plan, sources: Sources) -> std::io::Result<Option<Self>> {
        if plan.is_empty() {
            return Ok(None);
        }
        let (stop, stopping) = watch::channel(Stop::No);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name("telemetry".into());
        let thread = thread.spawn(move || {
            LocalSet::new().block_on(&runtime, tell(plan, sources, stopping));
        })?;
        Ok(Some(Self {
            stop,
            thread: Some(thread),
        }))
    }

    /// Tells what is left, for a few seconds at most, and ends.
    pub fn stop(self) {
        self.end(Stop::WhenTold);
    }

    /// Leaves what is left to somebody else.
    pub fn leave(self) {
        self.end(Stop::Now);
    }

    fn end(mut self, how: Stop) {
        self.stop.send_replace(how);
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there.
            thread.join().ok();
        }
    }
}

async fn tell(plan: Plan, sources: Sources, mut stopping: watch::Receiver<Stop>) {
    let mut working = JoinSet::new();
    let Plan {
        shipped,
        metrics,
        queue,
    } = plan;
    for one in shipped {
        let path = match one.log {
            config::Log::Decisions => &sources.decisions,
            config::Log::Security => &sources.security,
        };
        let batches = one.encoding.begin(&sources.standing);
        let shipment = Shipment::new(path, &one.name, one.signal, one.route.open(), queue);
        let numbers = Arc::clone(&sources.metrics);
        working.spawn_local(shipment.run(batches, numbers, stopping.clone()));
    }
    if let Some((route, every)) = metrics {
        let sender = route.open();
        let (standing, numbers) = (sources.standing.clone(), Arc::clone(&sources.metrics));
        working.spawn_local(pages(sender, every, standing, numbers, stopping.clone()));
    }
    // A sender that is gone means the same.
    stopping.wait_for(|stop| stop.is_said()).await.ok();
    if *stopping.borrow() == Stop::Now {
        return;
    }
    let all = async { while working.join_next().await.is_some() {} };
    if timeout(LAST, all).await.is_err() {
        tracing::warn!(
            "not everything was told: it is told by the next sidecar that goes on with these logs"
        );
    }
}
