//! The sidecar as a whole: everything is bound before anything is served, and what runs beside
//! the calls (admin, control, ticks, reload) runs on a thread of its own.

mod authority;
mod banner;
mod bequest;
mod beside;
mod bind;
mod doctor;
mod hand_over;
mod known;
mod take_over;
mod watch;

use std::{
    collections::HashMap,
    mem,
    net::SocketAddr,
    path::{Path, PathBuf, absolute},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

pub use banner::Banner;

use crate::{
    config::{Built, Compiler, Isolation, Loaded},
    control,
    drain::{Drain, Draining},
    identify::agent,
    jose::Source,
    keys::SigningKey,
    listen::{ListenAddress, ListenerFacts, Observer, accept::Bound},
    metrics::{CredentialSample, Metrics, StoreNumbers},
    outrider::{Outrider, Tidy},
    record::{
        Recorder, Standing,
        chain::{Log, LogConfig, Rotate},
        digest::DigestKey,
        security::{SecurityKind, SecurityLog},
    },
    state::{
        self, Authority, Journal, Kept, Store, Tasks, config::Store as StoreName, redis::Fleet,
    },
    tag::{self, Signer},
    telemetry::{self, Telemetry},
    upstream::TlsRoots,
    workers::Workers,
};
use bequest::Place;
use hand_over::Heritage;
use known::Known;
use take_over::{Offer, Predecessor};

/// How long a drain waits for calls under way.
const DRAIN: Duration = Duration::from_secs(25);

/// How a sidecar is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where policies are compiled first.
    pub compiler: Compiler,
    /// Opens a task of the only intent on the only listener.
    pub open_task: bool,
    /// Goes on with everything that the sidecar behind `control.socket` has.
    pub take_over: bool,
}

/// A running sidecar.
#[derive(Debug)]
pub struct Running {
    outrider: Arc<Outrider>,
    banner: Banner,
    orders: mpsc::UnboundedSender<Order>,
    edge: Option<thread::JoinHandle<()>>,
}

/// What the edge is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    Reload(oneshot::Sender<Result<(), String>>),
    Stop,
}

/// Everything that is bound, before anything is served.
pub(crate) struct Edge {
    pub(crate) outrider: Arc<Outrider>,
    pub(crate) loaded: Loaded,
    pub(crate) compiler: Compiler,
    pub(crate) isolation: Isolation,
    pub(crate) listeners: Vec<(Bound, Arc<ListenerFacts>)>,
    pub(crate) admin: Option<std::net::TcpListener>,
    pub(crate) probe: Option<std::net::TcpListener>,
    pub(crate) control: Option<control::Socket>,
    pub(crate) workers: Workers,
    pub(crate) observer: Observer,
    pub(crate) drain: Drain,
    pub(crate) draining: Draining,
    heritage: Heritage,
    predecessor: Option<Predecessor>,
    known: Option<Known>,
    roots: TlsRoots,
    telemetry: Option<Telemetry>,
}

/// Starts a sidecar.
///
/// # Errors
/// What is wrong with the configuration, or what could not be bound; then nothing is served.
pub fn start(loaded: Loaded, options: &Options) -> anyhow::Result<Running> {
    let Built {
        snapshot,
        labels,
        warnings,
    } = loaded
        .build(&options.compiler, None)
        .map_err(|problems| Unusable { problems })?;
    let issuers = loaded.issuers().map_err(|failure| Unusable {
        problems: failure.problems,
    })?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let telemetry = loaded.telemetry().map_err(|bad| Unusable {
        problems: vec![loaded.problem(bad.to_string())],
    })?;
    let isolation = loaded.isolation();
    let roots = bind::roots(&snapshot)?;
    let agent: Arc<str> = loaded.config.agent.id.0.as_str().into();
    let signer = Arc::new(signer(&loaded, Arc::clone(&agent))?);
    let known = Known::begin(&loaded, agent, &signer, snapshot.svid.clone())?;
    if options.take_over {
        // A predecessor goes on until we can.
        known.obtained()?;
    }
    let mut offer = options.take_over.then(|| ask(&loaded)).transpose()?;
    let recorder = Arc::new(recorder(&loaded, isolation, offer.as_mut())?);
    recorder.prepare(&labels);
    recorder
        .metrics
        .policy_in_force(snapshot.policy.revision(), "enforce");
    recorder.metrics.policy_reloaded("ok");
    let state = state(&loaded, &recorder, offer.as_mut())?;
    let peers = loaded
        .config
        .listeners
        .iter()
        .filter_map(|listener| Some((listener.name().into(), listener.peers.clone()?)));
    let outrider = Outrider::new(
        snapshot,
        peers.collect(),
        Arc::clone(&recorder),
        state.authority,
        state.store,
        signer,
        Arc::clone(&known.identity),
    );
    let traces = loaded.config.telemetry.traces();
    let outrider = Arc::new(outrider.believing(issuers).tracing(traces));
    outrider.uses.inherit(state.uses);
    if let Some(offer) = &mut offer {
        let config = &loaded.config;
        let there = |name: &str| {
            config
                .listeners
                .iter()
                .any(|section| section.name() == name)
        };
        let binds = |listener: &str| !config.production() && there(listener);
        let authority = mem::take(&mut offer.estate.authority);
        outrider.authority.inherit(authority, binds);
        outrider.uses.inherit(mem::take(&mut offer.estate.uses));
        outrider.signer.inherit(mem::take(&mut offer.estate.keys));
    }
    if state.begun {
        outrider.keep_state(Tidy::Always)?;
    }
    feed(&outrider);
    let opened = options
        .open_task
        .then(|| open_task(&loaded, &outrider))
        .transpose()?;
    let mut edge = bind::all(loaded, options, outrider, isolation, roots, offer.as_mut())?;
    edge.known = Some(known);
    edge.predecessor = offer.map(Offer::accept).transpose()?;
    let sources = sources(&edge);
    edge.telemetry = Telemetry::start(telemetry, sources)?;
    let banner = Banner::of(&edge, opened);
    let outrider = Arc::clone(&edge.outrider);
    let (orders, received) = mpsc::unbounded_channel();
    let edge = thread::Builder::new()
        .name("outrider-edge".into())
        .stack_size(STACK)
        .spawn(move || beside::run(edge, received))?;
    Ok(Running {
        outrider,
        banner,
        orders,
        edge: Some(edge),
    })
}

/// What there is to be told.
fn sources(edge: &Edge) -> telemetry::Sources {
    let (config, recorder) = (&edge.loaded.config, &edge.outrider.recorder);
    telemetry::Sources {
        decisions: edge.loaded.resolve(&config.decision_log.path),
        security: security_log(&edge.loaded),
        metrics: Arc::clone(&recorder.metrics),
        standing: telemetry::Standing {
            agent: edge.outrider.agent.to_string(),
            environment: config.environment.clone(),
            instance: recorder.log.instance().to_string(),
        },
    }
}

/// Compiling and reloading policies wants room.
pub(crate) const STACK: usize = 16 << 20;

/// A configuration that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Unusable {
    /// Everything that was found.
    pub problems: Vec<outrider_policy::Problem>,
}

impl Running {
    /// What all workers share.
    pub fn outrider(&self) -> &Arc<Outrider> {
        &self.outrider
    }

    /// Where it listens and what it says of itself.
    pub fn banner(&self) -> &Banner {
        &self.banner
    }

    /// The listeners by name, with their real ports.
    pub fn listeners(&self) -> Vec<(String, ListenAddress)> {
        self.banner.listening.clone()
    }

    /// The admin address.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.banner.admin
    }

    /// Reads the configuration anew.
    ///
    /// # Errors
    /// Why the old one stays in force.
    pub fn reload(&self) -> Result<(), String> {
        let (done, result) = oneshot::channel();
        self.orders
            .send(Order::Reload(done))
            .map_err(|_| "the sidecar has stopped".to_owned())?;
        result
            .blocking_recv()
            .unwrap_or_else(|_| Err("the sidecar has stopped".into()))
    }

    /// Waits until the sidecar has stopped, whoever told it to.
    pub async fn stopped(&self) {
        self.orders.closed().await;
    }

    /// Finishes what runs, writes what is left to write, and stops.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        // An edge that is gone has stopped already.
        self.orders.send(Order::Stop).ok();
        if let Some(edge) = self.edge.take() {
            edge.join().ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Asks the sidecar that runs with this configuration for everything it has.
fn ask(loaded: &Loaded) -> anyhow::Result<Offer> {
    let section = loaded.config.control.as_ref().context(
        "`--take-over` needs `control.socket`: it is where the running sidecar is asked",
    )?;
    let socket = loaded.resolve(&section.socket);
    control::prepare_directory(&socket)?;
    Offer::ask(&socket, &authority::access(loaded), bind::bid(loaded)?)
}

fn security_log(loaded: &Loaded) -> PathBuf {
    match &loaded.config.security_log {
        Some(section) => loaded.resolve(&section.path),
        None => loaded
            .resolve(&loaded.config.decision_log.path)
            .with_file_name("security.jsonl"),
    }
}

fn recorder(
    loaded: &Loaded,
    isolation: Isolation,
    mut offer: Option<&mut Offer>,
) -> anyhow::Result<Recorder> {
    let mut offered = |place| offer.as_mut().and_then(|offer| offer.take(&place));
    let section = &loaded.config.decision_log;
    let path = loaded.resolve(&section.path);
    let now = Timestamp::now();
    let digests = match &section.digest_key {
        Some(file) => digest_key(&loaded.resolve(file))?,
        None => DigestKey::made(&aws_lc_rs::rand::SystemRandom::new())?,
    };
    let config = LogConfig {
        key: section.key.as_deref().map(|key| loaded.resolve(key)),
        durability: section.durability,
        rotate: section.rotate.map(|rotate| Rotate {
            size: rotate.size.map(|size| size.0 as u64),
            age: rotate.age.map(|age| age.0),
        }),
        ..LogConfig::at(path)
    };
    let log = match offered(Place::DecisionLog) {
        Some(file) => Log::inherit(&config, file, now)?,
        None => Log::open(&config, now)?,
    };
    let security = security_log(loaded);
    let security = match offered(Place::SecurityLog) {
        Some(file) => SecurityLog::inherit(security, file, now)?,
        None => SecurityLog::open(security, now)?,
    };
    let standing = Standing {
        agent: &loaded.config.agent.id.0,
        environment: &loaded.config.environment,
        isolation: isolation.as_str(),
    };
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), isolation.as_str()));
    let recorder = Recorder::new(log, security, metrics, digests, &standing);
    Ok(match section.refusals {
        Some(beyond) => recorder.sharing(beyond),
        None => recorder,
    })
}

/// Where authority is kept, and what was kept there.
struct State {
    authority: Arc<Authority>,
    store: Store,
    uses: Vec<(Arc<str>, u64)>,
    /// Its file is not a predecessor's: what holds has to be written there.
    begun: bool,
}

fn state(
    loaded: &Loaded,
    recorder: &Arc<Recorder>,
    offer: Option<&mut Offer>,
) -> anyhow::Result<State> {
    let (mut kept, mut begun) = (Kept::default(), false);
    let mut issuer = offer.as_ref().map(|offer| Arc::clone(&offer.estate.issuer));
    let mut store = match &loaded.config.state.store {
        // A fleet is joined below: it has to be followed from the beginning.
        StoreName::Memory | StoreName::Redis(_) => Store::Memory,
        StoreName::File(path) => {
            let path = absolute(loaded.resolve(path))?;
            let offered = offer.and_then(|offer| offer.take(&Place::State(path.clone())));
            let journal = if let Some(file) = offered {
                Journal::inherit(path, file)?
            } else {
                let (journal, found) = Journal::open(path)?;
                (kept, begun) = (found, true);
                journal
            };
            Store::File(Arc::new(journal))
        }
    };
    issuer = issuer.or_else(|| kept.issuer.clone());
    let own = || format!("outrider:{}", recorder.log.instance()).into();
    let tasks = Tasks::new(issuer.unwrap_or_else(own), SigningKey::generate()?);
    let authority = Authority::new(Arc::clone(&recorder.agent), Arc::new(tasks));
    authority.least_confidence(loaded.config.tasks.min_confidence);
    let uses = kept.give(&authority);
    let authority = Arc::new(authority);
    if let Some(settings) = loaded.fleet()? {
        let follower = authority::Followed {
            authority: Arc::clone(&authority),
            recorder: Arc::clone(recorder),
        };
        store = Store::Fleet(Arc::new(Fleet::start(settings, Box::new(follower))?));
    }
    Ok(State {
        authority,
        store,
        uses,
        begun,
    })
}

/// The least that makes a digest hard to guess.
const DIGEST_KEY_BYTES: usize = 16;

fn digest_key(file: &PathBuf) -> anyhow::Result<DigestKey> {
    let secret = std::fs::read(file).with_context(|| {
        format!(
            "`decision_log.digest_key`: cannot read `{}`",
            file.display()
        )
    })?;
    let secret = secret.trim_ascii();
    anyhow::ensure!(
        secret.len() >= DIGEST_KEY_BYTES,
        "`decision_log.digest_key`: `{}` holds fewer than {DIGEST_KEY_BYTES} bytes: fill it with `openssl rand -base64 32`",
        file.display()
    );
    Ok(DigestKey::new(secret))
}

/// The key of the file that is configured, or else a new one.
fn assertion_key(section: &tag::Config, file: Option<&Path>) -> anyhow::Result<SigningKey> {
    let Some(file) = file else {
        return Ok(match section.algorithm {
            tag::Algorithm::EdDsa => SigningKey::generate()?,
            tag::Algorithm::Es256 => SigningKey::generate_p256()?,
        });
    };
    let key = SigningKey::load(file).context("`assertion.key`")?;
    anyhow::ensure!(
        key.algorithm() == section.algorithm.into(),
        "`assertion.key` is a key for {}: say so in `assertion.algorithm`, or name another file",
        key.algorithm().as_str()
    );
    Ok(key)
}

/// What signs assertions; with `identity: spiffe` the SVIDs' keys do, when they are there.
fn signer(loaded: &Loaded, agent: Arc<str>) -> anyhow::Result<Signer> {
    let section = &loaded.config.assertion;
    if loaded.config.identity.source == agent::Source::Spiffe {
        return Ok(Signer::mute(section.ttl, agent).overlapping(section.overlap));
    }
    let file = section.key.as_deref().map(|file| loaded.resolve(file));
    let key = assertion_key(section, file.as_deref())?;
    Ok(Signer::new(key, section.ttl, agent).overlapping(section.overlap))
}

fn feed(outrider: &Arc<Outrider>) {
    let tasks = Arc::clone(&outrider.authority.tasks);
    outrider.recorder.metrics.feed_tasks(Box::new(move || {
        let counts = tasks.counts(Timestamp::now());
        [
            ("active", counts.active),
            ("suspended", counts.suspended),
            ("expired", counts.expired),
            ("closed", counts.closed),
            ("revoked", counts.revoked),
        ]
        .map(|(state, count)| (state, count as u64))
        .to_vec()
    }));
    outrider.recorder.metrics.feed_approvals(Box::new(Vec::new));
    if let Some(fleet) = outrider.store.fleet().cloned() {
        let numbers = move || {
            let status = fleet.status();
            StoreNumbers {
                up: status.up,
                age: status.age.map(|age| age.as_secs_f64()),
                questions: fleet.questions().to_vec(),
                changes: fleet.changes().to_vec(),
            }
        };
        outrider.recorder.metrics.feed_store(Box::new(numbers));
    }
    let sources = outrider.issuers.all().iter();
    let sources: Vec<_> = sources.map(|issuer| Arc::clone(&issuer.source)).collect();
    outrider.recorder.metrics.feed_issuers(Box::new(move || {
        let keys = |source: &Arc<Source>| {
            let serving = source.keys().map_or(0, |keys| keys.keys().len());
            let name = Arc::clone(&source.settings().name);
            (name, serving, source.status().age)
        };
        sources.iter().map(keys).collect()
    }));
    known::feed(outrider);
    // The metrics are a part of what they would hold.
    let known = Arc::downgrade(outrider);
    outrider
        .recorder
        .metrics
        .feed_credentials(Box::new(move || {
            let now = Timestamp::now();
            let mut samples = Vec::new();
            if let Some(outrider) = known.upgrade() {
                outrider.each_credential(|credential| {
                    let report = credential.report(now);
                    samples.push(CredentialSample {
                        service: report.service,
                        expires_s: report.expires.map(|at| at.duration_since(now).as_secs()),
                        fetches: report.fetches,
                    });
                });
            }
            samples
        }));
}

/// Opens the task of `--open-task`: the only intent, bound to the only listener.
fn open_task(loaded: &Loaded, outrider: &Outrider) -> anyhow::Result<String> {
    anyhow::ensure!(
        !loaded.config.production(),
        "`--open-task` is off when `environment` is `production`: open tasks with `outrider task open`"
    );
    anyhow::ensure!(
        loaded.config.tasks.local,
        "`--open-task` opens a task of this sidecar, and `tasks.local` is off"
    );
    let snapshot = outrider.snapshot();
    let mut intents = snapshot.data.intents();
    let (Some(intent), None) = (intents.next(), intents.next()) else {
        anyhow::bail!(
            "`--open-task` needs exactly one intent in the policy data: open tasks with `outrider task open --intent …`"
        );
    };
    let [listener] = loaded.config.listeners.as_slice() else {
        anyhow::bail!(
            "`--open-task` needs exactly one listener: bind tasks with `outrider task open --current LISTENER`"
        );
    };
    let uid = rustix::process::geteuid().as_raw();
    let open = state::Open {
        agent: Arc::clone(&outrider.agent),
        intent: intent.id.as_str().into(),
        subject: format!("uid:{uid}").into(),
        tools: None,
        max_classification: None,
        budget: None,
        ttl: state::LONGEST_TASK,
        current: Some(listener.name().into()),
        opened_by: format!("uid:{uid}").into(),
        parent: None,
    };
    let opened = outrider.authority.open(open, Timestamp::now())?;
    let task = opened.task.id.to_string();
    outrider.recorder.event(
        SecurityKind::TaskOpened,
        Some(listener.name()),
        &[
            ("task", &task),
            ("who", &opened.task.opened_by),
            ("why", "--open-task"),
        ],
    );
    Ok(task)
}

/// The peers of every listener: the agents, whom the control socket never serves.
pub(crate) fn agents(loaded: &Loaded) -> Vec<u32> {
    let peers = loaded
        .config
        .listeners
        .iter()
        .filter_map(|listener| listener.peers.as_ref());
    peers.flat_map(|peers| peers.uid.iter().copied()).collect()
}

/// What is bound once and stays for the life of the process.
pub(crate) fn fixed(loaded: &Loaded) -> HashMap<&'static str, String> {
    let config = &loaded.config;
    HashMap::from([
        ("agent", format!("{:?}", config.agent)),
        ("environment", config.environment.clone()),
        ("isolation", format!("{:?}", config.isolation)),
        ("identity", format!("{:?}", config.identity)),
        ("listeners", format!("{:?}", config.listeners)),
        ("admin", format!("{:?}", config.admin)),
        ("control", format!("{:?}", config.control)),
        ("tasks.issuers", format!("{:?}", config.tasks.issuers)),
        ("assertion", format!("{:?}", config.assertion)),
        ("decision_log", format!("{:?}", config.decision_log)),
        ("security_log", format!("{:?}", config.security_log)),
        ("state", format!("{:?}", config.state)),
        ("telemetry", format!("{:?}", config.telemetry)),
        ("workers", format!("{:?}", config.workers)),
    ])
}
