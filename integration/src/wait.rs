//! Waiting for a condition of another process.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::PATIENCE;

/// Between two questions: no synchronisation, it only spares the machine.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);

/// Asks `probe` until it answers, and returns its answer.
///
/// # Panics
/// When nothing was answered within [`PATIENCE`], naming `what` was waited for.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(PAUSE);
    }
}
