//! Rates that a fleet shares: what a call asks of the store, and what the store's answer means.
//!
//! Each rate becomes a [`Cell`]: a hashed key and two lengths of time, from which the store counts by
//! the generic cell rate algorithm. All cells of a call are asked about at once, in file order. The
//! hash covers the limit's name and definition, so that a changed limit begins anew, and the fleet's
//! secret where there is one, so that the store cannot be searched for a known subject.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::hmac;

use super::{Config, KeyPart, Measure, Subjects};

/// A hashed name; the same on every sidecar of the fleet.
pub type Hash = [u8; 16];

/// Hashes names the same way on every sidecar of a fleet.
#[derive(Clone)]
pub struct Names(Arc<hmac::Key>);

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl Names {
    /// Names under the fleet's secret; without one they are hashed all the same.
    pub fn new(secret: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// The hash of these parts, each ended, so that no two lists of parts run together.
    pub fn hash<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Hash {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = Hash::default();
        let tag = context.sign();
        for (to, from) in hash.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        hash
    }
}

/// One rate of one key, as the store counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Whose.
    pub key: Hash,
    /// Microseconds between two calls at the steady rate, rounded up.
    pub interval: u64,
    /// Microseconds in which a spent burst comes back.
    pub span: u64,
}

/// A cell that a call spends, and where its answer goes.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What is counted.
    pub cell: Cell,
    /// Its place among what is left of the call's limits.
    pub(super) place: usize,
}

/// What the store says of a call's cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The store's time, in microseconds.
    pub now: u64,
    /// Until when each cell is spent now, in the order asked; the last is the one that refuses, if
    /// one does.
    pub until: Vec<u64>,
    /// Whether the last one refuses.
    pub spent: bool,
    /// Into how many parts the rates are divided: 1 in the store.
    pub share: u64,
}

impl Counted {
    /// What is left of a cell that is spent to `until`, in calls.
    pub(super) fn remaining(&self, cell: &Cell, until: u64) -> u32 {
        let left = cell.span.saturating_sub(until.saturating_sub(self.now));
        u32::try_from(left / self.interval(cell)).unwrap_or(u32::MAX)
    }

    /// How long until one more passes, of a cell that is spent to `until`.
    pub(super) fn wait(&self, cell: &Cell, until: u64) -> Duration {
        let interval = self.interval(cell);
        let full = self.now.saturating_add(cell.span.max(interval));
        let next = until.max(self.now).saturating_add(interval);
        Duration::from_micros(next.saturating_sub(full).max(1))
    }

    fn interval(&self, cell: &Cell) -> u64 {
        cell.interval.saturating_mul(self.share).max(1)
    }
}

/// One rate that the fleet shares.
#[derive(Debug)]
pub(super) struct Rate {
    names: Names,
    /// Name and definition, hashed into every key.
    definition: Vec<u8>,
    interval: u64,
    span: u64,
}

impl Rate {
    /// `None` for what is no rate: places are each sidecar's own.
    pub(super) fn of(config: &Config, names: &Names) -> Option<Self> {
        let Measure::Rate { rate, burst } = config.measure else {
            return None;
        };
        let nanos = u64::try_from(rate.interval().as_nanos()).unwrap_or(u64::MAX);
        let interval = nanos.div_ceil(1_000).max(1);
        Some(Self {
            names: names.clone(),
            definition: format!("{}\n{interval}\n{burst}\n{:?}", config.name, config.key)
                .into_bytes(),
            interval,
            span: interval.saturating_mul(u64::from(burst.get())),
        })
    }

    /// The cell of these subjects.
    pub(super) fn cell(&self, parts: &[KeyPart], who: &Subjects<'_>) -> Cell {
        let own = [&b"limit"[..], &self.definition];
        let named = parts.iter().map(|part| part.of(who).as_bytes());
        Cell {
            key: self.names.hash(own.into_iter().chain(named)),
            interval: self.interval,
            span: self.span,
        }
    }

    /// Seconds after which there is one more, rounded up.
    pub(super) fn more_after_s(&self) -> u64 {
        self.interval.div_ceil(1_000_000)
    }
}
