//! Where credentials are fetched: beside the calls, on one thread, for all workers.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    AgentToken, Credential, Fault, Kind, Source, Tools, Want, fetched::Fetched, kept::Landing,
    still::Still,
};
use crate::upstream::TlsRoots;

/// Between two looks at what is held and at files.
const TICK: Duration = Duration::from_millis(500);

/// The way to the keeper, for all workers.
pub struct Fetching {
    jobs: mpsc::UnboundedSender<Job>,
    received: Mutex<Option<mpsc::UnboundedReceiver<Job>>>,
}

/// A fetch. There is one at most for each task and scope that is kept.
pub(super) struct Job {
    pub(super) source: Arc<Fetched>,
    pub(super) want: Want,
    pub(super) landing: Landing,
}

impl Default for Fetching {
    fn default() -> Self {
        let (jobs, received) = mpsc::unbounded_channel();
        let received = Mutex::new(Some(received));
        Self { jobs, received }
    }
}

impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetching").finish_non_exhaustive()
    }
}

impl Fetching {
    /// Hands a fetch over; whether there is somebody to do it.
    pub(super) fn start(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// Fetches, and tends what `each` shows, until it is dropped. The first one who runs it does;
    /// without one nothing is fetched.
    pub async fn keep(
        &self,
        roots: TlsRoots,
        agent: Option<Arc<dyn AgentToken>>,
        each: impl Fn(&mut dyn FnMut(&Credential)),
    ) {
        let received = self.received.lock();
        let received = received.unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut jobs) = received else { return };
        let keeper = Keeper { roots, agent };
        let (mut running, mut looking) = (JoinSet::new(), JoinSet::new());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(job) = jobs.recv() => {
                    running.spawn(keeper.clone().run(job));
                    while running.try_join_next().is_some() {}
                }
                _ = ticks.tick() => {
                    while looking.try_join_next().is_some() {}
                    // Files that do not answer hold nobody up but themselves.
                    let look = looking.is_empty();
                    each(&mut |credential| self.tend(credential, look, &mut looking));
                }
            }
        }
    }

    fn tend(&self, credential: &Credential, look: bool, looking: &mut JoinSet<()>) {
        match &*credential.kind {
            Kind::Still(still) if look && still.is_watched() => {
                let kind = Arc::clone(&credential.kind);
                looking.spawn_blocking(move || {
                    if let Kind::Still(still) = &*kind {
                        Still::look(still);
                    }
                });
            }
            Kind::Still(_) => {}
            Kind::Fetched(fetched) => fetched.tend(self, Timestamp::now()),
        }
    }
}

#[derive(Clone)]
struct Keeper {
    roots: TlsRoots,
    agent: Option<Arc<dyn AgentToken>>,
}

impl Keeper {
    async fn run(self, job: Job) {
        let Job {
            source,
            want,
            landing,
        } = job;
        let place = source.places.acquire().await;
        let asked = Timestamp::now();
        let got = {
            let ended = async {
                match &want.task {
                    Some(task) => drop(task.ended().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = ended => Err(Fault::Ended),
                got = self.fetch(&source, &want) => got,
            }
        };
        drop(place);
        source.land(&landing, &want, asked, got);
    }

    async fn fetch(&self, source: &Arc<Fetched>, want: &Want) -> Result<super::Got, Fault> {
        if let Some(fault) = source.failing(Timestamp::now()) {
            return Err(fault);
        }
        let tools = Tools {
            roots: self.roots.clone(),
            agent: self.agent.clone(),
            base: Arc::clone(&source.setting.base),
            agent_id: Arc::clone(&source.setting.agent),
            resource: Arc::clone(&source.setting.resource),
        };
        let fetch = async {
            match &source.source {
                Source::Command(command) => command.fetch(&tools.base).await,
                Source::OAuth(grant, config) => config.fetch(*grant, want, &tools).await,
            }
        };
        // Also where our own files do not answer.
        timeout(source.source.patience() * 2, fetch)
            .await
            .unwrap_or(Err(Fault::Timeout))
    }
}
