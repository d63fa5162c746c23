//! The sidecar's own secrets for an upstream, put into a request after the decision.
//!
//! The agent never sees them: they are read or fetched here, live in memory that is wiped, and
//! leave only towards the service they were configured for. In: for whom and for which tool a
//! permitted call is made. Out: the header of its request, or an [`Unobtained`], and then nothing
//! is sent.

mod command;
mod config;
mod fault;
mod fetched;
mod header;
mod keeper;
mod kept;
mod lifetime;
mod oauth;
mod report;
mod scope;
mod signer;
mod still;
mod template;
#[cfg(test)]
mod tests;

use std::{fmt, future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, StatusCode};
use jiff::Timestamp;
use secrecy::SecretString;

use crate::{call::ToolId, task::Task, upstream::TlsRoots};
use fetched::{Counts, Fetched};
use kept::Lease;
use still::Still;

pub use config::{BadCredentials, Config, Source};
pub use fault::Fault;
pub use header::{BadHeader, Name};
pub use keeper::Fetching;
pub use oauth::BadConfig;
pub use report::{Report, State};
pub use signer::{BadKey, Signer};
pub use template::{BadTemplate, Places, Template, Unavailable};

/// Longer than this no fetched credential is kept, whatever is said of it.
const LONGEST: Duration = Duration::from_hours(24);

/// The longest wait of a call for its credential.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who proves the agent's identity to token servers.
pub trait AgentToken: Send + Sync {
    /// A JWT-SVID of the agent for that audience.
    fn token(
        &self,
        audience: String,
    ) -> Pin<Box<dyn Future<Output = Result<SecretString, Fault>> + Send + '_>>;
}

/// Where a service's credentials stand: what they are for and what is relative to where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The service.
    pub service: Arc<str>,
    /// The agent's ID.
    pub agent: Arc<str>,
    /// The service's URL, as a token server may know it (RFC 8707).
    pub resource: Arc<str>,
    /// What relative paths are relative to.
    pub base: Arc<Path>,
}

impl Setting {
    #[cfg(test)]
    fn of(service: &str, base: &Path) -> Self {
        Self {
            service: service.into(),
            agent: "spiffe://example.org/agent".into(),
            resource: "http://127.0.0.1/mcp".into(),
            base: base.into(),
        }
    }
}

/// What was fetched.
struct Got {
    secret: SecretString,
    lifetime: Duration,
}

impl fmt::Debug for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Got")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// With what is fetched.
#[derive(Clone)]
struct Tools {
    roots: TlsRoots,
    agent: Option<Arc<dyn AgentToken>>,
    base: Arc<Path>,
    agent_id: Arc<str>,
    resource: Arc<str>,
}

/// Which credential is wanted.
#[derive(Clone)]
struct Want {
    task: Option<Arc<Task>>,
    token: Option<SecretString>,
    scope: Option<Arc<str>>,
}

/// For what a credential is wanted.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    /// The task of the message.
    pub task: Option<&'a Arc<Task>>,
    /// The token by which the task was presented, if an issuer elsewhere made it.
    pub token: Option<&'a [u8]>,
    /// The tool of a call.
    pub tool: Option<&'a ToolId>,
}

impl fmt::Debug for Use<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Use")
            .field("tool", &self.tool)
            .finish_non_exhaustive()
    }
}

/// A service's credentials. They print their header's name and where they come from.
#[derive(Clone)]
pub struct Credential {
    header: Name,
    config: Arc<Config>,
    service: Arc<str>,
    kind: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    Still(Still),
    Fetched(Arc<Fetched>),
}

/// What one request gets.
pub struct Wanted {
    credential: Credential,
    want: Choice,
}

enum Choice {
    /// What was read.
    Read,
    /// What is fetched for it.
    Fetched(Want),
    /// Nothing: a token for it would have no bounds.
    Nothing,
    /// Nothing can be had, and so nothing is sent.
    Impossible(Fault),
}

/// A credential cannot be had; then nothing may be sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no credential for the service")]
pub struct Unobtained(#[source] pub Fault);

/// The credential that a request carries.
pub struct Carried(Option<(Arc<Fetched>, Want, Lease)>);

impl Credential {
    /// Reads what can be read now. What `before` fetched stays, if it was configured alike.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn load(
        config: &Config,
        setting: Setting,
        before: Option<&Self>,
    ) -> Result<Self, Unavailable> {
        let service = Arc::clone(&setting.service);
        let make = |kind| Self {
            header: config.header.clone(),
            config: Arc::new(config.clone()),
            service,
            kind,
        };
        let Some(source) = &config.source else {
            let still = Still::load(config.value.clone(), setting)?;
            return Ok(make(Arc::new(Kind::Still(still))));
        };
        source.try_out(&setting.base)?;
        config.value.header_value(&Places {
            base: &setting.base,
            env: &|name| std::env::var(name).ok(),
            token: Some(&"x".into()),
        })?;
        let fetched = before.and_then(|before| match &*before.kind {
            Kind::Fetched(fetched) => Some((before, fetched)),
            Kind::Still(_) => None,
        });
        let counts = match fetched {
            Some((before, fetched)) if *before.config == *config && fetched.setting == setting => {
                return Ok(make(Arc::clone(&before.kind)));
            }
            Some((_, fetched)) => Arc::clone(&fetched.counts),
            None => Arc::<Counts>::default(),
        };
        let fetched = Fetched::new(source.clone(), config.value.clone(), setting, counts);
        Ok(make(Arc::new(Kind::Fetched(Arc::new(fetched)))))
    }

    /// Whether a token server is asked over TLS.
    pub fn is_secure(&self) -> bool {
        self.config.is_secure()
    }

    /// The header that carries it.
    pub fn header(&self) -> &HeaderName {
        self.header.get()
    }

    /// Whether it depends on the task or the tool of a message.
    pub fn is_particular(&self) -> bool {
        match &*self.kind {
            Kind::Still(_) => false,
            Kind::Fetched(fetched) => fetched.want_of_all().is_none(),
        }
    }

    /// What a request of that use gets.
    pub fn wanted(&self, what: Use<'_>) -> Wanted {
        let want = match &*self.kind {
            Kind::Still(_) => Choice::Read,
            Kind::Fetched(fetched) => fetched.source.choose(&self.service, what),
        };
        Wanted {
            credential: self.clone(),
            want,
        }
    }

    /// Forgets what was fetched for that task, also what is still under way.
    pub fn forget_task(&self, issuer: &str, id: &str) {
        if let Kind::Fetched(fetched) = &*self.kind {
            fetched.forget(|task| &*task.issuer == issuer && &*task.id == id);
        }
    }

    /// Forgets what was fetched for tasks that are not active, also what is still under way.
    pub fn tidy(&self, now: Timestamp) {
        if let Kind::Fetched(fetched) = &*self.kind {
            fetched.tidy(now);
        }
    }

    /// Forgets all that was fetched.
    pub fn forget_all(&self) {
        if let Kind::Fetched(fetched) = &*self.kind {
            fetched.forget_all();
        }
    }
}

impl Wanted {
    /// Puts the credential into the request, in place of anything an upstream might read as the
    /// same header; waits for it as long as the service may take, but not long.
    ///
    /// # Errors
    /// [`Unobtained`]: then nothing may be sent.
    pub async fn provide(
        self,
        fetching: &Fetching,
        patience: Duration,
        headers: &mut HeaderMap,
    ) -> Result<Carried, Unobtained> {
        let header = &self.credential.header;
        match (self.want, &*self.credential.kind) {
            (Choice::Fetched(want), Kind::Fetched(fetched)) => {
                let obtain = fetched.obtain(&want, fetching);
                let lease = tokio::time::timeout(patience.min(PATIENCE), obtain).await;
                let lease = lease.unwrap_or(Err(Fault::Timeout)).map_err(Unobtained)?;
                header.inject(lease.value.clone(), headers);
                Ok(Carried(Some((Arc::clone(fetched), want, lease))))
            }
            (Choice::Impossible(fault), _) => Err(Unobtained(fault)),
            (Choice::Nothing, _) => {
                header.clear(headers);
                Ok(Carried(None))
            }
            (Choice::Read, Kind::Still(still)) => {
                header.inject(still.value(), headers);
                Ok(Carried(None))
            }
            (Choice::Read, Kind::Fetched(_)) | (Choice::Fetched(_), Kind::Still(_)) => {
                Err(Unobtained(Fault::Stopped))
            }
        }
    }
}

impl Carried {
    /// Told how the upstream answered: if it refused it, the next call fetches another.
    pub fn answered(&self, status: StatusCode) {
        if let (Some((fetched, want, lease)), StatusCode::UNAUTHORIZED) = (&self.0, status) {
            fetched.spurn(want, lease, Timestamp::now());
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("header", self.header())
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wanted").field(&self.credential).finish()
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Carried").field(&self.0.is_some()).finish()
    }
}
