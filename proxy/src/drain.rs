//! The end of a run: no new connection, no further request on open ones, calls end in peace.
//!
//! [`Drain::begin`] tells every listener and connection;
//! [`Workers::finish`](crate::workers::Workers::finish) waits for the calls up to a bound and
//! cuts the rest.

use tokio::sync::watch;

/// The handle with which a drain is begun.
#[derive(Debug)]
pub struct Drain(watch::Sender<bool>);

/// Learns that the drain has begun.
#[derive(Debug, Clone)]
pub struct Draining(watch::Receiver<bool>);

impl Drain {
    /// A drain that has not begun, and what learns of it.
    pub fn new() -> (Self, Draining) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Draining(receiver))
    }

    /// Begins the drain; again does nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Draining {
    /// Waits for the drain to begin; a lost handle is a drain too.
    pub async fn begun(&mut self) {
        // An error says that the handle is gone: nobody is left to run for.
        drop(self.0.wait_for(|begun| *begun).await);
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
