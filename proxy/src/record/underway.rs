//! A ruling whose line is on its way to the disk.

use std::time::Instant;

use super::{
    chain::{Receipt, Unwritable},
    entry::{Entry, Recorded, Ruling},
};
use crate::rejection::Rejection;

/// A ruling whose line is on its way to the disk. Whoever leaves meanwhile leaves the line to the
/// log, and the entry as if it had arrived.
pub(super) struct Underway<'a> {
    entry: &'a mut Entry,
    started: Instant,
    ruling: Option<(Ruling, Receipt)>,
}

impl<'a> Underway<'a> {
    pub(super) fn new(
        entry: &'a mut Entry,
        ruling: Ruling,
        started: Instant,
        receipt: Receipt,
    ) -> Self {
        Self {
            entry,
            started,
            ruling: Some((ruling, receipt)),
        }
    }

    /// Waits for the line to arrive.
    pub(super) async fn end(mut self) -> Result<Recorded, Rejection> {
        let written = match &mut self.ruling {
            Some((_, receipt)) => receipt.settled().await,
            None => Err(Unwritable),
        };
        match self.ruling.take() {
            Some((ruling, _)) => self.entry.recorded(ruling, self.started, written),
            None => Err(Rejection::RecordUnavailable),
        }
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if let Some((ruling, receipt)) = self.ruling.take() {
            let written = receipt.leave();
            // Nobody is there to be refused.
            self.entry.recorded(ruling, self.started, written).ok();
        }
    }
}
