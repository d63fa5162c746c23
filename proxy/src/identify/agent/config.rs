//! `identity:`, and what it comes to for one source.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    jose::{self, Location},
    svid::SpiffeId,
};

/// Where the Workload API is when the configuration does not say.
const ENDPOINT: &str = "SPIFFE_ENDPOINT_SOCKET";

/// `identity.source`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The configuration says so.
    #[default]
    Static,
    /// An SVID of the Workload API.
    Spiffe,
    /// A token in a file, as Kubernetes projects it.
    TokenFile,
}

impl Source {
    /// The word in configuration, records, probes and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Spiffe => "spiffe",
            Self::TokenFile => "token_file",
        }
    }
}

/// `identity:`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How the agent is known.
    pub source: Source,
    /// Where the Workload API is.
    pub socket: Option<Endpoint>,
    /// The file of the token.
    pub token: Option<PathBuf>,
    /// Who issues it.
    pub issuer: Option<String>,
    /// For whom it is: us.
    pub audience: Option<String>,
    /// The issuer's keys.
    pub jwks: Option<Location>,
    /// Whom the source of the keys is proved by.
    pub ca: Option<PathBuf>,
    /// The agent by the subject of its token.
    pub map: BTreeMap<String, String>,
}

/// Where a Workload API is: `unix:///path` or `tcp://IP:port` (SPIFFE Workload Endpoint §4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
}

/// A text that is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `unix:///PATH` or `tcp://IP:PORT`")]
pub struct BadEndpoint;

impl TryFrom<String> for Endpoint {
    type Error = BadEndpoint;

    fn try_from(text: String) -> Result<Self, BadEndpoint> {
        if let Some(path) = text.strip_prefix("unix://").or(text.strip_prefix("unix:")) {
            let absolute = Path::new(path).is_absolute() && !path.contains(['?', '#']);
            return if absolute {
                Ok(Self::Unix(path.into()))
            } else {
                Err(BadEndpoint)
            };
        }
        let address = text.strip_prefix("tcp://").ok_or(BadEndpoint)?;
        address.parse().map(Self::Tcp).map_err(|_| BadEndpoint)
    }
}

/// What a source needs, whole.
#[derive(Debug, Clone)]
pub enum Settings {
    /// Nothing.
    Static,
    /// The ID, and where its SVID is to be had.
    Spiffe(SpiffeId, Endpoint),
    /// Where the token is, and what it must say.
    TokenFile(TokenFile),
}

/// A token in a file, and what it must say.
#[derive(Debug, Clone)]
pub struct TokenFile {
    /// The file.
    pub token: PathBuf,
    /// `iss`.
    pub issuer: String,
    /// One of `aud`.
    pub audience: String,
    /// Where the issuer's keys are.
    pub keys: jose::Settings,
    /// `sub`, any of these.
    pub subjects: Vec<String>,
}

/// `identity` that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// A key of another source.
    #[error("`source: {0}` knows no `{1}`: leave the key out")]
    Foreign(&'static str, &'static str),
    /// A key is missing.
    #[error("`source: {0}` needs `{1}`")]
    Needed(&'static str, &'static str),
    /// Nobody says where the Workload API is.
    #[error("`source: spiffe` needs `socket`, or {ENDPOINT} in the environment")]
    NoSocket,
    /// What the environment says is no endpoint.
    #[error("{ENDPOINT}: expected `unix:///PATH` or `tcp://IP:PORT`")]
    BadSocket,
    /// An agent without a SPIFFE ID.
    #[error(
        "`source: spiffe` needs an `agent.id` that is a SPIFFE ID with a path, such as `spiffe://example.org/agent/triage`"
    )]
    NoSpiffeId,
    /// No subject is the agent.
    #[error("`map` names no subject of `agent.id`: every token would be refused")]
    NoSubject,
}

impl Config {
    /// What the source needs for that agent; `environment` looks variables up.
    ///
    /// # Errors
    /// [`Misfit`].
    pub fn settings(
        &self,
        agent: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Misfit> {
        if let Some(key) = self.foreign() {
            return Err(Misfit::Foreign(self.source.as_str(), key));
        }
        match self.source {
            Source::Static => Ok(Settings::Static),
            Source::Spiffe => self.spiffe(agent, environment),
            Source::TokenFile => self.token_file(agent).map(Settings::TokenFile),
        }
    }

    fn spiffe(
        &self,
        agent: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Misfit> {
        let id = SpiffeId::parse(agent).map_err(|_| Misfit::NoSpiffeId)?;
        let endpoint = match &self.socket {
            Some(endpoint) => endpoint.clone(),
            None => environment(ENDPOINT)
                .ok_or(Misfit::NoSocket)?
                .try_into()
                .map_err(|BadEndpoint| Misfit::BadSocket)?,
        };
        Ok(Settings::Spiffe(id, endpoint))
    }

    fn token_file(&self, agent: &str) -> Result<TokenFile, Misfit> {
        fn needed<T: Clone>(key: &'static str, value: Option<&T>) -> Result<T, Misfit> {
            let missing = Misfit::Needed(Source::TokenFile.as_str(), key);
            value.cloned().ok_or(missing)
        }
        let issuer = needed("issuer", self.issuer.as_ref())?;
        let location = needed("jwks", self.jwks.as_ref())?;
        let known = TokenFile {
            token: needed("token", self.token.as_ref())?,
            audience: needed("audience", self.audience.as_ref())?,
            keys: jose::Settings {
                ca: self.ca.clone(),
                ..jose::Settings::new(issuer.as_str(), location)
            },
            issuer,
            subjects: self
                .map
                .iter()
                .filter(|(_, id)| *id == agent)
                .map(|(subject, _)| subject.clone())
                .collect(),
        };
        if known.subjects.is_empty() {
            return Err(Misfit::NoSubject);
        }
        Ok(known)
    }

    /// A key that says something and is another source's.
    fn foreign(&self) -> Option<&'static str> {
        let of_tokens = [
            ("token", self.token.is_some()),
            ("issuer", self.issuer.is_some()),
            ("audience", self.audience.is_some()),
            ("jwks", self.jwks.is_some()),
            ("ca", self.ca.is_some()),
            ("map", !self.map.is_empty()),
        ];
        let socket = ("socket", self.socket.is_some());
        let said = |(key, said): (&'static str, bool)| said.then_some(key);
        match self.source {
            Source::Static => of_tokens.into_iter().chain([socket]).find_map(said),
            Source::Spiffe => of_tokens.into_iter().find_map(said),
            Source::TokenFile => said(socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "spiffe://example.org/agent/triage";

    fn settings(yaml: &str, socket: Option<&str>) -> Result<Settings, Misfit> {
        let config: Config = serde_saphyr::from_str(yaml).unwrap();
        config.settings(AGENT, |name| {
            assert_eq!(name, "SPIFFE_ENDPOINT_SOCKET");
            socket.map(str::to_owned)
        })
    }

    #[test]
    fn the_socket_is_the_configurations_and_else_the_environments() {
        let both = "{source: spiffe, socket: 'unix:///run/a.sock'}";
        for (yaml, environment, expected) in [
            (
                both,
                Some("unix:///run/b.sock"),
                Endpoint::Unix("/run/a.sock".into()),
            ),
            (
                "{source: spiffe}",
                Some("unix:/run/b.sock"),
                Endpoint::Unix("/run/b.sock".into()),
            ),
            (
                "{source: spiffe}",
                Some("tcp://127.0.0.1:80"),
                Endpoint::Tcp(([127, 0, 0, 1], 80).into()),
            ),
        ] {
            let Ok(Settings::Spiffe(id, endpoint)) = settings(yaml, environment) else {
                panic!("{yaml}");
            };
            assert_eq!((id.as_str(), endpoint), (AGENT, expected));
        }
        assert_eq!(
            settings("{source: spiffe}", None).unwrap_err(),
            Misfit::NoSocket
        );
        for bad in [
            "",
            "/run/a.sock",
            "unix://run/a.sock",
            "tcp://localhost:1",
            "http://127.0.0.1:1",
        ] {
            assert_eq!(
                settings("{source: spiffe}", Some(bad)).unwrap_err(),
                Misfit::BadSocket
            );
        }
    }

    #[test]
    fn a_key_of_another_source_or_a_missing_one_is_refused() {
        for (yaml, expected) in [
            ("{socket: 'unix:///a'}", Misfit::Foreign("static", "socket")),
            (
                "{source: spiffe, token: t}",
                Misfit::Foreign("spiffe", "token"),
            ),
            (
                "{source: token_file, socket: 'unix:///a'}",
                Misfit::Foreign("token_file", "socket"),
            ),
            (
                "{source: token_file, token: t, issuer: i, jwks: 'file:j'}",
                Misfit::Needed("token_file", "audience"),
            ),
            (
                "{source: token_file, token: t, issuer: i, audience: a, jwks: 'file:j', map: {s: 'spiffe://o/x'}}",
                Misfit::NoSubject,
            ),
        ] {
            assert_eq!(settings(yaml, None).unwrap_err(), expected, "{yaml}");
        }
        let config = Config {
            source: Source::Spiffe,
            ..Config::default()
        };
        let refused = config.settings("urn:agent", |_| None).unwrap_err();
        assert_eq!(refused, Misfit::NoSpiffeId);
    }
}
