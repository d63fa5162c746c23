//! Whether requests are taken: as they come, held back for a moment, or no more.
//!
//! [`Drain::begin`] ends a run: no new connection, a last request on open ones, calls end in
//! peace; [`Workers::finish`](crate::workers::Workers::finish) waits for them up to a bound and
//! cuts the rest. [`Drain::hold`] keeps requests back unread, so that nothing is decided while a
//! successor starts; they go on here after [`Drain::resume`], or there after [`Drain::depart`].

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, mpsc, watch};

use crate::listen::Parked;

/// What is done with connections and their next requests.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// They are served.
    Open,
    /// They wait.
    Held,
    /// Each may make one more request; no new connection is accepted.
    Ending,
    /// They go to a successor by this way.
    Departing(mpsc::UnboundedSender<Parked>),
}

/// The handle with which a drain is begun.
#[derive(Debug)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    door: Arc<Door>,
}

/// Learns how far the drain is.
#[derive(Debug, Clone)]
pub struct Draining {
    phase: watch::Receiver<Phase>,
    door: Arc<Door>,
}

/// Counts what was begun and is not decided yet.
#[derive(Debug, Default)]
struct Door {
    undecided: AtomicUsize,
    shut: AtomicBool,
    /// It stays shut.
    left: AtomicBool,
    settled: Notify,
}

impl Drain {
    /// A drain that has not begun, and what learns of it.
    pub fn new() -> (Self, Draining) {
        let (sender, receiver) = watch::channel(Phase::Open);
        let door = Arc::<Door>::default();
        let draining = Draining {
            phase: receiver,
            door: Arc::clone(&door),
        };
        (
            Self {
                phase: sender,
                door,
            },
            draining,
        )
    }

    /// Begins the drain; again does nothing.
    pub fn begin(&self) {
        self.enter(Phase::Ending);
    }

    /// Lets nothing more begin, and waits until all that was begun is decided.
    pub(crate) async fn hold(&self) {
        self.enter(Phase::Held);
        while self.door.undecided.load(Ordering::SeqCst) > 0 {
            self.door.settled.notified().await;
        }
    }

    /// Ends a hold: everything goes on as before.
    pub(crate) fn resume(&self) {
        self.enter(Phase::Open);
    }

    /// Ends a hold: connections go to a successor as soon as they have no call.
    pub(crate) fn depart(&self, way: mpsc::UnboundedSender<Parked>) {
        self.enter(Phase::Departing(way));
    }

    fn enter(&self, phase: Phase) {
        let left = matches!(phase, Phase::Departing(_));
        let shut = left || matches!(phase, Phase::Held);
        self.door.left.store(left, Ordering::SeqCst);
        self.door.shut.store(shut, Ordering::SeqCst);
        self.phase.send_replace(phase);
    }
}

impl Draining {
    /// The phase it is in; a lost handle is a drain.
    pub(crate) fn phase(&self) -> Phase {
        if self.phase.has_changed().is_err() {
            return Phase::Ending;
        }
        self.phase.borrow().clone()
    }

    /// Waits for another phase than the one last waited for.
    pub(crate) async fn changed(&mut self) {
        // An error says that the handle is gone, which `phase` tells.
        self.phase.changed().await.ok();
    }

    /// Waits for the end of a hold; the way to the successor, if there is one.
    pub(crate) async fn departure(&mut self) -> Option<mpsc::UnboundedSender<Parked>> {
        loop {
            match self.phase() {
                Phase::Held => self.changed().await,
                Phase::Departing(way) => return Some(way),
                Phase::Open | Phase::Ending => return None,
            }
        }
    }

    /// Whether nothing new is served here any more.
    pub fn has_begun(&self) -> bool {
        matches!(self.phase(), Phase::Ending | Phase::Departing(_))
    }

    /// Whether this request is the last of its connection.
    pub(crate) fn is_ending(&self) -> bool {
        self.phase.has_changed().is_err() || matches!(*self.phase.borrow(), Phase::Ending)
    }

    /// Whether a successor goes on.
    pub(crate) fn is_departing(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Departing(_))
    }

    /// Takes a turn, after a hold if there is one; none where a successor goes on.
    pub(crate) async fn granted(mut self) -> Option<Turn> {
        loop {
            let turn = self.turn();
            if turn.take() {
                return Some(turn);
            }
            match self.phase() {
                // An end takes turns, unless its handle was lost in a hold.
                Phase::Departing(_) | Phase::Ending => return None,
                Phase::Held | Phase::Open => self.changed().await,
            }
        }
    }

    /// The turn of one connection, not taken yet.
    pub(crate) fn turn(&self) -> Turn {
        Turn {
            door: Arc::clone(&self.door),
            taken: Cell::new(false),
        }
    }
}

/// The turn of one connection at a time: taken with the first byte of a request, given back when
/// the request is decided.
#[derive(Debug)]
pub(crate) struct Turn {
    door: Arc<Door>,
    taken: Cell<bool>,
}

impl Turn {
    /// Whether a request may begin; if so it counts as undecided. INVARIANT: counted first and
    /// looked at then, so that a hold sees it or it sees the hold.
    pub(crate) fn take(&self) -> bool {
        if !self.taken.replace(true) {
            self.door.undecided.fetch_add(1, Ordering::SeqCst);
        }
        let open = !self.is_held();
        if !open {
            self.give_back();
        }
        open
    }

    /// The request is decided, or will never be.
    pub(crate) fn give_back(&self) {
        if self.taken.replace(false) {
            self.door.undecided.fetch_sub(1, Ordering::SeqCst);
            if self.is_held() {
                self.door.settled.notify_one();
            }
        }
    }

    /// Whether nothing will begin here again.
    pub(crate) fn is_departing(&self) -> bool {
        self.door.left.load(Ordering::SeqCst)
    }

    /// Whether nothing may begin.
    pub(crate) fn is_held(&self) -> bool {
        self.door.shut.load(Ordering::SeqCst)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back();
    }
}
