//! A fleet: sidecars that share limits, budgets and what became of tasks, through a Redis or Valkey.
//!
//! In: what a call would spend. Out: whether the fleet lets it. The store counts, and is trusted no
//! further: what this sidecar knows was spent goes with every question, and the greater number
//! counts; what an emptied or restarted store lost, the sidecars remind it of before it admits
//! anything ([`WINDOW`]). One connection, driven by a thread of its own, serves all workers; nobody
//! waits for it longer than `state.timeout`.

mod changes;
mod connect;
mod fault;
mod known;
mod link;
mod scripts;
mod seen;
mod settings;
mod talk;

use std::{fmt, io, sync::Arc, time::Duration};

use secrecy::ExposeSecret;

use self::{
    changes::{Changes, Way},
    fault::Fault,
    known::Number,
    link::{Link, Thread},
    scripts::{Answer, Script, Words},
};
pub use self::{
    seen::Claimed,
    settings::{OnFailure, Settings},
};
use super::{Decree, Edict};
use crate::limit::shared::{Cell, Counted, Hash, Names};

/// How long what was heard from the store holds.
pub const FRESH: Duration = Duration::from_secs(1);

/// How long nothing is admitted after the store began anew, so that every sidecar can say what it
/// knows. Longer than two sidecars take to notice and to connect.
pub const WINDOW: Duration = Duration::from_millis(1_500);

/// Questions that may be under way.
const QUESTIONS: usize = 1024;

/// The store gave no answer that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the fleet's store is away")]
pub struct Away;

/// A total that was not spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unspent {
    /// The store gave no answer that counts.
    #[error(transparent)]
    Away(#[from] Away),
    /// One has none left, and none was spent.
    #[error("a total has none left")]
    Spent {
        /// Which of those asked for.
        at: usize,
        /// How many of it were spent.
        used: u64,
    },
}

/// A total of which one is to be spent.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// Whose.
    pub key: Hash,
    /// The most that may ever be spent.
    pub most: u64,
    /// What is known here to be spent.
    pub used: u64,
    /// How long it counts.
    pub lasts: Duration,
}

/// How the fleet stands, for probes, metrics and `doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether calls are counted in the store.
    pub up: bool,
    /// Since when the last sign of life was asked for; `None` before the first.
    pub age: Option<Duration>,
    /// In a few words.
    pub detail: String,
}

/// Who does what the fleet says.
pub trait Follower: Send + Sync {
    /// Whether somebody may do more after it.
    fn widens(&self, edict: &Edict) -> bool;

    /// Carries out what was said elsewhere, and notes it. Returns whether it could be.
    fn follow(&self, decree: Decree) -> bool;
}

/// A change that the fleet was not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Untold {
    /// The store gave no answer in time. One that takes back is told as soon as it can be.
    #[error("the fleet's store is away: the others do not know of it yet")]
    Away,
    /// It is too long, or too many wait.
    #[error("the fleet cannot be told: names and reason are too long, or too many changes wait")]
    TooMuch,
}

/// How long whoever changes something waits until the fleet's store has it.
const TELLING: Duration = Duration::from_secs(2);

/// A sidecar's part of its fleet.
pub struct Fleet {
    link: Arc<Link>,
    names: Names,
    thread: Thread,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl Fleet {
    /// Begins to look for the store.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(settings: Settings, follower: Box<dyn Follower>) -> io::Result<Self> {
        let names = settings.names();
        let key = settings.key.as_ref().map(ExposeSecret::expose_secret);
        let changes = Changes::new(names.clone(), key, follower);
        let link = Arc::new(Link::new(settings, changes));
        Ok(Self {
            thread: Thread::start(Arc::clone(&link))?,
            names,
            link,
        })
    }

    /// How this fleet names what it counts.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whether a call may go on as far as the store is concerned: with `refuse`, what is known of it
    /// must be less than [`FRESH`] old.
    ///
    /// # Errors
    /// [`Away`].
    pub fn ready(&self) -> Result<(), Away> {
        match self.link.settings.on_failure {
            OnFailure::LocalShare(_) => Ok(()),
            OnFailure::Refuse if self.link.is_up() && self.link.is_fresh() => Ok(()),
            OnFailure::Refuse => Err(Away),
        }
    }

    /// Spends the rates of a call, in order, in one question. What was spent stays spent when nobody
    /// waits for the answer any more.
    ///
    /// # Errors
    /// [`Away`]. A rate that is spent is no error: it is in the answer.
    pub async fn admit(&self, cells: &[Cell]) -> Result<Counted, Away> {
        let asked = self.ask(Script::Admit, |words, now| {
            for cell in cells {
                words.key(self.link.name(&cell.key));
                words.number(cell.interval);
                words.number(cell.span);
                // A time that is further ahead than can be was told by another clock.
                let known = self.link.known.value(&cell.key);
                words.number(known.min(now.saturating_add(cell.span)));
            }
        });
        let answer = match (asked.await, self.link.settings.on_failure) {
            (Err(Away), OnFailure::LocalShare(sidecars)) => {
                return self.share(cells, sidecars.get());
            }
            (answer, _) => answer?,
        };
        let (now, spent) = match &*answer.word {
            "ok" => (answer.now, false),
            "spent" => (answer.now, true),
            _ => return Err(Away),
        };
        let until = answer.numbers().ok_or(Away)?;
        if until.is_empty() != cells.is_empty() || (!spent && until.len() != cells.len()) {
            return Err(Away);
        }
        for (cell, until) in cells.iter().zip(&until) {
            let number = Number {
                value: *until,
                forget: *until,
            };
            let learnt = self.link.known.learn(&cell.key, number, now);
            // Too many keys to remember: an emptied store could give one back.
            learnt.map_err(|_| Away)?;
        }
        Ok(Counted {
            now,
            until,
            spent,
            share: 1,
        })
    }

    /// Spends this sidecar's part of the rates: a rate divided by the sidecars, and a burst that is
    /// as spent as the whole fleet's was last seen to be.
    fn share(&self, cells: &[Cell], sidecars: u64) -> Result<Counted, Away> {
        let now = self.link.clock.now();
        let mut counted = Counted {
            now,
            until: Vec::new(),
            spent: false,
            share: sidecars,
        };
        for cell in cells {
            let interval = cell.interval.saturating_mul(sidecars);
            let span = cell.span.max(interval);
            let mut before = now;
            let spent = self.link.known.update(&cell.key, now, |known| {
                let full = now.saturating_add(span);
                before = known.map_or(now, |known| known.value.clamp(now, full));
                let after = before.saturating_add(interval);
                (after - now <= span).then_some(Number {
                    value: after,
                    forget: after,
                })
            });
            let Some(number) = spent.map_err(|_| Away)? else {
                counted.until.push(before);
                counted.spent = true;
                break;
            };
            counted.until.push(number.value);
        }
        Ok(counted)
    }

    /// Spends one of each total, or none; returns what is used now. A total has no share: while the
    /// store is away nothing is spent, whatever `on_failure` says.
    ///
    /// # Errors
    /// [`Unspent`].
    pub async fn spend(&self, totals: &[Total]) -> Result<Vec<u64>, Unspent> {
        let answer = self
            .ask(Script::Spend, |words, _| {
                for total in totals {
                    words.key(self.link.name(&total.key));
                    words.number(total.most);
                    words.number(self.link.known.value(&total.key).max(total.used));
                    words.number(millis(total.lasts));
                }
            })
            .await?;
        let used = answer.numbers().ok_or(Away)?;
        if used.len() != totals.len() {
            return Err(Away.into());
        }
        for (total, used) in totals.iter().zip(&used) {
            let number = Number {
                value: *used,
                forget: answer.now.saturating_add(micros(total.lasts)),
            };
            let learnt = self.link.known.learn(&total.key, number, answer.now);
            learnt.map_err(|_| Away)?;
        }
        match &*answer.word {
            "ok" => Ok(used),
            "spent" => {
                let mut each = totals.iter().zip(&used).enumerate();
                let first = each.find(|(_, (total, used))| **used >= total.most);
                let (at, (_, used)) = first.ok_or(Away)?;
                Err(Unspent::Spent { at, used: *used })
            }
            _ => Err(Away.into()),
        }
    }

    /// Tells the fleet of a change that takes back; when this returns, the store has it.
    ///
    /// # Errors
    /// [`Untold`]; it is told later all the same, unless it is too much.
    pub async fn take_back(&self, decree: &Decree) -> Result<(), Untold> {
        self.tell(decree, Way::Narrower).await
    }

    /// Tells the fleet of a change that gives again. Without the fleet's key nobody would believe
    /// it: then it holds here only.
    ///
    /// # Errors
    /// [`Untold`]; then nobody was told.
    pub async fn give_again(&self, decree: &Decree) -> Result<(), Untold> {
        if self.link.changes.can_widen() {
            self.tell(decree, Way::Wider).await
        } else {
            Ok(())
        }
    }

    async fn tell(&self, decree: &Decree, way: Way) -> Result<(), Untold> {
        let telling = async {
            let mut least = 0;
            loop {
                let (changes, now) = (&self.link.changes, self.link.clock.now());
                let told = changes
                    .offer(decree, way, least, now)
                    .ok_or(Untold::TooMuch)?;
                self.link.wake();
                match told.await {
                    Ok(Ok(())) => return Ok(()),
                    // Somebody spoke meanwhile.
                    Ok(Err(there)) => least = there.saturating_add(1),
                    Err(_) => return Err(Untold::Away),
                }
            }
        };
        let told = tokio::time::timeout(TELLING, telling).await;
        told.unwrap_or(Err(Untold::Away))
    }

    /// Asks the store within the epoch that is known.
    async fn ask(
        &self,
        script: Script,
        fill: impl FnOnce(&mut Words, u64),
    ) -> Result<Answer, Away> {
        let answer = self.link.ask(script, fill).await;
        self.link.tally.count(answer.is_ok());
        answer
    }

    /// How the fleet stands.
    pub fn status(&self) -> Status {
        self.link.status()
    }

    /// Whether calls go on while the store is away.
    pub fn shares(&self) -> bool {
        self.link.settings.on_failure != OnFailure::Refuse
    }

    /// Questions that were answered, and those that were not.
    pub fn questions(&self) -> [(&'static str, u64); 2] {
        self.link.tally.read()
    }

    /// Changes that others told of: those that were followed, and those that do not count.
    pub fn changes(&self) -> [(&'static str, u64); 2] {
        self.link.changes.tally()
    }

    /// Leaves the store.
    pub fn stop(&self) {
        self.thread.stop();
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests;
