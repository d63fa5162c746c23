//! Which service is called by a host and a path, where agents name hosts and not services.
//!
//! Services may share a host: each has the paths at and under its upstream's own, and the most
//! particular one is called. The agent's path is the one that is sent.

use std::{collections::HashMap, sync::Arc};

use super::Service;
use crate::{listen::host::Host, protocol::Target};

/// The ports of a host that was named without one: those of `http` and `https`.
const USUAL: [u16; 2] = [80, 443];

/// Services by `host:port`, each host's with the longest path first.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<Box<str>, Vec<Arc<Service>>>);

impl Hosts {
    pub(super) fn of<'a>(services: impl Iterator<Item = &'a Arc<Service>>) -> Self {
        let mut hosts = HashMap::<Box<str>, Vec<Arc<Service>>>::new();
        for service in services {
            for place in service.hosts.iter().flat_map(places) {
                hosts.entry(place).or_default().push(Arc::clone(service));
            }
        }
        for here in hosts.values_mut() {
            here.sort_by_key(|service| std::cmp::Reverse(service.upstream.path().len()));
        }
        Self(hosts)
    }

    pub(super) fn has(&self, host: &str, port: u16) -> bool {
        self.0.contains_key(&*place(host, port))
    }

    pub(super) fn at<'a>(
        &self,
        host: &str,
        port: u16,
        path: &'a str,
    ) -> Option<(&Arc<Service>, &'a str)> {
        let here = self.0.get(&*place(host, port))?;
        here.iter()
            .find_map(|service| Some((service, rest(service, path)?)))
    }
}

/// The keys under which a host stands.
fn places(host: &Host) -> Vec<Box<str>> {
    match host.port {
        Some(port) => vec![place(&host.name, port)],
        None => USUAL.map(|port| place(&host.name, port)).to_vec(),
    }
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

/// The hosts and paths by which more than one of these is called.
pub fn shared(services: &[Service]) -> Vec<(&Service, &Service)> {
    let mut seen = HashMap::<(Box<str>, &str), &Service>::new();
    let mut found = Vec::new();
    for service in services {
        for place in service.hosts.iter().flat_map(places) {
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
