//! `credentials.client` and `credentials.exchange`: where a token comes from and how we prove
//! ourselves there.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use super::Grant;
use crate::{
    credentials::{scope::Scope, template::Template},
    units::Period,
    upstream::{BadUpstream, Upstream},
};

/// How a token is asked for.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The token endpoint.
    pub token_url: TokenUrl,
    /// As whom we are registered there.
    pub client_id: Option<String>,
    /// The key that proves us: PKCS#8 PEM, Ed25519, P-256 or RSA.
    pub key: Option<PathBuf>,
    /// The name by which the server knows the key; its JWK thumbprint unless given.
    pub key_id: Option<String>,
    /// The secret that proves us, such as `${file:/run/secrets/client}`.
    pub secret: Option<Template>,
    /// How the client proves itself.
    pub client_auth: Option<ClientAuth>,
    /// `aud` of our proofs; the token endpoint unless given.
    pub assertion_audience: Option<String>,
    /// For whom the token is meant, in the server's words.
    #[serde(default)]
    pub audience: Targets,
    /// For what it is meant: a URI (RFC 8707).
    #[serde(default)]
    pub resource: Targets,
    /// What it may be used for.
    pub scope: Option<Scope>,
    /// What else the server wants to be told.
    #[serde(default)]
    pub parameters: Parameters,
    /// How long a token is good for whose answer does not say.
    pub ttl: Option<Period>,
    /// How long the server may take.
    #[serde(default = "five_seconds")]
    pub timeout: Period,
    /// `iss` of the tokens that we sign for an exchange; the agent's ID unless given.
    pub issuer: Option<String>,
    /// What proves for whom we act.
    #[serde(default)]
    pub subject_token: SubjectToken,
    /// Of which type that is.
    pub subject_token_type: Option<TokenType>,
    /// What proves who acts.
    #[serde(default)]
    pub actor_token: ActorToken,
    /// What is asked for.
    pub requested_token_type: Option<TokenType>,
}

fn five_seconds() -> Period {
    Period(std::time::Duration::from_secs(5))
}

/// A token endpoint: over TLS, or on this machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenUrl(Upstream);

/// Not a token endpoint.
#[derive(Debug, thiserror::Error)]
pub enum BadTokenUrl {
    /// Not a URL.
    #[error(transparent)]
    Url(#[from] BadUpstream),
    /// It would be asked in the clear.
    #[error("expected an `https://` URL: `http://` is for loopback addresses only")]
    Unprotected,
}

impl TryFrom<String> for TokenUrl {
    type Error = BadTokenUrl;

    fn try_from(url: String) -> Result<Self, BadTokenUrl> {
        let at = Upstream::parse(&url)?;
        if at.is_protected() {
            Ok(Self(at))
        } else {
            Err(BadTokenUrl::Unprotected)
        }
    }
}

impl PartialEq for TokenUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0.uri() == other.0.uri()
    }
}

impl TokenUrl {
    /// Where it is.
    pub fn upstream(&self) -> &Upstream {
        &self.0
    }
}

/// How a client proves itself, in the words of the IANA registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// By a JWT that it signs (RFC 7523 §2.2).
    PrivateKeyJwt,
    /// By its secret in `Authorization` (RFC 6749 §2.3.1).
    ClientSecretBasic,
    /// By its secret in the body.
    ClientSecretPost,
    /// Not at all; it only names itself, if it has a name.
    None,
}

/// What proves for whom we act.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectToken {
    /// A JWT that we sign, about the task's principal.
    #[default]
    Principal,
    /// The task's own token, of an issuer elsewhere.
    TaskToken,
}

/// What proves who acts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorToken {
    /// A JWT that we sign, about the agent.
    #[default]
    Agent,
    /// The agent's JWT-SVID.
    Svid,
    /// Nothing: the token is then the principal's alone (RFC 8693 §1.1, impersonation).
    None,
}

/// One or several names.
#[derive(Clone, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(from = "Words")]
pub struct Targets(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

impl From<Words> for Targets {
    fn from(words: Words) -> Self {
        Self(match words {
            Words::One(word) => vec![word],
            Words::Several(words) => words,
        })
    }
}

impl Targets {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Further fields of a request: none of those that we fill in ourselves.
#[derive(Clone, Default, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Parameters(BTreeMap<String, String>);

/// The fields that we fill in ourselves.
const OURS: [&str; 14] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "audience",
    "resource",
    "scope",
    "refresh_token",
];

impl TryFrom<BTreeMap<String, String>> for Parameters {
    type Error = String;

    fn try_from(fields: BTreeMap<String, String>) -> Result<Self, String> {
        let fits = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !name.is_empty() && name.bytes().all(plain) && !OURS.contains(&name)
        };
        match fields.keys().find(|name| !fits(name)) {
            None => Ok(Self(fields)),
            Some(name) => Err(format!(
                "`{name}` is not for `parameters`: it has a key of its own, or is no name"
            )),
        }
    }
}

impl Parameters {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.iter();
        fields.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A type of token: a short name of RFC 8693 §3, or any URN.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenType(String);

/// The prefix of the registered types.
const REGISTERED: &str = "urn:ietf:params:oauth:token-type:";

impl TryFrom<String> for TokenType {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match text.as_str() {
            "access_token" | "id_token" | "jwt" | "txn_token" | "id-jag" => {
                Ok(Self(format!("{REGISTERED}{text}")))
            }
            _ if text.starts_with("urn:") && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self(text))
            }
            _ => Err("expected `access_token`, `id_token`, `jwt`, `txn_token` or a URN"),
        }
    }
}

impl TokenType {
    pub(super) fn registered(name: &str) -> Self {
        Self(format!("{REGISTERED}{name}"))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_access_token(&self) -> bool {
        self.0.strip_prefix(REGISTERED) == Some("access_token")
    }
}

/// Keys that do not go together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadConfig {
    /// A client without a name.
    #[error("`client_id` is missing: as whom are we registered at the token server?")]
    NoClientId,
    /// Nothing that proves the client.
    #[error("name what proves the client: `key` (private_key_jwt) or `secret`")]
    NoProof,
    /// `key` is needed.
    #[error("`key` is missing: name the private key (PKCS#8 PEM) that signs for us")]
    NoKey,
    /// `secret` is needed.
    #[error("`secret` is missing: name it as `${{file:PATH}}`")]
    NoSecret,
    /// Only an exchange has it.
    #[error(
        "`issuer`, `subject_token`, `subject_token_type`, `actor_token` and `requested_token_type` are for `exchange`"
    )]
    ForExchange,
    /// A fetched token cannot be fetched by itself.
    #[error("`secret` is read from `${{file:PATH}}` or `${{env:NAME}}`")]
    SecretIsToken,
    /// Not a URI of RFC 8707.
    #[error(
        "`resource` is a URI without fragment, such as `https://crm.example.org`: else use `audience`"
    )]
    Resource,
    /// The agent has no SVID.
    #[error("`actor_token: svid` needs `identity.source: spiffe`: use `agent`")]
    NoSvid,
}

impl Config {
    /// Whether the keys go together.
    ///
    /// # Errors
    /// [`BadConfig`].
    pub fn check(&self, grant: Grant) -> Result<(), BadConfig> {
        if self.secret.as_ref().is_some_and(Template::has_token) {
            return Err(BadConfig::SecretIsToken);
        }
        let uri = |text: &str| {
            let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
                scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !rest.is_empty()
            });
            scheme && !text.contains('#')
        };
        if !self.resource.iter().all(uri) {
            return Err(BadConfig::Resource);
        }
        if grant == Grant::Client {
            self.check_client()?;
        }
        match self.client_auth() {
            ClientAuth::PrivateKeyJwt if self.key.is_none() => return Err(BadConfig::NoKey),
            ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost
                if self.secret.is_none() =>
            {
                return Err(BadConfig::NoSecret);
            }
            ClientAuth::None if grant == Grant::Client => return Err(BadConfig::NoProof),
            ClientAuth::None => {}
            _ if self.client_id.is_none() => return Err(BadConfig::NoClientId),
            _ => {}
        }
        let signs =
            self.subject_token == SubjectToken::Principal || self.actor_token == ActorToken::Agent;
        if grant == Grant::Exchange && signs && self.key.is_none() {
            return Err(BadConfig::NoKey);
        }
        Ok(())
    }

    fn check_client(&self) -> Result<(), BadConfig> {
        let exchange = self.issuer.is_some()
            || self.subject_token != SubjectToken::default()
            || self.subject_token_type.is_some()
            || self.actor_token != ActorToken::default()
            || self.requested_token_type.is_some();
        if exchange {
            return Err(BadConfig::ForExchange);
        }
        self.client_id
            .as_ref()
            .map(drop)
            .ok_or(BadConfig::NoClientId)
    }

    /// How the client proves itself: as is said, or by what there is.
    pub(super) fn client_auth(&self) -> ClientAuth {
        match (self.client_auth, &self.client_id) {
            (Some(said), _) => said,
            (None, _) if self.secret.is_some() => ClientAuth::ClientSecretBasic,
            (None, Some(_)) if self.key.is_some() => ClientAuth::PrivateKeyJwt,
            (None, _) => ClientAuth::None,
        }
    }

    /// Whom our proofs are made for.
    pub(super) fn proof_audience(&self) -> &str {
        let url = || self.token_url.upstream().uri();
        self.assertion_audience.as_deref().unwrap_or_else(url)
    }

    /// What is asked for; client credentials are always an access token.
    pub(super) fn requested_token_type(&self, grant: Grant) -> Option<TokenType> {
        let usual = || TokenType::registered("access_token");
        match grant {
            Grant::Client => None,
            Grant::Exchange => Some(self.requested_token_type.clone().unwrap_or_else(usual)),
        }
    }
}
