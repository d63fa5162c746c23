//! `telemetry:` of the configuration, and what follows from it.

use std::{
    collections::HashMap,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{
    Standing,
    logs::{Kind, Logs},
    opa::Events,
    sender::{Form, Route, Service},
    ship::Batches,
    traces::Spans,
};
use crate::{
    credentials::{Name, Template},
    units::{Period, Size},
    upstream::{BadRoots, TlsRoots, Upstream},
};

/// `telemetry:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A collector that speaks OTLP.
    pub otlp: Option<Otlp>,
    /// A service that takes decisions as OPA uploads them.
    pub opa: Option<Opa>,
    /// How much of a log may wait, in bytes.
    pub queue: Size,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            otlp: None,
            opa: None,
            queue: Size(256 << 20),
        }
    }
}

/// `telemetry.otlp`.
#[expect(clippy::struct_excessive_bools, reason = "each is a key")]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    endpoint: Url,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    headers: HashMap<Name, Template>,
    ca: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
    #[serde(default = "yes")]
    traces: bool,
    #[serde(default = "yes")]
    logs: bool,
    #[serde(default = "yes")]
    metrics: bool,
    #[serde(default = "fifteen_seconds")]
    interval: Period,
    #[serde(default)]
    conventions: Conventions,
}

fn yes() -> bool {
    true
}

fn fifteen_seconds() -> Period {
    Period(Duration::from_secs(15))
}

/// `telemetry.opa`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opa {
    url: Url,
    #[serde(default)]
    headers: HashMap<Name, Template>,
    ca: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    #[default]
    Grpc,
    Http,
}

/// Whose names the attributes of spans follow, beside those that are stable and our own.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Conventions {
    /// MCP and generative AI as of semantic conventions 1.44.
    #[default]
    #[serde(rename = "1.44")]
    V1_44,
    /// None for what is not stable.
    #[serde(rename = "stable")]
    Stable,
}

/// Where somebody takes it.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
struct Url {
    text: String,
    at: Upstream,
}

impl TryFrom<String> for Url {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "expected an URL such as `https://collector.example.org:4317`";
        let text = text.trim_end_matches('/').to_owned();
        let at = Upstream::parse(&text).map_err(|_| expected)?;
        if at.is_stdio() || at.query().is_some() {
            return Err(expected);
        }
        Ok(Self { text, at })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.at.origin())
    }
}

/// What keeps telemetry from starting.
#[derive(Debug, thiserror::Error)]
pub enum BadTelemetry {
    /// Records would go over a network in the clear.
    #[error(
        "`{0}`: `http://` would send records over the network in the clear: use `https://`, or say `insecure: true`"
    )]
    Clear(&'static str),
    /// A file cannot be read.
    #[error("`{0}.ca`: cannot read `{1}`: {2}")]
    Unreadable(&'static str, PathBuf, std::io::Error),
    /// What it is proved by cannot be used.
    #[error("`{0}.ca`: {1}")]
    Roots(&'static str, BadRoots),
    /// An URL to which nothing can be added.
    #[error("`{0}`: expected an URL without query")]
    Url(&'static str),
}

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    Decisions,
    Security,
}

/// As what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Spans(Conventions),
    Logs(Kind),
    Events,
}

impl Encoding {
    pub(super) fn begin(self, standing: &Standing) -> Box<dyn Batches> {
        match self {
            Self::Spans(conventions) => Box::new(Spans::new(standing, conventions)),
            Self::Logs(kind) => Box::new(Logs::new(standing, kind)),
            Self::Events => Box::new(Events::default()),
        }
    }
}

/// One log that is told.
#[derive(Debug)]
pub(super) struct Shipped {
    pub(super) log: Log,
    pub(super) encoding: Encoding,
    /// Keeps apart who reads the same log.
    pub(super) name: String,
    pub(super) signal: &'static str,
    pub(super) route: Route,
}

/// Everything that is told, ready to begin.
#[derive(Debug)]
pub struct Plan {
    pub(super) shipped: Vec<Shipped>,
    pub(super) metrics: Option<(Route, Duration)>,
    pub(super) queue: u64,
}

impl Plan {
    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.shipped.is_empty() && self.metrics.is_none()
    }
}

impl Config {
    /// Whether spans are told.
    pub fn traces(&self) -> bool {
        self.otlp.as_ref().is_some_and(|otlp| otlp.traces)
    }

    /// Joins it; relative paths are relative to `base`.
    ///
    /// # Errors
    /// [`BadTelemetry`].
    pub fn plan(&self, base: &Path) -> Result<Plan, BadTelemetry> {
        let mut plan = Plan {
            shipped: Vec::new(),
            metrics: None,
            queue: u64::try_from(self.queue.0).unwrap_or(u64::MAX),
        };
        if let Some(otlp) = &self.otlp {
            otlp.join(base, &mut plan)?;
        }
        if let Some(opa) = &self.opa {
            let place = Destination {
                key: "telemetry.opa",
                url: &opa.url,
                headers: &opa.headers,
                ca: opa.ca.as_deref(),
                insecure: opa.insecure,
                base,
            };
            let route = place.route("/logs", Form::Json)?;
            plan.shipped.push(Shipped {
                log: Log::Decisions,
                encoding: Encoding::Events,
                name: "opa".into(),
                signal: "opa",
                route,
            });
        }
        Ok(plan)
    }
}

impl Otlp {
    fn join(&self, base: &Path, plan: &mut Plan) -> Result<(), BadTelemetry> {
        let place = Destination {
            key: "telemetry.otlp",
            url: &self.endpoint,
            headers: &self.headers,
            ca: self.ca.as_deref(),
            insecure: self.insecure,
            base,
        };
        let to = |service: Service| match self.protocol {
            Protocol::Grpc => place.route("", Form::Grpc(service)),
            Protocol::Http => place.route(service.path(), Form::Http(service)),
        };
        let mut ship = |log, encoding, name: &str, signal, service| {
            let (name, route) = (format!("otlp-{name}"), to(service)?);
            plan.shipped.push(Shipped {
                log,
                encoding,
                name,
                signal,
                route,
            });
            Ok::<_, BadTelemetry>(())
        };
        if self.traces {
            let spans = Encoding::Spans(self.conventions);
            ship(Log::Decisions, spans, "traces", "traces", Service::Traces)?;
        }
        if self.logs {
            let (decisions, security) = (
                Encoding::Logs(Kind::Decisions),
                Encoding::Logs(Kind::Security),
            );
            ship(Log::Decisions, decisions, "logs", "logs", Service::Logs)?;
            ship(Log::Security, security, "logs", "security", Service::Logs)?;
        }
        if self.metrics {
            plan.metrics = Some((to(Service::Metrics)?, self.interval.0));
        }
        Ok(())
    }
}

struct Destination<'a> {
    key: &'static str,
    url: &'a Url,
    headers: &'a HashMap<Name, Template>,
    ca: Option<&'a Path>,
    insecure: bool,
    base: &'a Path,
}

impl Destination<'_> {
    fn route(&self, below: &str, form: Form) -> Result<Route, BadTelemetry> {
        let at = Upstream::parse(&format!("{}{below}", self.url.text));
        let mut at = at.map_err(|_| BadTelemetry::Url(self.key))?;
        if !at.is_protected() && !self.insecure {
            return Err(BadTelemetry::Clear(self.key));
        }
        if let Form::Grpc(_) = form {
            at = at.over_http2();
        }
        let roots = match self.ca {
            None => TlsRoots::needed_by(&at),
            Some(path) => {
                let path = self.base.join(path);
                let text = fs::read_to_string(&path);
                let text = text.map_err(|error| BadTelemetry::Unreadable(self.key, path, error))?;
                TlsRoots::from_pem(&text)
            }
        };
        let roots = roots.map_err(|bad| BadTelemetry::Roots(self.key, bad))?;
        let headers = self.headers.iter();
        let headers = headers.map(|(name, template)| (name.get().clone(), template.clone()));
        Ok(Route::new(
            at,
            form,
            roots,
            headers.collect(),
            self.base.to_owned(),
        ))
    }
}
