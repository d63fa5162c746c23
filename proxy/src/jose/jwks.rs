//! Where an issuer's keys come from: a file, or an `https` URL that is asked again and again.
//!
//! In: [`Settings`]. Out: the [`KeySet`] in force, or [`Stale`] when none was seen for too long.
//! Reading is for any thread; [`Source::run`] keeps the keys fresh and belongs to one.

mod read;
mod settings;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, sleep_until, timeout},
};

use self::read::{Document, Fingerprint};
pub use self::{
    read::BadSource,
    settings::{Location, Settings},
};
use super::{BadSet, KeySet};

/// The least between two looks for a key that a token names and nobody has seen.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How soon a source is asked again that has failed.
const RETRY: Duration = Duration::from_secs(15);
/// Between two looks at whether a file has changed.
const FILE_LOOK: Duration = Duration::from_millis(400);
/// How long a call waits for a key that it is the first to name.
const PATIENCE: Duration = Duration::from_secs(6);

/// No keys were seen for longer than `max_stale`: nothing that they sign can be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no current keys are known of the issuer")]
pub struct Stale;

/// One place where keys are published, with the keys that were last seen there.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    born: Instant,
    seen: ArcSwapOption<Seen>,
    /// When the keys were last known to be the published ones, in milliseconds since `born`.
    good: AtomicU64,
    attempts: Mutex<Attempts>,
    wanted: Notify,
    /// Goes up with each attempt that is over.
    rounds: watch::Sender<u64>,
}

#[derive(Debug)]
struct Seen {
    keys: Arc<KeySet>,
    document: Document,
}

#[derive(Debug, Default)]
struct Attempts {
    running: bool,
    last: Option<Instant>,
    /// How the file looked, where it is one.
    looks: Option<Fingerprint>,
    error: Option<String>,
}

/// How a source stands, for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Since when the keys are not known to be the published ones; `None` before the first load.
    pub age: Option<Duration>,
    /// How many keys serve.
    pub keys: usize,
    /// How many were left out.
    pub refused: usize,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

impl Source {
    /// A source that has not been asked yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            born: Instant::now(),
            seen: ArcSwapOption::empty(),
            good: AtomicU64::new(0),
            attempts: Mutex::default(),
            wanted: Notify::new(),
            rounds: watch::Sender::new(0),
        }
    }

    /// As [`new`](Self::new); a file is read at once, and must have a key that serves.
    ///
    /// # Errors
    /// [`BadSource`]: the file, or that of the certificate authorities, is not what it should be.
    pub fn open(settings: Settings) -> Result<Self, BadSource> {
        let source = Self::new(settings);
        if let Some(document) = read::at_once(&source.settings)? {
            source.attempts().looks = document.looks;
            source.take(document)?;
            if source.keys().is_ok_and(|keys| keys.keys().is_empty()) {
                return Err(BadSource::NoKey);
            }
        }
        Ok(source)
    }

    /// Where the keys come from and how long they serve.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The keys in force: the same `Arc` for as long as the published document stays the same.
    ///
    /// # Errors
    /// [`Stale`].
    pub fn keys(&self) -> Result<Arc<KeySet>, Stale> {
        self.keys_at(Instant::now())
    }

    fn keys_at(&self, now: Instant) -> Result<Arc<KeySet>, Stale> {
        let seen = self.seen.load();
        let seen = seen.as_ref().ok_or(Stale)?;
        if self.age(now) < self.settings.max_stale {
            Ok(Arc::clone(&seen.keys))
        } else {
            Err(Stale)
        }
    }

    /// Waits until the keys were looked for once more, because a token names one that is not among
    /// them. However many calls ask, a source is asked once, and not again for ten seconds.
    pub async fn look_again(&self) {
        let mut rounds = self.rounds.subscribe();
        if self.may_look(Instant::now()) {
            self.wanted.notify_one();
            // Whether it was of use is seen in the keys.
            timeout(PATIENCE, rounds.changed()).await.ok();
        }
    }

    /// Whether an attempt runs, or may be made for a key that nobody has seen.
    fn may_look(&self, now: Instant) -> bool {
        let attempts = self.attempts();
        let long_ago = |last: Instant| now.saturating_duration_since(last) >= LOOK_AGAIN;
        attempts.running || attempts.last.is_none_or(long_ago)
    }

    /// Keeps the keys fresh for as long as it is polled.
    pub async fn run(&self) {
        let wait = match self.keys() {
            Ok(_) => spread(self.settings.refresh),
            Err(Stale) => Duration::ZERO,
        };
        let mut due = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = self.changed() => {}
                () = self.wanted.notified() => if !self.may_look(Instant::now()) { continue },
            }
            let wait = match self.refresh().await {
                Ok(()) => spread(self.settings.refresh),
                Err(error) => {
                    tracing::warn!(issuer = %self.settings.name, %error, "keys cannot be read");
                    spread(self.settings.refresh.min(RETRY))
                }
            };
            due = Instant::now() + wait;
        }
    }

    /// Reads the keys now.
    ///
    /// # Errors
    /// [`BadSource`]: the keys that were seen before stay, until they are stale.
    pub async fn refresh(&self) -> Result<(), BadSource> {
        let _over = self.begin();
        let read = read::now(&self.settings).await;
        let outcome = read.and_then(|document| self.take(document).map_err(Into::into));
        self.attempts().error = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    fn begin(&self) -> Over<'_> {
        let looks = self.looks();
        let mut attempts = self.attempts();
        attempts.running = true;
        attempts.last = Some(Instant::now());
        attempts.looks = looks;
        Over(self)
    }

    /// Puts a document's keys in force.
    fn take(&self, document: Document) -> Result<(), BadSet> {
        let same = |seen: &Arc<Seen>| seen.document.digest == document.digest;
        let before = self.seen.load_full().filter(same);
        let keys = match before {
            Some(seen) => Arc::clone(&seen.keys),
            None => Arc::new(KeySet::read(&document.text, self.settings.usage)?),
        };
        for (at, why) in keys.refused() {
            tracing::debug!(issuer = %self.settings.name, key = at, %why, "a key does not serve");
        }
        self.seen.store(Some(Arc::new(Seen {
            keys,
            document: document.without_text(),
        })));
        self.confirm(Instant::now());
        Ok(())
    }

    /// Waits until the file looks different; for ever where the source is no file. One that looks
    /// the same still has the keys that were read.
    async fn changed(&self) {
        if !matches!(self.settings.location, Location::File(_)) {
            return std::future::pending().await;
        }
        loop {
            sleep(FILE_LOOK).await;
            let now = self.looks();
            if now != self.attempts().looks {
                return;
            }
            let seen = self.seen.load();
            if now.is_some() && seen.as_ref().is_some_and(|seen| seen.document.looks == now) {
                self.confirm(Instant::now());
            }
        }
    }

    fn looks(&self) -> Option<Fingerprint> {
        match &self.settings.location {
            Location::File(path) => Fingerprint::of(path),
            Location::Url(_) => None,
        }
    }

    fn confirm(&self, now: Instant) {
        let since = now.saturating_duration_since(self.born).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.good.store(since, Ordering::Release);
    }

    fn age(&self, now: Instant) -> Duration {
        let good = Duration::from_millis(self.good.load(Ordering::Acquire));
        now.saturating_duration_since(self.born)
            .saturating_sub(good)
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let seen = self.seen.load();
        let count = |of: fn(&KeySet) -> usize| seen.as_ref().map_or(0, |seen| of(&seen.keys));
        Status {
            age: seen.as_ref().map(|_| self.age(Instant::now())),
            keys: count(|keys| keys.keys().len()),
            refused: count(|keys| keys.refused().len()),
            error: self.attempts().error.clone(),
        }
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that is over, also when it was dropped half-way.
struct Over<'a>(&'a Source);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.attempts().running = false;
        self.0
            .rounds
            .send_modify(|round| *round = round.wrapping_add(1));
    }
}

/// A little earlier than that, so that a fleet does not ask in step.
fn spread(period: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no spread, and no harm.
    aws_lc_rs::rand::fill(&mut byte).ok();
    period.mul_f64(1.0 - f64::from(byte[0]) / 2560.0)
}

#[cfg(test)]
mod tests;
