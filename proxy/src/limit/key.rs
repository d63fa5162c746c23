//! Whose count: the identities a limit names, as one number.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::{KeyPart, Subjects};

/// Two random seeds of this process, so that nobody can prepare keys that meet.
#[derive(Default)]
pub(super) struct Seeds {
    high: RandomState,
    low: RandomState,
}

impl Seeds {
    /// Hashes the named parts of `who`, each ended, so that no two lists of parts run together.
    pub(super) fn key(&self, parts: &[KeyPart], who: &Subjects<'_>) -> u128 {
        let (mut high, mut low) = (self.high.build_hasher(), self.low.build_hasher());
        for part in parts {
            let text = part.of(who);
            (text.len(), text).hash(&mut high);
            (text.len(), text).hash(&mut low);
        }
        (u128::from(high.finish()) << 64) | u128::from(low.finish())
    }
}
