//! What can be called: services, their tools, and everything about a tool that does not change
//! from call to call, made ready when the configuration is loaded.

mod hosts;

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::HeaderName;
use outrider_policy::{
    Level, ServiceKind, Value,
    data::KnownTool,
    input::{Ready, ToolFacts},
};
use outrider_schemas::catalogue as contract;

use self::hosts::Hosts;
pub use self::hosts::shared;
use crate::{
    call::{ServiceName, ToolId},
    credentials::Credential,
    headers::Told,
    limit::ToolTraits,
    listen::host::HostPattern,
    protocol::Protocol,
    tag::IdentityLevel,
    upstream::{Guard, Upstream},
};

/// All services of a configuration.
#[derive(Debug, Default)]
pub struct Catalogue {
    services: HashMap<Box<str>, Arc<Service>>,
    hosts: Hosts,
}

/// One upstream and how it is reached.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What it speaks.
    pub protocol: Arc<dyn Protocol>,
    /// Where it is.
    pub upstream: Upstream,
    /// By which hosts it is called in forward and transparent mode; its upstream's own where none
    /// are named.
    pub hosts: Vec<HostPattern>,
    /// What may be dialled for a tunnel; none where requests are sent to the upstream.
    pub tunnel: Option<Arc<Guard>>,
    /// What it is told of who calls.
    pub identity: IdentityLevel,
    /// What is injected after the decision.
    pub credentials: Option<Credential>,
    /// Headers of the agent that may pass though they usually may not.
    pub passthrough: Vec<HeaderName>,
    /// Until the response head, and for a buffered answer.
    pub timeout: Duration,
    /// How long a stream may be silent.
    pub stream_idle: Duration,
    /// What can be called there, by operation.
    pub tools: HashMap<Arc<str>, Arc<Tool>>,
}

/// One operation of a service.
#[derive(Debug)]
pub struct Tool {
    /// `service/operation`.
    pub id: ToolId,
    /// What its API team published.
    pub contract: Arc<contract::Tool>,
    /// Its level: the stricter of its own and its service's floor; `restricted` where none is set.
    pub level: Level,
    /// Its labels, ready for policy.
    pub labels: Value,
    /// Its facts, ready for policy.
    pub facts: Ready<ToolFacts>,
    /// Its ID, ready for headers.
    pub told: Told,
}

impl Service {
    /// Whether a request that was read for this service is read the same by that one: a reload may
    /// come while its body does.
    pub fn reads_as(&self, other: &Self) -> bool {
        self.protocol.name() == other.protocol.name()
            && self.protocol.manner() == other.protocol.manner()
            && self.upstream.is_stdio() == other.upstream.is_stdio()
            && self.passthrough == other.passthrough
    }

    /// The tool of that operation.
    pub fn tool(&self, operation: &str) -> Option<&Arc<Tool>> {
        self.tools.get(operation)
    }

    /// All tools, in no order.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.tools.values()
    }
}

/// A level that is not one of the four.
#[derive(Debug, thiserror::Error)]
#[error(
    "tool `{tool}`: expected `classification` to be public, internal, confidential or restricted"
)]
pub struct BadLevel {
    tool: String,
}

/// Makes ready what an API team published, by operation.
///
/// # Errors
/// A tool whose level is not one of the four.
pub fn tools(
    service: &ServiceName,
    floor: Option<Level>,
    kind: ServiceKind,
    published: &contract::Contract,
) -> Result<HashMap<Arc<str>, Arc<Tool>>, BadLevel> {
    let ready = |tool: &Arc<contract::Tool>| {
        Ok((
            Arc::clone(&tool.operation),
            Arc::new(Tool::new(service, floor, kind, tool)?),
        ))
    };
    published.tools().map(ready).collect()
}

impl Tool {
    fn new(
        service: &ServiceName,
        floor: Option<Level>,
        kind: ServiceKind,
        contract: &Arc<contract::Tool>,
    ) -> Result<Self, BadLevel> {
        let id = ToolId::new(service, &contract.operation);
        let own: Option<Level> = match &contract.classification {
            None => None,
            Some(level) => Some(level.parse().map_err(|_| BadLevel {
                tool: id.to_string(),
            })?),
        };
        let level = own.max(floor).unwrap_or(Level::Restricted);
        let labels: Value = contract
            .labels
            .iter()
            .map(|label| Value::String(Arc::clone(label)))
            .collect::<Vec<_>>()
            .into();
        let facts = ToolFacts {
            id: id.to_string(),
            service: service.to_string(),
            operation: contract.operation.to_string(),
            kind,
            owner: contract.owner.to_string(),
            version: contract.version.to_string(),
            schema_digest: contract.digest.to_string(),
            classification: Some(level),
            labels: contract.labels.iter().map(ToString::to_string).collect(),
            read_only: contract.read_only,
            destructive: contract.destructive,
            idempotent: contract.idempotent,
            open_world: contract.open_world,
        };
        Ok(Self {
            told: Told::new(id.shared()),
            id,
            contract: Arc::clone(contract),
            level,
            labels,
            facts: Ready::new(facts),
        })
    }

    /// Its facts for limits.
    pub fn traits(&self) -> ToolTraits {
        ToolTraits {
            read_only: self.contract.read_only,
            destructive: self.contract.destructive,
            idempotent: self.contract.idempotent,
            open_world: self.contract.open_world,
            classification: self.level,
        }
    }
}

impl Catalogue {
    /// Collects services; a later one of the same name replaces an earlier one.
    pub fn new(services: Vec<Service>) -> Self {
        let by_name = |service: Service| (service.name.as_str().into(), Arc::new(service));
        let services: HashMap<_, _> = services.into_iter().map(by_name).collect();
        Self {
            hosts: Hosts::of(services.values()),
            services,
        }
    }

    /// The service that is called by a host and a path, and what follows its own path there.
    pub fn at<'a>(&self, host: &str, port: u16, path: &'a str) -> Option<(&Arc<Service>, &'a str)> {
        self.hosts.at(host, port, path)
    }

    /// The service that passes tunnels to that host and port.
    pub fn through(&self, host: &str, port: u16) -> Option<&Arc<Service>> {
        self.hosts.through(host, port)
    }

    /// Whether services are called there, so that requests to that host and port are looked into.
    pub fn is_host(&self, host: &str, port: u16) -> bool {
        self.hosts.has(host, port)
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// All services, in no order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Every tool as patterns know it.
    pub fn known_tools(&self) -> Vec<KnownTool> {
        self.services()
            .flat_map(|service| service.tools())
            .map(|tool| KnownTool {
                id: tool.id.to_string(),
                kind: tool.facts.kind,
            })
            .collect()
    }
}
