//! What all workers share, and the snapshot of it that a call reads from start to finish.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use outrider_policy::{
    Patterns, Policy,
    data::Data,
    input::{AgentFacts, Ready},
};

use crate::{
    authorize::Uses,
    catalogue::{Catalogue, Service},
    credentials::{Credential, Fetching},
    identify::{Peers, Required, agent::Identity, issuers::Issuers},
    limit::Limits,
    listen::{Connection, Named, Target},
    memory::Memory,
    overload,
    record::Recorder,
    rejection::Rejection,
    state::{Authority, Depth, Reach, Store},
    svid::CurrentSvid,
    tag::Signer,
};

/// Everything that a reload replaces, whole.
#[derive(Debug)]
pub struct Snapshot {
    /// What can be called.
    pub catalogue: Catalogue,
    /// Who may.
    pub policy: Policy,
    /// What policy reads.
    pub data: Data,
    /// The agent's facts, made ready.
    pub agent: Ready<AgentFacts>,
    /// How often.
    pub limits: Limits,
    /// Whether a call needs a task.
    pub required: Required,
    /// Bytes of a request.
    pub max_request: usize,
    /// Bytes of a buffered answer, or of one event.
    pub max_response: usize,
    /// When calls are too many.
    pub overload: overload::Config,
    /// How many tasks may stand above one.
    pub max_depth: Depth,
    /// What services are shown where the agent's SVID is asked for.
    pub svid: CurrentSvid,
}

impl Snapshot {
    /// The service of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn service(&self, name: &str) -> Result<Arc<Service>, Rejection> {
        let service = self.catalogue.service(name);
        service.cloned().ok_or(Rejection::ServiceUnknown)
    }

    /// The service that a request names, and what follows its part of the path.
    ///
    /// # Errors
    /// There is none.
    pub fn called<'a>(&self, target: &Target<'a>) -> Result<(Arc<Service>, &'a str), Rejection> {
        let (service, rest) = match target.named {
            Named::Service { name, rest } => (self.catalogue.service(name), rest),
            Named::Host(at) => match self.catalogue.at(at.name, at.port, target.path) {
                Some((service, rest)) => (Some(service), rest),
                None => (None, ""),
            },
            Named::Tunnel(to) => (self.catalogue.through(to.name, to.port), ""),
        };
        let service = service.cloned().ok_or(Rejection::ServiceUnknown)?;
        Ok((service, rest))
    }

    /// What an intent declares.
    pub fn reach(&self, intent: &str) -> Option<Reach> {
        Some(Reach {
            tools: Patterns::clone(self.data.scope(intent)?),
            level: self.data.intent(intent)?.level(),
        })
    }
}

/// When the state file is begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tidy {
    /// Now.
    Always,
    /// When it has grown, or is gone.
    WhereDue,
}

/// The sidecar.
#[derive(Debug)]
pub struct Outrider {
    snapshot: ArcSwap<Snapshot>,
    peers: HashMap<Arc<str>, Peers>,
    /// The agent beside us.
    pub agent: Arc<str>,
    /// Whether it is proved to be that.
    pub identity: Arc<Identity>,
    /// Where calls are recorded.
    pub recorder: Arc<Recorder>,
    /// Tasks, and from whom authority was taken back.
    pub authority: Arc<Authority>,
    /// Where that is kept.
    pub store: Store,
    /// Whose task tokens are believed beside our own.
    pub issuers: Issuers,
    /// Signs assertions.
    pub signer: Arc<Signer>,
    /// How often exceptions were used.
    pub uses: Uses,
    /// What is remembered between calls.
    pub memory: Arc<Memory>,
    /// Where credentials are fetched.
    pub fetching: Fetching,
    /// Whether somebody collects the traces that we start.
    pub traces: bool,
}

impl Outrider {
    /// Joins the parts.
    pub fn new(
        snapshot: Snapshot,
        peers: HashMap<Arc<str>, Peers>,
        recorder: Arc<Recorder>,
        authority: Arc<Authority>,
        store: Store,
        signer: Arc<Signer>,
        identity: Arc<Identity>,
    ) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            peers,
            agent: Arc::clone(&recorder.agent),
            recorder,
            authority,
            store,
            issuers: Issuers::default(),
            signer,
            identity,
            uses: Uses::default(),
            memory: Arc::default(),
            fetching: Fetching::default(),
            traces: false,
        }
    }

    /// Marks the traces that we start as collected.
    #[must_use]
    pub fn tracing(self, traces: bool) -> Self {
        Self { traces, ..self }
    }

    /// Believes the task tokens of these.
    #[must_use]
    pub fn believing(self, issuers: Issuers) -> Self {
        Self { issuers, ..self }
    }

    /// Begins the state file anew, always or where that is due.
    ///
    /// # Errors
    /// When that cannot be written; the old file stays in force.
    pub fn keep_state(&self, tidy: Tidy) -> std::io::Result<()> {
        match &self.store {
            Store::Memory | Store::Fleet(_) => Ok(()),
            Store::File(journal) => {
                let uses = self.uses.leave();
                journal.tidy(&self.authority, &uses, tidy == Tidy::WhereDue)
            }
        }
    }

    /// Forgets the credentials that were fetched for tasks which are not active, and all if the agent
    /// may not act any more; what is under way for them brings nothing.
    pub fn tidy_credentials(&self, now: Timestamp) {
        if self.authority.standing.is_revoked() {
            self.forget_all_credentials();
        } else {
            self.each_credential(|credential| credential.tidy(now));
        }
    }

    /// Forgets the credentials that were fetched for a task.
    pub fn forget_credentials(&self, issuer: &str, id: &str) {
        self.each_credential(|credential| credential.forget_task(issuer, id));
    }

    /// Forgets every credential that was fetched.
    pub fn forget_all_credentials(&self) {
        self.each_credential(Credential::forget_all);
    }

    /// Shows the credentials of every service.
    pub fn each_credential(&self, mut show: impl FnMut(&Credential)) {
        let snapshot = self.snapshot();
        let services = snapshot.catalogue.services();
        services
            .filter_map(|service| service.credentials.as_ref())
            .for_each(&mut show);
    }

    /// What a call that begins now reads to its end.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts a new snapshot in force for the calls that begin from now on.
    pub fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.uses.relearn();
        self.memory.revision.send_modify(|revision| *revision += 1);
    }

    /// Admits the user at the other end of a connection; asked once per connection.
    ///
    /// # Errors
    /// A user whom `peers` does not name, or who is not known.
    pub fn admit(&self, connection: &Connection) -> Result<(), Rejection> {
        let Some(peers) = self.peers.get(&connection.listener.name) else {
            return Ok(());
        };
        let admitted = |uid| peers.admit(uid).is_ok();
        if connection.caller().is_some_and(admitted) {
            Ok(())
        } else {
            Err(Rejection::IdentityInvalid)
        }
    }
}
