//! What no single value can be refused for: keys that do not go together, and what works but
//! should be known.

use std::{collections::HashSet, net::IpAddr};

use outrider_policy::{Problem, data::Data};

use super::{
    Allowance, Isolation, Listener, ListenerTls, Loaded, Service as Section, words::HttpWord,
};
use crate::{
    catalogue::Catalogue,
    credentials,
    identify::agent,
    jose::Location,
    limit,
    listen::{ListenAddress, Mode, host::HostPattern},
    state::config::Store,
    tag::IdentityLevel,
    upstream::Upstream,
};

impl Loaded {
    /// What no single value can be refused for.
    pub(super) fn cross_check(&self) -> Vec<Problem> {
        let config = &self.config;
        let mut found = Vec::new();
        let mut refuse = |message: String| found.push(self.problem(message));
        if config.listeners.is_empty() {
            refuse("`listeners`: name at least one address where the agent calls".into());
        }
        for name in twice(config.listeners.iter().map(super::Listener::name)) {
            refuse(format!(
                "`listeners`: two are named `{name}`: give each its own `name`"
            ));
        }
        for listener in &config.listeners {
            for why in misfits(listener) {
                refuse(format!("listener `{}`: {why}", listener.name()));
            }
        }
        for name in twice(config.services.iter().map(|service| service.name.as_str())) {
            refuse(format!("`services`: two are named `{name}`"));
        }
        for service in &config.services {
            let row = service.protocol.0;
            for key in service.particular().filter(|key| !row.keys.contains(key)) {
                refuse(format!(
                    "service `{}`: `protocol: {}` knows no `{key}`: leave the key out",
                    service.name, row.name
                ));
            }
        }
        if let Err(why) = self.check_identity() {
            refuse(why);
        }
        for service in &config.services {
            let spiffe = config.identity.source == agent::Source::Spiffe;
            if !spiffe
                && service
                    .credentials
                    .as_ref()
                    .is_some_and(credentials::Config::needs_svid)
            {
                refuse(format!(
                    "service `{}`: `credentials.exchange`: {}",
                    service.name,
                    credentials::BadConfig::NoSvid
                ));
            }
        }
        if let Some(name) = limit::repeated_name(&config.limits) {
            refuse(format!("`limits`: two are named `{name}`"));
        }
        if let Err(bad) = self.fleet() {
            refuse(bad.to_string());
        }
        if let Err(bad) = self.telemetry() {
            refuse(bad.to_string());
        }
        if config.production() && self.isolation() == Isolation::None {
            refuse("`environment: production` needs isolation: serve the agent under its own uid (`listeners[].peers.uid`), or declare `isolation: container`".into());
        }
        if config.production() && !config.decision_log.durability.is_durable() {
            refuse("`decision_log.durability: memory` loses records with the process, which `environment: production` refuses: use `written` or `synced`".into());
        }
        if let (Some(one), Some(other)) = (&config.assertion.key, &config.decision_log.key)
            && self.resolve(one) == self.resolve(other)
        {
            refuse("`assertion.key` and `decision_log.key` are one file: each purpose has a key of its own".into());
        }
        let issuers = &config.tasks.issuers;
        for name in twice(issuers.iter().map(|issuer| &*issuer.issuer.0)) {
            refuse(format!("`tasks.issuers`: two are named `{name}`"));
        }
        for issuer in issuers.iter().filter(|issuer| issuer.ca.is_some()) {
            if !matches!(&issuer.jwks, Location::Url(at) if at.is_secure()) {
                refuse(format!(
                    "issuer `{}`: `ca` is for an `https` URL: leave it out",
                    issuer.issuer.0
                ));
            }
        }
        if !issuers.is_empty() && self.forgets() {
            refuse("`tasks.issuers` need a memory of budgets and used tokens that lasts, which `environment: production` asks for: set `state.store` to `file:PATH`".into());
        }
        if config.tasks.required && !config.tasks.local && issuers.is_empty() {
            refuse(
                "`tasks`: with `required: true`, `local: false` and no `issuers` no call could ever have a task"
                    .into(),
            );
        }
        if config.tasks.required && config.tasks.local && config.control.is_none() {
            refuse(
                "`control.socket` is missing: tasks are required and could not be opened".into(),
            );
        }
        found
    }

    /// What works but should be known.
    pub(super) fn warnings(&self, catalogue: &Catalogue, data: &Data) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut warn = |message: String| found.push(self.problem(message));
        if self.isolation() == Isolation::None {
            warn("isolation is `none`: the agent shares our uid, and nothing stops it from going round".into());
        }
        if self.config.decision_log.digest_key.is_none() {
            warn(
                "`decision_log.digest_key` is missing: digests of two runs cannot be compared"
                    .into(),
            );
        }
        if !self.config.decision_log.durability.is_durable() {
            warn("`decision_log.durability` is `memory`: what is not written yet is lost with the process".into());
        }
        if let Store::Redis(address) = &self.config.state.store
            && !address.is_protected()
        {
            warn(
                "`state.store`: what goes to it over the network is not encrypted: use `rediss://`"
                    .into(),
            );
        }
        if data.agent(&self.config.agent.id.0).is_none() {
            warn(format!(
                "agent `{}` is not in the inventory (`agents`): every call will be refused",
                self.config.agent.id.0
            ));
        }
        for service in &self.config.services {
            if service
                .credentials
                .as_ref()
                .is_some_and(credentials::Config::impersonates)
            {
                warn(format!(
                    "service `{}`: `actor_token: none` is impersonation: the token does not tell that an agent acts",
                    service.name
                ));
            }
        }
        for (service, spoken) in &self.spoken {
            for note in &spoken.notes {
                warn(format!("service `{service}`: {note}"));
            }
        }
        for service in catalogue.services() {
            if is_told_in_the_clear(service.credentials.is_some(), &service.upstream) {
                warn(format!(
                    "service `{}`: its `credentials` go over the network in the clear: use an `https` upstream",
                    service.name
                ));
            }
            if service.identity == IdentityLevel::Full && public(service.upstream.host()) {
                warn(format!(
                    "service `{}`: `identity: full` tells a public host who calls and for what",
                    service.name
                ));
            }
        }
        found
    }
}

/// What keys of a service do not fit together about where it is.
pub(super) fn unrouted(section: &Section) -> Option<&'static str> {
    let hosts = section.hosts.as_deref().unwrap_or_default();
    if section.is_tunnel() {
        if hosts.is_empty() {
            return Some("`hosts` is missing: name the hosts that tunnels may go to");
        }
        if section.credentials.is_some() || section.tls.is_some() {
            return Some(
                "`credentials` and `tls` cannot be added to what nobody looks into: leave them out",
            );
        }
        if section.http.is_some() {
            return Some("`http` says nothing of a tunnel: leave it out");
        }
    } else if section.http == Some(HttpWord::Two) && section.websocket == Some(Allowance::Allow) {
        return Some(
            "`websocket` needs HTTP/1.1: leave `http: 2` out, or make a service of its own for it",
        );
    } else if hosts.iter().any(HostPattern::is_domain) {
        return Some("`hosts`: only `protocol: tunnel` has whole domains (`*.`): name each host");
    }
    None
}

/// Whether credentials would go where others can read them.
pub(super) fn is_told_in_the_clear(credentials: bool, upstream: &Upstream) -> bool {
    credentials && !upstream.is_protected()
}

/// What keys of a listener do not fit its mode.
fn misfits(listener: &Listener) -> Vec<&'static str> {
    let mut found = Vec::new();
    let unix = matches!(listener.address, ListenAddress::Unix(_));
    match (listener.mode, &listener.tls) {
        (Mode::Reverse, Some(ListenerTls::Identity(_))) if unix => {
            found.push("`tls` is for TCP: leave it out on a Unix socket");
        }
        (Mode::Reverse, Some(ListenerTls::Of(_))) => found.push(
            "`tls` of a reverse listener is `{certificate: PATH, key: PATH}`: the words are for `forward` and `transparent`",
        ),
        (Mode::Forward | Mode::Transparent, Some(ListenerTls::Identity(_))) => {
            found.push("`tls` of this mode is `intercept`, `tunnel` or `refuse`");
        }
        _ => {}
    }
    if listener.mode != Mode::Reverse && (listener.hosts.is_some() || !listener.origins.is_empty())
    {
        found.push("`hosts` and `origins` are for `reverse`: here services are called by their own `hosts`");
    }
    if listener.mode == Mode::Transparent && unix {
        found.push("a `transparent` listener needs a TCP address: a rule of the kernel redirects TCP to it");
    }
    found
}

/// Whether a host is, as far as its name tells, on the public network.
fn public(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        Ok(IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
        Err(_) => {
            let top = host.rsplit_once('.').map(|(_, top)| top);
            top.is_some_and(|top| !matches!(top, "local" | "internal" | "svc"))
        }
    }
}

fn twice<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    names.filter(|name| !seen.insert(*name)).collect()
}
