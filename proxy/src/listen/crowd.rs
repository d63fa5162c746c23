//! When a listener is full: whoever keeps us waiting makes room for who has just come.
//!
//! The connections of one worker. A new one that finds its listener full takes the place of the
//! one that has kept us waiting the longest: for a request, for the rest of it, or by not reading
//! its answer. A connection whose call is with us is nobody's place.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    task::{AbortHandle, Id},
    time::Instant,
};

use super::{ConnectionFault, ListenerFacts, Observer, PeerAddr, strict_head::Waits};

/// Who is in the middle of a call may take so long over it.
const GRACE: Duration = Duration::from_secs(1);
/// Who has not called within this is the first to go.
const FIRST_CALL: Duration = Duration::from_millis(100);

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Crowd(RefCell<HashMap<Id, Member>>);

/// One connection, seen from outside.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) listener: Arc<ListenerFacts>,
    pub(crate) peer: PeerAddr,
    pub(crate) waits: Rc<Waits>,
    pub(crate) task: AbortHandle,
}

impl Crowd {
    /// Adds a connection.
    pub(crate) fn join(&self, member: Member) {
        self.0.borrow_mut().insert(member.task.id(), member);
    }

    /// Takes out a connection that has ended.
    pub(crate) fn leave(&self, id: Id) {
        self.0.borrow_mut().remove(&id);
    }

    /// Ends one connection of that listener for a new one; false when none may be ended.
    pub(crate) fn make_room(&self, listener: &Arc<ListenerFacts>, observer: &Observer) -> bool {
        let now = Instant::now();
        let longest = {
            let members = self.0.borrow();
            let here = members
                .iter()
                .filter(|(_, member)| Arc::ptr_eq(&member.listener, listener));
            let waits = here.filter_map(|(id, member)| Some((member.rank(now)?, *id)));
            waits.max_by_key(|(rank, _)| *rank).map(|(_, id)| id)
        };
        let Some(member) = longest.and_then(|id| self.0.borrow_mut().remove(&id)) else {
            return false;
        };
        member.task.abort();
        observer(listener, Some(&member.peer), ConnectionFault::Displaced);
        true
    }
}

impl Member {
    /// How much this one should go: those that never called first, then by how long they keep us
    /// waiting. None may not go.
    fn rank(&self, now: Instant) -> Option<(bool, Duration)> {
        let waited = now.duration_since(self.waits.keeps_waiting()?);
        let may_go = waited >= GRACE || !self.waits.is_in_a_call();
        let mute = waited >= FIRST_CALL && self.waits.never_called();
        may_go.then_some((mute, waited))
    }
}
