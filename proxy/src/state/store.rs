//! Where changes of authority survive.

use std::{io, sync::Arc};

use super::{
    Authority, Decree, Edict, Journal, UsedToken,
    redis::{Fleet, Untold},
    token_digest,
};
use crate::task::{Task, Terms};

/// `state.store` in force. Clones are the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// Nowhere: everything ends with the process.
    Memory,
    /// In a file of this sidecar.
    File(Arc<Journal>),
    /// In a store that a fleet shares.
    Fleet(Arc<Fleet>),
}

/// A change that was not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// The state file cannot be written.
    #[error("the state file cannot be written: {0}")]
    File(#[from] io::Error),
    /// The fleet was not told.
    #[error(transparent)]
    Fleet(#[from] Untold),
}

impl Store {
    /// Those who share limits, budgets and the ends of tasks with us.
    pub const fn fleet(&self) -> Option<&Arc<Fleet>> {
        match self {
            Self::Fleet(fleet) => Some(fleet),
            Self::Memory | Self::File(_) => None,
        }
    }

    /// Keeps a task that was opened.
    ///
    /// # Errors
    /// [`NotKept`].
    pub async fn opened(&self, task: &Task, token: &str) -> Result<(), NotKept> {
        match self {
            Self::Memory | Self::Fleet(_) => Ok(()),
            Self::File(journal) => {
                let (journal, terms) = (Arc::clone(journal), task.terms().clone());
                let digest = token_digest(token.as_bytes());
                on_disk(move || journal.token(digest, &terms)).await
            }
        }
    }

    /// Keeps a decree, carried out already where it takes back.
    ///
    /// # Errors
    /// [`NotKept`].
    pub async fn decreed(&self, decree: &Decree, authority: &Authority) -> Result<(), NotKept> {
        match self {
            Self::Memory => Ok(()),
            Self::Fleet(fleet) => Ok(tell(fleet, decree, authority).await?),
            Self::File(journal) => {
                let (journal, decree) = (Arc::clone(journal), decree.clone());
                let life = authority.after(&decree);
                on_disk(move || journal.decree(&decree, life)).await
            }
        }
    }

    /// Keeps what a call has spent and touched.
    ///
    /// # Errors
    /// [`NotKept`]: then the call may not go on.
    pub fn spent(&self, task: &Task, raised: bool) -> Result<(), NotKept> {
        match self {
            Self::Memory | Self::Fleet(_) => Ok(()),
            Self::File(journal) => {
                if raised {
                    journal.touched(task)?;
                }
                Ok(journal.spent(task)?)
            }
        }
    }

    /// Keeps that a token was used that serves one call.
    ///
    /// # Errors
    /// [`NotKept`]: then the call may not go on.
    pub fn used_up(&self, terms: &Terms) -> Result<(), NotKept> {
        match self {
            // A fleet knows by its total of one.
            Self::Memory | Self::Fleet(_) => Ok(()),
            Self::File(journal) => Ok(journal.used_up(UsedToken::of(terms))?),
        }
    }

    /// Keeps how often an exception was used.
    ///
    /// # Errors
    /// [`NotKept`]: then the call may not go on.
    pub fn used(&self, exception: &Arc<str>, used: u64) -> Result<(), NotKept> {
        match self {
            Self::Memory | Self::Fleet(_) => Ok(()),
            Self::File(journal) => Ok(journal.used(exception, used)?),
        }
    }
}

/// Tells a fleet of a decree: of a revocation, what all of them for its target forbid together.
async fn tell(fleet: &Fleet, decree: &Decree, authority: &Authority) -> Result<(), Untold> {
    let own = authority.tasks.issuer();
    let known_here_only = match &decree.edict {
        Edict::Revoke { target, .. } | Edict::Lift { target } => target.issuer() == Some(own),
        edict => edict.task().is_some_and(|task| task.issuer == *own),
    };
    if known_here_only {
        return Ok(());
    }
    if authority.widens(&decree.edict) {
        return fleet.give_again(decree).await;
    }
    let joined = match &decree.edict {
        Edict::Revoke { target, .. } => authority.revocations().of(target),
        _ => None,
    };
    match joined {
        Some(joined) => fleet.take_back(&joined.decree()).await,
        None => fleet.take_back(decree).await,
    }
}

/// Waits for the disk elsewhere: calls go on meanwhile.
async fn on_disk(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), NotKept> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.unwrap_or_else(|_| Err(io::Error::other("the write was given up")))?)
}
