//! MCP tasks: what a service goes on working at after it has answered a call.
//!
//! A later `tasks/*` message inherits the tool and the arguments of the call that made the MCP
//! task, and is decided again with them; the name of an MCP task is no authority.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use outrider_policy::Value;

use crate::{
    call::ServiceName,
    session::{LONGEST, Owner},
};

/// How many MCP tasks are remembered; then the oldest is forgotten, and asking for it refused.
const MOST: usize = 10_000;

/// Bytes of all that is remembered of their calls, as JSON text.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The call that made an MCP task.
#[derive(Debug, Clone)]
pub struct Origin {
    /// For whom it was made.
    pub owner: Owner,
    /// The operation that was called.
    pub operation: Arc<str>,
    /// With what.
    pub arguments: Value,
}

/// The MCP tasks of all services.
#[derive(Debug, Default)]
pub struct Followups(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<Name, Origin>,
    order: VecDeque<(Name, usize)>,
    bytes: usize,
}

/// The name of an MCP task among those of all services.
type Name = (ServiceName, Arc<str>);

impl Followups {
    /// Remembers an MCP task; one that is known stays what it was, and one whose name is too long
    /// is not remembered.
    pub fn remember(&self, service: &ServiceName, id: &str, origin: Origin) {
        if id.len() > LONGEST {
            return;
        }
        let size = origin
            .arguments
            .to_json_str()
            .map_or(MOST_BYTES, |text| text.len());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service.clone(), Arc::<str>::from(id));
        if kept.by_id.contains_key(&key) {
            return;
        }
        kept.order.push_back((key.clone(), size));
        kept.by_id.insert(key, origin);
        kept.bytes += size;
        while kept.order.len() > MOST || kept.bytes > MOST_BYTES {
            let Some((oldest, size)) = kept.order.pop_front() else {
                break;
            };
            kept.by_id.remove(&oldest);
            kept.bytes -= size;
        }
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
            operation: operation.into(),
            arguments: Value::new_object(),
        }
    }

    #[test]
    fn a_task_keeps_the_call_that_made_it() {
        let followups = Followups::default();
        followups.remember(&service(), "t", origin("first"));
        followups.remember(&service(), "t", origin("second"));
        let found = followups.find(&service(), "t", &Owner::of(None)).unwrap();
        assert_eq!(&*found.operation, "first");
        assert!(followups.find(&service(), "u", &Owner::of(None)).is_none());
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
        let large = || Origin {
            arguments: Value::from("x".repeat(MOST_BYTES / 4)),
            ..origin("o")
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
