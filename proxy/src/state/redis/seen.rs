//! Events that several take in and one deals with: claimed in the store, and remembered there.

use std::time::Duration;

use super::{Away, Fleet, millis, scripts::Script};
use crate::limit::shared::Hash;

/// What became of an event so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// It is ours to deal with.
    Ours,
    /// Somebody deals with it.
    Busy,
    /// It was dealt with.
    Done,
}

impl Fleet {
    /// Claims an event for a while, as `who`.
    ///
    /// # Errors
    /// [`Away`].
    pub async fn claim(&self, event: &Hash, who: &str, lasts: Duration) -> Result<Claimed, Away> {
        self.seen("claim", event, who, lasts).await
    }

    /// Remembers that an event was dealt with.
    ///
    /// # Errors
    /// [`Away`].
    pub async fn done(&self, event: &Hash, who: &str, lasts: Duration) -> Result<(), Away> {
        self.seen("done", event, who, lasts).await.map(drop)
    }

    /// Gives a claim back.
    ///
    /// # Errors
    /// [`Away`]; then it ends by itself.
    pub async fn release(&self, event: &Hash, who: &str) -> Result<(), Away> {
        let any = Duration::from_secs(1);
        self.seen("release", event, who, any).await.map(drop)
    }

    async fn seen(
        &self,
        verb: &str,
        event: &Hash,
        who: &str,
        lasts: Duration,
    ) -> Result<Claimed, Away> {
        let asked = self.ask(Script::Seen, |words, _| {
            words.key(self.link.name(event));
            words.text(verb);
            words.text(who);
            words.number(millis(lasts));
        });
        match &*asked.await?.word {
            "ok" => Ok(Claimed::Ours),
            "busy" => Ok(Claimed::Busy),
            "seen" => Ok(Claimed::Done),
            _ => Err(Away),
        }
    }
}
