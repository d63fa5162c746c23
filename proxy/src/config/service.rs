//! One service of the configuration: an upstream and what is spoken there.

use std::path::PathBuf;

use outrider_policy::{Level, ServiceKind};
use serde::Deserialize;

use super::{
    trust::STDIO,
    words::{HttpWord, ProtocolName},
};
use crate::{
    call::ServiceName,
    credentials,
    listen::{host::HostPattern, path::EncodedSlash},
    protocol::{Settings, tunnel},
    tag::IdentityLevel,
    units::Period,
    upstream::{Network, TlsConfig},
};

/// One upstream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What it speaks, one of [`crate::protocol::PROTOCOLS`].
    pub protocol: ProtocolName,
    /// What is called there.
    #[serde(default)]
    pub kind: ServiceKind,
    /// Its URL, or `stdio`; a tunnel has none.
    pub upstream: Option<String>,
    /// Which HTTP is spoken there; 1.1 when absent.
    pub http: Option<HttpWord>,
    /// Whom it is proved by, and what we prove ourselves by there.
    pub tls: Option<TlsConfig>,
    /// By which hosts it is called in forward and transparent mode; its upstream's own when absent.
    pub hosts: Option<Vec<HostPattern>>,
    /// For tunnels: addresses that may be dialled though they are not public.
    #[serde(default)]
    pub addresses: Vec<Network>,
    /// What its API team published: an MCP lock file, an OpenAPI description, a JSON-RPC catalogue.
    pub schemas: Option<PathBuf>,
    /// The floor of every tool's level.
    pub classification: Option<Level>,
    /// What it is told of who calls.
    #[serde(default)]
    pub identity: IdentityLevel,
    /// What is injected after the decision.
    pub credentials: Option<credentials::Config>,
    /// How bodies pass.
    #[serde(default)]
    pub body: BodyWord,
    /// To the response head, and for a buffered answer.
    #[serde(default = "thirty_seconds")]
    pub timeout: Period,
    /// Silence on a stream.
    #[serde(default = "five_minutes")]
    pub stream_idle: Period,
    /// Headers of the agent that may pass though they usually may not.
    #[serde(default)]
    pub passthrough: Vec<String>,
    /// Methods of requests that the server may send to the agent.
    #[serde(default)]
    pub server_requests: Vec<String>,
    /// For services without a schema: whether a path may hold `%2F`.
    pub encoded_slash: Option<Allowance>,
    /// For services without a schema: whether a WebSocket may be opened.
    pub websocket: Option<Allowance>,
}

/// How bodies pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyWord {
    /// Read whole.
    #[default]
    Buffered,
    /// As they come, unread.
    Streamed,
}

/// Whether something may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allowance {
    /// It may.
    Allow,
    /// It may not.
    Refuse,
}

impl Service {
    /// Whether it passes tunnels and answers no requests.
    pub(super) fn is_tunnel(&self) -> bool {
        self.protocol.0.name == tunnel::ROW.name
    }

    /// The keys that only some protocols know, as far as they say something here.
    pub(super) fn particular(&self) -> impl Iterator<Item = &'static str> {
        [
            ("body", self.body == BodyWord::Streamed),
            ("encoded_slash", self.encoded_slash.is_some()),
            ("websocket", self.websocket.is_some()),
            ("server_requests", !self.server_requests.is_empty()),
            ("addresses", !self.addresses.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, said)| said.then_some(key))
    }

    /// What only some protocols know.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            streamed: self.body == BodyWord::Streamed,
            encoded_slash: self.encoded_slash.map(|word| match word {
                Allowance::Allow => EncodedSlash::Allowed,
                Allowance::Refuse => EncodedSlash::Refused,
            }),
            server_requests: self.server_requests.clone(),
            websocket: self.websocket == Some(Allowance::Allow),
            stdio: self.upstream.as_deref() == Some(STDIO),
        }
    }
}

fn thirty_seconds() -> Period {
    Period(std::time::Duration::from_secs(30))
}

fn five_minutes() -> Period {
    Period(std::time::Duration::from_mins(5))
}
