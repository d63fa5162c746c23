//! Raw bytes against a real listener.
use std::{
    future::pending,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use http_body_util::BodyExt;

use super::{
    ConnectionFault, ListenAddress, MAX_CONNECTIONS, Patience, PeerAddr,
    accept::{BindError, Bound},
    rig::{HANG, Rig, Setting, receive, text},
};
use crate::upstream::collect_request;

const GET: &str = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A rig that echoes path and body, and a count of its calls.
fn echo(setting: &Setting) -> (Rig, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let rig = Rig::start(setting, move |_| {
        let counted = Arc::clone(&counted);
        super::rig::Func(move |_, request: http::Request<hyper::body::Incoming>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                let path = request.uri().path().to_owned();
                match collect_request(&mut request.into_body(), 1 << 20, Duration::from_secs(20))
                    .await
                {
                    Ok(body) => text(200, [path.as_bytes(), b"|", &body].concat()),
                    Err(_) => text(400, "bad body"),
                }
            }
        })
    });
    (rig, calls)
}

/// Tells when it is dropped.
struct Alarm(mpsc::Sender<&'static str>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

/// A rig whose calls never end; the channel says `called` and `dropped`.
fn endless() -> (Rig, mpsc::Receiver<&'static str>) {
    endless_for(MAX_CONNECTIONS)
}

/// The same for so many connections.
fn endless_for(max_connections: usize) -> (Rig, mpsc::Receiver<&'static str>) {
    let (sender, words) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let setting = Setting {
        max_connections,
        ..Setting::default()
    };
    let rig = Rig::start(&setting, move |_| {
        let sender = sender.lock().unwrap().clone();
        super::rig::Func(move |_, request: http::Request<hyper::body::Incoming>| {
            let sender = sender.clone();
            async move {
                let _alarm = Alarm(sender.clone());
                let _request = request;
                sender.send("called").unwrap();
                pending().await
            }
        })
    });
    (rig, words)
}

#[test]
fn two_requests_on_one_connection_are_answered_in_turn() {
    let (rig, _) = echo(&Setting::default());
    let mut agent = rig.connect();
    agent.send("POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(agent.answer().body, b"/one|hi");
    agent.send(
        "POST /two HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\n",
    );
    assert_eq!(agent.answer().body, b"/two|ho");
}

#[test]
fn requests_sent_ahead_are_answered_in_turn() {
    let (rig, calls) = echo(&Setting::default());
    let mut agent = rig.connect();
    let one = "POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    let big = "a".repeat(40_000);
    let two = format!("POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n{big}");
    agent.send([one, &two, GET, one].concat());
    assert_eq!(agent.answer().body, b"/one|hi");
    assert_eq!(agent.answer().body.len(), 5 + 40_000);
    assert_eq!(agent.answer().body, b"/a|");
    assert_eq!(agent.answer().body, b"/one|hi");
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[test]
fn an_agent_that_sends_too_much_ahead_is_cut_off() {
    let (rig, words) = endless();
    let mut agent = rig.connect();
    agent.send(GET);
    assert_eq!(receive(&words), "called");
    agent.send("a".repeat(70_000));
    assert_eq!(receive(&words), "dropped");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let (rig, _) = echo(&Setting::default());
    let mut agent = rig.connect();
    for byte in "POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\nT: v\r\n\r\n".as_bytes() {
        agent.send([*byte]);
    }
    assert_eq!(agent.answer().body, b"/one|hi");
}

#[test]
fn expect_continue_is_answered_when_the_body_is_wanted() {
    let (rig, _) = echo(&Setting::default());
    let mut agent = rig.connect();
    agent
        .send("POST /one HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(agent.head().unwrap().status(), 100);
    assert_eq!(agent.send("hi").answer().body, b"/one|hi");
}

#[test]
fn what_is_no_unambiguous_head_is_answered_400_and_is_no_call() {
    let (rig, calls) = echo(&Setting::default());
    let heads: &[&[u8]] = &[
        b"GET / HTTP/1.1\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX\x01Y: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX\xe9: a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET / HTTX/1.1\r\nHost: x\r\n\r\n",
        b"GET / http/1.1\r\nHost: x\r\n\r\n",
        b"GET /\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 0\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x2\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2 0\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 2\r\n\r\nhi",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\r\n",
    ];
    for head in heads {
        let shown = head.escape_ascii().to_string();
        let mut agent = rig.connect();
        agent.send(head);
        let answer = agent
            .message()
            .unwrap_or_else(|| panic!("no answer to {shown}"));
        assert_eq!(answer.status(), 400, "{shown}");
        assert!(agent.is_closed(), "{shown}");
        drop(agent);
        assert_eq!(rig.fault(), ConnectionFault::Parse, "{shown}");
        assert_eq!(calls.load(Ordering::SeqCst), 0, "{shown}");
    }
    // The same in pieces: the verdict does not hang on how the bytes arrive.
    for head in heads {
        let shown = head.escape_ascii().to_string();
        let mut agent = rig.connect();
        for byte in *head {
            if std::io::Write::write_all(&mut agent.stream, &[*byte]).is_err() {
                break;
            }
        }
        if let Some(answer) = agent.message() {
            assert_eq!(answer.status(), 400, "{shown}");
        }
        drop(agent);
        assert_eq!(rig.fault(), ConnectionFault::Parse, "{shown}");
        assert_eq!(calls.load(Ordering::SeqCst), 0, "{shown}");
    }
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (rig, calls) = echo(&Setting::default());
    let long = "a".repeat(100_000);
    let lines = "X: 1\r\n".repeat(101);
    for (head, status) in [
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"),
            431,
        ),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n"), 431),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 431),
    ] {
        let mut agent = rig.connect();
        assert_eq!(agent.send(head).answer().status(), status);
        assert_eq!(rig.fault(), ConnectionFault::HeaderTooLarge);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}

#[test]
fn chunk_framing_that_can_be_read_in_two_ways_ends_the_body_in_an_error() {
    let (rig, _) = echo(&Setting::default());
    let long = format!("2;{}\r\nhi\r\n", "a".repeat(300));
    for chunks in [
        "0x2\r\nhi\r\n",
        "+2\r\nhi\r\n",
        "-2\r\nhi\r\n",
        "0_2\r\nhi\r\n",
        " 2\r\nhi\r\n",
        "2 \r\nhi\r\n",
        "2\nhi\n",
        "2;a\nhi\r\n",
        "2\r\nhiXX",
        "2\r\nhi\n",
        "\r\nhi\r\n",
        "10000000000000002\r\nhi\r\n",
        "00000000000000002\r\nhi\r\n",
        "2;\u{1}\r\nhi\r\n",
        "2\rXhi\r\n",
        "0\r\nT: v\n\r\n",
        "0\r\nT: v\r\n\n",
        &long,
    ] {
        let mut agent = rig.connect();
        agent.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        agent.send(format!(
            "{chunks}0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
        ));
        let answer = agent.answer();
        assert_eq!(
            (answer.status(), &*answer.body),
            (400, &b"bad body"[..]),
            "{chunks:?}"
        );
        assert!(agent.is_closed(), "{chunks:?}");
        drop(agent);
        assert_eq!(rig.fault(), ConnectionFault::Framing, "{chunks:?}");
    }
}

#[test]
fn a_body_that_ends_early_is_no_body() {
    let (rig, _) = echo(&Setting::default());
    for head in [
        "Content-Length: 20\r\n\r\nhi",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ] {
        let mut agent = rig.connect();
        agent.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{head}"));
        agent.end_sending();
        assert!(agent.message().is_none_or(|answer| answer.status() == 400));
    }
}

#[test]
fn a_body_has_a_time() {
    let rig = Rig::answering(|| {
        |_, request: http::Request<hyper::body::Incoming>| async move {
            let mut body = request.into_body();
            let outcome = collect_request(&mut body, 100, Duration::from_millis(50)).await;
            text(400, format!("{outcome:?}"))
        }
    });
    for (body, expected) in [
        ("Content-Length: 20\r\n\r\nhi", "Err(Timeout)"),
        (
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
            "Err(Timeout)",
        ),
        ("Content-Length: 101\r\n\r\n", "Err(TooLarge)"),
        ("Transfer-Encoding: chunked\r\n\r\nff\r\n", "Err(Timeout)"),
    ] {
        let mut agent = rig.connect();
        agent.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{body}"));
        assert_eq!(String::from_utf8(agent.answer().body).unwrap(), expected);
        assert!(agent.is_closed());
    }
}

#[test]
fn a_fragment_is_not_part_of_the_path() {
    let (rig, _) = echo(&Setting::default());
    let mut agent = rig.connect();
    agent.send("GET /mcp#/../x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(agent.answer().body, b"/mcp|");
}

#[test]
fn an_agent_that_goes_away_ends_its_call() {
    let (rig, words) = endless();
    for after in ["", GET, "half of a next requ"] {
        let mut agent = rig.connect();
        agent.send(GET).send(after);
        assert_eq!(receive(&words), "called");
        drop(agent);
        assert_eq!(receive(&words), "dropped", "{after:?}");
    }
    let mut agent = rig.connect();
    agent.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(receive(&words), "called");
    agent.reset();
    assert_eq!(receive(&words), "dropped");
}

#[test]
fn a_head_that_is_not_finished_in_time_ends_the_connection() {
    let patience = Patience {
        head: Duration::from_millis(50),
        ..Patience::default()
    };
    let (rig, calls) = echo(&Setting {
        patience,
        ..Setting::default()
    });
    for start in ["G", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut agent = rig.connect();
        assert!(agent.send(start).is_closed());
        assert_eq!(rig.fault(), ConnectionFault::HeaderTimeout);
    }
    // A second head on a connection is timed like a first one.
    let mut agent = rig.connect();
    agent.send(GET).answer();
    assert!(agent.send("G").is_closed());
    assert_eq!(rig.fault(), ConnectionFault::HeaderTimeout);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn an_idle_connection_is_closed_and_is_no_fault() {
    let patience = Patience {
        idle: Duration::from_millis(50),
        ..Patience::default()
    };
    let (rig, _) = echo(&Setting {
        patience,
        ..Setting::default()
    });
    let mut agent = rig.connect();
    agent.send(GET).answer();
    assert!(agent.is_closed());
    assert!(rig.connect().is_closed());
    assert!(rig.faults.try_recv().is_err());
}

#[test]
fn an_answer_that_nobody_reads_ends() {
    let patience = Patience {
        idle: Duration::from_millis(50),
        ..Patience::default()
    };
    let setting = Setting {
        patience,
        ..Setting::default()
    };
    let rig = Rig::start(&setting, |_| {
        super::rig::Func(|_, _| async { text(200, vec![b'a'; 64 << 20]) })
    });
    let mut agent = rig.connect();
    agent.send(GET);
    assert_eq!(rig.fault(), ConnectionFault::AnswerUnread);
}

#[test]
fn an_answer_given_before_the_body_is_read_arrives() {
    let rig = Rig::answering(|| |_, _| async { text(413, "too large") });
    let mut agent = rig.connect();
    agent.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n");
    agent.send(vec![b'a'; 30_000_000]);
    assert_eq!(agent.answer().status(), 413);
}

#[test]
fn a_connection_too_many_takes_the_place_of_one_that_waits() {
    let (rig, _) = echo(&Setting {
        max_connections: 2,
        ..Setting::default()
    });
    let mut first = rig.connect();
    first.send(GET).answer();
    let mut half = rig.connect();
    half.send("GET /a HTTP/1.1\r\n");
    let mut second = rig.connect();
    second.send(GET).answer();
    assert_eq!(rig.fault(), ConnectionFault::Displaced);
    assert!(first.is_closed());
    rig.connect().send(GET).answer();
    assert_eq!(rig.fault(), ConnectionFault::Displaced);
    assert!(half.is_closed());
    second.send(GET).answer();
}

#[test]
fn a_connection_too_many_is_closed_when_all_others_are_in_a_call() {
    let (rig, words) = endless_for(1);
    let mut first = rig.connect();
    first.send(GET);
    assert_eq!(receive(&words), "called");
    assert!(rig.connect().is_closed());
    assert_eq!(rig.fault(), ConnectionFault::TooManyConnections);
    drop(first);
    assert_eq!(receive(&words), "dropped");
}

#[test]
fn connections_are_spread_over_the_workers() {
    let (sender, names) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let rig = Rig::start(
        &Setting {
            workers: 2,
            ..Setting::default()
        },
        move |_| {
            let name = std::thread::current().name().unwrap().to_owned();
            let sender = sender.lock().unwrap().clone();
            super::rig::Func(move |_, _| {
                sender.send(name.clone()).unwrap();
                async { text(200, "") }
            })
        },
    );
    let (mut one, mut two) = (rig.connect(), rig.connect());
    one.send(GET).answer();
    two.send(GET).answer();
    assert_ne!(receive(&names), receive(&names));
}

#[test]
fn a_unix_socket_knows_its_peer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let setting = Setting {
        address: format!("unix:{}", path.display()),
        ..Setting::default()
    };
    let rig = Rig::start(&setting, |_| {
        super::rig::Func(|connection: std::rc::Rc<super::Connection>, _| async move {
            text(200, format!("{:?}", connection.peer.address))
        })
    });
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let answer = rig.connect_unix().send(GET).answer();
    let uid = rustix::process::getuid().as_raw();
    let pid = i32::try_from(std::process::id()).ok();
    let expected = format!("{:?}", PeerAddr::Unix { uid, pid });
    assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    drop(rig);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let address = ListenAddress::Unix(path.clone());
    let bound = Bound::bind(&address).unwrap();
    assert!(matches!(Bound::bind(&address), Err(BindError::InUse(_))));
    drop(bound);
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(
        Bound::bind(&address),
        Err(BindError::NotASocket(_))
    ));
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

#[test]
fn a_drain_lets_a_call_end_and_closes_idle_connections() {
    let (sender, called) = mpsc::channel();
    let (finish, finished) = tokio::sync::watch::channel(false);
    let sender = std::sync::Mutex::new(sender);
    let mut rig = Rig::answering(move || {
        let sender = sender.lock().unwrap().clone();
        let finished = finished.clone();
        move |_, request| {
            let (sender, mut finished) = (sender.clone(), finished.clone());
            async move {
                sender.send(()).unwrap();
                if request.uri().path() == "/a" {
                    finished.wait_for(|f| *f).await.unwrap();
                }
                text(200, "done")
            }
        }
    });
    let (mut busy, mut idle) = (rig.connect(), rig.connect());
    idle.send("GET /quick HTTP/1.1\r\nHost: x\r\n\r\n").answer();
    busy.send(GET);
    receive(&called);
    receive(&called);
    rig.begin_drain(Duration::from_secs(20));
    assert!(idle.is_closed());
    finish.send(true).unwrap();
    assert_eq!(busy.answer().body, b"done");
    assert!(busy.is_closed());
    rig.wait();
}

#[test]
fn a_drain_cuts_a_call_that_does_not_end() {
    let (mut rig, words) = endless();
    let mut agent = rig.connect();
    agent.send(GET);
    assert_eq!(receive(&words), "called");
    rig.begin_drain(Duration::from_millis(10));
    assert_eq!(receive(&words), "dropped");
    assert!(agent.is_closed());
    rig.wait();
}

/// A computation cannot be cut; whoever stops does not wait for it.
#[test]
fn a_computation_that_does_not_end_holds_up_no_stop() {
    let (word, words) = mpsc::channel();
    let (release, hold) = mpsc::channel::<()>();
    let hold = Arc::new(Mutex::new(hold));
    let mut rig = Rig::answering(move || {
        let (word, hold) = (word.clone(), Arc::clone(&hold));
        move |_, _| {
            let (word, hold) = (word.clone(), Arc::clone(&hold));
            async move {
                let computation = tokio::task::spawn_blocking(move || {
                    word.send("computing").unwrap();
                    // Ends with the test, or when that has failed.
                    hold.lock().unwrap().recv_timeout(HANG).ok();
                    word.send("computed").ok();
                });
                computation.await.ok();
                text(200, "done")
            }
        }
    });
    let mut agent = rig.connect();
    agent.send(GET);
    assert_eq!(receive(&words), "computing");
    rig.begin_drain(Duration::ZERO);
    rig.wait();
    assert!(words.try_recv().is_err(), "it was waited for");
    assert!(agent.is_closed());
    drop(release);
}

#[test]
fn request_trailers_do_not_reach_a_collected_body() {
    let (rig, _) = echo(&Setting::default());
    let mut agent = rig.connect();
    agent.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n");
    agent.send("2\r\nhi\r\n0\r\nX: evil\r\n\r\n");
    assert_eq!(agent.answer().body, b"/|hi");
    assert_eq!(agent.send(GET).answer().body, b"/a|");
}

#[test]
fn connect_and_upgrade_are_requests_like_others() {
    let rig = Rig::answering(|| {
        |_, request: http::Request<hyper::body::Incoming>| async move {
            let method = request.method().to_string();
            drop(request.into_body().collect().await);
            text(403, method)
        }
    });
    let mut agent = rig.connect();
    agent.send("CONNECT tools.test:443 HTTP/1.1\r\nHost: tools.test:443\r\n\r\n");
    assert_eq!(agent.answer().status(), 403);
    let mut agent = rig.connect();
    agent.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(agent.answer().status(), 403);
    assert_eq!(agent.send(GET).answer().body, b"GET");
}
