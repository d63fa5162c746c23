//! Which tokens that serve one call have served it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::task::Terms;

/// How many are remembered at most, each until its token is over; what finds no room is refused.
const MOST: usize = 131_072;

/// Used tokens, by issuer and `jti`.
#[derive(Debug, Default)]
pub struct Used(Mutex<HashMap<(Arc<str>, Arc<str>), Timestamp>>);

/// A used token, for a successor.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Left {
    issuer: Arc<str>,
    token: Arc<str>,
    until: Timestamp,
}

impl Used {
    /// Whether the token was used.
    pub(super) fn has(&self, issuer: &Arc<str>, token: &Arc<str>) -> bool {
        let name = (Arc::clone(issuer), Arc::clone(token));
        self.lock().contains_key(&name)
    }

    /// Uses the token, if nobody has.
    pub(super) fn take(&self, terms: &Terms, now: Timestamp) -> bool {
        let name = (Arc::clone(&terms.issuer), Arc::clone(&terms.token_id));
        let mut used = self.lock();
        if used.contains_key(&name) {
            return false;
        }
        if used.len() >= MOST {
            used.retain(|_, until| *until > now);
        }
        if used.len() >= MOST {
            return false;
        }
        used.insert(name, terms.expires);
        true
    }

    /// Forgets tokens that are over.
    pub fn sweep(&self, now: Timestamp) {
        self.lock().retain(|_, until| *until > now);
    }

    /// What a successor is to remember.
    pub fn leave(&self) -> Vec<Left> {
        let left = |((issuer, token), until): (&(Arc<str>, Arc<str>), &Timestamp)| Left {
            issuer: Arc::clone(issuer),
            token: Arc::clone(token),
            until: *until,
        };
        self.lock().iter().map(left).collect()
    }

    /// Goes on with what a predecessor remembers.
    pub fn inherit(&self, left: Vec<Left>) {
        let named = |left: Left| ((left.issuer, left.token), left.until);
        self.lock().extend(left.into_iter().map(named));
    }

    // Nothing panics while it holds the lock, and each change is whole before it is given back.
    fn lock(&self) -> MutexGuard<'_, HashMap<(Arc<str>, Arc<str>), Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
