//! The `state` section: where tasks and counts live, and what holds while the store is away.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::redis::{OnFailure, Settings};
use crate::{
    credentials::{Template, Unavailable},
    units::Period,
    upstream::{BadRoots, TlsRoots},
};

/// The least bytes of the fleet's key.
const KEY_BYTES: usize = 32;

/// How long a call waits for the store when nothing is said.
const TIMEOUT: Duration = Duration::from_millis(250);

/// The longest it may be told to wait: what is known of the store is older than a second then.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The section.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Section {
    /// `memory`, or a Redis.
    pub store: Store,
    /// What happens to calls while the store is away.
    pub on_failure: Failure,
    /// How many sidecars share; for `local_share`.
    pub sidecars: Option<NonZeroU32>,
    /// What the names of keys begin with.
    pub prefix: Option<Prefix>,
    /// The password.
    pub password: Option<Template>,
    /// The certificate authorities of the store (PEM); the system's when absent.
    pub ca: Option<PathBuf>,
    /// How long a call waits for the store.
    pub timeout: Option<Period>,
    /// The file of the fleet's secret.
    pub key: Option<PathBuf>,
}

/// Where tasks and counts live.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum Store {
    /// In this process.
    #[default]
    Memory,
    /// In a file of this sidecar.
    File(PathBuf),
    /// In a Redis or Valkey, with a fleet.
    Redis(Address),
}

/// Where a Redis is, and as whom it is used.
#[derive(Clone)]
pub struct Address {
    /// Whether it proves itself by TLS.
    pub tls: bool,
    /// Its name or IP address.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
    /// The ACL user; the default one when absent.
    pub user: Option<Arc<str>>,
    /// A password that stands in the address.
    pub password: Option<SecretString>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let user = self.user.as_deref().unwrap_or("");
        let Self { host, port, .. } = self;
        write!(f, "{scheme}://{user}@{host}:{port}/{}", self.database)
    }
}

/// What cannot be a store. It repeats nothing: there may be a password in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadStore {
    /// Nothing that is known.
    #[error(
        "expected `memory`, `file:PATH`, or `redis://[user@]host[:port][/database]`, with `rediss://` for TLS"
    )]
    Unknown,
}

impl TryFrom<String> for Store {
    type Error = BadStore;

    fn try_from(text: String) -> Result<Self, BadStore> {
        let text = SecretString::from(text);
        let text = text.expose_secret();
        if text == "memory" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(Self::File(path.into()));
        }
        let (scheme, rest) = text.split_once("://").ok_or(BadStore::Unknown)?;
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(BadStore::Unknown),
        };
        Ok(Self::Redis(Address::parse(tls, rest)?))
    }
}

impl Address {
    /// Whether nobody on a network can listen: TLS, or this machine.
    pub fn is_protected(&self) -> bool {
        let ip = self.host.parse::<std::net::IpAddr>();
        self.tls || &*self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    fn parse(tls: bool, text: &str) -> Result<Self, BadStore> {
        let bad = BadStore::Unknown;
        let (authority, database) = text.split_once('/').unwrap_or((text, ""));
        let (who, at) = match authority.rsplit_once('@') {
            Some((who, at)) => (Some(who), at),
            None => (None, authority),
        };
        let at: http::uri::Authority = at.parse().map_err(|_| bad)?;
        let host = at.host().trim_matches(['[', ']']);
        if host.is_empty() || (at.port().is_none() && at.as_str() != at.host()) {
            return Err(bad);
        }
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (None, None),
        };
        Ok(Self {
            tls,
            host: host.into(),
            port: at.port_u16().unwrap_or(6379),
            database: match database {
                "" => 0,
                number => number.parse().map_err(|_| bad)?,
            },
            user: user.map(|user| user.expose_secret().into()),
            password,
        })
    }
}

/// A part of an address without its percent signs; none when it is empty.
fn decoded(part: &str) -> Result<Option<SecretString>, BadStore> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.push(high * 16 + low),
            _ => return Err(BadStore::Unknown),
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| BadStore::Unknown)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

/// What happens to calls while the store is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// They are refused.
    #[default]
    Refuse,
    /// Each sidecar goes on with its part.
    LocalShare,
}

/// What the names of keys begin with: `[A-Za-z0-9{][A-Za-z0-9{}:._-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix(Arc<str>);

impl Default for Prefix {
    fn default() -> Self {
        Self("outrider".into())
    }
}

impl TryFrom<String> for Prefix {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"{}:._-".contains(&byte));
        if fits {
            Ok(Self(text.into()))
        } else {
            Err("expected 1 to 63 of letters, digits and `{}:._-`")
        }
    }
}

/// What of the section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadState {
    /// A key that is for a shared store.
    #[error("`state.{0}` is for a shared store: leave it out without one")]
    NotShared(&'static str),
    /// A share of nobody knows how many.
    #[error("`state.sidecars` is missing: with `on_failure: local_share` say how many share")]
    HowMany,
    /// What is here is never away.
    #[error("`state.on_failure: local_share` is for a shared store: another is never away")]
    NeverAway,
    /// The password.
    #[error("`state.password`: {0}")]
    Password(#[source] Unavailable),
    /// A password that is no text.
    #[error("`state.password` is not text in UTF-8")]
    NoText,
    /// Two passwords.
    #[error("`state.password` and a password in `state.store`: give one")]
    TwoPasswords,
    /// An authority of a store without TLS.
    #[error("`state.ca` is for `rediss://`")]
    NoTls,
    /// A file that cannot be read.
    #[error("`state.{key}`: cannot read `{}`", path.display())]
    Unreadable {
        /// Which.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// Authorities that cannot be used.
    #[error("`state.ca`: {0}")]
    Roots(#[source] BadRoots),
    /// A key that is too short.
    #[error("`state.key`: `{}` holds fewer than {KEY_BYTES} bytes: fill it with `openssl rand -base64 48`", .0.display())]
    ShortKey(PathBuf),
    /// A wait that is too long.
    #[error("`state.timeout` is at most 1s: what is known of the store is too old then")]
    TooPatient,
}

impl Section {
    /// Whether there is a store that others share.
    pub fn is_shared(&self) -> bool {
        matches!(self.store, Store::Redis(_))
    }

    /// What a fleet is joined with; `None` without a shared store. Relative paths are relative to
    /// `base`.
    ///
    /// # Errors
    /// [`BadState`].
    pub fn settings(
        &self,
        base: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Settings>, BadState> {
        let Store::Redis(address) = &self.store else {
            return self.alone().map(|()| None);
        };
        if self.ca.is_some() && !address.tls {
            return Err(BadState::NoTls);
        }
        let timeout = self.timeout.map_or(TIMEOUT, |timeout| timeout.0);
        if timeout > LONGEST_TIMEOUT {
            return Err(BadState::TooPatient);
        }
        let roots = match (&self.ca, address.tls) {
            (_, false) => None,
            (None, true) => Some(TlsRoots::system().map_err(BadState::Roots)?),
            (Some(path), true) => {
                let pem = read("ca", &base.join(path))?;
                let pem = String::from_utf8_lossy(&pem);
                Some(TlsRoots::from_pem(&pem).map_err(BadState::Roots)?)
            }
        };
        Ok(Some(Settings {
            address: address.clone(),
            password: self.password(address, base, env)?,
            roots,
            prefix: self.prefix.clone().unwrap_or_default().0,
            timeout,
            on_failure: self.failure()?,
            key: self
                .key
                .as_ref()
                .map(|path| key(&base.join(path)))
                .transpose()?,
        }))
    }

    fn alone(&self) -> Result<(), BadState> {
        let given = [
            ("sidecars", self.sidecars.is_some()),
            ("prefix", self.prefix.is_some()),
            ("password", self.password.is_some()),
            ("ca", self.ca.is_some()),
            ("timeout", self.timeout.is_some()),
            ("key", self.key.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(BadState::NotShared(key)),
            None if self.on_failure == Failure::LocalShare => Err(BadState::NeverAway),
            None => Ok(()),
        }
    }

    fn failure(&self) -> Result<OnFailure, BadState> {
        match (self.on_failure, self.sidecars) {
            (Failure::Refuse, _) => Ok(OnFailure::Refuse),
            (Failure::LocalShare, Some(sidecars)) => {
                Ok(OnFailure::LocalShare(NonZeroU64::from(sidecars)))
            }
            (Failure::LocalShare, None) => Err(BadState::HowMany),
        }
    }

    fn password(
        &self,
        address: &Address,
        base: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<SecretString>, BadState> {
        match (&self.password, &address.password) {
            (Some(_), Some(_)) => Err(BadState::TwoPasswords),
            (None, given) => Ok(given.clone()),
            (Some(template), None) => {
                let bytes = template.fill(base, env).map_err(BadState::Password)?;
                let text = std::str::from_utf8(bytes.expose_secret());
                let text = text.map_err(|_| BadState::NoText)?;
                Ok(Some(SecretString::from(text)))
            }
        }
    }
}

/// No such file is near this long.
const LARGEST_FILE: u64 = 1 << 20;

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, BadState> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut bytes))
        .map_err(|error| BadState::Unreadable {
            key,
            path: path.to_owned(),
            error,
        })?;
    Ok(bytes)
}

fn key(path: &Path) -> Result<secrecy::SecretSlice<u8>, BadState> {
    let key = secrecy::SecretSlice::from(read("key", path)?);
    let trimmed = key.expose_secret().trim_ascii();
    if trimmed.len() < KEY_BYTES {
        return Err(BadState::ShortKey(path.to_owned()));
    }
    Ok(secrecy::SecretSlice::from(trimmed.to_vec()))
}

#[cfg(test)]
mod tests;
