//! Lines on their way to a thread that writes them: many wait for one write and one sync.
//!
//! A line comes in, with or without somebody who waits for it; the writing thread takes all that
//! are there. What somebody waits for is written or refused; both only if a write that had begun
//! succeeds after their patience was over. What nobody waits for is kept until it can be written.
//! The queue is bounded: what finds no room is refused at once.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::oneshot, time::timeout};

use super::{
    chain::Unwritable,
    writer::{FULL, is_one_line},
};

/// So many bytes of lines may stand in the queue before decisions are refused.
pub(super) const ROOM: usize = 32 * 1024 * 1024;

/// So many before lines for which nobody waits are lost: room for the outcomes of what was decided.
pub(super) const LAST_ROOM: usize = ROOM + 8 * 1024 * 1024;

/// So long may a write and its sync take; after that who waits is refused, and the log counts as
/// unwritable until they are over.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a line is where its durability wants it.
pub(super) type Settled = Result<(), Unwritable>;

/// A line to be written.
#[derive(Debug)]
pub(super) struct Line {
    members: Box<[u8]>,
    awaited: Option<Waiter>,
}

/// Who waits for a line.
#[derive(Debug)]
struct Waiter {
    tell: oneshot::Sender<Settled>,
    gave_up: Arc<AtomicBool>,
}

impl Line {
    /// A line for which nobody waits.
    pub(super) fn left(members: &[u8]) -> Self {
        Self {
            members: members.into(),
            awaited: None,
        }
    }

    /// A line for which the holder of the receipt waits.
    pub(super) fn awaited(members: &[u8]) -> (Self, Receipt) {
        let (tell, told) = oneshot::channel();
        let gave_up = Arc::default();
        let line = Self {
            members: members.into(),
            awaited: Some(Waiter {
                tell,
                gave_up: Arc::clone(&gave_up),
            }),
        };
        (line, Receipt { told, gave_up })
    }

    /// What it says.
    pub(super) fn members(&self) -> &[u8] {
        &self.members
    }

    /// Whether it is to be written: who waited for it was not refused meanwhile.
    pub(super) fn is_wanted(&self) -> bool {
        let awaited = self.awaited.as_ref();
        awaited.is_none_or(|waiter| !waiter.gave_up.load(Ordering::Acquire))
    }

    /// It is written.
    pub(super) fn written(self) {
        if let Some(waiter) = self.awaited {
            // Whoever waited may have left.
            waiter.tell.send(Ok(())).ok();
        }
    }

    /// It could not be written. Whoever waits is told and the line is given up; says whether it
    /// is to be kept because nobody does.
    pub(super) fn unwritten(&mut self) -> bool {
        !self.awaited.take().is_some_and(Waiter::refuse)
    }
}

impl Waiter {
    /// Says whether it is refused, now or before; else it has left.
    fn refuse(self) -> bool {
        // In this order: that it gave up is seen once the end of its wait is.
        self.tell.send(Err(Unwritable)).is_ok() || self.gave_up.load(Ordering::Acquire)
    }
}

/// What becomes of a line that somebody waits for.
#[derive(Debug)]
pub struct Receipt {
    told: oneshot::Receiver<Settled>,
    gave_up: Arc<AtomicBool>,
}

impl Receipt {
    /// Waits until the line is written, for a few seconds at most.
    ///
    /// # Errors
    /// It is not, as far as is known.
    pub async fn settled(&mut self) -> Result<(), Unwritable> {
        match timeout(PATIENCE, &mut self.told).await {
            Ok(told) => told.unwrap_or(Err(Unwritable)),
            Err(_) => self.give_up(),
        }
    }

    /// Waits no longer: unless it was written already, the line is refused.
    pub(super) fn give_up(&mut self) -> Settled {
        // First, so that nobody takes the end of the wait for that of an agent who left.
        self.gave_up.store(true, Ordering::Release);
        self.told.close();
        self.told.try_recv().unwrap_or(Err(Unwritable))
    }

    /// Waits no longer: unless it was refused already, the line is written or kept until it is.
    ///
    /// # Errors
    /// It was refused already.
    pub fn leave(mut self) -> Result<(), Unwritable> {
        self.told.close();
        self.told.try_recv().unwrap_or(Ok(()))
    }
}

/// What the writing thread is to do next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// The time, when what is periodic is due.
    pub(super) tick: Option<Timestamp>,
    /// Nothing comes after it.
    pub(super) last: bool,
}

/// The queue between those who decide and the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    held: Mutex<Held>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    lines: Vec<Line>,
    /// Lines that are not settled, those that the thread has taken included.
    count: usize,
    /// Their bytes.
    bytes: usize,
    due: bool,
    tick: Option<Timestamp>,
    /// The first tick for which the thread has not come.
    missed: Option<Timestamp>,
    /// A successor decides.
    undecided: bool,
    closed: bool,
}

impl Queue {
    /// Adds a decision unless it finds no room, or others decide. The thread is called when
    /// somebody waits for it or when much is there; otherwise [`Queue::flush`] is due soon.
    pub(super) fn decide(&self, line: Line) -> Result<(), Unwritable> {
        let held = self.held();
        if held.undecided {
            return Err(Unwritable);
        }
        self.add(held, line, ROOM)
    }

    /// Adds what became of a decision unless it finds no room.
    pub(super) fn push(&self, line: Line) -> Result<(), Unwritable> {
        self.add(self.held(), line, LAST_ROOM)
    }

    fn add(
        &self,
        mut held: MutexGuard<'_, Held>,
        line: Line,
        room: usize,
    ) -> Result<(), Unwritable> {
        let bytes = held.bytes.saturating_add(line.members.len());
        if held.closed || bytes > room || !is_one_line(&line.members) {
            return Err(Unwritable);
        }
        held.bytes = bytes;
        held.count += 1;
        held.due |= line.awaited.is_some() || bytes >= FULL;
        held.lines.push(line);
        self.call(held);
        Ok(())
    }

    /// Takes no more decisions.
    pub(super) fn hold(&self) {
        self.held().undecided = true;
    }

    /// Takes decisions again.
    pub(super) fn resume(&self) {
        self.held().undecided = false;
    }

    /// Has what is there written.
    pub(super) fn flush(&self) {
        let mut held = self.held();
        held.due |= !held.lines.is_empty();
        self.call(held);
    }

    /// Has done what is due at that time. Says whether the thread comes in time for it.
    pub(super) fn tick(&self, now: Timestamp) -> bool {
        let mut held = self.held();
        held.tick = Some(now);
        let missed = *held.missed.get_or_insert(now);
        self.call(held);
        now.duration_since(missed).unsigned_abs() < PATIENCE
    }

    /// Takes no more; what is there is tried once more.
    pub(super) fn close(&self) {
        let mut held = self.held();
        held.closed = true;
        self.call(held);
    }

    /// Takes no more, and refuses what is there: nobody writes any longer.
    pub(super) fn abandon(&self) {
        let mut held = self.held();
        held.closed = true;
        held.lines.clear();
    }

    /// How many lines are not written yet.
    pub(super) fn len(&self) -> usize {
        self.held().count
    }

    /// Waits until something is due and adds what is there to `lines`.
    pub(super) fn next(&self, lines: &mut Vec<Line>) -> Round {
        let idle = |held: &mut Held| !held.due && held.tick.is_none() && !held.closed;
        let mut held = self
            .called
            .wait_while(self.held(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        (held.due, held.missed) = (false, None);
        lines.append(&mut held.lines);
        Round {
            tick: held.tick.take(),
            last: held.closed,
        }
    }

    /// Gives back the room of all lines but those.
    pub(super) fn left(&self, lines: &[Line]) {
        let mut held = self.held();
        let bytes = |lines: &[Line]| lines.iter().map(|line| line.members.len()).sum::<usize>();
        held.count = lines.len() + held.lines.len();
        held.bytes = bytes(lines) + bytes(&held.lines);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, held: MutexGuard<'_, Held>) {
        let due = held.due || held.tick.is_some() || held.closed;
        drop(held);
        if due {
            self.called.notify_one();
        }
    }
}
