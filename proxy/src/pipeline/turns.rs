//! Turns: one large computation at a time, off the event loop.

use std::sync::Arc;

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// The turns of large bodies: in memory their values take many times their bytes.
#[derive(Debug)]
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Waits for a turn and computes. Whoever leaves does not end what has begun: the turn lasts
    /// until it is over.
    pub(super) async fn take<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let computation = spawn_blocking(move || {
            let computed = compute();
            drop(turn);
            computed
        });
        computation.await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        future::Future,
        sync::mpsc,
        task::{Context, Waker},
    };

    use super::*;

    #[tokio::test]
    async fn who_leaves_does_not_give_the_turn_to_another_computation() {
        let turns = Turns::default();
        let (release, hold) = mpsc::channel::<()>();
        let mut left = Box::pin(turns.take(move || hold.recv().ok()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(left.as_mut().poll(&mut context).is_pending());
        drop(left);
        assert_eq!(turns.0.available_permits(), 0);
        release.send(()).unwrap();
        assert_eq!(turns.take(|| "next").await.unwrap(), "next");
    }
}
