//! Which tokens were dealt with: each once, however often it is delivered, also after a restart.
//!
//! With a fleet that is remembered in its store, and two receivers share it; without one it is in a
//! file. A token whose work was not finished is not remembered: it is delivered again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub use self::file::{BadFile, SeenFile};
use crate::{
    limit::shared::{Hash, Names},
    state::redis::{Away, Claimed, Fleet},
};

mod file;

/// How long one receiver may take over one token before another takes it up.
const CLAIM: Duration = Duration::from_secs(30);

/// How long one waits for another receiver that deals with the same token.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// Where that is remembered.
#[derive(Debug)]
pub enum Place {
    /// In the fleet's store.
    Fleet(Arc<Fleet>),
    /// In a file.
    File(Arc<SeenFile>),
}

/// It cannot be told, or remembered, now.
#[derive(Debug, thiserror::Error)]
pub enum Forgetful {
    /// The fleet's store is away.
    #[error(transparent)]
    Away(#[from] Away),
    /// The file cannot be written.
    #[error("the file of what was seen cannot be written: {0}")]
    File(#[from] std::io::Error),
    /// Another receiver does not come to an end with it.
    #[error("another receiver deals with the same token")]
    Busy,
}

/// What was dealt with.
#[derive(Debug)]
pub struct Seen {
    place: Place,
    names: Names,
    /// This receiver, among others of the fleet.
    who: String,
    underway: Mutex<HashMap<Hash, watch::Receiver<()>>>,
}

/// Whether a token is to be dealt with.
#[derive(Debug)]
pub enum Turn<'a> {
    /// It was.
    Over,
    /// It is, by whoever has this.
    Ours(Claim<'a>),
}

/// A token that is being dealt with. Dropped, it is left to the next who brings it.
#[derive(Debug)]
pub struct Claim<'a> {
    seen: &'a Seen,
    event: Hash,
    /// Tells those who wait that it is over, by its end.
    _over: watch::Sender<()>,
}

impl Seen {
    /// Nothing is under way yet.
    pub fn new(place: Place) -> Self {
        let names = match &place {
            Place::Fleet(fleet) => fleet.names().clone(),
            Place::File(_) => Names::new(b"outrider"),
        };
        Self {
            place,
            names,
            who: uuid::Uuid::now_v7().to_string(),
            underway: Mutex::default(),
        }
    }

    /// Waits for its turn with a token of that issuer and ID.
    ///
    /// # Errors
    /// [`Forgetful`].
    pub async fn turn(&self, issuer: &str, id: &str) -> Result<Turn<'_>, Forgetful> {
        let parts = [&b"set"[..], issuer.as_bytes(), id.as_bytes()];
        let claim = self.alone(self.names.hash(parts)).await;
        match &self.place {
            Place::File(file) if file.has(&claim.event, Timestamp::now()) => Ok(Turn::Over),
            Place::File(_) => Ok(Turn::Ours(claim)),
            Place::Fleet(fleet) => {
                let end = Instant::now() + PATIENCE;
                loop {
                    match fleet.claim(&claim.event, &self.who, CLAIM).await? {
                        Claimed::Ours => return Ok(Turn::Ours(claim)),
                        Claimed::Done => return Ok(Turn::Over),
                        Claimed::Busy if Instant::now() >= end => return Err(Forgetful::Busy),
                        Claimed::Busy => sleep(LOOK).await,
                    }
                }
            }
        }
    }

    /// Waits until nobody in this process deals with it.
    async fn alone(&self, event: Hash) -> Claim<'_> {
        let (over, wait) = watch::channel(());
        loop {
            let other = {
                let mut underway = self.underway();
                let other = underway.get(&event).cloned();
                if other.is_none() {
                    underway.insert(event, wait.clone());
                }
                other
            };
            match other {
                // The sender never sends: this returns when it is gone.
                Some(mut other) => other.changed().await.unwrap_or_default(),
                None => {
                    return Claim {
                        seen: self,
                        event,
                        _over: over,
                    };
                }
            }
        }
    }

    fn underway(&self) -> MutexGuard<'_, HashMap<Hash, watch::Receiver<()>>> {
        self.underway.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what need not be known any more.
    pub fn sweep(&self, now: Timestamp) {
        if let Place::File(file) = &self.place {
            file.sweep(now);
        }
    }
}

impl Claim<'_> {
    /// Remembers for so long that it was dealt with.
    ///
    /// # Errors
    /// [`Forgetful`].
    pub async fn done(&self, lasts: Duration) -> Result<(), Forgetful> {
        match &self.seen.place {
            Place::Fleet(fleet) => Ok(fleet.done(&self.event, &self.seen.who, lasts).await?),
            Place::File(file) => {
                let (file, event) = (Arc::clone(file), self.event);
                let until = super::set::moved(Timestamp::now(), lasts);
                let kept = tokio::task::spawn_blocking(move || file.keep(event, until)).await;
                Ok(kept.unwrap_or_else(|_| Err(std::io::Error::other("it was given up")))?)
            }
        }
    }

    /// Leaves it to the next who brings it.
    pub async fn release(self) {
        if let Place::Fleet(fleet) = &self.seen.place {
            // Where that fails it ends by itself.
            fleet.release(&self.event, &self.seen.who).await.ok();
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.seen.underway().remove(&self.event);
    }
}
