//! Which service is called by a host and a path, where agents name hosts and not services.
//!
//! Services may share a host: each has the paths at and under its upstream's own, and the most
//! particular one is called. The agent's path is the one that is sent. A tunnel has no path: it is
//! for a host, or for all under a domain.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use super::Service;
use crate::{listen::host::HostPattern, protocol::Target};

/// The ports of a host that was named without one: those of `http` and `https`.
const USUAL: [u16; 2] = [80, 443];
/// That of a tunnel: `https`.
const SECURE: [u16; 1] = [443];

/// Services by `host:port`.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// Each host's with the longest path first.
    called: HashMap<Box<str>, Vec<Arc<Service>>>,
    /// Those that pass tunnels; a domain stands there with its leading dot.
    tunnels: HashMap<Box<str>, Arc<Service>>,
}

impl Hosts {
    pub(super) fn of<'a>(services: impl Iterator<Item = &'a Arc<Service>>) -> Self {
        let mut hosts = Self::default();
        for service in services {
            for place in places(service) {
                if service.tunnel.is_some() {
                    hosts.tunnels.insert(place, Arc::clone(service));
                } else {
                    hosts
                        .called
                        .entry(place)
                        .or_default()
                        .push(Arc::clone(service));
                }
            }
        }
        for here in hosts.called.values_mut() {
            here.sort_by_key(|service| Reverse(service.upstream.path().len()));
        }
        hosts
    }

    pub(super) fn has(&self, host: &str, port: u16) -> bool {
        self.called.contains_key(&*place(host, port))
    }

    pub(super) fn at<'a>(
        &self,
        host: &str,
        port: u16,
        path: &'a str,
    ) -> Option<(&Arc<Service>, &'a str)> {
        let here = self.called.get(&*place(host, port))?;
        here.iter()
            .find_map(|service| Some((service, rest(service, path)?)))
    }

    /// By the host itself, else by the smallest domain that it is in. A host that services are
    /// called by passes no tunnel.
    pub(super) fn through(&self, host: &str, port: u16) -> Option<&Arc<Service>> {
        if self.has(host, port) {
            return None;
        }
        let whole = place(host, port);
        let dots = whole
            .match_indices('.')
            .filter_map(|(at, _)| whole.get(at..));
        std::iter::once(&*whole)
            .chain(dots)
            .find_map(|place| self.tunnels.get(place))
    }
}

/// The keys under which a service stands.
fn places(service: &Service) -> Vec<Box<str>> {
    let usual: &[u16] = if service.tunnel.is_some() {
        &SECURE
    } else {
        &USUAL
    };
    let of = |pattern: &HostPattern| -> Vec<_> {
        let key = pattern.key();
        match pattern.port() {
            Some(port) => vec![place(key, port)],
            None => usual.iter().map(|port| place(key, *port)).collect(),
        }
    };
    service.hosts.iter().flat_map(of).collect()
}

fn place(host: &str, port: u16) -> Box<str> {
    format!("{}:{port}", host.to_ascii_lowercase()).into()
}

/// What follows the service's own path, as sent; none where the path is not the service's. Joined
/// again the two are the path that was asked for.
fn rest<'a>(service: &Service, path: &'a str) -> Option<&'a str> {
    let own = service.upstream.path();
    if path == &**own {
        return Some("");
    }
    match service.protocol.manner().target {
        Target::Fixed => None,
        Target::Appended => {
            let rest = path.strip_prefix(own.trim_end_matches('/'))?;
            rest.starts_with('/').then_some(rest)
        }
    }
}

/// The pairs of services that are called by the same host and path.
pub fn shared(services: &[Service]) -> Vec<(&Service, &Service)> {
    let mut seen = HashMap::<(Box<str>, &str), &Service>::new();
    let mut found = Vec::new();
    for service in services {
        for place in places(service) {
            let own = service.upstream.path().trim_end_matches('/');
            if let Some(other) = seen.insert((place, own), service)
                && !std::ptr::eq(other, service)
            {
                found.push((other, service));
            }
        }
    }
    found
}
