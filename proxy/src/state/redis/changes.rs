//! Changes of authority that sidecars tell each other: what is taken back counts from anybody, what
//! is given again only under the fleet's key and only once.
//!
//! The latest word on each subject has a number; who speaks takes one above every number they know.
//! An entry is `NUMBER MAC JSON`. What was spoken or heard is remembered, so that it is told again to
//! a store that lost it, and so that nothing old is taken for new.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::sync::oneshot;

use super::{Follower, micros};
use crate::{
    limit::shared::{Hash, Names},
    state::{Decree, Edict},
};

/// Bytes of one entry.
pub(super) const LONGEST: usize = 4_096;
/// Entries of a store.
pub(super) const MOST: u64 = 131_072;
/// Bytes of the entries that are remembered here.
const REMEMBERED: usize = 64 << 20;
/// Entries that wait to be told.
const WAITING: usize = 262_144;

/// How long a change of a task or token counts, and a revocation of what was issued up to a time:
/// longer than any of them lasts.
const SHORT: Duration = Duration::from_hours(25);
/// How long it counts that something was given again.
const GIVEN: Duration = Duration::from_hours(30 * 24);
/// How long all else counts: until it is given again.
const LONG: Duration = Duration::from_hours(50 * 366 * 24);
/// No honest number is further ahead of the clock.
const AHEAD: Duration = Duration::from_hours(24);

/// One change, as it is told.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) subject: Hash,
    pub(super) number: u64,
    pub(super) text: String,
    /// When it is over, in microseconds.
    pub(super) over: u64,
}

/// An entry to be told, and who waits for that.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) entry: Entry,
    pub(super) done: Option<oneshot::Sender<Result<(), u64>>>,
    /// It is not told once nobody waits for it.
    revocable: bool,
}

#[derive(Debug)]
struct Remembered {
    number: u64,
    text: String,
    over: u64,
}

#[derive(Debug, Default)]
struct Memory {
    latest: HashMap<Hash, Remembered>,
    bytes: usize,
    outbox: VecDeque<Told>,
}

/// Everything that was told and heard.
pub(super) struct Changes {
    memory: Mutex<Memory>,
    names: Names,
    key: Option<hmac::Key>,
    follower: Box<dyn Follower>,
    followed: AtomicU64,
    refused: AtomicU64,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

/// Which way a change goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Narrower,
    Wider,
}

impl Changes {
    pub(super) fn new(names: Names, key: Option<&[u8]>, follower: Box<dyn Follower>) -> Self {
        Self {
            memory: Mutex::default(),
            names,
            key: key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)),
            follower,
            followed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Whether this fleet can give again what was taken back.
    pub(super) fn can_widen(&self) -> bool {
        self.key.is_some()
    }

    /// Changes that were heard: followed, and not.
    pub(super) fn tally(&self) -> [(&'static str, u64); 2] {
        [
            ("followed", self.followed.load(Ordering::Relaxed)),
            ("refused", self.refused.load(Ordering::Relaxed)),
        ]
    }

    /// Puts a change into the outbox under a number of at least `least`; gives where to wait for it,
    /// or nothing when it cannot be told. One that narrows is told again and again until it is.
    pub(super) fn offer(
        &self,
        decree: &Decree,
        way: Way,
        least: u64,
        now: u64,
    ) -> Option<oneshot::Receiver<Result<(), u64>>> {
        let subject = self.subject(&decree.edict);
        let mut memory = self.lock();
        let known = memory
            .latest
            .get(&subject)
            .map_or(0, |latest| latest.number);
        let number = now.max(known.saturating_add(1)).max(least);
        let json = serde_json::to_string(decree).ok()?;
        let mac = match &self.key {
            Some(key) => URL_SAFE_NO_PAD.encode(sign(key, &subject, number, &json)),
            None => "-".into(),
        };
        let entry = Entry {
            subject,
            number,
            text: format!("{number} {mac} {json}"),
            over: over(&decree.edict, now),
        };
        if entry.text.len() > LONGEST || memory.outbox.len() >= WAITING {
            return None;
        }
        if way == Way::Narrower {
            memory.remember(&entry, number);
        }
        let (done, wait) = oneshot::channel();
        memory.outbox.push_back(Told {
            entry,
            done: Some(done),
            revocable: way == Way::Wider,
        });
        Some(wait)
    }

    /// Everything is to be told again.
    pub(super) fn all_again(&self) {
        let mut memory = self.lock();
        let Memory { latest, outbox, .. } = &mut *memory;
        outbox.retain(|told| told.done.is_some());
        outbox.extend(latest.iter().map(|(subject, latest)| Told {
            entry: Entry {
                subject: *subject,
                number: latest.number,
                text: latest.text.clone(),
                over: latest.over,
            },
            done: None,
            revocable: false,
        }));
    }

    /// What is to be told next, at most so many.
    pub(super) fn next(&self, most: usize) -> Vec<Told> {
        let mut memory = self.lock();
        let wanted = |told: &Told| {
            let left = told.done.as_ref().is_none_or(oneshot::Sender::is_closed);
            !(told.revocable && left)
        };
        let mut batch = Vec::new();
        while batch.len() < most {
            match memory.outbox.pop_front() {
                Some(told) if wanted(&told) => batch.push(told),
                Some(_) => {}
                None => break,
            }
        }
        batch
    }

    /// What could not be told waits for the next connection.
    pub(super) fn back(&self, batch: Vec<Told>) {
        let mut memory = self.lock();
        for told in batch.into_iter().rev() {
            memory.outbox.push_front(told);
        }
    }

    /// The store has an entry, or (`there`) a later one on its subject.
    pub(super) fn told(&self, told: Told, there: u64) {
        let result = if there == 0 {
            self.lock().remember(&told.entry, told.entry.number);
            Ok(())
        } else {
            Err(there)
        };
        if let Some(done) = told.done {
            // Nobody may be waiting any more.
            done.send(result).ok();
        }
    }

    /// Follows what was heard, if it counts.
    pub(super) fn hear(&self, text: &[u8], now: u64) {
        let counter = match self.judge(text, now) {
            Heard::Known => return,
            Heard::Refused(why) => {
                tracing::debug!(why, "a change from the fleet's store does not count");
                &self.refused
            }
            Heard::Followed(decree) => {
                if self.follower.follow(*decree) {
                    &self.followed
                } else {
                    &self.refused
                }
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn judge(&self, text: &[u8], now: u64) -> Heard {
        let Some((number, mac, decree, json)) = read(text) else {
            return Heard::Refused("it cannot be read");
        };
        let subject = self.subject(&decree.edict);
        let signed = self.key.as_ref().is_some_and(|key| {
            let mac = URL_SAFE_NO_PAD.decode(mac).unwrap_or_default();
            hmac::verify(key, &signed_bytes(&subject, number, json), &mac).is_ok()
        });
        let mut memory = self.lock();
        let latest = memory.latest.get(&subject);
        if latest.is_some_and(|latest| latest.text.as_bytes() == text) {
            return Heard::Known;
        }
        let far = now.saturating_add(micros(AHEAD));
        let known = latest
            .map_or(0, |latest| latest.number)
            .max(self.outlasts(&memory, &decree.edict));
        if self.follower.widens(&decree.edict) {
            if !signed {
                return Heard::Refused("it gives more, and is not signed by the fleet");
            }
            if number <= known {
                return Heard::Refused("it gives more, and is old");
            }
        } else if number <= known && number < far {
            return Heard::Known;
        }
        let entry = Entry {
            subject,
            number,
            text: String::from_utf8_lossy(text).into_owned(),
            over: over(&decree.edict, now),
        };
        // A number that is far ahead would keep later words from counting.
        let number = if signed { number } else { number.min(far) };
        if !memory.remember(&entry, number) && self.follower.widens(&decree.edict) {
            return Heard::Refused("it gives more, and cannot be remembered");
        }
        Heard::Followed(Box::new(decree))
    }

    /// Forgets what is over.
    pub(super) fn sweep(&self, now: u64) {
        let mut memory = self.lock();
        let Memory { latest, bytes, .. } = &mut *memory;
        latest.retain(|_, known| {
            let keep = known.over > now;
            if !keep {
                *bytes = bytes.saturating_sub(known.text.len());
            }
            keep
        });
    }

    /// The number of a word on something else that an older one of this kind must not undo: who lifts a
    /// revocation lifts the one that spares what was issued later, too.
    fn outlasts(&self, memory: &Memory, edict: &Edict) -> u64 {
        let Edict::Lift { target } = edict else {
            return 0;
        };
        let before = Edict::Revoke {
            target: target.clone(),
            issued_before: Some(jiff::Timestamp::UNIX_EPOCH),
        };
        let latest = memory.latest.get(&self.subject(&before));
        latest.map_or(0, |latest| latest.number)
    }

    /// What an edict is the latest word on.
    fn subject(&self, edict: &Edict) -> Hash {
        let (aspect, of) = match edict {
            // One that spares what was issued later must not stand in for one that spares nothing.
            Edict::Revoke {
                target,
                issued_before: Some(_),
            } => ("revoked before", serde_json::to_vec(target)),
            Edict::Revoke { target, .. } | Edict::Lift { target } => {
                ("revoked", serde_json::to_vec(target))
            }
            Edict::Close { task } => ("closed", serde_json::to_vec(task)),
            Edict::Suspend { task } | Edict::Resume { task } => {
                ("suspended", serde_json::to_vec(task))
            }
            Edict::Trust { task, .. } => ("trusted", serde_json::to_vec(task)),
        };
        // Strings and structs cannot fail to serialise.
        let of = of.unwrap_or_default();
        self.names.hash([&b"change"[..], aspect.as_bytes(), &of])
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of something that was heard.
enum Heard {
    Known,
    Refused(&'static str),
    Followed(Box<Decree>),
}

impl Memory {
    /// Remembers the latest word; whether there was room.
    fn remember(&mut self, entry: &Entry, number: u64) -> bool {
        let before = self
            .latest
            .get(&entry.subject)
            .map_or(0, |known| known.text.len());
        let after = self.bytes - before + entry.text.len();
        if after > REMEMBERED {
            return false;
        }
        self.bytes = after;
        let latest = Remembered {
            number,
            text: entry.text.clone(),
            over: entry.over,
        };
        self.latest.insert(entry.subject, latest);
        true
    }
}

fn read(text: &[u8]) -> Option<(u64, &str, Decree, &str)> {
    if text.len() > LONGEST {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let (number, rest) = text.split_once(' ')?;
    let (mac, json) = rest.split_once(' ')?;
    Some((
        number.parse().ok()?,
        mac,
        serde_json::from_str(json).ok()?,
        json,
    ))
}

fn sign(key: &hmac::Key, subject: &Hash, number: u64, json: &str) -> hmac::Tag {
    hmac::sign(key, &signed_bytes(subject, number, json))
}

fn signed_bytes(subject: &Hash, number: u64, json: &str) -> Vec<u8> {
    let mut bytes = b"outrider-change-v1\n".to_vec();
    bytes.extend_from_slice(subject);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

fn over(edict: &Edict, now: u64) -> u64 {
    let (since, lasts) = match edict {
        Edict::Revoke { target, .. } if target.is_short_lived() => (now, SHORT),
        Edict::Revoke {
            issued_before: Some(before),
            ..
        } => {
            let before = u64::try_from(before.as_microsecond()).unwrap_or_default();
            (now.max(before), SHORT)
        }
        Edict::Revoke { .. } => (now, LONG),
        Edict::Lift { .. } => (now, GIVEN),
        Edict::Close { .. }
        | Edict::Suspend { .. }
        | Edict::Resume { .. }
        | Edict::Trust { .. } => (now, SHORT),
    };
    since.saturating_add(micros(lasts))
}

#[cfg(test)]
mod tests;
