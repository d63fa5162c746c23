//! `outrider.yaml`: its shape, and how it becomes what the pipeline runs on.
//!
//! Each stage owns its section; what is not served yet is refused by name, never ignored.

mod build;
mod compile;
mod cross;
pub mod description;
mod load;
mod service;
mod trust;
mod words;

use std::path::PathBuf;

use serde::Deserialize;

pub use build::{Built, Isolation};
pub use compile::{COMMAND, Compiler, Ingredients, child};
pub(crate) use load::parsed;
pub use load::{Failure, ISOLATION, Loaded, load};
pub use service::{Allowance, BodyWord, Service};
pub use trust::TlsFiles;
pub use words::{ListenerTls, NotBuilt, Served, TlsWord};

use crate::{
    control,
    identify::{Peers, agent, issuers},
    limit,
    listen::{ListenAddress, Mode, ca, tls},
    overload,
    record::chain::Durability,
    state::{self, Depth},
    tag::{self},
    task::Confidence,
    telemetry,
    units::{Period, Size},
};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who rides beside us.
    pub agent: Agent,
    /// A free word that policy sees; `production` turns the unsafe conveniences off.
    #[serde(default = "development")]
    pub environment: String,
    /// What the injector vouches for.
    pub isolation: Option<Declared>,
    /// How the agent is known.
    #[serde(default)]
    pub identity: agent::Config,
    /// Where agents call.
    pub listeners: Vec<Listener>,
    /// Probes, metrics, public keys.
    pub admin: Option<Admin>,
    /// Tasks and revocation.
    pub control: Option<control::Config>,
    /// What can be called.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Authority.
    #[serde(default)]
    pub tasks: Tasks,
    /// Who may do what.
    #[serde(default)]
    pub policy: Policy,
    /// How often.
    #[serde(default)]
    pub limits: Vec<limit::Config>,
    /// Where tasks and counts live.
    #[serde(default)]
    pub state: state::config::Section,
    /// What upstreams can check.
    #[serde(default)]
    pub assertion: tag::Config,
    /// The record.
    pub decision_log: DecisionLog,
    /// What was attempted.
    pub security_log: Option<SecurityLog>,
    /// To whom what is known of calls is told.
    #[serde(default)]
    pub telemetry: telemetry::Config,
    /// Bounds of buffered bodies.
    #[serde(default)]
    pub body: Body,
    /// When calls are too many.
    #[serde(default)]
    pub overload: overload::Config,
    /// Threads that carry calls.
    pub workers: Option<std::num::NonZeroUsize>,
    /// The authority behind interception.
    #[serde(default)]
    pub ca: ca::Config,
}

impl Config {
    /// Whether the unsafe conveniences are off.
    pub fn production(&self) -> bool {
        self.environment == "production"
    }
}

fn development() -> String {
    "development".into()
}

/// The agent's own name: a URI, normally a SPIFFE ID.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The URI.
    pub id: AgentId,
}

/// A URI without white space or control characters, at most 2,048 bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct AgentId(pub String);

impl TryFrom<String> for AgentId {
    type Error = &'static str;

    fn try_from(id: String) -> Result<Self, &'static str> {
        let scheme = id.split_once(':').is_some_and(|(scheme, rest)| {
            !rest.is_empty() && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        });
        let fits = id.len() <= 2048 && id.bytes().all(|b| b.is_ascii_graphic());
        if scheme && fits {
            Ok(Self(id))
        } else {
            Err("expected a URI such as `spiffe://example.org/agent/triage`")
        }
    }
}

/// A declaration by whoever set the sidecar up.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Declared {
    /// The agent runs in another container.
    Container,
}

/// One address where agents call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// How agents reach it.
    #[serde(deserialize_with = "words::mode")]
    pub mode: Mode,
    /// Where it listens.
    pub address: ListenAddress,
    /// Its unique name; the mode when absent.
    pub name: Option<String>,
    /// The `Host` values it answers to.
    pub hosts: Option<Vec<String>>,
    /// The `Origin` values it answers to.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Which local users may call.
    pub peers: Option<Peers>,
    /// On `reverse` what it proves itself by, without which it speaks plain HTTP; on the others what
    /// it does about TLS to somebody else.
    pub tls: Option<ListenerTls>,
}

impl Listener {
    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.mode.as_str())
    }

    /// What it proves itself by.
    pub fn identity(&self) -> Option<&tls::Config> {
        match &self.tls {
            Some(ListenerTls::Identity(identity)) => Some(identity),
            Some(ListenerTls::Of(_)) | None => None,
        }
    }

    /// What it does about TLS to somebody else.
    pub fn inside(&self) -> TlsWord {
        match &self.tls {
            Some(ListenerTls::Of(word)) => *word,
            Some(ListenerTls::Identity(_)) | None => TlsWord::Refuse,
        }
    }
}

/// Probes, metrics, public keys: read only.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// A TCP address.
    pub address: std::net::SocketAddr,
    /// A TCP address that others reach too: probes and metrics, and nothing else.
    pub probe: Option<std::net::SocketAddr>,
}

/// Authority.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tasks {
    /// A call without a task is refused.
    pub required: bool,
    /// The embedded issuer behind the control socket.
    pub local: bool,
    /// Below it a task is suspended.
    pub min_confidence: Option<Confidence>,
    /// How many tasks may stand above one.
    pub max_depth: Depth,
    /// Issuers elsewhere.
    pub issuers: Vec<issuers::Section>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            required: true,
            local: true,
            min_confidence: None,
            max_depth: Depth::default(),
            issuers: Vec::new(),
        }
    }
}

/// Who may do what.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A directory of `*.rego` files.
    pub path: Option<PathBuf>,
    /// Documents under `data.outrider`.
    pub data: Vec<PathBuf>,
    /// `enforce`.
    pub mode: Served<words::Enforce>,
    /// End of shadow mode.
    pub shadow_until: Option<NotBuilt>,
    /// Bounds evaluation between built-ins.
    pub timeout: Period,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            path: None,
            data: Vec::new(),
            mode: Served::default(),
            shadow_until: None,
            timeout: Period(std::time::Duration::from_millis(5)),
        }
    }
}

/// The record.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionLog {
    /// The file.
    pub path: PathBuf,
    /// When a record counts as written.
    #[serde(default)]
    pub durability: Durability,
    /// The Ed25519 key that signs checkpoints (PKCS#8 PEM); made at start when absent.
    pub key: Option<PathBuf>,
    /// The file of the key under which values are digested; made at start when absent.
    pub digest_key: Option<PathBuf>,
    /// Beyond which rate refusals that are alike share a line.
    pub refusals: Option<limit::Rate>,
    /// When the log goes on in a new file.
    pub rotate: Option<Rotate>,
}

/// When the log goes on in a new file; whichever comes first.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// From this size on.
    pub size: Option<Size>,
    /// From this age on.
    pub age: Option<Period>,
}

/// What was attempted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityLog {
    /// The file.
    pub path: PathBuf,
}

/// Bounds of buffered bodies.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Body {
    /// Of a request.
    pub max_request: Size,
    /// Of an answer, and of one event of a stream.
    pub max_response: Size,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            max_request: Size(1 << 20),
            max_response: Size(8 << 20),
        }
    }
}
