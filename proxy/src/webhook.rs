//! The injector of a cluster: reviews of admission come in by HTTPS, patches and refusals go out.
//!
//! It keeps nothing and asks nobody. What it decides is [`kubernetes::admission`]; here are the
//! sockets, the certificate that is read again when it changes, and the numbers.
//!
//! [`kubernetes::admission`]: crate::kubernetes::admission

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use secrecy::SecretString;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::{JoinSet, LocalSet},
    time::{interval, sleep, timeout},
};

use crate::{
    kubernetes::{
        admission::{Outcome, Question, answer},
        settings::Settings,
    },
    listen::tls::{BadIdentity, Identity, Presented},
    metrics::{Format, written},
    server::{self, Answer, text},
};

/// How large a review may be: the API server takes objects of at most 3 MiB.
const LARGEST: usize = 8 * 1024 * 1024;
/// How long a review may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the certificate is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long calls are still taken after the order to stop: routes to us are taken down meanwhile.
const GRACE: Duration = Duration::from_secs(5);

const PLAIN: &str = "text/plain; charset=utf-8";

/// Where it listens and what it proves itself by.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// Where the API server calls
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8443")]
    pub address: SocketAddr,
    /// Where probes and metrics are, without TLS
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    pub probe: SocketAddr,
    /// The certificate and those that vouch for it, PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    /// A file cannot be read.
    #[error("cannot read `{0}`: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// What is in it is not what it should be.
    #[error("`{0}`: {1}")]
    Unusable(PathBuf, BadIdentity),
}

impl Place {
    fn identity(&self) -> Result<Identity, Unproved> {
        let read = |path: &PathBuf| {
            fs::read_to_string(path).map_err(|error| Unproved::Unreadable(path.clone(), error))
        };
        let (chain, key) = (
            read(&self.certificate)?,
            SecretString::from(read(&self.key)?),
        );
        Identity::read(&chain, &key).map_err(|bad| {
            let path = match bad {
                BadIdentity::NoKey => &self.key,
                BadIdentity::NoCertificate | BadIdentity::Unusable(_) => &self.certificate,
            };
            Unproved::Unusable(path.clone(), bad)
        })
    }

    /// By what a change of the files is known.
    fn state(&self) -> [Option<(u64, i64, i64, u64)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
        })
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AdmissionLabels {
    webhook: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Debug)]
struct Numbers {
    registry: Registry,
    admissions: Family<AdmissionLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
}

impl Numbers {
    fn new() -> Self {
        let mut numbers = Self {
            registry: Registry::with_prefix("outrider_webhook"),
            admissions: Family::default(),
            reloads: Family::default(),
        };
        let to = &mut numbers.registry;
        to.register(
            "admissions",
            "Reviews, by what became of them",
            numbers.admissions.clone(),
        );
        to.register(
            "certificate_reload",
            "Attempts to read the certificate",
            numbers.reloads.clone(),
        );
        numbers
    }
}

/// The injector, listening.
#[derive(Debug)]
pub struct Webhook {
    runtime: Runtime,
    listener: TcpListener,
    probe: TcpListener,
    place: Place,
    presented: Presented,
    hooks: Arc<Hooks>,
    stop: [Signal; 2],
}

/// What it answers by.
#[derive(Debug)]
struct Hooks {
    settings: Settings,
    required: bool,
    numbers: Numbers,
    stopping: AtomicBool,
}

impl Webhook {
    /// Reads the certificate and listens.
    ///
    /// # Errors
    /// A certificate that cannot be used, an address that is taken.
    pub fn open(place: Place, settings: Settings, required: bool) -> anyhow::Result<Self> {
        let presented = Presented::new(&place.identity()?);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (listener, probe, stop) = {
            let _entered = runtime.enter();
            let stop = [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ];
            (listen(place.address)?, listen(place.probe)?, stop)
        };
        let hooks = Arc::new(Hooks {
            settings,
            required,
            numbers: Numbers::new(),
            stopping: AtomicBool::new(false),
        });
        Ok(Self {
            runtime,
            listener,
            probe,
            place,
            presented,
            hooks,
            stop,
        })
    }

    /// Where the API server calls, and where probes are.
    ///
    /// # Errors
    /// The system's.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.listener.local_addr()?, self.probe.local_addr()?))
    }

    /// Answers until SIGTERM or SIGINT; what is under way comes to its end.
    pub fn run(self) {
        let Self {
            runtime,
            listener,
            probe,
            place,
            presented,
            hooks,
            stop: [mut terminate, mut interrupt],
        } = self;
        let work = async {
            let (stop, stopping) = watch::channel(false);
            let (mut working, mut beside) = (JoinSet::new(), JoinSet::new());
            let reviews = Arc::clone(&hooks);
            let reviewed = move |request| Arc::clone(&reviews).reviewed(request);
            working.spawn_local(server::serve(
                listener,
                Some(presented.clone()),
                reviewed,
                stopping,
            ));
            let pages = Arc::clone(&hooks);
            let probed = move |request: Request<Incoming>| {
                let page = pages.probed(&request);
                async move { page }
            };
            // Probes are answered to the last: what says that we stop must be heard.
            let (_never, never) = watch::channel(false);
            beside.spawn_local(server::serve(probe, None, probed, never));
            beside.spawn_local(keep(place, presented, Arc::clone(&hooks)));
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            hooks.stopping.store(true, Ordering::Relaxed);
            tracing::info!("draining");
            tokio::select! {
                () = sleep(GRACE) => {}
                _ = interrupt.recv() => {}
            }
            stop.send_replace(true);
            while working.join_next().await.is_some() {}
            beside.shutdown().await;
        };
        LocalSet::new().block_on(&runtime, work);
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = std::net::TcpListener::bind(address);
    let bound = bound.map_err(|error| anyhow::anyhow!("cannot listen on `{address}`: {error}"))?;
    bound.set_nonblocking(true)?;
    Ok(TcpListener::from_std(bound)?)
}

/// Presents another certificate when the files change; bad ones keep what was.
async fn keep(place: Place, presented: Presented, hooks: Arc<Hooks>) {
    let mut known = place.state();
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        let state = place.state();
        if state == known {
            continue;
        }
        known = state;
        let result = match place.identity() {
            Ok(identity) => {
                presented.replace(&identity);
                tracing::info!("another certificate is presented");
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, "the certificate in force is kept");
                "failed"
            }
        };
        hooks
            .numbers
            .reloads
            .get_or_create(&ReloadLabels { result })
            .inc();
    }
}

impl Hooks {
    async fn reviewed(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (webhook, question) = match request.uri().path() {
            "/mutate" => ("mutate", Question::Mutate),
            "/validate" => (
                "validate",
                Question::Validate {
                    required: self.required,
                },
            ),
            _ => {
                return text(
                    StatusCode::NOT_FOUND,
                    PLAIN,
                    "expected /mutate or /validate\n",
                );
            }
        };
        if *request.method() != Method::POST {
            return not_allowed("POST");
        }
        let body = Limited::new(request.into_body(), LARGEST).collect();
        let Ok(Ok(body)) = timeout(PATIENCE, body).await else {
            let why = "the review did not arrive whole: at most 8 MiB, in 5 s\n";
            return text(StatusCode::BAD_REQUEST, PLAIN, why);
        };
        match answer(&body.to_bytes(), question, &self.settings) {
            Ok((outcome, review)) => {
                self.count(webhook, outcome, &review);
                text(StatusCode::OK, "application/json", review.to_string())
            }
            Err(why) => text(StatusCode::BAD_REQUEST, PLAIN, format!("{why}\n")),
        }
    }

    fn count(&self, webhook: &'static str, outcome: Outcome, review: &serde_json::Value) {
        let why = review.pointer("/response/status/message");
        tracing::info!(
            webhook,
            outcome = outcome.as_str(),
            why = why.map(tracing::field::display)
        );
        let labels = AdmissionLabels {
            webhook,
            outcome: outcome.as_str(),
        };
        self.numbers.admissions.get_or_create(&labels).inc();
    }

    fn probed(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return not_allowed("GET, HEAD");
        }
        match request.uri().path() {
            "/livez" => text(StatusCode::OK, PLAIN, "live\n"),
            "/readyz" | "/startupz" if self.stopping.load(Ordering::Relaxed) => {
                text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "draining\n")
            }
            "/readyz" | "/startupz" => text(StatusCode::OK, PLAIN, "ready\n"),
            "/metrics" => {
                let accept = request.headers().get(header::ACCEPT);
                let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
                let page = written(&self.numbers.registry, format);
                text(StatusCode::OK, format.content_type(), page)
            }
            _ => text(StatusCode::NOT_FOUND, PLAIN, "not found\n"),
        }
    }
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = server::empty(StatusCode::METHOD_NOT_ALLOWED);
    let allowed = HeaderValue::from_static(allowed);
    answer.headers_mut().insert(header::ALLOW, allowed);
    answer
}
