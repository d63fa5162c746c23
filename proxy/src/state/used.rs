//! Which tokens that serve one call have served it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use crate::task::Terms;

/// How many are remembered at most, each until its token is over; what finds no room is refused.
const MOST: usize = 131_072;

/// Used tokens.
#[derive(Debug, Default)]
pub struct Used(Mutex<Memory>);

/// Until when each is remembered, by issuer and `jti`.
type Memory = HashMap<(Arc<str>, Arc<str>), Timestamp>;

/// A used token, for who comes after this process.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct UsedToken {
    issuer: Arc<str>,
    token: Arc<str>,
    until: Timestamp,
}

impl UsedToken {
    /// The token of these terms.
    pub(super) fn of(terms: &Terms) -> Self {
        Self {
            issuer: Arc::clone(&terms.issuer),
            token: Arc::clone(&terms.token_id),
            until: terms.expires,
        }
    }
}

impl Used {
    /// Whether the token was used.
    pub fn has(&self, terms: &Terms) -> bool {
        let name = (Arc::clone(&terms.issuer), Arc::clone(&terms.token_id));
        self.lock().contains_key(&name)
    }

    /// Uses the token, if nobody has: however many ask at once, one does.
    pub fn take(&self, terms: &Terms, now: Timestamp) -> bool {
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
    pub fn leave(&self) -> Vec<UsedToken> {
        let left = |((issuer, token), until): (&(Arc<str>, Arc<str>), &Timestamp)| UsedToken {
            issuer: Arc::clone(issuer),
            token: Arc::clone(token),
            until: *until,
        };
        self.lock().iter().map(left).collect()
    }

    /// Goes on with what a predecessor remembers.
    pub fn inherit(&self, left: impl IntoIterator<Item = UsedToken>) {
        let named = |left: UsedToken| ((left.issuer, left.token), left.until);
        self.lock().extend(left.into_iter().map(named));
    }

    // Nothing panics while it holds the lock, and each change is whole before it is given back.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn terms(token: &str) -> Terms {
        Terms {
            id: "t".into(),
            token_id: token.into(),
            issuer: "https://iam.example.org".into(),
            key: "k".into(),
            subject: "user:ada".into(),
            actors: vec!["spiffe://example.org/a".into()],
            intent: "i".into(),
            tools: None,
            max_classification: None,
            budget: None,
            opened: at(0),
            expires: at(100),
            parent: None,
            opened_by: "https://iam.example.org".into(),
        }
    }

    #[test]
    fn of_many_who_use_a_token_at_once_one_does() {
        let (used, token) = (Used::default(), terms("j"));
        assert!(!used.has(&token));
        let won = std::thread::scope(|scope| {
            let take = || used.take(&token, at(1));
            let threads: Vec<_> = (0..50).map(|_| scope.spawn(take)).collect();
            let won = threads.into_iter().map(|thread| thread.join().unwrap());
            won.filter(|won| *won).count()
        });
        assert_eq!(won, 1);
        assert!(used.has(&token) && !used.has(&terms("other")));
    }

    #[test]
    fn a_successor_remembers_what_was_used_until_it_is_over() {
        let (used, token) = (Used::default(), terms("j"));
        assert!(used.take(&token, at(1)));
        let successor = Used::default();
        successor.inherit(used.leave());
        assert!(!successor.take(&token, at(1)));
        successor.sweep(at(99));
        assert!(!successor.take(&token, at(99)));
        successor.sweep(at(100));
        assert!(successor.take(&token, at(100)));
    }

    #[test]
    fn what_finds_no_room_is_refused() {
        let used = Used::default();
        for number in 0..MOST {
            assert!(used.take(&terms(&number.to_string()), at(1)));
        }
        assert!(!used.take(&terms("one more"), at(1)));
        assert!(used.take(&terms("later"), at(100)));
    }
}
