//! Everything that one kind of call needs: the tool server, the peers before it, Outrider before it.

use std::{net::SocketAddr, path::Path, rc::Rc, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use outrider_integration::Request;
use serde_json::json;

use crate::{
    load::{Pace, Shot},
    message,
    outrider::{Outrider, Settings},
    owned::{self, Owned},
    peers::{Backend, ENVOY_OPA, Peer},
    process::{Cpu, Memory},
    sample::Sample,
    shape::SERVICE,
    tls::{self, Certificates},
    tool_server,
};

/// The tool server without a proxy.
pub(crate) const DIRECT: &str = "direct";
/// Outrider with every check on, and a signed assertion.
pub(crate) const OUTRIDER: &str = "outrider";
/// The same without the signature: the upstream is told the decision ID.
pub(crate) const UNSIGNED: &str = "outrider, decision_id";
/// The same as a proxy that the agent asks for the tool server itself: `CONNECT`, and TLS that is looked into.
pub(crate) const INTERCEPTED: &str = "outrider, intercepted";
/// A tunnel that it does not look into: decided once, then bytes.
pub(crate) const TUNNEL: &str = "outrider, tunnel";
/// The least there is: a `ping`, not judged, not signed; read strictly, recorded and passed on.
pub(crate) const PING: &str = "outrider, ping";

/// What is called for and how it is answered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Case {
    /// About so many bytes more than the usual kilobyte in the request, and in the answer.
    pub(crate) padding: usize,
    /// Progress events before the result.
    pub(crate) events: usize,
    /// TLS on both sides of the proxy.
    pub(crate) tls: bool,
}

/// One thing to fire at.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    shot: Shot,
    stands: Stands,
    /// Resident memory before the first call.
    pub(crate) idle: Memory,
}

/// What stands between the load and the tool server.
enum Stands {
    Nothing,
    Peer(Peer),
    Outrider(Rc<Outrider>),
    /// It decided once.
    Passed(Rc<Outrider>),
}

impl Target {
    fn new(name: &'static str, shot: Shot, stands: Stands) -> Result<Self> {
        let mut target = Self {
            name,
            shot,
            stands,
            idle: Memory::default(),
        };
        target.idle = target.memory()?;
        Ok(target)
    }

    fn pids(&self) -> Vec<u32> {
        match &self.stands {
            Stands::Nothing => Vec::new(),
            Stands::Peer(peer) => peer.pids(),
            Stands::Outrider(outrider) | Stands::Passed(outrider) => vec![outrider.sidecar.pid()],
        }
    }

    /// Resident memory as it stands.
    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(&self.pids())
    }

    /// Fires at it for a moment and then for that long.
    pub(crate) fn measure(&self, connections: usize, pace: Pace, time: Duration) -> Result<Sample> {
        let through = || format!("calls through {}", self.name);
        let mut crew = self.shot.crew(connections).with_context(through)?;
        let mut fire = |time| {
            let round = crew.fire(pace, time).with_context(through)?;
            self.made(round.times.len());
            anyhow::Ok(round)
        };
        fire(time / 8)?;
        let before = Cpu::of(&self.pids())?;
        let round = fire(time)?;
        let cpu = Cpu::of(&self.pids())?.since(&before);
        let proxied = !matches!(self.stands, Stands::Nothing);
        Ok(Sample::new(&round, proxied.then_some(cpu)))
    }

    /// One call; returns the length of the answer's content.
    fn once(&self) -> Result<usize> {
        let first = self.shot.once();
        let length = first.with_context(|| format!("a first call through {}", self.name))?;
        self.made(1);
        Ok(length)
    }

    /// Calls that were made through the Outrider that stands there.
    pub(crate) fn calls(&self) -> usize {
        match &self.stands {
            Stands::Outrider(outrider) => outrider.calls.get(),
            _ => 0,
        }
    }

    fn made(&self, calls: usize) {
        if let Stands::Outrider(outrider) = &self.stands {
            outrider.calls.set(outrider.calls.get() + calls);
        }
    }

    /// The Outrider that stands there, if nobody else holds it.
    pub(crate) fn into_outrider(self) -> Option<Outrider> {
        match self.stands {
            Stands::Outrider(outrider) => Rc::into_inner(outrider),
            _ => None,
        }
    }

    /// Every call is in the log.
    pub(crate) fn check_log(&self) -> Result<()> {
        match &self.stands {
            Stands::Outrider(outrider) => outrider.check_log(),
            _ => Ok(()),
        }
    }
}

/// The tool server and everything before it, as long as the value lives.
pub(crate) struct World {
    pub(crate) targets: Vec<Target>,
    /// What could not be had.
    pub(crate) absent: Vec<&'static str>,
    case: Case,
    upstream: SocketAddr,
    /// The length of the only good answer, once the tool server itself has given it.
    expected: Option<usize>,
    certificates: Option<Certificates>,
    _tool_server: Owned,
}

impl World {
    /// Starts everything and makes one call through each.
    pub(crate) fn start(case: Case, settings: &Settings, peers: &[&'static str]) -> Result<Self> {
        let mut world = Self::bare(case)?;
        world.fill(settings, peers)?;
        world.try_strangers()?;
        Ok(world)
    }

    /// The tool server alone.
    pub(crate) fn bare(case: Case) -> Result<Self> {
        let certificates = case.tls.then(Certificates::make).transpose()?;
        let (tool_server, upstream) = owned::tool_server(&tool_server::Options {
            events: case.events,
            padding: case.padding,
            certificate: certificates.as_ref().map(Certificates::certificate),
            key: certificates.as_ref().map(Certificates::key),
        })?;
        let mut world = Self {
            targets: Vec::new(),
            absent: Vec::new(),
            case,
            upstream,
            expected: None,
            certificates,
            _tool_server: tool_server,
        };
        world.add(DIRECT, &[world.call("")], Stands::Nothing)?;
        Ok(world)
    }

    fn fill(&mut self, settings: &Settings, peers: &[&'static str]) -> Result<()> {
        let full = self.outrider(settings, "full")?;
        let unsigned = self.outrider(settings, "decision_id")?;
        let token = full.as_ref().map_or("", |outrider| &outrider.token);
        let documents = settings.shape.documents(token)?;
        for name in peers {
            let backend = Backend {
                address: self.upstream,
                certificates: self.certificates.as_ref(),
                documents: &documents,
            };
            match Peer::start(name, &backend)? {
                Some(peer) => self.add(name, &[self.call(token)], Stands::Peer(peer))?,
                None => self.absent.push(name),
            }
        }
        let (Some(full), Some(unsigned)) = (full, unsigned) else {
            self.absent.push(OUTRIDER);
            return Ok(());
        };
        let ping = Request::message(&json!(1), "ping", json!({}));
        let stands = |outrider: &Rc<Outrider>| Stands::Outrider(Rc::clone(outrider));
        self.add(OUTRIDER, &[self.call(&full.token)], stands(&full))?;
        self.add(UNSIGNED, &[self.call(&unsigned.token)], stands(&unsigned))?;
        if self.certificates.is_some() {
            let (name, trust) = (tls::NAME, full.sidecar.path("outrider-ca.pem"));
            self.add_asked(
                INTERCEPTED,
                name,
                &trust,
                Stands::Outrider(Rc::clone(&full)),
            )?;
            let trust = self.certificates.as_ref().map(Certificates::root);
            let trust = trust.context("certificates")?;
            self.add_asked(
                TUNNEL,
                "127.0.0.1",
                &trust,
                Stands::Passed(Rc::clone(&full)),
            )?;
        }
        if self.case.padding == 0 {
            self.add(PING, &[ping], stands(&unsigned))?;
        }
        Ok(())
    }

    /// The same calls, to the tool server by that name, through a proxy that is asked for it.
    fn add_asked(
        &mut self,
        name: &'static str,
        place: &'static str,
        trust: &Path,
        stands: Stands,
    ) -> Result<()> {
        let (Stands::Outrider(outrider) | Stands::Passed(outrider)) = &stands else {
            bail!("nobody else is asked so");
        };
        let host = format!("{place}:{}", self.upstream.port());
        let call = self.call(&outrider.token);
        let token = &outrider.token;
        let ask = format!(
            "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nOutrider-Task-Token: {token}\r\n\r\n"
        );
        let call = match stands {
            // The token came with the tunnel, and holds for what is inside.
            Stands::Outrider(_) => call.without("Outrider-Task-Token"),
            _ => call,
        };
        let shot = Shot {
            addresses: vec![outrider.forward.context("a forward listener")?],
            requests: Arc::new([call.bytes(&host, &format!("/{SERVICE}"))]),
            expected: self.expected,
            tls: Some(tls::trusting(trust)?),
            name: place,
            tunnel: Some(ask.into_bytes().into()),
        };
        let target = Target::new(name, shot, stands)?;
        target.once()?;
        self.targets.push(target);
        Ok(())
    }

    /// Who says to decide refuses what names no task: a policy that lets everything pass costs nothing.
    fn try_strangers(&self) -> Result<()> {
        let deciding = [ENVOY_OPA, OUTRIDER, UNSIGNED];
        for target in &self.targets {
            let shot = Shot {
                requests: Arc::new([bytes(&self.call("nobody"))]),
                ..target.shot.clone()
            };
            let lets_pass = deciding.contains(&target.name) && shot.once().is_ok();
            ensure!(!lets_pass, "{} lets pass what names no task", target.name);
        }
        Ok(())
    }

    /// Adds an Outrider that is called with these tasks in turn.
    pub(crate) fn add_outrider(&mut self, outrider: Outrider, tokens: &[String]) -> Result<()> {
        let target = self.outrider_target(outrider, tokens)?;
        self.targets.push(target);
        Ok(())
    }

    /// An Outrider that is called with these tasks in turn.
    pub(crate) fn outrider_target(&self, outrider: Outrider, tokens: &[String]) -> Result<Target> {
        let calls: Vec<_> = tokens.iter().map(|token| self.call(token)).collect();
        self.target(OUTRIDER, &calls, Stands::Outrider(Rc::new(outrider)))
    }

    /// Starts an Outrider before the tool server; `None` when it cannot do what the case wants.
    pub(crate) fn start_outrider(&self, settings: &Settings) -> Result<Option<Outrider>> {
        Outrider::start(settings, self.upstream, self.certificates.as_ref())
    }

    fn outrider(
        &self,
        settings: &Settings,
        identity: &'static str,
    ) -> Result<Option<Rc<Outrider>>> {
        let settings = Settings {
            identity,
            ..settings.clone()
        };
        Ok(self.start_outrider(&settings)?.map(Rc::new))
    }

    fn call(&self, token: &str) -> Request {
        Request::call(message::TOOL, &message::arguments_of(self.case.padding))
            .field("Outrider-Task-Token", token)
    }

    /// Adds a target. All of them answer as the first of them does.
    fn add(&mut self, name: &'static str, requests: &[Request], stands: Stands) -> Result<()> {
        let target = self.target(name, requests, stands)?;
        self.expected = target.shot.expected;
        self.targets.push(target);
        Ok(())
    }

    /// A target through which a first call was made.
    fn target(&self, name: &'static str, requests: &[Request], stands: Stands) -> Result<Target> {
        let addresses = match &stands {
            Stands::Nothing => vec![self.upstream],
            Stands::Peer(peer) => vec![peer.address],
            Stands::Outrider(outrider) | Stands::Passed(outrider) => outrider.addresses.clone(),
        };
        let tls = self.certificates.as_ref().map(Certificates::connector);
        let shot = Shot {
            addresses,
            requests: requests.iter().map(bytes).collect(),
            expected: self.expected,
            tls: tls.transpose()?,
            name: tls::NAME,
            tunnel: None,
        };
        let mut target = Target::new(name, shot, stands)?;
        target.shot.expected = Some(target.once()?);
        Ok(target)
    }
}

/// As it is sent, whoever it goes through.
fn bytes(request: &Request) -> Vec<u8> {
    request.bytes(tls::NAME, &format!("/{SERVICE}"))
}
