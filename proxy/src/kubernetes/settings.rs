//! What is injected, as the operator says, and as the pod's annotations may say otherwise.

use std::fmt;

use serde_json::{Map, Value};

use super::DOMAIN;

/// How an agent's calls come to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// By the variables that name a proxy: an agent that ignores them goes round
    Explicit,
    /// By the kernel's rules, which an init container sets
    Transparent,
}

/// Where an agent may ask for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dns {
    /// Nowhere
    Refuse,
    /// From a resolver on loopback
    Local,
    /// Anywhere
    Any,
}

impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Local => "local",
            Self::Any => "any",
        })
    }
}

/// By what the sidecar proves who the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// The configuration says so.
    None,
    /// A projected token of the pod's service account, for this audience.
    Token { audience: String },
    /// The socket of the SPIFFE Workload API, by its CSI driver.
    Spiffe,
}

/// What is injected.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Settings {
    /// The sidecar's image
    #[arg(long, value_name = "IMAGE", default_value = concat!("outrider:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// The image that sets the kernel's rules, with nft: the sidecar's unless it is named
    #[arg(long, value_name = "IMAGE")]
    pub net_image: Option<String>,
    /// How an agent's calls come to the sidecar
    #[arg(long, value_enum, default_value = "transparent")]
    pub mode: Mode,
    /// The `ConfigMap` with `outrider.yaml` and what it names, in the pod's namespace
    #[arg(long, value_name = "NAME", default_value = "outrider")]
    pub config: String,
    /// The sidecar's user; no other container may run as this one
    #[arg(long, value_name = "UID", default_value_t = 15_001)]
    pub uid: u32,
    /// Where the agent may ask for names, in transparent mode
    #[arg(long, value_enum, default_value = "any")]
    pub dns: Dns,
    /// Let the agent reach other ports of its pod without a decision, in transparent mode
    #[arg(long)]
    pub allow_loopback: bool,
    /// Refuse what there would be a warning about
    #[arg(long)]
    pub strict: bool,
    /// What the pod asks for beyond that.
    #[arg(skip)]
    pub(super) asked: Asked,
}

/// What a pod may ask for itself, by annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) forward: u16,
    pub(super) reverse: u16,
    pub(super) probe: u16,
    pub(super) proof: Proof,
    pub(super) secrets: Vec<String>,
    pub(super) record: Option<String>,
    pub(super) untouched: Vec<String>,
    pub(super) requests: [String; 2],
    pub(super) limits: [Option<String>; 2],
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            forward: 15_002,
            reverse: 15_001,
            probe: 15_020,
            proof: Proof::None,
            secrets: Vec::new(),
            record: None,
            untouched: Vec::new(),
            requests: ["50m".into(), "64Mi".into()],
            limits: [None, Some("256Mi".into())],
        }
    }
}

/// An annotation that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation `{DOMAIN}/{name}`: {why}")]
pub struct BadAnnotation {
    name: String,
    why: String,
}

/// Annotations that only the operator's flags decide, where it is not the operator who writes them.
const OPERATORS: [&str; 4] = ["image", "mode", "dns", "allow-loopback"];

/// Who writes the annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Who runs the command as well.
    Operator,
    /// Who deploys agents: what decides how they are held is not theirs.
    Deployer,
}

impl Settings {
    /// These settings with what the annotations say.
    ///
    /// # Errors
    /// An annotation of ours that is unknown, malformed or not the writer's.
    pub fn with(
        &self,
        annotations: &Map<String, Value>,
        writer: Writer,
    ) -> Result<Self, BadAnnotation> {
        let mut settings = self.clone();
        for (name, value) in annotations {
            let Some(name) = name
                .strip_prefix(DOMAIN)
                .and_then(|name| name.strip_prefix('/'))
            else {
                continue;
            };
            let bad = |why: &str| BadAnnotation {
                name: name.to_owned(),
                why: why.to_owned(),
            };
            let value = value.as_str().ok_or_else(|| bad("expected text"))?;
            if writer == Writer::Deployer && OPERATORS.contains(&name) {
                return Err(bad("is decided by the injector here: remove it"));
            }
            settings.take(name, value.trim()).map_err(bad)?;
        }
        Ok(settings)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let asked = &mut self.asked;
        let text = || match value {
            "" => Err("expected a value"),
            value => Ok(value.to_owned()),
        };
        match name {
            "config" => self.config = named(value)?,
            "image" => self.image = text()?,
            "mode" => self.mode = choice(value, "expected `explicit` or `transparent`")?,
            "dns" => self.dns = choice(value, "expected `refuse`, `local` or `any`")?,
            "allow-loopback" => self.allow_loopback = flag(value)?,
            "forward-port" => asked.forward = port(value)?,
            "reverse-port" => asked.reverse = port(value)?,
            "probe-port" => asked.probe = port(value)?,
            "identity" => asked.proof = proof(value)?,
            "secrets" => asked.secrets = names(value)?,
            "record" => asked.record = Some(named(value)?),
            "exclude-containers" => asked.untouched = names(value)?,
            "cpu-request" => asked.requests[0] = text()?,
            "memory-request" => asked.requests[1] = text()?,
            "cpu-limit" => asked.limits[0] = Some(text()?),
            "memory-limit" => asked.limits[1] = Some(text()?),
            // Written by us: what was injected, and what was taken from containers for it.
            "injected" | "hardened" => {}
            _ => return Err("there is no such annotation: see the table in docs/kubernetes.md"),
        }
        Ok(())
    }
}

fn choice<T: clap::ValueEnum>(value: &str, expected: &'static str) -> Result<T, &'static str> {
    T::from_str(value, false).map_err(|_| expected)
}

fn flag(value: &str) -> Result<bool, &'static str> {
    value.parse().map_err(|_| "expected `true` or `false`")
}

fn port(value: &str) -> Result<u16, &'static str> {
    let port = value.parse().ok().filter(|port| *port >= 1024);
    port.ok_or("expected a port from 1024 to 65535")
}

fn proof(value: &str) -> Result<Proof, &'static str> {
    match value.split_once(':').unwrap_or((value, "")) {
        ("none", "") => Ok(Proof::None),
        ("spiffe", "") => Ok(Proof::Spiffe),
        ("token", "") => Ok(Proof::Token {
            audience: "outrider".into(),
        }),
        ("token", audience) => Ok(Proof::Token {
            audience: audience.to_owned(),
        }),
        _ => Err("expected `none`, `token`, `token:AUDIENCE` or `spiffe`"),
    }
}

fn names(value: &str) -> Result<Vec<String>, &'static str> {
    let all = value.split(',').map(str::trim);
    all.map(named).collect()
}

/// A name of an object (RFC 1123, with dots).
fn named(value: &str) -> Result<String, &'static str> {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if value.is_empty() || value.len() > 253 || !value.bytes().all(good) {
        return Err("expected names of lower-case letters, digits, `-` and `.`");
    }
    Ok(value.to_owned())
}
