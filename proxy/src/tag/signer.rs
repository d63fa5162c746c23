//! Keys in, signatures and the published set out: what signs assertions, and how one key follows
//! another.
//!
//! A call takes the key that is in force when it is signed and no other. A key that was replaced
//! signs nothing more, and stays published for as long as what it signed may be verified.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use super::{Overlap, TYP, Ttl};
use crate::{
    headers::Told,
    keys::{SigningKey, Unsigned, jwk_set},
};

/// How many replaced keys are published at once; of more, the oldest goes.
const MOST_RETIRED: usize = 32;

/// Signs assertions with the key in force and a ready header, or not at all where there is none.
#[derive(Debug)]
pub struct Signer {
    current: ArcSwapOption<Current>,
    retired: Mutex<Vec<Published>>,
    overlap: Duration,
    pub(super) ttl: i64,
    pub(super) agent: Told,
}

#[derive(Debug)]
struct Current {
    key: SigningKey,
    header: String,
}

/// A public key that is published until some time.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Published {
    /// Its name.
    pub kid: String,
    /// It, as a JWK.
    pub jwk: String,
    /// Until when.
    pub until: Timestamp,
}

impl Current {
    fn new(key: SigningKey, chain: &[Vec<u8>]) -> Self {
        Self {
            header: key.jose_header_with(TYP, chain),
            key,
        }
    }
}

impl Signer {
    /// Keeps the key, which signs nothing but assertions of that agent's calls.
    pub fn new(key: SigningKey, ttl: Ttl, agent: Arc<str>) -> Self {
        let signer = Self::mute(ttl, agent);
        signer.current.store(Some(Arc::new(Current::new(key, &[]))));
        signer
    }

    /// Signs nothing before it is given a key.
    pub fn mute(ttl: Ttl, agent: Arc<str>) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            retired: Mutex::default(),
            overlap: Overlap::default().0,
            ttl: i64::try_from(ttl.0.as_secs()).unwrap_or(1),
            agent: Told::new(agent),
        }
    }

    /// Publishes a key for that long after it was replaced.
    #[must_use]
    pub fn overlapping(self, overlap: Overlap) -> Self {
        Self {
            overlap: overlap.0,
            ..self
        }
    }

    /// Signs with this key from now on, and shows the certificates that vouch for it in each token
    /// (`x5c`, the key's own first), if there are any. The key before stays published for a while.
    pub fn replace(&self, key: SigningKey, chain: &[Vec<u8>], now: Timestamp) {
        self.put(Some(Arc::new(Current::new(key, chain))), now);
    }

    /// Signs nothing from now on. The key before stays published for a while.
    pub fn retire(&self, now: Timestamp) {
        self.put(None, now);
    }

    fn put(&self, new: Option<Arc<Current>>, now: Timestamp) {
        // Who asks for the set meanwhile waits, and finds both.
        let mut retired = self.retired();
        let stays = new.as_ref().map(|new| new.key.kid().to_owned());
        let gone = |kid: &str| stays.as_deref() != Some(kid);
        let old = self.current.swap(new);
        retired.retain(|one| one.until > now && gone(&one.kid));
        if let Some(old) = old.filter(|old| gone(old.key.kid())) {
            retired.push(self.retiring(&old, now));
        }
        let over = retired.len().saturating_sub(MOST_RETIRED);
        retired.drain(..over);
    }

    fn retiring(&self, old: &Current, now: Timestamp) -> Published {
        Published {
            kid: old.key.kid().to_owned(),
            jwk: old.key.jwk(),
            until: now.saturating_add(self.overlap).unwrap_or(Timestamp::MAX),
        }
    }

    /// The name of the key in force; empty where there is none.
    pub fn kid(&self) -> String {
        let current = self.current.load();
        let kid = current.as_ref().map(|current| current.key.kid());
        kid.unwrap_or_default().to_owned()
    }

    /// The JWK Set by which assertions are verified: the key in force, then those that were
    /// replaced a short while ago.
    pub fn jwks(&self, now: Timestamp) -> String {
        let retired = self.retired();
        let current = self.current.load();
        let retired = retired.iter().filter(|one| one.until > now);
        let current = current.iter().map(|current| current.key.jwk());
        let keys = current.chain(retired.map(|one| one.jwk.clone()));
        jwk_set(keys)
    }

    /// The public keys that a successor is to publish, with the one in force.
    pub fn leave(&self, now: Timestamp) -> Vec<Published> {
        let mut left = self.retired().clone();
        let current = self.current.load();
        left.extend(current.iter().map(|current| self.retiring(current, now)));
        left
    }

    /// Publishes the keys of a predecessor as long as they are to be.
    pub fn inherit(&self, left: Vec<Published>) {
        let mut retired = self.retired();
        let current = self.current.load();
        let shown = |one: &Published| {
            let mut current = current.iter();
            current.any(|current| current.key.kid() == one.kid)
        };
        retired.extend(left.into_iter().filter(|one| !shown(one)));
        let over = retired.len().saturating_sub(MOST_RETIRED);
        retired.drain(..over);
    }

    pub(super) fn sign(&self, claims: &[u8]) -> Result<String, Unsigned> {
        let current = self.current.load();
        let current = current.as_ref().ok_or(Unsigned)?;
        current.key.compact(&current.header, claims)
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Published>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
