//! What this sidecar knows of the counts it shares: numbers that only grow, each forgotten when it
//! means nothing any more. It is what an emptied store is reminded of.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::limit::shared::Hash;

/// Locks the numbers are split over.
const SHARDS: usize = 16;

/// The most numbers that are kept.
pub(super) const MOST: usize = 1 << 20;

/// One number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) value: u64,
    /// In the store's time, in microseconds.
    pub(super) forget: u64,
}

/// All numbers, by their hashed names.
#[derive(Debug)]
pub(super) struct Known {
    shards: [Mutex<HashMap<Hash, Number>>; SHARDS],
    most: usize,
}

/// No number can be added: forgetting another would be the same as giving it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Default for Known {
    fn default() -> Self {
        Self::with_most(MOST)
    }
}

impl Known {
    pub(super) fn with_most(most: usize) -> Self {
        Self {
            shards: Default::default(),
            most: most / SHARDS,
        }
    }

    /// The number of that name; 0 when nothing is known.
    pub(super) fn value(&self, name: &Hash) -> u64 {
        let shard = self.shard(name);
        shard
            .as_ref()
            .and_then(|shard| shard.get(name))
            .map_or(0, |number| number.value)
    }

    /// Takes a number in; the greater one stays.
    pub(super) fn learn(&self, name: &Hash, number: Number, now: u64) -> Result<(), Full> {
        self.update(name, now, |known| {
            let known = known.unwrap_or(number);
            Some(Number {
                value: known.value.max(number.value),
                forget: known.forget.max(number.forget),
            })
        })
        .map(drop)
    }

    /// Changes a number in one go; `None` leaves it as it is.
    pub(super) fn update(
        &self,
        name: &Hash,
        now: u64,
        change: impl FnOnce(Option<Number>) -> Option<Number>,
    ) -> Result<Option<Number>, Full> {
        let mut shard = self.shard(name).ok_or(Full)?;
        let known = shard.get(name).copied();
        if known.is_none() && shard.len() >= self.most {
            shard.retain(|_, number| number.forget > now);
            if shard.len() >= self.most {
                return Err(Full);
            }
        }
        let changed = change(known);
        if let Some(number) = changed {
            shard.insert(*name, number);
        }
        Ok(changed)
    }

    /// Everything that still means something.
    pub(super) fn all(&self, now: u64) -> Vec<(Hash, Number)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let live = shard.iter().filter(|(_, number)| number.forget > now);
            all.extend(live.map(|(name, number)| (*name, *number)));
        }
        all
    }

    /// Forgets what means nothing any more.
    pub(super) fn sweep(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, number| number.forget > now);
        }
    }

    fn shard(&self, name: &Hash) -> Option<MutexGuard<'_, HashMap<Hash, Number>>> {
        let [first, ..] = name;
        // Every change is whole before the lock is given back.
        self.shards
            .get(usize::from(*first) % SHARDS)
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn number(value: u64, forget: u64) -> Number {
        Number { value, forget }
    }

    #[test]
    fn a_number_never_shrinks_and_is_forgotten_in_its_time() {
        let known = Known::default();
        let name = [7; 16];
        known.learn(&name, number(5, 100), 0).unwrap();
        known.learn(&name, number(3, 50), 0).unwrap();
        assert_eq!(known.value(&name), 5);
        assert_eq!(known.all(99), [(name, number(5, 100))]);
        known.sweep(100);
        assert_eq!(known.value(&name), 0);
    }

    #[test]
    fn what_is_full_takes_nothing_new_but_what_is_over_gives_room() {
        let known = Known::with_most(SHARDS);
        let (one, other) = ([1; 16], [17; 16]);
        known.learn(&one, number(1, 100), 0).unwrap();
        assert_eq!(known.learn(&other, number(1, 100), 50), Err(Full));
        known.learn(&one, number(2, 100), 50).unwrap();
        known.learn(&other, number(1, 200), 100).unwrap();
        assert_eq!((known.value(&one), known.value(&other)), (0, 1));
    }
}
