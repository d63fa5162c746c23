//! How the agent beside us is known, and whether it is known now.
//!
//! `static` believes the configuration. `spiffe` and `token_file` prove `agent.id` by something that
//! expires and is renewed while calls go on: a [`Keeper`] sees to that on a thread of its own, calls ask
//! [`Identity::check`].

mod config;
mod keeper;

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot, watch};

pub use config::{BadEndpoint, Config, Endpoint, Misfit, Settings, Source, TokenFile};
pub use keeper::{Keeper, Unkept};

use crate::svid::{CurrentSvid, Svid};

/// Questions for JWT-SVIDs that may wait.
const ASKS: usize = 64;

/// The agent's identity: where it is from, and how it stands.
pub struct Identity {
    source: Source,
    agent: Arc<str>,
    standing: ArcSwap<Standing>,
    changed: watch::Sender<()>,
    svid: CurrentSvid,
    asks: mpsc::Sender<Ask>,
}

/// How an identity stands.
#[derive(Debug)]
enum Standing {
    /// Nothing was obtained yet, and why.
    Missing(String),
    /// It is proved until then; without a time, for as long as we run.
    Proved(Option<Timestamp>),
    /// What was obtained no longer holds, and why.
    Lost(String),
}

/// A change that others want to know of, before calls see it.
#[derive(Debug)]
pub enum Change<'a> {
    /// The agent is proved until then, by an SVID where there is one; it was not before.
    Obtained(Timestamp, Option<&'a Arc<Svid>>),
    /// The same, and it was before.
    Renewed(Timestamp, Option<&'a Arc<Svid>>),
    /// It is no longer proved, and why.
    Lost(&'a str),
}

/// Who is told of changes.
pub type Told = Box<dyn Fn(Change<'_>) + Send>;

/// A call while the agent's identity is not proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unattested {
    /// It was never obtained.
    #[error("the agent's identity is not there yet")]
    Missing,
    /// It has expired, was taken back, or is not that of `agent.id`.
    #[error("the agent's identity is not valid")]
    Invalid,
}

/// How an identity stands, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// `static`, `spiffe` or `token_file`.
    pub source: &'static str,
    /// Whether calls are served.
    pub proved: bool,
    /// More; it holds no secret.
    pub detail: String,
    /// When it expires, unless it does not, or is not there.
    pub expires: Option<Timestamp>,
}

/// A JWT-SVID: a bearer token of the agent for one audience.
#[derive(Debug)]
pub struct JwtSvid {
    /// The token.
    pub token: SecretString,
    /// When it expires.
    pub expires: Timestamp,
}

/// A JWT-SVID that is not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoJwtSvid {
    /// The agent's identity is not proved now.
    #[error(transparent)]
    Unattested(#[from] Unattested),
    /// The source gives none.
    #[error("JWT-SVIDs need `identity: {{ source: spiffe }}`")]
    Source,
    /// Too many are waited for.
    #[error("too many JWT-SVIDs are asked for at once")]
    Busy,
    /// The Workload API gave none that is good.
    #[error("the Workload API gives no JWT-SVID")]
    NotGiven,
}

/// A question for a JWT-SVID.
pub(in crate::identify) struct Ask {
    pub(in crate::identify) audience: String,
    pub(in crate::identify) answer: oneshot::Sender<Result<Arc<JwtSvid>, NoJwtSvid>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("source", &self.source)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity of `agent`, which is proved by the configuration alone or not at all yet; and the
    /// other end of the questions to it.
    fn new(source: Source, agent: Arc<str>, svid: CurrentSvid) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(ASKS);
        let standing = match source {
            Source::Static => Standing::Proved(None),
            Source::Spiffe | Source::TokenFile => Standing::Missing("not asked for yet".into()),
        };
        let identity = Self {
            source,
            agent,
            standing: ArcSwap::from_pointee(standing),
            changed: watch::Sender::new(()),
            svid,
            asks,
        };
        (identity, asked)
    }

    /// The identity of an agent whom the configuration alone vouches for.
    pub fn fixed(agent: Arc<str>) -> Self {
        Self::new(Source::Static, agent, CurrentSvid::default()).0
    }

    /// Lets a call go on while the agent is proved.
    ///
    /// # Errors
    /// [`Unattested`].
    pub fn check(&self) -> Result<(), Unattested> {
        match self.source {
            Source::Static => Ok(()),
            Source::Spiffe | Source::TokenFile => self.standing.load().check(Timestamp::now()),
        }
    }

    /// The SVID in force; with another source than `spiffe` there never is one.
    pub fn svid(&self) -> &CurrentSvid {
        &self.svid
    }

    /// Whom it is to be the identity of.
    pub fn agent(&self) -> &Arc<str> {
        &self.agent
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let standing = self.standing.load();
        let proved = standing.check(Timestamp::now()).is_ok();
        let expires = match &**standing {
            Standing::Proved(until) => *until,
            Standing::Missing(_) | Standing::Lost(_) => None,
        };
        let (source, agent) = (self.source.as_str(), &self.agent);
        let detail = match &**standing {
            Standing::Proved(None) => format!("{source}: {agent}"),
            Standing::Proved(Some(until)) if proved => format!("{source}: {agent} until {until}"),
            Standing::Proved(Some(until)) => format!("{source}: expired at {until}"),
            Standing::Missing(why) => format!("{source}: not obtained: {why}"),
            Standing::Lost(why) => format!("{source}: lost: {why}"),
        };
        Status {
            source,
            proved,
            detail,
            expires,
        }
    }

    /// Waits until it is proved.
    pub async fn proved(&self) {
        let mut changed = self.changed.subscribe();
        while self.check().is_err() {
            if changed.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// A JWT-SVID of the agent for that audience, which lives for a while yet. On any runtime.
    ///
    /// # Errors
    /// [`NoJwtSvid`].
    pub async fn jwt_svid(&self, audience: &str) -> Result<Arc<JwtSvid>, NoJwtSvid> {
        if self.source != Source::Spiffe {
            return Err(NoJwtSvid::Source);
        }
        self.check()?;
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            audience: audience.to_owned(),
            answer,
        };
        self.asks.try_send(ask).map_err(|_| NoJwtSvid::Busy)?;
        answered.await.unwrap_or(Err(NoJwtSvid::NotGiven))
    }

    /// It is proved until then.
    pub(in crate::identify) fn prove(
        &self,
        until: Timestamp,
        svid: Option<Arc<Svid>>,
        told: &Told,
    ) {
        let change = if self.check().is_ok() {
            Change::Renewed(until, svid.as_ref())
        } else {
            Change::Obtained(until, svid.as_ref())
        };
        told(change);
        self.svid.set(svid);
        self.stand(Standing::Proved(Some(until)));
    }

    /// It is no longer proved; or still not, for another reason.
    pub(in crate::identify) fn lose(&self, why: &str, told: &Told) {
        match &**self.standing.load() {
            Standing::Proved(_) => told(Change::Lost(why)),
            Standing::Lost(known) | Standing::Missing(known) if known == why => return,
            Standing::Lost(_) | Standing::Missing(_) => {
                tracing::warn!("the agent's identity is not proved: {why}");
            }
        }
        self.svid.set(None);
        self.stand(Standing::Lost(why.to_owned()));
    }

    /// The source gives this process none: what was obtained is taken back.
    pub(in crate::identify) fn deny(&self, why: &str, told: &Told) {
        if matches!(**self.standing.load(), Standing::Missing(_)) {
            self.excuse(why);
        } else {
            self.lose(why, told);
        }
    }

    /// Why there is none yet. What is there stays in force.
    pub(in crate::identify) fn excuse(&self, why: &str) {
        match &**self.standing.load() {
            Standing::Missing(known) if known == why => {}
            Standing::Missing(_) => {
                tracing::warn!("the agent's identity is not obtained yet: {why}");
                self.stand(Standing::Missing(why.to_owned()));
            }
            Standing::Proved(_) | Standing::Lost(_) => {
                tracing::warn!("the agent's identity cannot be renewed now: {why}");
            }
        }
    }

    fn stand(&self, standing: Standing) {
        self.standing.store(Arc::new(standing));
        self.changed.send_replace(());
    }
}

impl Standing {
    fn check(&self, now: Timestamp) -> Result<(), Unattested> {
        match self {
            Self::Proved(None) => Ok(()),
            Self::Proved(Some(until)) if now < *until => Ok(()),
            Self::Proved(Some(_)) | Self::Lost(_) => Err(Unattested::Invalid),
            Self::Missing(_) => Err(Unattested::Missing),
        }
    }
}
