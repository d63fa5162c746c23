//! What a sidecar says when it has started.

use std::{fmt, net::SocketAddr, path::PathBuf};

use super::Edge;
use crate::{config::Isolation, identify::agent::Status, listen::ListenAddress};

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
                    writeln!(f, "  {name:<9} {scheme}://{address}/<service>")?;
                }
                ListenAddress::Unix(path) => writeln!(f, "  {name:<9} unix:{}", path.display())?,
            }
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
            Isolation::Uid | Isolation::Declared => {
                write!(f, "  isolation {}", self.isolation.as_str())
            }
            Isolation::None => write!(
                f,
                "  isolation none: the agent shares our uid, and nothing stops it from going round"
            ),
        }
    }
}
