use std::sync::Mutex;

use super::*;
use crate::{
    doctor::Doctor,
    drain::Drain,
    keys::SigningKey,
    state::Tasks,
    tag::{Signer, Ttl},
    task::State,
};
use wire::{Kind, Named, OfTask};

const NOW: i64 = 1_000_000;

struct Data;

impl Declared for Data {
    fn agent(&self) -> Arc<str> {
        "spiffe://example.org/agent/triage".into()
    }
    fn intent(&self, name: &str) -> Option<Reach> {
        let tool = |text: &str| outrider_policy::Pattern::try_from(text.to_owned()).unwrap();
        (name == "ticket.triage").then(|| Reach {
            tools: ["tickets/*", "crm/lookup"].map(tool).into_iter().collect(),
            level: outrider_policy::Level::Confidential,
        })
    }
    fn listener(&self, name: &str) -> bool {
        name == "reverse"
    }
    fn issuer(&self, name: &str) -> bool {
        name == "https://iam.example.org"
    }
    fn depth(&self) -> Depth {
        Depth::default()
    }
    fn forgets(&self) -> bool {
        false
    }
}

struct Ring(Signer);

impl Keys for Ring {
    fn kid(&self) -> String {
        self.0.kid()
    }
    fn jwks(&self, now: Timestamp) -> String {
        self.0.jwks(now)
    }
    fn next(&self) -> Result<SigningKey, String> {
        SigningKey::generate().map_err(|error| error.to_string())
    }
    fn replace(&self, key: SigningKey, now: Timestamp) {
        self.0.replace(key, &[], now);
    }
}

/// Notes in words what it sees, and how the task stood at that moment.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    broken: bool,
}

impl Log {
    fn note(&self, line: String) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.lines.lock().unwrap().push(line);
        Ok(())
    }
}

impl Observer for Log {
    fn opened(&self, task: &Task, listener: Option<&str>) -> io::Result<()> {
        let state = task.state(clock()).as_str();
        let (by, listener) = (&task.opened_by, listener.unwrap_or("-"));
        self.note(format!("opened by {by} {state} {listener}"))
    }
    fn decreed(&self, decree: &Decree, task: Option<&Task>, effect: &Effect) -> io::Result<()> {
        let state = task.map_or("-", |task| task.state(clock()).as_str());
        let edict = match &decree.edict {
            Edict::Revoke { target, .. } => format!("revoke {}", target.kind()),
            Edict::Lift { target } => format!("lift {}", target.kind()),
            Edict::Close { .. } => "close".into(),
            Edict::Suspend { .. } => "suspend".into(),
            Edict::Resume { .. } => "resume".into(),
            Edict::Trust { confidence, .. } => format!("trust {confidence}"),
        };
        let (by, why) = (&decree.by, decree.why.as_deref().unwrap_or("-"));
        self.note(format!("{edict} by {by} {state} {} {why}", effect.tasks))
    }
    fn rotated(&self, by: &str, old: &str, new: &str, why: Option<&str>) -> io::Result<()> {
        assert_ne!(old, new);
        self.note(format!("rotated by {by} {}", why.unwrap_or("-")))
    }
    fn widened(&self, by: &str, parent: &Task, widened: Widened) {
        self.note(format!("widened by {by} {} {widened:?}", parent.intent))
            .unwrap();
    }
    fn turned_away(&self, uid: u32) {
        self.note(format!("turned away {uid}")).unwrap();
    }
}

fn clock() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

fn control(log: &Log) -> Control {
    Control {
        authority: Arc::new(Authority::new(
            "spiffe://example.org/agent/triage".into(),
            Arc::new(Tasks::new("outrider:test", SigningKey::generate().unwrap())),
        )),
        store: Store::Memory,
        declared: Box::new(Data),
        keys: Box::new(Ring(Signer::new(
            SigningKey::generate().unwrap(),
            Ttl::default(),
            "spiffe://example.org/agent/triage".into(),
        ))),
        observer: Box::new(log.clone()),
        current: CurrentTasks::Permitted,
        access: Access {
            own: own_uid(),
            allow: vec![],
            peers: vec![],
        },
        clock,
        drain: Drain::new().1,
        heirs: mpsc::unbounded_channel().0,
        doctor: Doctor::default(),
    }
}

fn open() -> OpenTask {
    OpenTask {
        intent: Some("ticket.triage".into()),
        subject: None,
        tools: None,
        max_classification: None,
        calls: None,
        ttl_s: None,
        current: None,
        parent: None,
    }
}

fn ask(control: &Control, request: &Request) -> Reply {
    let mut line = serde_json::to_vec(request).unwrap();
    line.push(b'\n');
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(control.answer(1000, parse(&line)))
}

fn of(id: &str) -> OfTask {
    OfTask {
        id: id.into(),
        ..OfTask::default()
    }
}

fn revoke(kind: Kind, id: &str, reason: Option<&str>) -> Request {
    Request::Revoke {
        target: Named {
            kind,
            id: id.into(),
            issuer: None,
        },
        issued_before: None,
        reason: reason.map(Into::into),
    }
}

fn opened(control: &Control, open: OpenTask) -> (String, String) {
    match ask(control, &Request::TaskOpen(open)) {
        Reply::Opened { id, token, .. } => (id, token.expose().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_fault(reply: &Reply, expected: Fault) {
    match reply {
        Reply::Refused(refusal) => assert_eq!(refusal.fault, expected),
        other => panic!("{other:?}"),
    }
}

fn view(reply: Reply) -> TaskView {
    match reply {
        Reply::Task(view) => *view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_opened_task_acts_for_who_asked_unless_said_otherwise() {
    let control = control(&Log::default());
    let (id, token) = opened(&control, open());
    let task = control.authority.tasks.by_token(token.as_bytes()).unwrap();
    assert_eq!(*task.id, id);
    assert_eq!(&*task.subject, "uid:1000");
    assert_eq!(&*task.opened_by, "uid:1000");
    let (id, _) = opened(
        &control,
        OpenTask {
            subject: Some("user:42".into()),
            ..open()
        },
    );
    assert_eq!(
        &*control.authority.tasks.get(&id, None).unwrap().subject,
        "user:42"
    );
}

#[test]
fn what_may_not_be_opened_is_refused_and_leaves_no_task() {
    let log = Log::default();
    let control = control(&log);
    let endless = "x".repeat(513);
    for (open, fault) in [
        (
            OpenTask {
                intent: Some("nope".into()),
                ..open()
            },
            Fault::UnknownIntent,
        ),
        (
            OpenTask {
                intent: Some(String::new()),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                subject: Some(String::new()),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                subject: Some("a\r\nb".into()),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                subject: Some("a\u{1b}[2J".into()),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                subject: Some(endless),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                tools: Some(vec![]),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                tools: Some(vec!["no-slash".into()]),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                tools: Some(vec!["a/b".into(); 257]),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                ttl_s: Some(0),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                ttl_s: Some(86_401),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                ttl_s: Some(u64::MAX),
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                current: Some("nope".into()),
                ..open()
            },
            Fault::UnknownListener,
        ),
    ] {
        assert_fault(&ask(&control, &Request::TaskOpen(open)), fault);
    }
    assert!(control.authority.tasks.list().is_empty());
    assert!(log.lines.lock().unwrap().is_empty());
}

#[test]
fn binding_to_a_listener_is_off_in_production() {
    let mut control = control(&Log::default());
    let bound = || OpenTask {
        current: Some("reverse".into()),
        ..open()
    };
    let (id, _) = opened(&control, bound());
    assert_eq!(*control.authority.tasks.current("reverse").unwrap().id, id);
    control.current = CurrentTasks::Off;
    assert_fault(
        &ask(&control, &Request::TaskOpen(bound())),
        Fault::CurrentOff,
    );
    assert_eq!(*control.authority.tasks.current("reverse").unwrap().id, id);
    opened(&control, open());
}

#[test]
fn every_change_is_noted_after_it_took_effect() {
    let log = Log::default();
    let control = control(&log);
    let (a, _) = opened(
        &control,
        OpenTask {
            current: Some("reverse".into()),
            ..open()
        },
    );
    let (b, _) = opened(&control, open());
    ask(&control, &Request::TaskClose(of(&a)));
    for request in [
        Request::TaskSuspend(of(&b)),
        Request::TaskResume(of(&b)),
        Request::TaskConfidence {
            task: of(&b),
            confidence: 0.2,
        },
        revoke(Kind::Task, &b, Some("leaked")),
    ] {
        ask(&control, &request);
    }
    ask(&control, &revoke(Kind::Subject, "uid:1000", None));
    assert_eq!(
        *log.lines.lock().unwrap(),
        [
            "opened by uid:1000 active reverse",
            "opened by uid:1000 active -",
            "close by uid:1000 closed 1 -",
            "suspend by uid:1000 suspended 1 -",
            // What gives is noted before it is given.
            "resume by uid:1000 suspended 0 -",
            "trust 0.2 by uid:1000 active 0 -",
            "revoke task by uid:1000 revoked 1 leaked",
            "revoke subject by uid:1000 - 0 -",
        ]
    );
}

#[test]
fn the_reply_to_an_end_shows_the_end() {
    let control = control(&Log::default());
    let (id, token) = opened(&control, open());
    assert_eq!(
        view(ask(&control, &Request::TaskShow(of(&id)))).state,
        State::Active
    );
    let closed = view(ask(&control, &Request::TaskClose(of(&id))));
    assert_eq!(closed.state, State::Closed);
    let revoked = view(ask(&control, &revoke(Kind::Task, &id, None)));
    assert_eq!(revoked.state, State::Revoked);
    let task = control.authority.tasks.by_token(token.as_bytes()).unwrap();
    assert_eq!(task.state(clock()), State::Revoked);
}

#[test]
fn an_unknown_task_is_said_to_be_unknown() {
    let control = control(&Log::default());
    let id = "nobody";
    for request in [
        Request::TaskShow(of(id)),
        Request::TaskClose(of(id)),
        Request::TaskSuspend(of(id)),
        Request::TaskResume(of(id)),
        revoke(Kind::Task, id, None),
    ] {
        assert_fault(&ask(&control, &request), Fault::UnknownTask);
    }
}

#[test]
fn a_task_that_cannot_be_noted_is_not_given_out_and_an_end_holds_all_the_same() {
    let log = Log::default();
    let control_ok = control(&log);
    let (id, _) = opened(&control_ok, open());
    let broken = Control {
        observer: Box::new(Log {
            broken: true,
            ..Log::default()
        }),
        authority: Arc::clone(&control_ok.authority),
        ..control(&log)
    };
    let bound = OpenTask {
        current: Some("reverse".into()),
        ..open()
    };
    assert_fault(&ask(&broken, &Request::TaskOpen(bound)), Fault::Unrecorded);
    assert!(broken.authority.tasks.current("reverse").is_none());
    assert_eq!(broken.authority.tasks.counts(clock()).active, 1);
    let state = || {
        control_ok
            .authority
            .tasks
            .get(&id, None)
            .unwrap()
            .state(clock())
    };
    let close = Request::TaskClose(of(&id));
    assert_fault(&ask(&broken, &close), Fault::Unrecorded);
    assert_eq!(state(), State::Closed);
    let revoke = revoke(Kind::Task, &id, None);
    assert_fault(&ask(&broken, &revoke), Fault::Unrecorded);
    assert_eq!(state(), State::Revoked);
}

#[test]
fn a_child_reaches_no_further_than_its_parent_and_who_tries_is_noted() {
    let log = Log::default();
    let control = control(&log);
    let parent = OpenTask {
        subject: Some("user:42".into()),
        tools: Some(vec!["tickets/*".into()]),
        max_classification: Some(outrider_policy::Level::Internal),
        calls: Some(5),
        ttl_s: Some(60),
        ..open()
    };
    let (parent, _) = opened(&control, parent);
    let child = || OpenTask {
        intent: None,
        parent: Some(parent.clone()),
        ..open()
    };
    for wider in [
        OpenTask {
            subject: Some("user:1".into()),
            ..child()
        },
        OpenTask {
            tools: Some(vec!["tickets/read".into(), "crm/lookup".into()]),
            ..child()
        },
        OpenTask {
            tools: Some(vec!["*/*".into()]),
            ..child()
        },
        OpenTask {
            max_classification: Some(outrider_policy::Level::Confidential),
            ..child()
        },
        OpenTask {
            calls: Some(6),
            ..child()
        },
        OpenTask {
            ttl_s: Some(61),
            ..child()
        },
    ] {
        let reply = ask(&control, &Request::TaskOpen(wider));
        assert_fault(&reply, Fault::Widened);
    }
    let (id, token) = opened(
        &control,
        OpenTask {
            tools: Some(vec!["tickets/get_*".into()]),
            ..child()
        },
    );
    let task = control.authority.tasks.by_token(token.as_bytes()).unwrap();
    assert_eq!(
        (&*task.subject, &*task.intent),
        ("user:42", "ticket.triage")
    );
    assert_eq!(
        task.expires,
        control.authority.tasks.get(&parent, None).unwrap().expires
    );
    ask(&control, &Request::TaskClose(of(&parent)));
    let child = view(ask(&control, &Request::TaskShow(of(&id))));
    assert_eq!((child.state, child.parent), (State::Closed, Some(parent)));
    let noted = log.lines.lock().unwrap();
    let noted = noted
        .iter()
        .filter(|line| line.starts_with("widened by uid:1000"));
    assert_eq!(noted.count(), 6);
}

#[test]
fn too_deep_a_child_is_refused() {
    let control = control(&Log::default());
    let (mut last, _) = opened(&control, open());
    for _ in 0..Depth::default().get() {
        let child = OpenTask {
            parent: Some(last),
            ..open()
        };
        last = opened(&control, child).0;
    }
    let child = OpenTask {
        parent: Some(last),
        ..open()
    };
    assert_fault(&ask(&control, &Request::TaskOpen(child)), Fault::Malformed);
}

#[test]
fn a_task_in_which_trust_is_lost_stops_and_goes_on_only_once_it_is_regained() {
    let control = control(&Log::default());
    let least = crate::task::Confidence::try_from(0.5).unwrap();
    control.authority.least_confidence(Some(least));
    let (id, _) = opened(&control, open());
    let trust = |confidence| {
        let task = of(&id);
        view(ask(&control, &Request::TaskConfidence { task, confidence })).state
    };
    let resume = || ask(&control, &Request::TaskResume(of(&id)));
    assert_eq!(trust(0.5), State::Active);
    assert_eq!(trust(0.49), State::Suspended);
    assert_fault(&resume(), Fault::Malformed);
    assert_eq!(trust(0.9), State::Suspended);
    assert_eq!(view(resume()).state, State::Active);
    ask(&control, &Request::TaskClose(of(&id)));
    assert_fault(&resume(), Fault::Malformed);
}

#[test]
fn who_is_revoked_opens_nothing_until_that_is_lifted_and_what_ended_stays_ended() {
    let control = control(&Log::default());
    for (kind, id) in [
        (Kind::Subject, "uid:1000"),
        (Kind::Agent, "spiffe://example.org/agent/triage"),
    ] {
        let (old, _) = opened(&control, open());
        let reply = ask(&control, &revoke(kind, id, Some("leaked")));
        assert!(
            matches!(&reply, Reply::Done(done) if done.tasks >= 1),
            "{reply:?}"
        );
        let reply = ask(&control, &Request::TaskOpen(open()));
        assert_fault(&reply, Fault::Unavailable);
        let reply = ask(&control, &Request::Revocations {});
        assert!(matches!(&reply, Reply::Revocations(all) if all.len() == 1));
        let target = Named {
            kind,
            id: id.into(),
            issuer: None,
        };
        let lift = Request::Lift {
            target,
            reason: None,
        };
        assert!(matches!(ask(&control, &lift), Reply::Done(_)));
        assert_fault(&ask(&control, &lift), Fault::NotRevoked);
        opened(&control, open());
        let old = view(ask(&control, &Request::TaskShow(of(&old))));
        assert_eq!(old.state, State::Revoked);
    }
}

#[test]
fn a_token_and_a_key_are_revoked_by_their_ids_and_an_issuer_must_be_known() {
    let control = control(&Log::default());
    let (id, _) = opened(&control, open());
    let task = control.authority.tasks.get(&id, None).unwrap();
    let (other, _) = opened(&control, open());
    let reply = ask(&control, &revoke(Kind::Token, &task.token_id, None));
    assert!(matches!(reply, Reply::Done(done) if done.tasks == 1));
    assert_eq!(task.state(clock()), State::Revoked);
    let other = control.authority.tasks.get(&other, None).unwrap();
    assert_eq!(other.state(clock()), State::Active);
    let mut named = Named {
        kind: Kind::Key,
        id: other.key.to_string(),
        issuer: Some("https://elsewhere.example.org".into()),
    };
    let revoke = |target| Request::Revoke {
        target,
        issued_before: None,
        reason: None,
    };
    assert_fault(&ask(&control, &revoke(named.clone())), Fault::Malformed);
    named.issuer = Some("outrider:test".into());
    assert!(matches!(ask(&control, &revoke(named)), Reply::Done(done) if done.tasks == 1));
    assert_eq!(other.state(clock()), State::Revoked);
}

#[test]
fn lists_and_views_never_hold_a_token() {
    let control = control(&Log::default());
    let (_, token) = opened(&control, open());
    let list = serde_json::to_string(&ask(&control, &Request::TaskList {})).unwrap();
    assert!(!list.contains(&token));
    assert!(!list.contains("eyJ"));
    let reply = ask(&control, &Request::TaskOpen(open()));
    assert!(!format!("{reply:?}").contains("eyJ"));
}

#[test]
fn what_is_no_request_is_refused() {
    let control = control(&Log::default());
    for line in [
        &b""[..],
        b"\n",
        b"{}\n",
        b"{\"task_list\":{}}",
        b"{\"task_list\":{},\"task_show\":{\"id\":\"x\"}}\n",
        b"{\"task_list\":{\"x\":1}}\n",
        b"{\"task_show\":{}}\n",
        b"{\"drop_everything\":{}}\n",
        b"{\"revoke\":{\"target\":{\"kind\":\"agent\",\"id\":\"x\"},\"reason\":null,\"force\":true}}\n",
        b"\xff\n",
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reply = runtime.block_on(control.answer(0, parse(line)));
        assert_fault(&reply, Fault::Malformed);
    }
}

/// Serves on a real socket, runs `client` beside it, and stops.
async fn served<T: Send + 'static>(
    control: Control,
    client: impl FnOnce(std::path::PathBuf) -> T + Send + 'static,
) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let config = Config {
        socket: path.clone(),
        group: None,
        allow: vec![],
    };
    let socket = Socket::bind(&config).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async { stopped.await.unwrap() };
    let server = tokio::spawn(Arc::new(control).serve(socket, stopped));
    let at = path.clone();
    let result = tokio::task::spawn_blocking(move || client(at))
        .await
        .unwrap();
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(!path.exists(), "the socket's file stays behind");
    result
}

#[tokio::test(flavor = "current_thread")]
async fn a_task_is_opened_over_the_socket_for_the_user_the_kernel_names() {
    let control = control(&Log::default());
    let tasks = Arc::clone(&control.authority.tasks);
    let reply = served(control, |at| {
        client::ask(&at, &Request::TaskOpen(open())).unwrap()
    })
    .await;
    let Reply::Opened { token, .. } = reply else {
        panic!("{reply:?}")
    };
    let task = tasks.by_token(token.expose().as_bytes()).unwrap();
    assert_eq!(*task.subject, format!("uid:{}", own_uid()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_user_of_an_agent_is_turned_away_and_noted() {
    let log = Log::default();
    let mut control = control(&log);
    control.access.peers = vec![own_uid()];
    let tasks = Arc::clone(&control.authority.tasks);
    let reply = served(control, |at| {
        client::ask(&at, &Request::TaskOpen(open())).unwrap()
    })
    .await;
    assert_fault(&reply, Fault::NotAllowed);
    assert!(tasks.list().is_empty());
    assert_eq!(
        *log.lines.lock().unwrap(),
        [format!("turned away {}", own_uid())]
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_without_end_is_refused_and_others_are_served_meanwhile() {
    use std::io::{Read, Write};
    let replies = served(control(&Log::default()), |at| {
        let _silent = std::os::unix::net::UnixStream::connect(&at).unwrap();
        let mut endless = std::os::unix::net::UnixStream::connect(&at).unwrap();
        endless
            .write_all(&vec![b' '; usize::try_from(LONGEST_REQUEST).unwrap()])
            .unwrap();
        let mut answer = String::new();
        endless.read_to_string(&mut answer).unwrap();
        (answer, client::ask(&at, &Request::TaskList {}).unwrap())
    })
    .await;
    assert!(replies.0.contains("malformed"), "{}", replies.0);
    assert!(matches!(replies.1, Reply::Tasks(tasks) if tasks.is_empty()));
}

#[test]
fn where_no_sidecar_is_the_client_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = client::ask(&dir.path().join("none"), &Request::TaskList {}).unwrap_err();
    assert!(matches!(error, client::NoAnswer::NoSidecar(_)));
    assert!(error.to_string().contains("outrider run"));
}

async fn rotate(control: &Control) -> Reply {
    let reason = Some("yearly".to_owned());
    let request = Request::RotateKeys { reason };
    control.answer(own_uid(), Ok(request)).await
}

#[tokio::test(flavor = "current_thread")]
async fn a_key_follows_another_and_both_are_shown_with_the_new_one_named() {
    let log = Log::default();
    let control = control(&log);
    let old = control.keys.kid();
    let Reply::Keys(keys) = rotate(&control).await else {
        panic!("not rotated");
    };
    assert_ne!(keys.kid, old);
    assert_eq!(keys.kid, control.keys.kid());
    assert_eq!(keys.jwks["keys"][0]["kid"], keys.kid);
    assert_eq!(keys.jwks["keys"][1]["kid"], old);
    let noted = format!("rotated by uid:{} yearly", own_uid());
    assert_eq!(*log.lines.lock().unwrap(), [noted]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_rotation_that_cannot_be_noted_changes_nothing() {
    let log = Log {
        broken: true,
        ..Log::default()
    };
    let control = control(&log);
    let old = control.keys.kid();
    let Reply::Refused(refusal) = rotate(&control).await else {
        panic!("rotated");
    };
    assert_eq!(refusal.fault, Fault::Unrecorded);
    assert_eq!(control.keys.kid(), old);
}
