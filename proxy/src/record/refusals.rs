//! Refusals that repeat: beyond a rate, those that are alike share one line of the log.
//!
//! A flood of refusals must neither fill the disk nor slow down what is permitted. So many of a
//! kind per unit of time have lines of their own; the next opens a shared line, which bears its
//! decision ID, and those that follow within a second carry that ID and are counted. The shared
//! line is written when its second is over, or when the sidecar stops.
//!
//! Alike are refusals that an investigator would not want kept apart: see [`Likeness`].

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::entry::{Entry, Ruling};
use crate::{
    call::{DecisionId, ServiceName, ToolId},
    json::write_u64,
    limit::{Rate, Unit},
    listen::PeerAddr,
    rejection::{Code, Rejection},
};

/// For how long refusals share one line.
const WINDOW: Duration = Duration::from_secs(1);

/// So many kinds of refusals are told apart; those of more kinds have lines of their own.
const MAX_KINDS: usize = 1_024;

/// So many bytes of shared lines are held; what does not fit has a line of its own.
const MAX_HELD: usize = 4 * 1024 * 1024;

/// What makes refusals alike: who was refused what, and why. Nothing here is as long or as varied
/// as an agent likes: what it says comes in only where configuration, catalogue or policy know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Likeness {
    pub(super) listener: Arc<str>,
    pub(super) uid: Option<u32>,
    /// Issuer and ID of the task.
    pub(super) task: Option<(Arc<str>, Arc<str>)>,
    pub(super) service: Option<ServiceName>,
    pub(super) tool: Option<ToolId>,
    pub(super) method: Cow<'static, str>,
    pub(super) code: Code,
    /// The rejection's own cause.
    pub(super) cause: Cow<'static, str>,
    /// The policy's revision, the rule that decided, and the reasons.
    pub(super) revision: Option<Arc<str>>,
    pub(super) rule: String,
}

impl Likeness {
    /// Of a refusal; `None` of what passes, and of what waits for a person.
    pub(super) fn of(entry: &Entry, ruling: &Ruling) -> Option<Self> {
        let rejection = ruling.refusal.as_ref()?;
        if matches!(rejection, Rejection::ApprovalRequired(_)) {
            return None;
        }
        let facts = &entry.facts;
        let mut rule = String::new();
        if let Some(decision) = &ruling.decision {
            rule.push_str(&decision.rule);
            for reason in &decision.reasons {
                rule.push(' ');
                rule.push_str(&reason.reason);
            }
        }
        Some(Self {
            listener: Arc::clone(&entry.listener),
            uid: match entry.peer.address {
                PeerAddr::Tcp { .. } => None,
                PeerAddr::Unix { uid, .. } => Some(uid),
            },
            task: facts
                .task
                .as_ref()
                .map(|task| (Arc::clone(&task.issuer), Arc::clone(&task.id))),
            service: facts.service.clone(),
            tool: facts.tool.clone(),
            method: facts.method.clone(),
            code: rejection.code(),
            cause: rejection.cause(),
            revision: facts.revision.clone(),
            rule,
        })
    }
}

/// The refusals of late, by kind.
#[derive(Debug)]
pub(super) struct Refusals {
    rate: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kinds: HashMap<Likeness, Kind>,
    /// Bytes of the shared lines.
    held: usize,
}

/// Refusals of one kind.
#[derive(Debug)]
struct Kind {
    /// Since when they are counted.
    since: Instant,
    /// How many had lines of their own since then.
    own: u32,
    shared: Option<Shared>,
}

/// One line for many, while its second lasts.
#[derive(Debug)]
struct Shared {
    id: DecisionId,
    members: Vec<u8>,
    count: u64,
    opened: Instant,
}

/// A line that many refusals shared.
#[derive(Debug)]
pub(super) struct Counted {
    /// The decision that all of them carry.
    pub(super) id: DecisionId,
    /// The members of the line.
    pub(super) members: Vec<u8>,
    /// How many share it.
    pub(super) count: u64,
    /// From the first of them to the line's end, in milliseconds.
    pub(super) window_ms: u64,
    /// What was refused, and how.
    pub(super) likeness: Likeness,
}

impl Refusals {
    /// So many of a kind have lines of their own.
    pub(super) fn beyond(rate: Rate) -> Self {
        Self {
            rate,
            state: Mutex::default(),
        }
    }

    /// The decision whose line a refusal shares; `None` when it is to have a line of its own. The
    /// first beyond the rate opens the line: `id` and what `compose` adds.
    pub(super) fn share(
        &self,
        likeness: Likeness,
        now: Instant,
        id: DecisionId,
        compose: impl FnOnce(&mut Vec<u8>),
    ) -> Option<DecisionId> {
        let mut state = self.state();
        let State { kinds, held } = &mut *state;
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&likeness) {
            return None;
        }
        let kind = kinds.entry(likeness).or_insert_with(|| Kind::new(now));
        if let Some(shared) = &mut kind.shared {
            shared.count += 1;
            return Some(shared.id);
        }
        if kind.has_place(self.rate, now) {
            return None;
        }
        let mut members = Vec::new();
        compose(&mut members);
        if *held + members.len() > MAX_HELD {
            return None;
        }
        *held += members.len();
        kind.shared = Some(Shared {
            id,
            members,
            count: 1,
            opened: now,
        });
        Some(id)
    }

    /// Closes the shared lines whose time is over; they are to be written.
    pub(super) fn due(&self, now: Instant) -> Vec<Counted> {
        let unit = Duration::from_secs(self.rate.unit.seconds());
        let mut state = self.state();
        let closed = state.close(now, |shared| now.duration_since(shared.opened) >= WINDOW);
        state
            .kinds
            .retain(|_, kind| kind.shared.is_some() || now.duration_since(kind.since) < unit);
        closed
    }

    /// Closes all shared lines.
    pub(super) fn rest(&self, now: Instant) -> Vec<Counted> {
        self.state().close(now, |_| true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Refusals {
    fn default() -> Self {
        Self::beyond(Rate {
            count: std::num::NonZeroU32::MIN.saturating_add(99),
            unit: Unit::Second,
        })
    }
}

impl State {
    fn close(&mut self, now: Instant, due: impl Fn(&Shared) -> bool) -> Vec<Counted> {
        let held = &mut self.held;
        let lines = self.kinds.iter_mut().filter_map(|(likeness, kind)| {
            let shared = kind.shared.take_if(|shared| due(shared))?;
            *held -= shared.members.len();
            Some(shared.counted(likeness.clone(), now))
        });
        lines.collect()
    }
}

impl Kind {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            own: 0,
            shared: None,
        }
    }

    /// Takes a place for a line of its own, if there is one.
    fn has_place(&mut self, rate: Rate, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(rate.unit.seconds()) {
            *self = Self::new(now);
        }
        let has = self.own < rate.count.get();
        self.own += u32::from(has);
        has
    }
}

impl Shared {
    fn counted(self, likeness: Likeness, now: Instant) -> Counted {
        let passed = now.duration_since(self.opened).as_millis();
        let window_ms = u64::try_from(passed).unwrap_or(u64::MAX);
        let mut members = self.members;
        members.extend_from_slice(b",\"count\":");
        write_u64(self.count, &mut members);
        members.extend_from_slice(b",\"window_ms\":");
        write_u64(window_ms, &mut members);
        Counted {
            id: self.id,
            members,
            count: self.count,
            window_ms,
            likeness,
        }
    }
}
