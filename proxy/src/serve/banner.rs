//! What a sidecar says when it has started.

use std::{fmt, net::SocketAddr, path::PathBuf};

use super::Edge;
use crate::{
    config::Isolation,
    identify::agent::Status,
    listen::{Inside, ListenAddress, Mode},
};

/// Where a sidecar listens and what it says of itself.
#[derive(Debug, Clone)]
pub struct Banner {
    /// The listeners by name, with their real ports.
    pub listening: Vec<(String, ListenAddress)>,
    /// Probes, metrics, keys.
    pub admin: Option<SocketAddr>,
    /// The control socket.
    pub control: Option<PathBuf>,
    /// The record.
    pub record: PathBuf,
    agent: String,
    identity: Status,
    services: Vec<String>,
    isolation: Isolation,
    task: Option<String>,
    /// The names of the listeners that speak TLS.
    secured: Vec<String>,
    /// How agents reach the listeners that are not `reverse`, by name.
    modes: Vec<(String, Mode)>,
    /// What agents are to trust, where what they say to others is looked into.
    authority: Option<PathBuf>,
}

impl Banner {
    pub(super) fn of(edge: &Edge, task: Option<String>) -> Self {
        let loaded = &edge.loaded;
        let snapshot = edge.outrider.snapshot();
        let mut services: Vec<_> = snapshot
            .catalogue
            .services()
            .map(|service| service.name.to_string())
            .collect();
        services.sort();
        Self {
            listening: edge
                .listeners
                .iter()
                .map(|(bound, facts)| (facts.name.to_string(), bound.address().clone()))
                .collect(),
            admin: edge
                .admin
                .as_ref()
                .and_then(|admin| admin.local_addr().ok()),
            control: loaded
                .config
                .control
                .as_ref()
                .map(|control| loaded.resolve(&control.socket)),
            record: loaded.resolve(&loaded.config.decision_log.path),
            agent: edge.outrider.agent.to_string(),
            identity: edge.outrider.identity.status(),
            services,
            isolation: edge.isolation,
            secured: loaded
                .identities
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            task,
            modes: edge
                .listeners
                .iter()
                .map(|(_, facts)| (facts.name.to_string(), facts.mode))
                .collect(),
            authority: edge
                .listeners
                .iter()
                .any(|(_, facts)| matches!(facts.inside, Inside::Intercept(_)))
                .then(|| loaded.resolve(&loaded.config.ca.certificate)),
        }
    }

    /// What agents do with a listener.
    fn usage(&self, name: &str) -> &'static str {
        let mode = self.modes.iter().find(|(known, _)| known == name);
        match mode.map(|(_, mode)| mode) {
            Some(Mode::Forward) => "  as HTTP_PROXY and HTTPS_PROXY",
            Some(Mode::Transparent) => "  where a rule redirects TCP",
            Some(Mode::Reverse) | None => "/<service>",
        }
    }

    /// The same for machines, on one line.
    pub fn to_json(&self) -> String {
        let listening: Vec<_> = self
            .listening
            .iter()
            .map(
                |(name, address)| serde_json::json!({"name": name, "address": address.to_string()}),
            )
            .collect();
        serde_json::json!({
            "listening": listening,
            "admin": self.admin.map(|admin| admin.to_string()),
            "control": self.control,
            "record": self.record,
            "isolation": self.isolation.as_str(),
            "identity": self.identity.source,
            "task": self.task,
            "ca": self.authority,
        })
        .to_string()
    }
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "outrider {} rides beside {}",
            env!("CARGO_PKG_VERSION"),
            self.agent
        )?;
        if self.identity.proved {
            writeln!(f, "  identity  {}", self.identity.source)?;
        } else {
            writeln!(
                f,
                "  identity  {}: calls are refused until it is obtained",
                self.identity.source
            )?;
        }
        for (name, address) in &self.listening {
            match address {
                ListenAddress::Tcp(address) => {
                    let scheme = if self.secured.contains(name) {
                        "https"
                    } else {
                        "http"
                    };
                    let usage = self.usage(name);
                    writeln!(f, "  {name:<9} {scheme}://{address}{usage}")?;
                }
                ListenAddress::Unix(path) => writeln!(f, "  {name:<9} unix:{}", path.display())?,
            }
        }
        if let Some(authority) = &self.authority {
            writeln!(
                f,
                "  trust     {}  (the agent's, for HTTPS)",
                authority.display()
            )?;
        }
        writeln!(f, "  services  {}", self.services.join(", "))?;
        if let Some(admin) = self.admin {
            writeln!(
                f,
                "  admin     http://{admin}/readyz  /metrics  /.well-known/jwks.json"
            )?;
        }
        if let Some(control) = &self.control {
            writeln!(f, "  control   {}", control.display())?;
        }
        writeln!(f, "  record    {}", self.record.display())?;
        if let Some(task) = &self.task {
            writeln!(f, "  task      {task}, bound to the listener for 24 h")?;
        }
        match self.isolation {
            Isolation::Uid | Isolation::Declared | Isolation::Exec => {
                write!(f, "  isolation {}", self.isolation.as_str())
            }
            Isolation::None => write!(
                f,
                "  isolation none: the agent shares our uid, and nothing stops it from going round"
            ),
        }
    }
}
