//! Who carries revocations out: every sidecar, through the fleet's store or one by one.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::{
    control::{
        client,
        wire::{Fault, Kind, Named, Reply, Request},
    },
    keys::{KeyError, SigningKey},
    state::{
        Authority, Decree, Edict, NotDone, Store, Target, Tasks,
        redis::{Fleet, Follower, Settings},
    },
};

/// Where revocations go.
#[derive(Debug)]
pub enum Sink {
    /// To the fleet's store, of which this is a member that makes no calls.
    Fleet(Member),
    /// To each of these control sockets.
    Sidecars(Vec<PathBuf>),
}

/// A revocation that is not kept everywhere: it is to be told again. Where it was told it holds.
#[derive(Debug, thiserror::Error)]
pub enum Untold {
    /// The fleet's store does not have it.
    #[error("the fleet does not have it: {0}")]
    Fleet(String),
    /// A sidecar does not have it.
    #[error("the sidecar at `{}` does not have it: {why}", socket.display())]
    Sidecar {
        /// Where it is.
        socket: PathBuf,
        /// What it said.
        why: String,
    },
}

/// No fleet can be joined.
#[derive(Debug, thiserror::Error)]
pub enum NotJoined {
    /// There is no key for its own name.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no thread for it.
    #[error("cannot start: {0}")]
    Thread(#[from] std::io::Error),
}

/// A member of the fleet: it knows what was taken back, so that what it tells is never less.
#[derive(Debug)]
pub struct Member {
    authority: Arc<Authority>,
    store: Store,
    /// The fleet.
    pub fleet: Arc<Fleet>,
}

impl Member {
    /// Begins to look for the store.
    ///
    /// # Errors
    /// [`NotJoined`].
    pub fn join(settings: Settings) -> Result<Self, NotJoined> {
        let name: Arc<str> = format!("outrider-receiver:{}", uuid::Uuid::now_v7()).into();
        let tasks = Tasks::new(Arc::clone(&name), SigningKey::generate()?);
        let authority = Arc::new(Authority::new(name, Arc::new(tasks)));
        let follower = Heard(Arc::clone(&authority));
        let fleet = Arc::new(Fleet::start(settings, Box::new(follower))?);
        Ok(Self {
            authority,
            store: Store::Fleet(Arc::clone(&fleet)),
            fleet,
        })
    }

    async fn tell(&self, decree: &Decree) -> Result<(), Untold> {
        let known = self.authority.carry_out(decree);
        known.map_err(|error| Untold::Fleet(error.to_string()))?;
        let kept = self.store.decreed(decree, &self.authority).await;
        kept.map_err(|error| Untold::Fleet(error.to_string()))
    }
}

/// Remembers what the fleet says.
struct Heard(Arc<Authority>);

impl Follower for Heard {
    fn widens(&self, edict: &Edict) -> bool {
        self.0.widens(edict)
    }

    fn follow(&self, decree: Decree) -> bool {
        match self.0.carry_out(&decree) {
            // As it should be: nothing of it was ever heard here.
            Ok(_) | Err(NotDone::NotRevoked | NotDone::Over) => true,
            Err(error @ (NotDone::Revocations(_) | NotDone::Tasks(_) | NotDone::Distrusted)) => {
                tracing::error!(%error, "what the fleet says cannot be remembered here");
                false
            }
        }
    }
}

impl Sink {
    /// Tells a revocation. When this returns, it is kept wherever it counts.
    ///
    /// # Errors
    /// [`Untold`].
    pub async fn tell(&self, decree: &Decree) -> Result<(), Untold> {
        match self {
            Self::Fleet(member) => member.tell(decree).await,
            Self::Sidecars(sockets) => all(sockets, decree).await,
        }
    }

    /// Forgets what no longer matters.
    pub fn sweep(&self, now: Timestamp) {
        match self {
            Self::Fleet(member) => member.authority.sweep(now),
            Self::Sidecars(_) => {}
        }
    }

    /// Leaves.
    pub fn stop(&self) {
        match self {
            Self::Fleet(member) => member.fleet.stop(),
            Self::Sidecars(_) => {}
        }
    }
}

/// Asks all sidecars at once, each to its end: one that is away keeps no other from obeying.
async fn all(sockets: &[PathBuf], decree: &Decree) -> Result<(), Untold> {
    let mut asked = JoinSet::new();
    for socket in sockets {
        let (socket, decree) = (socket.clone(), decree.clone());
        asked.spawn_blocking(move || {
            revoke(&socket, &decree).map_err(|why| Untold::Sidecar { socket, why })
        });
    }
    let mut told = Ok(());
    while let Some(answer) = asked.join_next().await {
        let answer = answer.unwrap_or_else(|_| Err(Untold::Fleet("it was given up".into())));
        told = told.and(answer);
    }
    told
}

fn revoke(socket: &std::path::Path, decree: &Decree) -> Result<(), String> {
    let Edict::Revoke {
        target,
        issued_before,
    } = &decree.edict
    else {
        return Err("only revocations are told".into());
    };
    let reason = decree.why.as_deref().unwrap_or_default();
    let reason = format!("{} {reason}", decree.by);
    let reason = reason.get(..reason.floor_char_boundary(LONGEST_REASON));
    let request = |issuer: Option<&Arc<str>>| Request::Revoke {
        target: Named {
            kind: kind(target),
            id: target.id().to_string(),
            issuer: issuer.map(ToString::to_string),
        },
        issued_before: *issued_before,
        reason: reason.map(ToOwned::to_owned),
    };
    let ask = |issuer| client::ask(socket, &request(issuer)).map_err(|error| error.to_string());
    let mut reply = ask(target.issuer())?;
    if target.issuer().is_some() && is(&reply, Fault::Malformed) {
        // It knows no such issuer: then of whomever it has it.
        reply = ask(None)?;
        if is(&reply, Fault::UnknownTask) {
            return Ok(());
        }
    }
    match reply {
        Reply::Done(_) | Reply::Task(_) => Ok(()),
        Reply::Refused(refusal) => Err(refusal.message),
        Reply::Opened { .. }
        | Reply::Tasks(_)
        | Reply::Revocations(_)
        | Reply::Keys(_)
        | Reply::Findings(_) => Err("its answer is not understood".into()),
    }
}

/// The longest reason that a control socket takes.
const LONGEST_REASON: usize = 512;

fn is(reply: &Reply, fault: Fault) -> bool {
    matches!(reply, Reply::Refused(refusal) if refusal.fault == fault)
}

fn kind(target: &Target) -> Kind {
    match target {
        Target::Agent(_) => Kind::Agent,
        Target::Subject(_) => Kind::Subject,
        Target::Task(_) => Kind::Task,
        Target::Token { .. } => Kind::Token,
        Target::Key { .. } => Kind::Key,
    }
}
