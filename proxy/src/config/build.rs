//! From files that were read to the snapshot that calls read: joined, cross-checked, compiled.

use std::{path::Path, sync::Arc};

use http::HeaderName;
use outrider_policy::{
    Policy, Problem,
    data::Data,
    input::{AgentFacts, Ready},
};

use super::{
    Compiler, Ingredients, Loaded, Service as Section,
    cross::{is_told_in_the_clear, unrouted},
};
use crate::{
    catalogue::{self, Catalogue, Service},
    credentials::{Credential, Setting},
    headers::is_ours,
    identify::Required,
    limit::Limits,
    listen::{
        ListenAddress, Mode,
        host::{Host, HostPattern},
    },
    outrider::Snapshot,
    record::Labels,
    state::{
        config::{BadState, Store},
        redis::Settings,
    },
    svid::CurrentSvid,
    tag::IdentityLevel,
    upstream::{Guard, Upstream},
};

/// What keeps the agent from acting as the sidecar's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Every listener names the users it serves, and none of them is ours or root.
    Uid,
    /// Whoever set the sidecar up vouches for it.
    Declared,
    /// The agent runs in namespaces that `exec --isolate` made.
    Exec,
    /// Nothing does.
    None,
}

impl Isolation {
    /// The word in banner, probes, metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::Declared => "declared",
            Self::Exec => "exec",
            Self::None => "none",
        }
    }
}

/// A snapshot, and what should be said about it.
#[derive(Debug)]
pub struct Built {
    /// What calls read.
    pub snapshot: Snapshot,
    /// What may become a label.
    pub labels: Labels,
    /// What works but should be known.
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// What keeps the agent away from us.
    pub fn isolation(&self) -> Isolation {
        let own = rustix::process::geteuid().as_raw();
        let apart = |uids: &[u32]| !uids.is_empty() && !uids.contains(&own) && !uids.contains(&0);
        let named = |listener: &super::Listener| {
            listener
                .peers
                .as_ref()
                .is_some_and(|peers| apart(&peers.uid))
        };
        if self.exec {
            Isolation::Exec
        } else if self.config.isolation.is_some() {
            Isolation::Declared
        } else if self.config.listeners.iter().all(named) {
            Isolation::Uid
        } else {
            Isolation::None
        }
    }

    /// The intents that are declared, in their order.
    pub fn intents(&self) -> Vec<String> {
        let documents = self.documents.iter();
        documents
            .flat_map(|(_, document)| &document.intents)
            .map(|intent| intent.id.to_string())
            .collect()
    }

    /// Whether budgets end with the process where they must not.
    pub fn forgets(&self) -> bool {
        self.config.production() && matches!(self.config.state.store, Store::Memory)
    }

    /// What a fleet is joined with, if there is one.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn fleet(&self) -> Result<Option<Settings>, BadState> {
        let base = self.file.parent().unwrap_or(Path::new("."));
        let env = |name: &str| std::env::var(name).ok();
        self.config.state.settings(base, env)
    }

    /// Joins everything; a snapshot in force keeps the counts of unchanged limits.
    ///
    /// # Errors
    /// All problems.
    pub fn build(
        &self,
        compiler: &Compiler,
        before: Option<&Snapshot>,
    ) -> Result<Built, Vec<Problem>> {
        let mut problems = self.found.problems.clone();
        problems.extend(self.cross_check());
        let svid = before.map(|before| before.svid.clone()).unwrap_or_default();
        let known = before.map(|before| &before.catalogue);
        let catalogue = self.catalogue(known, &svid, &mut problems);
        let policy = self.compile(compiler, &catalogue, &mut problems);
        let (Some((data, policy)), true) = (policy, problems.is_empty()) else {
            return Err(problems);
        };
        if data.counts_uses() && self.forgets() {
            return Err(vec![self.problem(
                "`exceptions` with `max_uses` need a count that lasts, which `environment: production` asks for: set `state.store` to `file:PATH`",
            )]);
        }
        let labels = self.labels(&catalogue);
        let warnings = self.warnings(&catalogue, &data);
        Ok(Built {
            snapshot: self.snapshot(catalogue, data, policy, svid, before),
            labels,
            warnings,
        })
    }

    fn snapshot(
        &self,
        catalogue: Catalogue,
        data: Data,
        policy: Policy,
        svid: CurrentSvid,
        before: Option<&Snapshot>,
    ) -> Snapshot {
        let config = &self.config;
        let limits = match before {
            Some(before) => before.limits.renew(&config.limits),
            None => match self.fleet() {
                Ok(Some(fleet)) => Limits::shared(&config.limits, fleet.names()),
                // What is wrong with the section was found before.
                Ok(None) | Err(_) => Limits::new(&config.limits),
            },
        };
        let agent = AgentFacts {
            attested_by: config.identity.source.as_str().into(),
            environment: config.environment.clone(),
            ..AgentFacts::new(&config.agent.id.0, data.agent(&config.agent.id.0))
        };
        Snapshot {
            agent: Ready::new(agent),
            required: if config.tasks.required {
                Required::Yes
            } else {
                Required::No
            },
            max_request: config.body.max_request.0,
            max_response: config.body.max_response.0,
            overload: config.overload,
            max_depth: config.tasks.max_depth,
            catalogue,
            policy,
            data,
            limits,
            svid,
        }
    }

    fn catalogue(
        &self,
        before: Option<&Catalogue>,
        svid: &CurrentSvid,
        problems: &mut Vec<Problem>,
    ) -> Catalogue {
        let unread = |name| !self.spoken.iter().any(|(known, _)| known == name);
        let services = self.config.services.iter().filter_map(|section| {
            if unread(&section.name) {
                // What is wrong with its lock file was found already.
                return None;
            }
            let before = before.and_then(|before| before.service(section.name.as_str()));
            let service = self.service(section, before.map(|before| &**before), svid);
            service.map_err(|found| problems.extend(found)).ok()
        });
        let services: Vec<_> = services.collect();
        let listeners = &self.config.listeners;
        let by_host = listeners.iter().any(|one| one.mode != Mode::Reverse);
        for (one, other) in catalogue::shared(&services).into_iter().filter(|_| by_host) {
            problems.push(self.problem(format!(
                "services `{}` and `{}` are called by the same host and path: give them different `hosts`",
                one.name, other.name
            )));
        }
        Catalogue::new(services)
    }

    fn service(
        &self,
        section: &Section,
        before: Option<&Service>,
        svid: &CurrentSvid,
    ) -> Result<Service, Vec<Problem>> {
        let at =
            |message: String| vec![self.problem(format!("service `{}`: {message}", section.name))];
        let spoken = self.spoken.iter().find(|(name, _)| *name == section.name);
        let (_, spoken) = spoken.ok_or_else(|| at("what it speaks was not read".into()))?;
        let tools = catalogue::tools(
            &section.name,
            section.classification,
            section.kind,
            &spoken.contract,
        )
        .map_err(|bad| at(bad.to_string()))?;
        let upstream = self.upstream(section, svid).map_err(at)?;
        if self.config.production()
            && is_told_in_the_clear(section.credentials.is_some(), &upstream)
        {
            return Err(at("`credentials` would go over the network in the clear, which `environment: production` refuses: use an `https` upstream".into()));
        }
        let credentials = section.credentials.as_ref().map(|config| {
            let before = before.and_then(|before| before.credentials.as_ref());
            Credential::load(config, self.setting(section, &upstream), before)
        });
        let own = || {
            let one = HostPattern::one(Host {
                name: upstream.host().to_string(),
                port: Some(upstream.port()),
            });
            if upstream.is_stdio() {
                Vec::new()
            } else {
                vec![one]
            }
        };
        let tunnel = section.is_tunnel().then(|| self.guard(section));
        if let Some(why) = unrouted(section) {
            return Err(at(why.into()));
        }
        Ok(Service {
            name: section.name.clone(),
            protocol: Arc::clone(&spoken.protocol),
            hosts: section.hosts.clone().unwrap_or_else(own),
            identity: if tunnel.is_some() || upstream.is_stdio() {
                IdentityLevel::None
            } else {
                section.identity
            },
            tunnel,
            upstream,
            credentials: credentials
                .transpose()
                .map_err(|bad| at(format!("`credentials`: {bad}")))?,
            passthrough: section
                .passthrough
                .iter()
                .map(|name| passing(name))
                .collect::<Result<_, _>>()
                .map_err(at)?,
            timeout: section.timeout.0,
            stream_idle: section.stream_idle.0,
            tools,
        })
    }

    /// What may be dialled for a tunnel: never what listens here ourselves.
    fn guard(&self, section: &Section) -> Arc<Guard> {
        let listeners = self.config.listeners.iter();
        let listening = listeners.filter_map(|listener| match &listener.address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        });
        let admin = self.config.admin.iter();
        let admin = admin.flat_map(|admin| [Some(admin.address), admin.probe]);
        let ours = listening.chain(admin.flatten()).collect();
        Arc::new(Guard::new(section.addresses.clone(), ours))
    }

    /// What a service's credentials are for. A query of its URL may hold a key and is not told.
    fn setting(&self, section: &Section, upstream: &Upstream) -> Setting {
        // Absolute, because commands run there.
        let base = self.resolve(Path::new("."));
        let base = std::path::absolute(&base).unwrap_or(base);
        Setting {
            service: section.name.as_str().into(),
            agent: self.config.agent.id.0.as_str().into(),
            resource: format!("{}{}", upstream.origin(), upstream.path()).into(),
            base: base.into(),
        }
    }

    fn compile(
        &self,
        compiler: &Compiler,
        catalogue: &Catalogue,
        problems: &mut Vec<Problem>,
    ) -> Option<(Data, Policy)> {
        let ingredients = Ingredients {
            sources: self.sources.clone(),
            documents: self.documents.clone(),
            tools: catalogue.known_tools(),
            timeout: self.config.policy.timeout.0,
        };
        compiler
            .compile(&ingredients)
            .map_err(|found| problems.extend(found))
            .ok()
    }

    fn labels(&self, catalogue: &Catalogue) -> Labels {
        let tools = |service: &Service| {
            service
                .tools()
                .map(|tool| tool.id.operation().to_owned())
                .collect()
        };
        Labels {
            listeners: self
                .config
                .listeners
                .iter()
                .map(|listener| listener.name().to_owned())
                .collect(),
            limits: self
                .config
                .limits
                .iter()
                .map(|limit| limit.name.to_string())
                .collect(),
            services: catalogue
                .services()
                .map(|service| (service.name.to_string(), tools(service)))
                .collect(),
        }
    }
}

/// A header that may pass through; what names authority of ours never does.
fn passing(name: &str) -> Result<HeaderName, String> {
    let bad = || format!("`passthrough`: `{name}` is not a header that may pass");
    let header: HeaderName = name.parse().map_err(|_| bad())?;
    let refused = is_ours(&header) || header.as_str().starts_with("proxy-");
    if refused { Err(bad()) } else { Ok(header) }
}
