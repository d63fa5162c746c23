//! `tasks.issuers[]`: whose tokens are believed, as the configuration says it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Issuer, OWN};
use crate::{
    jose::{BadSource, Location, Settings, Source},
    state::LONGEST_TASK,
    units::Period,
};

/// One of `tasks.issuers`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Exactly the `iss` of its tokens.
    pub issuer: Name,
    /// Where it publishes its keys.
    pub jwks: Location,
    /// The certificate authorities that an `https` URL is proved by; the system's otherwise.
    pub ca: Option<PathBuf>,
    /// What `aud` must name.
    #[serde(default = "outrider")]
    pub audience: Name,
    /// Whether it vouches for all of `act`.
    #[serde(default)]
    pub verified_chain: bool,
    /// Whether each of its tokens serves one call.
    #[serde(default)]
    pub single_use: bool,
    /// The longest that a token may hold.
    #[serde(default)]
    pub max_ttl: MaxTtl,
    /// How often its keys are read.
    #[serde(default = "refresh")]
    pub refresh: Period,
    /// How long its keys serve after they were last read.
    #[serde(default = "max_stale")]
    pub max_stale: Period,
}

/// A name that says something, in at most 2,048 bytes without control characters.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Name(pub Arc<str>);

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        if name.is_empty() || name.len() > 2048 || name.chars().any(char::is_control) {
            return Err("expected a name of 1 to 2,048 bytes without control characters");
        }
        if name.starts_with(OWN) {
            return Err("expected a name that does not begin with `outrider:`: those are sidecars");
        }
        Ok(Self(name.into()))
    }
}

/// The longest that a token may hold: no longer than its revocation is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "Period")]
pub struct MaxTtl(Duration);

impl Default for MaxTtl {
    fn default() -> Self {
        Self(LONGEST_TASK)
    }
}

impl TryFrom<Period> for MaxTtl {
    type Error = &'static str;

    fn try_from(Period(longest): Period) -> Result<Self, &'static str> {
        if longest.is_zero() || longest > LONGEST_TASK {
            Err("expected a duration of at most `24h`")
        } else {
            Ok(Self(longest))
        }
    }
}

fn outrider() -> Name {
    Name("outrider".into())
}

fn refresh() -> Period {
    Period(Settings::REFRESH)
}

fn max_stale() -> Period {
    Period(Settings::MAX_STALE)
}

impl Section {
    /// Where its keys come from; `resolve` makes paths of the configuration whole.
    pub fn keys(&self, resolve: impl Fn(&Path) -> PathBuf) -> Settings {
        Settings {
            ca: self.ca.as_deref().map(&resolve),
            refresh: self.refresh.0,
            max_stale: self.max_stale.0,
            ..Settings::new(
                Arc::clone(&self.issuer.0),
                self.jwks.clone().resolved(resolve),
            )
        }
    }

    /// The issuer, with the keys of its file.
    ///
    /// # Errors
    /// [`BadSource`].
    pub fn open(&self, resolve: impl Fn(&Path) -> PathBuf) -> Result<Issuer, BadSource> {
        Ok(Issuer {
            name: Arc::clone(&self.issuer.0),
            audience: (*self.audience.0).into(),
            verified_chain: self.verified_chain,
            single_use: self.single_use,
            max_ttl: self.max_ttl.0,
            source: Arc::new(Source::open(self.keys(resolve))?),
        })
    }
}
