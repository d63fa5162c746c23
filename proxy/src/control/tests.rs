use std::sync::Mutex;

use super::*;
use crate::{drain::Drain, keys::SigningKey, task::State};

const NOW: i64 = 1_000_000;

struct Data;

impl Declared for Data {
    fn agent(&self) -> Arc<str> {
        "spiffe://example.org/agent/triage".into()
    }
    fn intent(&self, name: &str) -> bool {
        name == "ticket.triage"
    }
    fn listener(&self, name: &str) -> bool {
        name == "reverse"
    }
}

/// Notes in words what it sees, and how the task stood at that moment.
#[derive(Clone, Default)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    broken: bool,
}

impl Observer for Log {
    fn changed(&self, change: &Change<'_>) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (act, state) = (change.act.as_str(), change.task.state(clock()).as_str());
        let by = change.by;
        let (listener, reason) = (change.listener.unwrap_or("-"), change.reason.unwrap_or("-"));
        self.lines
            .lock()
            .unwrap()
            .push(format!("{act} by {by} {state} {listener} {reason}"));
        Ok(())
    }
    fn turned_away(&self, uid: u32) {
        self.lines
            .lock()
            .unwrap()
            .push(format!("turned away {uid}"));
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
        tasks: Arc::new(Tasks::new("outrider:test", SigningKey::generate().unwrap())),
        declared: Box::new(Data),
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
    }
}

fn open() -> OpenTask {
    OpenTask {
        intent: "ticket.triage".into(),
        subject: None,
        tools: None,
        max_classification: None,
        calls: None,
        ttl_s: 3600,
        current: None,
    }
}

fn ask(control: &Control, request: &Request) -> Reply {
    let mut line = serde_json::to_vec(request).unwrap();
    line.push(b'\n');
    control.answer(1000, parse(&line))
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
        Reply::Task(view) => view,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_opened_task_acts_for_who_asked_unless_said_otherwise() {
    let control = control(&Log::default());
    let (id, token) = opened(&control, open());
    let task = control.tasks.by_token(token.as_bytes()).unwrap();
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
    assert_eq!(&*control.tasks.get(&id).unwrap().subject, "user:42");
}

#[test]
fn what_may_not_be_opened_is_refused_and_leaves_no_task() {
    let log = Log::default();
    let control = control(&log);
    let endless = "x".repeat(513);
    for (open, fault) in [
        (
            OpenTask {
                intent: "nope".into(),
                ..open()
            },
            Fault::UnknownIntent,
        ),
        (
            OpenTask {
                intent: String::new(),
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
        (OpenTask { ttl_s: 0, ..open() }, Fault::Malformed),
        (
            OpenTask {
                ttl_s: 86_401,
                ..open()
            },
            Fault::Malformed,
        ),
        (
            OpenTask {
                ttl_s: u64::MAX,
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
    assert!(control.tasks.list().is_empty());
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
    assert_eq!(*control.tasks.current("reverse").unwrap().id, id);
    control.current = CurrentTasks::Off;
    assert_fault(
        &ask(&control, &Request::TaskOpen(bound())),
        Fault::CurrentOff,
    );
    assert_eq!(*control.tasks.current("reverse").unwrap().id, id);
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
    ask(&control, &Request::TaskClose { id: a });
    ask(
        &control,
        &Request::RevokeTask {
            id: b,
            reason: Some("leaked".into()),
        },
    );
    assert_eq!(
        *log.lines.lock().unwrap(),
        [
            "task_opened by 1000 active reverse -",
            "task_opened by 1000 active - -",
            "task_closed by 1000 closed - -",
            "task_revoked by 1000 revoked - leaked",
        ]
    );
}

#[test]
fn the_reply_to_an_end_shows_the_end() {
    let control = control(&Log::default());
    let (id, token) = opened(&control, open());
    assert_eq!(
        view(ask(&control, &Request::TaskShow { id: id.clone() })).state,
        State::Active
    );
    let closed = view(ask(&control, &Request::TaskClose { id: id.clone() }));
    assert_eq!(closed.state, State::Closed);
    let revoked = view(ask(&control, &Request::RevokeTask { id, reason: None }));
    assert_eq!(revoked.state, State::Revoked);
    let task = control.tasks.by_token(token.as_bytes()).unwrap();
    assert_eq!(task.state(clock()), State::Revoked);
}

#[test]
fn an_unknown_task_is_said_to_be_unknown() {
    let control = control(&Log::default());
    let id = || "nobody".to_owned();
    for request in [
        Request::TaskShow { id: id() },
        Request::TaskClose { id: id() },
        Request::RevokeTask {
            id: id(),
            reason: None,
        },
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
        tasks: Arc::clone(&control_ok.tasks),
        ..control(&log)
    };
    let bound = OpenTask {
        current: Some("reverse".into()),
        ..open()
    };
    assert_fault(&ask(&broken, &Request::TaskOpen(bound)), Fault::Unrecorded);
    assert!(broken.tasks.current("reverse").is_none());
    assert_eq!(broken.tasks.counts(clock()).active, 1);
    let state = || control_ok.tasks.get(&id).unwrap().state(clock());
    let close = Request::TaskClose { id: id.clone() };
    assert_fault(&ask(&broken, &close), Fault::Unrecorded);
    assert_eq!(state(), State::Closed);
    let revoke = Request::RevokeTask {
        id: id.clone(),
        reason: None,
    };
    assert_fault(&ask(&broken, &revoke), Fault::Unrecorded);
    assert_eq!(state(), State::Revoked);
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
        b"{\"revoke_task\":{\"id\":\"x\",\"reason\":null,\"force\":true}}\n",
        b"\xff\n",
    ] {
        assert_fault(&control.answer(0, parse(line)), Fault::Malformed);
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
    let tasks = Arc::clone(&control.tasks);
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
    let tasks = Arc::clone(&control.tasks);
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
