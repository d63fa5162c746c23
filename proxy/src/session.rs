//! Sessions of legacy MCP (2025-03-26 to 2025-11-25): whose they are, and what is outstanding in
//! them.
//!
//! A session is a name that its service gave, and no authority: it belongs to the subject and task
//! of its `initialize`, and nobody else finds it. Both directions are remembered, so that an answer
//! is only ever passed on to a question that passed before it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{call::ServiceName, task::Task};

/// How many sessions are remembered; then the oldest gives way, and its agent starts anew.
const MOST_SESSIONS: usize = 10_000;

/// How many messages of one session and direction may be unanswered.
const MOST_OUTSTANDING: usize = 1024;

/// Bytes that the unanswered messages of one session may take.
const MOST_BYTES: usize = 256 * 1024;

/// Bytes that those of all sessions may take.
const MOST_BYTES_OF_ALL: usize = 16 * 1024 * 1024;

/// What a message takes beside its own bytes.
const OVERHEAD: usize = 64;

/// Bytes of a name that is remembered: of a session, or of a message in it.
pub(crate) const LONGEST: usize = 512;

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Who vouches for the task: the ID is unique only there.
    issuer: Arc<str>,
    subject: Arc<str>,
    task: Option<Arc<str>>,
}

impl Owner {
    /// Issuer, subject and ID of a task, or nobody's.
    pub fn of(task: Option<&Task>) -> Self {
        Self {
            issuer: task.map_or_else(|| "".into(), |task| Arc::clone(&task.issuer)),
            subject: task.map_or_else(|| "".into(), |task| Arc::clone(&task.subject)),
            task: task.map(|task| Arc::clone(&task.id)),
        }
    }
}

/// Which lists change under the agent, of those it wants to hear about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Tools.
    pub tools: bool,
    /// Prompts.
    pub prompts: bool,
    /// Resources.
    pub resources: bool,
}

/// Holds what is remembered to its bounds.
#[derive(Debug)]
struct Scale {
    own: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Scale {
    fn put(&self, bytes: usize) -> bool {
        let fits = |count: &AtomicUsize, most: usize| {
            let sum = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= most);
            count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum)
                .is_ok()
        };
        if !fits(&self.own, MOST_BYTES) {
            return false;
        }
        let fit = fits(&self.all, MOST_BYTES_OF_ALL);
        if !fit {
            self.own.fetch_sub(bytes, Ordering::Relaxed);
        }
        fit
    }

    fn take(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Scale {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

/// A request of the agent: what its answer is held against, nothing where its ID was used again
/// before it was answered.
#[derive(Debug)]
struct Unanswered<F> {
    form: Option<F>,
    bytes: usize,
}

/// One session.
#[derive(Debug)]
pub struct Session<F> {
    id: Arc<str>,
    owner: Owner,
    changes: OnceLock<Changes>,
    /// Requests of the agent by ID.
    unanswered: Mutex<HashMap<Arc<str>, Unanswered<F>>>,
    /// IDs of requests of the service.
    asked: Mutex<HashSet<Arc<str>>>,
    scale: Scale,
    opened: u64,
}

impl<F: Clone> Session<F> {
    fn new(id: &str, owner: Owner, all: &Arc<AtomicUsize>, opened: u64) -> Self {
        Self {
            id: id.into(),
            owner,
            changes: OnceLock::new(),
            unanswered: Mutex::default(),
            asked: Mutex::default(),
            scale: Scale {
                own: AtomicUsize::new(0),
                all: Arc::clone(all),
            },
            opened,
        }
    }

    /// The name that its service gave it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Which lists the service said to change.
    pub fn changes(&self) -> Changes {
        self.changes.get().copied().unwrap_or_default()
    }

    /// Keeps what `initialize` settled; only the first answer does.
    pub fn settle(&self, changes: Changes) {
        self.changes.get_or_init(|| changes);
    }

    /// A request of the agent is on its way, remembered with so many bytes. One of many, or with a
    /// long name, is not remembered: its answer can then not be resumed. Nor can that of one with the
    /// ID of another: which of the two an answer on the session's stream is for, nobody could tell.
    pub fn ask(&self, id: &Arc<str>, form: F, bytes: usize) {
        if id.len() > LONGEST {
            return;
        }
        let mut unanswered = lock(&self.unanswered);
        if let Some(twice) = unanswered.get_mut(id) {
            twice.form = None;
            return;
        }
        let bytes = bytes.saturating_add(id.len()).saturating_add(OVERHEAD);
        if unanswered.len() < MOST_OUTSTANDING && self.scale.put(bytes) {
            let form = Some(form);
            unanswered.insert(Arc::clone(id), Unanswered { form, bytes });
        }
    }

    /// What the answer to an unanswered request is held against.
    pub fn unanswered(&self, id: &str) -> Option<F> {
        lock(&self.unanswered).get(id)?.form.clone()
    }

    /// A request of the agent was answered. What is known of an ID that came twice stays.
    pub fn answered(&self, id: &str) {
        let mut unanswered = lock(&self.unanswered);
        if unanswered.get(id).is_some_and(|known| known.form.is_some())
            && let Some(known) = unanswered.remove(id)
        {
            self.scale.take(known.bytes);
        }
    }

    /// A request of the service passes to the agent; false when too many are open, or its name is
    /// too long.
    pub fn asks(&self, id: Arc<str>) -> bool {
        if id.len() > LONGEST {
            return false;
        }
        let mut asked = lock(&self.asked);
        if asked.contains(&id) {
            return true;
        }
        let room = asked.len() < MOST_OUTSTANDING && self.scale.put(id.len() + OVERHEAD);
        if room {
            asked.insert(id);
        }
        room
    }

    /// The agent answers a request of the service; false when there is none, or it was answered.
    pub fn answers(&self, id: &str) -> bool {
        let known = lock(&self.asked).remove(id);
        if known {
            self.scale.take(id.len() + OVERHEAD);
        }
        known
    }
}

/// A session's name among those of all services.
type Name = (ServiceName, Arc<str>);

/// The sessions of all services.
#[derive(Debug)]
pub struct Sessions<F> {
    by_id: Mutex<HashMap<Name, Arc<Session<F>>>>,
    bytes: Arc<AtomicUsize>,
    next: AtomicU64,
}

impl<F> Default for Sessions<F> {
    fn default() -> Self {
        Self {
            by_id: Mutex::default(),
            bytes: Arc::default(),
            next: AtomicU64::default(),
        }
    }
}

impl<F: Clone> Sessions<F> {
    /// Opens a session under the name that its service gives; none for a name that is no visible
    /// ASCII, is too long, or is somebody's already.
    pub fn open(&self, service: &ServiceName, id: &str, owner: Owner) -> Option<Arc<Session<F>>> {
        let visible = id.bytes().all(|byte| byte.is_ascii_graphic());
        if id.is_empty() || id.len() > LONGEST || !visible {
            return None;
        }
        let mut by_id = lock(&self.by_id);
        let key = (service.clone(), Arc::from(id));
        if by_id.get(&key).is_some_and(|known| known.owner != owner) {
            return None;
        }
        if by_id.len() >= MOST_SESSIONS {
            let oldest = by_id.iter().min_by_key(|(_, session)| session.opened);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                by_id.remove(&oldest);
            }
        }
        let opened = self.next.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session::new(id, owner, &self.bytes, opened));
        by_id.insert(key, Arc::clone(&session));
        Some(session)
    }

    /// The session of that name, if it is this owner's.
    pub fn find(&self, service: &ServiceName, id: &str, owner: &Owner) -> Option<Arc<Session<F>>> {
        let by_id = lock(&self.by_id);
        let session = by_id.get(&(service.clone(), Arc::from(id)))?;
        (session.owner == *owner).then(|| Arc::clone(session))
    }

    /// Forgets a session that has ended.
    pub fn close(&self, service: &ServiceName, id: &str) {
        lock(&self.by_id).remove(&(service.clone(), Arc::from(id)));
    }
}

/// Nothing panics while it holds one of these locks, and each change is whole before it is given
/// back; a poisoned lock therefore guards good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        ServiceName::try_from(name.to_owned()).unwrap()
    }

    fn owner(task: &str) -> Owner {
        Owner {
            issuer: "outrider:test".into(),
            subject: "uid:1".into(),
            task: Some(task.into()),
        }
    }

    fn session<F: Clone>() -> Session<F> {
        Session::new("s", owner("t"), &Arc::default(), 0)
    }

    #[test]
    fn what_is_remembered_is_bounded_and_given_back() {
        let sessions = Sessions::<()>::default();
        let open = |name: &str| sessions.open(&service("a"), name, owner("t1")).unwrap();
        let (first, second) = (open("s1"), open("s2"));
        first.ask(&"1".into(), (), MOST_BYTES);
        assert!(first.unanswered("1").is_none());
        first.ask(&"1".into(), (), MOST_BYTES - OVERHEAD - 1);
        assert!(first.unanswered("1").is_some());
        assert!(!first.asks("2".into()));
        assert!(second.asks("2".into()), "the other has its own room");
        first.answered("1");
        assert!(first.asks("2".into()) && first.answers("2"));
        assert!(second.answers("2"));
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 0);
        second.ask(&"3".into(), (), 100);
        drop(second);
        sessions.close(&service("a"), "s2");
        assert_eq!(sessions.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_session_is_found_by_its_owner_at_its_service_and_by_nobody_else() {
        let sessions = Sessions::<()>::default();
        assert!(sessions.open(&service("a"), "s1", owner("t1")).is_some());
        assert!(sessions.find(&service("a"), "s1", &owner("t1")).is_some());
        assert!(sessions.find(&service("a"), "s1", &owner("t2")).is_none());
        assert!(sessions.find(&service("b"), "s1", &owner("t1")).is_none());
        assert!(sessions.find(&service("a"), "s2", &owner("t1")).is_none());
        sessions.close(&service("a"), "s1");
        assert!(sessions.find(&service("a"), "s1", &owner("t1")).is_none());
    }

    #[test]
    fn a_service_cannot_give_one_task_the_session_of_another() {
        let sessions = Sessions::<()>::default();
        assert!(sessions.open(&service("a"), "s1", owner("t1")).is_some());
        assert!(sessions.open(&service("a"), "s1", owner("t2")).is_none());
        assert!(sessions.find(&service("a"), "s1", &owner("t1")).is_some());
    }

    #[test]
    fn a_name_that_is_no_header_value_opens_nothing() {
        let sessions = Sessions::<()>::default();
        let long = "x".repeat(LONGEST + 1);
        for id in ["", " ", "a b", "a\n", "é", long.as_str()] {
            assert!(
                sessions.open(&service("a"), id, owner("t1")).is_none(),
                "{id:?}"
            );
        }
    }

    #[test]
    fn the_oldest_of_too_many_sessions_gives_way() {
        let sessions = Sessions::<()>::default();
        for n in 0..=MOST_SESSIONS {
            sessions.open(&service("a"), &n.to_string(), owner("t1"));
        }
        assert!(sessions.find(&service("a"), "0", &owner("t1")).is_none());
        assert!(sessions.find(&service("a"), "1", &owner("t1")).is_some());
    }

    #[test]
    fn an_answer_passes_once_and_only_to_a_question_that_passed() {
        let session = session::<()>();
        assert!(!session.answers("1"));
        assert!(session.asks("1".into()));
        assert!(session.answers("1"));
        assert!(!session.answers("1"));
        session.ask(&"7".into(), (), 0);
        assert!(session.unanswered("7").is_some());
        session.answered("7");
        assert!(session.unanswered("7").is_none());
    }

    #[test]
    fn an_id_that_comes_twice_is_never_resumed() {
        let session = session::<u8>();
        session.ask(&"7".into(), 1, 0);
        session.ask(&"7".into(), 2, 0);
        assert_eq!(session.unanswered("7"), None);
        session.answered("7");
        session.ask(&"7".into(), 3, 0);
        assert_eq!(session.unanswered("7"), None);
    }

    #[test]
    fn a_long_name_is_not_remembered() {
        let session = session::<()>();
        let long: Arc<str> = "x".repeat(LONGEST + 1).into();
        session.ask(&long, (), 0);
        assert!(session.unanswered(&long).is_none());
        assert!(!session.asks(Arc::clone(&long)));
        assert!(!session.answers(&long));
    }

    #[test]
    fn neither_side_can_leave_more_than_a_bounded_number_of_questions_open() {
        let session = session::<()>();
        for n in 0..MOST_OUTSTANDING {
            assert!(session.asks(n.to_string().into()));
            session.ask(&n.to_string().into(), (), 0);
        }
        assert!(!session.asks("one more".into()));
        session.ask(&"one more".into(), (), 0);
        assert!(session.unanswered("one more").is_none());
    }
}
