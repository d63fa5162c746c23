//! Places: how many calls of one key may be under way at once. Exact.
//!
//! A key has an entry only while it has a call under way, so the calls under way bound the
//! memory.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// When a place comes back depends on another call; this is what a caller is told.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Locks the table is split over.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<u128, u32>>;

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Table {
    shards: [Shard; SHARDS],
}

/// One place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    table: Arc<Table>,
    key: u128,
}

impl Table {
    /// Takes one of `most` places; returns it with the number that is left.
    pub(super) fn take(self: &Arc<Self>, key: u128, most: u32) -> Option<(Place, u32)> {
        let mut shard = self.shard(key)?;
        let left = match shard.entry(key) {
            Entry::Occupied(mut taken) => {
                let left = most.checked_sub(*taken.get() + 1)?;
                *taken.get_mut() += 1;
                left
            }
            Entry::Vacant(none) => {
                let left = most.checked_sub(1)?;
                none.insert(1);
                left
            }
        };
        Some((
            Place {
                table: Arc::clone(self),
                key,
            },
            left,
        ))
    }

    fn give_back(&self, key: u128) {
        let Some(mut shard) = self.shard(key) else {
            return;
        };
        if let Entry::Occupied(mut taken) = shard.entry(key) {
            if *taken.get() > 1 {
                *taken.get_mut() -= 1;
            } else {
                taken.remove();
            }
        }
    }

    fn shard(&self, key: u128) -> Option<MutexGuard<'_, HashMap<u128, u32>>> {
        let index = usize::try_from(key % SHARDS as u128).ok()?;
        // Nothing that could leave a count half-written happens under the lock.
        self.shards
            .get(index)
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().map_or(0, |keys| keys.len()))
            .sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.give_back(self.key);
    }
}
