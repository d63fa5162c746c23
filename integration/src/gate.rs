//! A gate that a test opens for a tool server's thread.

use std::sync::{Arc, Condvar, Mutex};

use crate::PATIENCE;

/// A counted gate: each [`open`](Gate::open) lets one [`pass`](Gate::pass) through.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    state: Arc<(Mutex<usize>, Condvar)>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets one more pass.
    pub fn open(&self) {
        let (count, changed) = &*self.state;
        *count.lock().unwrap() += 1;
        changed.notify_all();
    }

    /// Waits until it may pass. Returns false when nobody opened within [`PATIENCE`].
    pub fn pass(&self) -> bool {
        let (count, changed) = &*self.state;
        let guard = count.lock().unwrap();
        let (mut guard, timeout) = changed
            .wait_timeout_while(guard, PATIENCE, |open| *open == 0)
            .unwrap();
        if timeout.timed_out() {
            return false;
        }
        *guard -= 1;
        true
    }
}
