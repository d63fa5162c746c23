//! Tokens of other issuers in, what they grant out: whose tokens are believed, and how far.
//!
//! The keys of an issuer come from [`jose::Source`](crate::jose::Source); the claims are held
//! against every rule before anything is believed. A token that was verified is remembered for as
//! long as the keys of its issuer stay the same, so that the next call costs a look-up.

mod section;
mod seen;
mod terms;

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use jiff::Timestamp;

pub use self::section::Section;
use self::seen::Seen;
use crate::{
    jose::{BadToken, Jws, KeySet, NoKey, Source, Stale, Typ},
    state::{TokenDigest, token_digest},
    task::Terms,
};

/// The `typ` of a task token, compared exactly.
const TYP: Typ = Typ::Exactly("outrider-task+jwt");

/// What the issuer of a sidecar's own tasks begins with; no other issuer may.
pub const OWN: &str = "outrider:";

/// Everybody whose task tokens are believed.
#[derive(Debug, Default)]
pub struct Issuers {
    all: Vec<Issuer>,
    seen: Seen,
}

/// Whose tokens are believed, for whom they must be, and how far that goes.
#[derive(Debug)]
pub struct Issuer {
    /// Exactly the `iss` of its tokens.
    pub name: Arc<str>,
    /// What `aud` must name.
    pub audience: Box<str>,
    /// Whether it vouches for all of `act`, and not for the outermost alone.
    pub verified_chain: bool,
    /// Whether each of its tokens serves one call.
    pub single_use: bool,
    /// The longest from `iat` to `exp`.
    pub max_ttl: Duration,
    /// Its keys.
    pub source: Arc<Source>,
}

/// Whom a token must be made for.
#[derive(Clone, Copy, Debug)]
pub struct Bearer<'a> {
    /// The agent beside us: the outermost `act`.
    pub agent: &'a str,
    /// How many actors may stand above it.
    pub depth: usize,
}

/// A token of another issuer that is not believed. The texts are for operators.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Untrusted {
    /// It is not what it should be.
    #[error(transparent)]
    Bad(#[from] BadToken),
    /// Nobody whose tokens are believed has made it.
    #[error("the token is of an issuer that `tasks.issuers` does not name")]
    UnknownIssuer,
    /// It holds longer than tokens of its issuer may.
    #[error("the token holds longer than `max_ttl`")]
    TooLong,
    /// It names a chain, and its issuer does not vouch for chains.
    #[error("the token names a chain of actors, and its issuer has no `verified_chain`")]
    Chain,
    /// The chain is longer than `tasks.max_depth`.
    #[error("the token's chain of actors is longer than `tasks.max_depth`")]
    TooDeep,
    /// It serves one call, and has.
    #[error("the token serves one call and was used")]
    Used,
    /// No keys of its issuer are known that are not too old.
    #[error("no current keys are known of the token's issuer")]
    Stale,
}

impl From<Stale> for Untrusted {
    fn from(Stale: Stale) -> Self {
        Self::Stale
    }
}

impl Issuers {
    /// Believes these.
    pub fn new(all: Vec<Issuer>) -> Self {
        Self {
            all,
            seen: Seen::default(),
        }
    }

    /// Whether nobody is believed but the sidecar itself.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Everybody who is believed.
    pub fn all(&self) -> &[Issuer] {
        &self.all
    }

    /// The issuer of that name.
    pub fn find(&self, name: &str) -> Option<&Issuer> {
        self.all.iter().find(|issuer| *issuer.name == *name)
    }

    /// Waits for the key that a token names when its issuer has not been seen to publish it; once,
    /// and not for long. Whether the token is any good is for [`verify`](Self::verify).
    pub async fn prepare(&self, presented: &[HeaderValue]) {
        let ([token], false) = (presented, self.all.is_empty()) else {
            return;
        };
        let token = token.as_bytes();
        if self.seen.keys_of(&token_digest(token)).is_some() {
            return;
        }
        let Ok(jws) = Jws::read(token) else { return };
        let issuer = jws.unverified_issuer().and_then(|name| self.find(name));
        if let Some(issuer) = issuer
            && issuer.lacks(&jws)
        {
            issuer.source.look_again().await;
        }
    }

    /// Verifies a token and returns what it grants.
    ///
    /// # Errors
    /// [`Untrusted`]: nothing of it is to be believed.
    pub fn verify(
        &self,
        token: &[u8],
        digest: &TokenDigest,
        bearer: Bearer<'_>,
        now: Timestamp,
    ) -> Result<Terms, Untrusted> {
        let jws = Jws::read(token)?;
        let name = jws.unverified_issuer().ok_or(BadToken::BadClaim("iss"))?;
        let issuer = self.find(name).ok_or(Untrusted::UnknownIssuer)?;
        let keys = issuer.source.keys()?;
        let terms = issuer.verify(jws, &keys, bearer, now)?;
        self.seen
            .keep(*digest, &issuer.name, keys, terms.expires, now);
        Ok(terms)
    }

    /// Whether the token was verified by the keys that its issuer still publishes.
    ///
    /// # Errors
    /// [`Untrusted`]: its issuer is believed no longer, or its keys are too old.
    pub fn holds(&self, digest: &TokenDigest) -> Result<bool, Untrusted> {
        let Some((name, keys)) = self.seen.keys_of(digest) else {
            return Ok(false);
        };
        let issuer = self.find(&name).ok_or(Untrusted::UnknownIssuer)?;
        Ok(Arc::ptr_eq(&issuer.source.keys()?, &keys))
    }

    /// Whether each token of that issuer serves one call.
    pub fn single_use(&self, issuer: &str) -> bool {
        self.find(issuer).is_some_and(|issuer| issuer.single_use)
    }
}

impl Issuer {
    /// Whether no key is known that the token could mean.
    fn lacks(&self, jws: &Jws<'_>) -> bool {
        match self.source.keys() {
            Ok(keys) => keys.find(jws.kid(), jws.algorithm()).err() == Some(NoKey::Unknown),
            Err(Stale) => true,
        }
    }

    /// What a token grants, when it is this issuer's and for us.
    ///
    /// # Errors
    /// [`Untrusted`].
    pub fn verify(
        &self,
        jws: Jws<'_>,
        keys: &KeySet,
        bearer: Bearer<'_>,
        now: Timestamp,
    ) -> Result<Terms, Untrusted> {
        let (claims, key) = jws.verify(TYP, keys)?;
        claims.is_from(&self.name)?;
        claims.is_for(&self.audience)?;
        let read = terms::read(&claims, &self.name, key)?;
        self.bounds(&read, bearer)?;
        // Last, so that a token which is only too old is told from one that was never any good.
        claims.lifetime(now)?;
        Ok(read)
    }

    fn bounds(&self, terms: &Terms, bearer: Bearer<'_>) -> Result<(), Untrusted> {
        let (nearest, earlier) = terms
            .actors
            .split_first()
            .ok_or(BadToken::BadClaim("act"))?;
        if **nearest != *bearer.agent {
            return Err(BadToken::BadClaim("act").into());
        }
        if !earlier.is_empty() && !self.verified_chain {
            return Err(Untrusted::Chain);
        }
        if earlier.len() > bearer.depth {
            return Err(Untrusted::TooDeep);
        }
        if terms::length(terms) > self.max_ttl {
            return Err(Untrusted::TooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
