//! MCP tasks: what a service goes on working at after it has answered a call.
//!
//! A later `tasks/*` message inherits the tool and the arguments of the call that made the MCP
//! task, and is decided again with them; the name of an MCP task is no authority.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    call::ServiceName,
    protocol::Called,
    session::{LONGEST, Owner},
};

/// How many MCP tasks are remembered; then the oldest is forgotten, and asking for it refused.
const MOST: usize = 10_000;

/// Bytes of calls and names that are remembered.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The call that made an MCP task.
#[derive(Debug, Clone)]
pub struct Origin {
    /// For whom it was made.
    pub owner: Owner,
    /// What was called.
    pub call: Called,
}

/// The MCP tasks of all services.
#[derive(Debug, Default)]
pub struct Followups(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<(ServiceName, Arc<str>), Origin>,
    order: VecDeque<(ServiceName, Arc<str>)>,
    bytes: usize,
}

impl Kept {
    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front()
            && let Some(origin) = self.by_id.remove(&oldest)
        {
            self.bytes -= weight(&oldest.1, &origin);
        }
    }
}

fn weight(id: &str, origin: &Origin) -> usize {
    origin.call.bytes.saturating_add(id.len())
}

impl Followups {
    /// Remembers an MCP task; one that is known stays what it was, and one whose name is too long
    /// is not remembered.
    pub fn remember(&self, service: &ServiceName, id: &str, origin: Origin) {
        if id.len() > LONGEST {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service.clone(), Arc::<str>::from(id));
        let bytes = weight(id, &origin);
        if kept.by_id.contains_key(&key) || bytes > MOST_BYTES {
            return;
        }
        while kept.order.len() >= MOST || kept.bytes + bytes > MOST_BYTES {
            kept.forget_oldest();
        }
        kept.bytes += bytes;
        kept.order.push_back(key.clone());
        kept.by_id.insert(key, origin);
    }

    /// The call that made an MCP task, if this owner's call did.
    pub fn find(&self, service: &ServiceName, id: &str, owner: &Owner) -> Option<Origin> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = kept.by_id.get(&(service.clone(), Arc::from(id)))?;
        (origin.owner == *owner).then(|| origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> ServiceName {
        ServiceName::try_from("docs".to_owned()).unwrap()
    }

    fn origin(operation: &str) -> Origin {
        Origin {
            owner: Owner::of(None),
            call: Called {
                operation: operation.into(),
                arguments: crate::protocol::Kept::of(&outrider_policy::Value::new_object(), 1),
                bytes: 1,
            },
        }
    }

    #[test]
    fn a_task_keeps_the_call_that_made_it() {
        let followups = Followups::default();
        followups.remember(&service(), "t", origin("first"));
        followups.remember(&service(), "t", origin("second"));
        let found = followups.find(&service(), "t", &Owner::of(None)).unwrap();
        assert_eq!(&*found.call.operation, "first");
        assert!(followups.find(&service(), "u", &Owner::of(None)).is_none());
    }

    #[test]
    fn the_oldest_of_too_much_is_forgotten() {
        let followups = Followups::default();
        let known = |id: &str| followups.find(&service(), id, &Owner::of(None)).is_some();
        let large = |bytes| {
            let mut origin = origin("o");
            origin.call.bytes = bytes;
            origin
        };
        followups.remember(&service(), "a", large(MOST_BYTES / 2));
        followups.remember(&service(), "b", large(MOST_BYTES / 4));
        followups.remember(&service(), "c", large(MOST_BYTES / 2));
        assert!(!known("a") && known("b") && known("c"));
        followups.remember(&service(), "d", large(MOST_BYTES));
        assert!(!known("d") && known("b") && known("c"));
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let followups = Followups::default();
        for n in 0..=MOST {
            followups.remember(&service(), &n.to_string(), origin("o"));
        }
        assert!(followups.find(&service(), "0", &Owner::of(None)).is_none());
        assert!(followups.find(&service(), "1", &Owner::of(None)).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded_in_bytes() {
        let followups = Followups::default();
        let large = || {
            let mut large = origin("o");
            large.call.bytes = MOST_BYTES / 4;
            large
        };
        for n in 0..4 {
            followups.remember(&service(), &n.to_string(), large());
        }
        assert!(followups.find(&service(), "0", &Owner::of(None)).is_none());
        assert!(followups.find(&service(), "3", &Owner::of(None)).is_some());
        let long = "x".repeat(LONGEST + 1);
        followups.remember(&service(), &long, origin("o"));
        assert!(
            followups
                .find(&service(), &long, &Owner::of(None))
                .is_none()
        );
    }
}
