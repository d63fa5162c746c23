//! Everything from which authority was taken back, and still is.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::decree::{Decree, Edict, Target};
use crate::task::Terms;

/// How many are remembered.
const MOST: usize = 262_144;

/// How long a revocation can cover something after the last of it was issued: longer than any token or
/// task lasts.
const SHORT: Duration = Duration::from_hours(25);

/// One revocation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// From whom or what.
    pub target: Target,
    /// What was issued later may stay.
    pub issued_before: Option<Timestamp>,
    /// Who said it.
    pub by: std::sync::Arc<str>,
    /// Why.
    pub why: Option<std::sync::Arc<str>>,
    /// When.
    pub at: Timestamp,
}

impl Revocation {
    /// Whether it covers what was issued then.
    fn covers(&self, issued: Timestamp) -> bool {
        self.issued_before.is_none_or(|before| issued <= before)
    }

    /// Of two for one target, what both forbid.
    fn joined(self, other: &Self) -> Self {
        let before = match (self.issued_before, other.issued_before) {
            (Some(one), Some(two)) => Some(one.max(two)),
            _ => None,
        };
        Self {
            issued_before: before,
            at: self.at.max(other.at),
            ..self
        }
    }

    /// Whether nothing that it covers can be in force any more.
    fn over(&self, now: Timestamp) -> bool {
        let long = jiff::SignedDuration::try_from(SHORT).unwrap_or(jiff::SignedDuration::MAX);
        let last = match self.issued_before {
            Some(before) => before,
            None if self.target.is_short_lived() => self.at,
            None => return false,
        };
        now.duration_since(last) >= long
    }
}

/// No further revocation can be remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{MOST} revocations are remembered: lift some that are over")]
pub struct TooMany;

/// The revocations in force.
#[derive(Debug, Default)]
pub struct Revocations(RwLock<HashMap<Target, Revocation>>);

impl Revocations {
    /// Remembers one.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(super) fn add(&self, new: Revocation) -> Result<(), TooMany> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST && !all.contains_key(&new.target) {
            let now = new.at;
            all.retain(|_, known| !known.over(now));
            if all.len() >= MOST {
                return Err(TooMany);
            }
        }
        let joined = match all.get(&new.target) {
            Some(known) => new.joined(known),
            None => new,
        };
        all.insert(joined.target.clone(), joined);
        Ok(())
    }

    /// Forgets one. Returns whether there was one.
    pub(super) fn lift(&self, target: &Target) -> bool {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(target).is_some()
    }

    /// Whether there is one for that target.
    pub fn has(&self, target: &Target) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.contains_key(target)
    }

    /// The one for that target.
    pub fn of(&self, target: &Target) -> Option<Revocation> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(target).cloned()
    }

    /// Whether one covers what was issued then to that target.
    pub fn cover(&self, target: &Target, issued: Timestamp) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(target).is_some_and(|known| known.covers(issued))
    }

    /// Whether one covers these terms.
    pub fn touch(&self, terms: &Terms) -> bool {
        Target::of(terms).any(|target| self.cover(&target, terms.opened))
    }

    /// All of them, the oldest first.
    pub fn all(&self) -> Vec<Revocation> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = all.values().cloned().collect();
        all.sort_by(|a, b| (a.at, &a.target).cmp(&(b.at, &b.target)));
        all
    }

    /// Forgets those that cover nothing any more.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, known| !known.over(now));
    }
}

impl Revocation {
    /// What a decree takes back.
    pub(super) fn of(decree: &Decree) -> Option<Self> {
        let Edict::Revoke {
            target,
            issued_before,
        } = &decree.edict
        else {
            return None;
        };
        Some(Self {
            target: target.clone(),
            issued_before: *issued_before,
            by: decree.by.clone(),
            why: decree.why.clone(),
            at: decree.at,
        })
    }

    /// The decree that says it again.
    pub fn decree(&self) -> Decree {
        Decree {
            edict: Edict::Revoke {
                target: self.target.clone(),
                issued_before: self.issued_before,
            },
            by: self.by.clone(),
            why: self.why.clone(),
            at: self.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hour * 3_600).unwrap()
    }

    fn revocation(target: Target, issued_before: Option<Timestamp>) -> Revocation {
        Revocation {
            target,
            issued_before,
            by: "uid:0".into(),
            why: None,
            at: hour(0),
        }
    }

    #[test]
    fn what_covers_nothing_any_more_is_forgotten_and_all_else_is_not() {
        let subject = |name: &str| Target::Subject(name.into());
        let token = Target::Token {
            issuer: None,
            id: "7".into(),
        };
        let all = Revocations::default();
        all.add(revocation(subject("for good"), None)).unwrap();
        all.add(revocation(subject("until then"), Some(hour(0))))
            .unwrap();
        all.add(revocation(subject("until later"), Some(hour(2))))
            .unwrap();
        all.add(revocation(token.clone(), None)).unwrap();
        all.sweep(hour(24));
        assert_eq!(all.all().len(), 4);
        all.sweep(hour(26));
        assert!(!all.has(&subject("until then")) && !all.has(&token));
        assert!(all.has(&subject("for good")) && all.has(&subject("until later")));
        all.sweep(hour(100_000));
        assert_eq!(all.all().len(), 1);
    }
}
