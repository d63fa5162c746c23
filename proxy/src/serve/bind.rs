//! Binding: every socket is there before anything is served, a predecessor's or our own.

use std::{net::TcpListener, os::fd::OwnedFd, path::absolute, sync::Arc};

use anyhow::Context as _;
use secrecy::SecretString;

use super::{Edge, Options, bequest::Place, hand_over::Heritage, take_over::Offer};
use crate::{
    config::{Isolation, Listener, Loaded, TlsWord},
    control::{self, wire::Bid},
    credentials::Credential,
    drain::Drain,
    listen::{
        Inside, ListenAddress, ListenerFacts, MAX_CONNECTIONS, Observer, Patience, accept::Bound,
        ca::Authority, reverse::Hosts, tls::Presented,
    },
    outrider::{Outrider, Snapshot},
    overload::Load,
    pipeline::{Pipeline, Turns},
    record::security::SecurityKind,
    upstream::{Pool, PoolConfig, TlsRoots},
    workers::{self, Workers},
};

/// Whom upstreams may be vouched for by.
pub(super) fn roots(snapshot: &Snapshot) -> anyhow::Result<TlsRoots> {
    let secure = |service: &Arc<crate::catalogue::Service>| {
        let credentials = service.credentials.as_ref();
        service.upstream.is_secure() || credentials.is_some_and(Credential::is_secure)
    };
    if snapshot.catalogue.services().any(secure) {
        TlsRoots::system().context("the system's certificate authorities")
    } else {
        // A reload may name one.
        Ok(TlsRoots::system().or_else(|_| TlsRoots::none())?)
    }
}

/// What has to be the same for a successor to go on with it.
pub(super) fn bid(loaded: &Loaded) -> anyhow::Result<Bid> {
    Ok(Bid {
        agent: loaded.config.agent.id.0.clone(),
        decision_log: absolute(loaded.resolve(&loaded.config.decision_log.path))?,
        security_log: absolute(super::security_log(loaded))?,
    })
}

/// Binds everything, or takes it from the offer of a predecessor.
pub(super) fn all(
    loaded: Loaded,
    options: &Options,
    outrider: Arc<Outrider>,
    isolation: Isolation,
    roots: TlsRoots,
    mut offer: Option<&mut Offer>,
) -> anyhow::Result<Edge> {
    let inherited = offer
        .as_mut()
        .and_then(|offer| offer.estate.ca_key.take())
        .map(SecretString::from);
    let mut offered = |place: &Place| offer.as_mut().and_then(|offer| offer.take(place));
    let mut sockets = Vec::new();
    let control = match &loaded.config.control {
        Some(section) => Some(control(&loaded, section, &mut offered, &mut sockets)?),
        None => None,
    };
    let admin = match &loaded.config.admin {
        Some(section) => Some(open(section.address, &mut offered, &mut sockets)?),
        None => None,
    };
    let probe = loaded.config.admin.and_then(|section| section.probe);
    let probe = match probe {
        Some(address) => Some(open(address, &mut offered, &mut sockets)?),
        None => None,
    };
    let mut listeners = Vec::new();
    let mut authority = Interception {
        loaded: &loaded,
        inherited,
        made: None,
    };
    for section in &loaded.config.listeners {
        let bound = listener(&loaded, section, &mut authority, &mut offered, &mut sockets)?;
        listeners.push(bound);
    }
    let authority = authority.made;
    let (drain, draining) = Drain::new();
    let observer = observer(&outrider);
    let (shared, trusted) = (Arc::clone(&outrider), roots.clone());
    let build = move |tasks: &workers::Tasks| {
        let pool = Pool::new(PoolConfig::default(), roots.clone());
        tasks.background(pool.clone().keep_clean());
        Pipeline {
            outrider: Arc::clone(&shared),
            pool,
            streams: tasks.clone(),
            load: Load::watch(tasks),
            turns: Turns::default(),
        }
    };
    let count = loaded.config.workers.unwrap_or_else(workers::default_count);
    let workers = Workers::start(count, build, &observer, &draining)?;
    let heritage = Heritage {
        bid: bid(&loaded)?,
        sockets,
        authority,
    };
    Ok(Edge {
        outrider,
        compiler: options.compiler.clone(),
        isolation,
        listeners,
        admin,
        probe,
        control,
        workers,
        observer,
        drain,
        draining,
        loaded,
        heritage,
        predecessor: None,
        known: None,
        roots: trusted,
        telemetry: None,
    })
}

/// The sockets as a successor gets them.
type Sockets = Vec<(Place, OwnedFd)>;

fn control(
    loaded: &Loaded,
    section: &control::Config,
    offered: &mut impl FnMut(&Place) -> Option<OwnedFd>,
    sockets: &mut Sockets,
) -> anyhow::Result<control::Socket> {
    let mut section = section.clone();
    section.socket = loaded.resolve(&section.socket);
    let place = Place::Control(absolute(&section.socket)?);
    let socket = match offered(&place) {
        Some(socket) => control::Socket::inherit(&section, socket)?,
        None => control::Socket::bind(&section)?,
    };
    sockets.push((place, socket.share()?));
    Ok(socket)
}

fn open(
    address: std::net::SocketAddr,
    offered: &mut impl FnMut(&Place) -> Option<OwnedFd>,
    sockets: &mut Sockets,
) -> anyhow::Result<TcpListener> {
    let place = Place::Admin(address);
    let listener = match offered(&place) {
        Some(socket) => TcpListener::from(socket),
        None => TcpListener::bind(address)
            .with_context(|| format!("`admin`: cannot listen on `{address}`"))?,
    };
    listener.set_nonblocking(true)?;
    sockets.push((place, OwnedFd::from(listener.try_clone()?)));
    Ok(listener)
}

/// The authority behind interception: made when the first listener needs it, one for all.
struct Interception<'a> {
    loaded: &'a Loaded,
    /// The key that a predecessor's agents trust.
    inherited: Option<SecretString>,
    made: Option<Arc<Authority>>,
}

impl Interception<'_> {
    fn get(&mut self) -> anyhow::Result<Arc<Authority>> {
        if let Some(authority) = &self.made {
            return Ok(Arc::clone(authority));
        }
        let key = self.loaded.ca_key.as_ref().or(self.inherited.as_ref());
        let authority = Arc::new(match key {
            Some(key) => Authority::read(key)?,
            None => Authority::new()?,
        });
        let path = self.loaded.resolve(&self.loaded.config.ca.certificate);
        authority
            .publish(&path)
            .with_context(|| format!("`ca.certificate`: cannot write `{}`", path.display()))?;
        if let Some(path) = &self.loaded.config.ca.bundle {
            let path = self.loaded.resolve(path);
            authority
                .publish_bundle(&path)
                .with_context(|| format!("`ca.bundle`: cannot write `{}`", path.display()))?;
        }
        self.made = Some(Arc::clone(&authority));
        Ok(authority)
    }
}

fn listener(
    loaded: &Loaded,
    section: &Listener,
    authority: &mut Interception<'_>,
    offered: &mut impl FnMut(&Place) -> Option<OwnedFd>,
    sockets: &mut Sockets,
) -> anyhow::Result<(Bound, Arc<ListenerFacts>)> {
    let asked = match &section.address {
        ListenAddress::Unix(path) => ListenAddress::Unix(loaded.resolve(path)),
        tcp @ ListenAddress::Tcp(_) => tcp.clone(),
    };
    let known = match &asked {
        ListenAddress::Unix(path) => ListenAddress::Unix(absolute(path)?),
        tcp @ ListenAddress::Tcp(_) => tcp.clone(),
    };
    let place = Place::Listener {
        name: section.name().to_owned(),
        address: known.to_string(),
    };
    let bound = match offered(&place) {
        Some(socket) => Bound::inherit(&asked, socket)?,
        None => Bound::bind(&asked)?,
    };
    sockets.push((place, bound.share()?));
    let mut identities = loaded.identities.iter();
    let identity = identities.find(|(name, _)| name == section.name());
    let address = bound.address().clone();
    let configured = section.hosts.as_deref().unwrap_or_default();
    let facts = ListenerFacts {
        name: section.name().into(),
        mode: section.mode,
        hosts: Hosts::new(configured, &address)
            .with_context(|| format!("listener `{}`: `hosts`", section.name()))?,
        origins: section.origins.clone(),
        patience: Patience::default(),
        max_connections: MAX_CONNECTIONS,
        tls: identity.map(|(_, identity)| Presented::new(identity)),
        inside: match section.inside() {
            TlsWord::Refuse => Inside::Refuse,
            TlsWord::Tunnel => Inside::Tunnel,
            TlsWord::Intercept => Inside::Intercept(authority.get()?),
        },
        address,
    };
    Ok((bound, Arc::new(facts)))
}

/// Connection faults are no calls: they are counted and noted.
fn observer(outrider: &Arc<Outrider>) -> Observer {
    let recorder = Arc::clone(&outrider.recorder);
    Arc::new(move |listener, peer, fault| {
        recorder.metrics.connection_error(fault.as_str());
        let peer = peer.map(ToString::to_string).unwrap_or_default();
        recorder.event(
            SecurityKind::ConnectionError,
            Some(&listener.name),
            &[("reason", fault.as_str()), ("peer", &peer)],
        );
    })
}
