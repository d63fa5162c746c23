//! Decisions as OPA's decision-log plugin uploads them: arrays of events, gzip, `POST …/logs`.

use super::ship::{Batch, Batches};

/// Decisions on their way.
#[derive(Debug, Default)]
pub(super) struct Events {
    array: Vec<u8>,
    count: usize,
}

/// What our decision lines begin with.
const DECISION: &[u8] = br#"{"type":"decision","#;

impl Batches for Events {
    fn add(&mut self, line: &[u8]) {
        if !line.starts_with(DECISION) {
            return;
        }
        self.array.push(if self.count == 0 { b'[' } else { b',' });
        self.array.extend_from_slice(line);
        self.count += 1;
    }

    fn take(&mut self) -> Option<Batch> {
        let Self { mut array, count } = std::mem::take(self);
        array.push(b']');
        Batch::of(array, count)
    }
}
