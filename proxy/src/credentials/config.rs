//! `services[].credentials`: a header, its value, and where that comes from.

use std::{path::Path, sync::Arc, time::Duration};

use http::HeaderMap;
use serde::Deserialize;

use super::{
    Choice, Fault, Name, Places, Signer, Template, Unavailable, Use, Want, command,
    oauth::{self, ActorToken, BadConfig, Grant, SubjectToken},
    scope::Scope,
};

/// `services[].credentials`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(try_from = "Keys")]
pub struct Config {
    /// The header that carries the secret.
    pub header: Name,
    /// Its value, with `${file:/path}`, `${env:NAME}` and `${token}` filled in.
    pub value: Template,
    /// What brings `${token}`.
    pub source: Option<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    header: Name,
    value: Option<Template>,
    command: Option<command::Config>,
    client: Option<oauth::Config>,
    exchange: Option<oauth::Config>,
}

/// Keys that do not go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadCredentials {
    /// There is nothing.
    #[error("expected `value`, `command`, `client` or `exchange`")]
    Nothing,
    /// There are several sources.
    #[error("expected one of `command`, `client` and `exchange`")]
    Several,
    /// The value has no use for what is fetched.
    #[error("`value` has no `${{token}}`: where does what is fetched go?")]
    NoToken,
    /// Nothing is fetched.
    #[error("`${{token}}` stands for what `command`, `client` or `exchange` brings: name one")]
    NoSource,
    /// The keys of the source do not go together.
    #[error(transparent)]
    OAuth(#[from] BadConfig),
}

/// What brings a token.
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// A program.
    Command(Arc<command::Config>),
    /// A token server.
    OAuth(Grant, Arc<oauth::Config>),
}

impl TryFrom<Keys> for Config {
    type Error = BadCredentials;

    fn try_from(keys: Keys) -> Result<Self, BadCredentials> {
        let command = keys.command.map(|command| Source::Command(command.into()));
        let client = keys
            .client
            .map(|oauth| Source::OAuth(Grant::Client, oauth.into()));
        let exchange = keys
            .exchange
            .map(|oauth| Source::OAuth(Grant::Exchange, oauth.into()));
        let mut sources = [command, client, exchange].into_iter().flatten();
        let (source, others) = (sources.next(), sources.next());
        if others.is_some() {
            return Err(BadCredentials::Several);
        }
        if let Some(Source::OAuth(grant, config)) = &source {
            config.check(*grant)?;
        }
        let value = match (keys.value, &source) {
            (Some(value), Some(_)) if !value.has_token() => return Err(BadCredentials::NoToken),
            (Some(value), None) if value.has_token() => return Err(BadCredentials::NoSource),
            (Some(value), _) => value,
            (None, Some(_)) => Template::bearer(),
            (None, None) => return Err(BadCredentials::Nothing),
        };
        Ok(Self {
            header: keys.header,
            value,
            source,
        })
    }
}

impl Config {
    /// Puts a secret that is only read into `headers`, once.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn put(&self, places: &Places<'_>, headers: &mut HeaderMap) -> Result<(), Unavailable> {
        let value = self.value.header_value(places)?;
        self.header.inject(value, headers);
        Ok(())
    }

    /// Whether a token server is asked over TLS.
    pub fn is_secure(&self) -> bool {
        match &self.source {
            Some(Source::OAuth(_, config)) => config.token_url.upstream().is_secure(),
            Some(Source::Command(_)) | None => false,
        }
    }

    /// Whether it presents the agent's JWT-SVID.
    pub fn needs_svid(&self) -> bool {
        self.acts_by(ActorToken::Svid)
    }

    /// Whether it asks for tokens that do not tell who acts.
    pub fn impersonates(&self) -> bool {
        self.acts_by(ActorToken::None)
    }

    fn acts_by(&self, actor: ActorToken) -> bool {
        match &self.source {
            Some(Source::OAuth(Grant::Exchange, config)) => config.actor_token == actor,
            Some(Source::OAuth(Grant::Client, _) | Source::Command(_)) | None => false,
        }
    }
}

impl Source {
    /// The word for it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::OAuth(Grant::Client, _) => "client",
            Self::OAuth(Grant::Exchange, _) => "exchange",
        }
    }

    /// How long a fetch may take.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Command(config) => config.timeout.0,
            Self::OAuth(_, config) => config.timeout.0,
        }
    }

    /// Reads keys and secrets once, so that a wrong path is found when the configuration is loaded.
    pub(super) fn try_out(&self, base: &Path) -> Result<(), Unavailable> {
        let Self::OAuth(_, config) = self else {
            return Ok(());
        };
        if let Some(key) = &config.key {
            let path = base.join(key);
            Signer::load(&path, None).map_err(|error| Unavailable::Key { path, error })?;
        }
        if let Some(secret) = &config.secret {
            secret.fill(&Places {
                base,
                env: &|name| std::env::var(name).ok(),
                token: None,
            })?;
        }
        Ok(())
    }

    /// What is wanted for whatever message, if that is the same for all.
    pub(super) fn want_of_all(&self, service: &str) -> Option<Want> {
        match self {
            Self::Command(_) => Some(Want {
                task: None,
                token: None,
                scope: None,
            }),
            Self::OAuth(Grant::Client, config) => {
                let narrowed = config.scope.as_ref().is_some_and(Scope::is_narrowed);
                (!narrowed).then(|| Want {
                    task: None,
                    token: None,
                    scope: config
                        .scope
                        .as_ref()
                        .and_then(|scope| scope.of(service, None)),
                })
            }
            Self::OAuth(Grant::Exchange, _) => None,
        }
    }

    /// What is wanted for a message of that use.
    pub(super) fn choose(&self, service: &str, what: Use<'_>) -> Choice {
        let Self::OAuth(grant, config) = self else {
            return self
                .want_of_all(service)
                .map_or(Choice::Nothing, Choice::Fetched);
        };
        let scope = match &config.scope {
            None => None,
            Some(scope) => match scope.of(service, what.tool) {
                Some(scope) => Some(scope),
                // Without a scope a server gives all it has.
                None => return Choice::Nothing,
            },
        };
        match grant {
            Grant::Client => Choice::Fetched(Want {
                task: None,
                token: None,
                scope,
            }),
            Grant::Exchange => exchange(config, what, scope),
        }
    }
}

fn exchange(config: &oauth::Config, what: Use<'_>, scope: Option<Arc<str>>) -> Choice {
    let Some(task) = what.task else {
        return match what.tool {
            Some(_) => Choice::Impossible(Fault::NoTask),
            None => Choice::Nothing,
        };
    };
    let token = match config.subject_token {
        SubjectToken::Principal => None,
        SubjectToken::TaskToken => {
            let token = what.token.and_then(|token| std::str::from_utf8(token).ok());
            let Some(token) = token else {
                return Choice::Impossible(Fault::NoTaskToken);
            };
            Some(token.into())
        }
    };
    Choice::Fetched(Want {
        task: Some(Arc::clone(task)),
        token,
        scope,
    })
}
