//! Which tokens were verified, and by which keys.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use jiff::Timestamp;

use crate::{jose::KeySet, state::TokenDigest};

/// How many are remembered; of more, those that have expired are forgotten, or else all: a
/// forgotten one is verified again.
const MOST: usize = 65_536;

/// Verified tokens by their digest.
#[derive(Debug, Default)]
pub(super) struct Seen(RwLock<HashMap<TokenDigest, Verified>>);

#[derive(Debug)]
struct Verified {
    issuer: Arc<str>,
    /// All of the issuer's keys at that time: an `Arc` that is another one tells of a change.
    keys: Arc<KeySet>,
    expires: Timestamp,
}

impl Seen {
    /// Who has made the token, and the keys it was verified by.
    pub(super) fn keys_of(&self, digest: &TokenDigest) -> Option<(Arc<str>, Arc<KeySet>)> {
        let seen = self.read();
        let verified = seen.get(digest)?;
        Some((Arc::clone(&verified.issuer), Arc::clone(&verified.keys)))
    }

    pub(super) fn keep(
        &self,
        digest: TokenDigest,
        issuer: &Arc<str>,
        keys: Arc<KeySet>,
        expires: Timestamp,
        now: Timestamp,
    ) {
        let mut seen = self.write();
        if seen.len() >= MOST {
            seen.retain(|_, verified| verified.expires > now);
        }
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(
            digest,
            Verified {
                issuer: Arc::clone(issuer),
                keys,
                expires,
            },
        );
    }

    // Nothing panics while it holds the lock, and each change is whole before it is given back.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<TokenDigest, Verified>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<TokenDigest, Verified>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
