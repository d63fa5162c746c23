//! A pool against upstreams that misbehave in every way, through a real listener.
use std::{
    io::Read,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header::TRANSFER_ENCODING};
use http_body_util::Either;
use hyper::body::Incoming;

use super::{
    Flaw, Pool, PoolConfig, RequestBody, TlsRoots, Uncollected, Unreachable, Upstream, collect,
    collect_request,
};
use crate::listen::{
    Connection,
    rig::{Agent, Func, RawUpstream, Rig, Setting, TestBody, receive, text},
};

const POST: &str = "POST /x?y=z HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How the rig waits for an answer's head.
const PATIENT: Duration = Duration::from_secs(20);

/// A rig that passes requests on; errors become the body of a 502.
fn proxy(upstream: &RawUpstream) -> Rig {
    proxy_with(upstream, PoolConfig::default(), PATIENT)
}

fn proxy_with(upstream: &RawUpstream, config: PoolConfig, patience: Duration) -> Rig {
    let upstream = Upstream::parse(&upstream.url()).unwrap();
    Rig::start(&Setting::default(), move |tasks| {
        let pool = Pool::new(config, TlsRoots::none().unwrap());
        tasks.background(pool.clone().keep_clean());
        let upstream = upstream.clone();
        Func(move |_: Rc<Connection>, request| {
            pass(pool.clone(), upstream.clone(), request, patience)
        })
    })
}

async fn pass(
    pool: Pool,
    upstream: Upstream,
    request: Request<Incoming>,
    patience: Duration,
) -> Response<TestBody> {
    let (mut parts, mut body) = request.into_parts();
    let streamed = parts.headers.remove("x-stream").is_some();
    let body = if streamed {
        RequestBody::Stream(body)
    } else {
        let body = collect_request(&mut body, 1 << 24, PATIENT).await.unwrap();
        RequestBody::from(body)
    };
    let request = Request::from_parts(parts, body);
    match pool.send(&upstream, request, patience).await {
        Ok(answer) => {
            let mut answer = answer.map(Either::Right);
            answer.headers_mut().remove(TRANSFER_ENCODING);
            answer
        }
        Err(error) => text(502, format!("{error:?}")),
    }
}

/// Posts once on a new connection and returns status and body.
fn post(rig: &Rig) -> (u16, String) {
    let answer = rig.connect().send(POST).answer();
    (answer.status(), String::from_utf8(answer.body).unwrap())
}

#[test]
fn calls_in_turn_share_one_upstream_connection() {
    for answer in [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
    ] {
        let upstream = RawUpstream::repeating(answer);
        let rig = proxy(&upstream);
        for _ in 0..3 {
            // Each on its own connection: the pool belongs to the worker.
            assert!(post(&rig).0 < 400, "{}", answer.escape_ascii());
        }
        assert_eq!(upstream.connections(), 1, "{}", answer.escape_ascii());
    }
}

#[test]
fn calls_at_the_same_time_have_connections_of_their_own() {
    let (sender, seen) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (sender, released) = (Mutex::new(sender), Mutex::new(released));
    let upstream = RawUpstream::start(move |_, mut agent| {
        while agent.message().is_some() {
            sender.lock().unwrap().send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
            agent.send(OK);
        }
    });
    let rig = proxy(&upstream);
    let (mut one, mut two) = (rig.connect(), rig.connect());
    one.send(POST);
    two.send(POST);
    receive(&seen);
    receive(&seen);
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!(
        (one.answer().body, two.answer().body),
        (b"ok".into(), b"ok".into())
    );
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn what_is_sent_is_what_was_given() {
    let (sender, seen) = mpsc::channel();
    let sender = Mutex::new(sender);
    let upstream = RawUpstream::start(move |_, mut agent| {
        while let Some(message) = agent.message() {
            sender.lock().unwrap().send(message).unwrap();
            agent.send(OK);
        }
    });
    let rig = proxy(&upstream);
    let big = vec![b'x'; 300_000];
    let mut agent = rig.connect();
    agent.send(POST).answer();
    agent.send("POST /big HTTP/1.1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n");
    agent.send(&big).send("\r\n0\r\nT: v\r\n\r\n").answer();
    agent.send("GET /none HTTP/1.1\r\nHost: x\r\n\r\n").answer();
    agent
        .send("POST /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .answer();
    let (small, large, none, empty) = (
        receive(&seen),
        receive(&seen),
        receive(&seen),
        receive(&seen),
    );
    assert_eq!(
        (&*small.line, &*small.body),
        ("POST /x?y=z HTTP/1.1", &b"hi"[..])
    );
    for message in [&small, &large, &none, &empty] {
        assert_eq!(message.header("host"), Some(&*upstream.address.to_string()));
        assert_eq!(message.header("transfer-encoding"), None);
    }
    assert_eq!(
        (large.header("content-length"), &large.body),
        (Some("300000"), &big)
    );
    assert_eq!(none.header("content-length"), None);
    assert_eq!(empty.header("content-length"), Some("0"));
}

#[test]
fn a_streamed_request_is_passed_on_as_it_arrives() {
    let (sender, seen) = mpsc::channel();
    let sender = Mutex::new(sender);
    let upstream = RawUpstream::start(move |_, mut agent| {
        while agent.head().is_some() {
            while let Some(chunk) = agent.chunk() {
                let last = chunk.is_empty();
                sender.lock().unwrap().send(chunk).unwrap();
                if last {
                    agent.send(OK);
                    break;
                }
            }
            assert_eq!(agent.chunk().unwrap_or_default(), b"");
        }
    });
    let rig = proxy(&upstream);
    let mut agent = rig.connect();
    agent.send("POST / HTTP/1.1\r\nHost: x\r\nX-Stream: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
    agent.send("3\r\none\r\n");
    assert_eq!(receive(&seen), b"one");
    agent.send("3\r\ntwo\r\n");
    assert_eq!(receive(&seen), b"two");
    agent.send("0\r\nX: evil\r\n\r\n");
    assert_eq!(receive(&seen), b"");
    assert_eq!(agent.answer().body, b"ok");
}

#[test]
fn an_answer_of_any_size_passes() {
    let upstream = RawUpstream::start(move |number, mut agent| {
        while agent.message().is_some() {
            let body = vec![b'y'; 1_000_000];
            if number == 0 {
                agent
                    .send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    .send(&body);
            } else {
                agent.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf4240\r\n");
                agent.send(&body).send("\r\n0\r\n\r\n");
            }
        }
    });
    let rig = proxy(&upstream);
    let (mut one, mut two) = (rig.connect(), rig.connect());
    one.send(POST);
    two.send(POST);
    assert_eq!(one.answer().body.len(), 1_000_000);
    assert_eq!(two.answer().body.len(), 1_000_000);
}

#[test]
fn an_event_passes_before_the_next_one_exists() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = RawUpstream::start(move |_, mut agent| {
        agent.message().unwrap();
        agent.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            agent.send("9\r\ndata: 1\n\n\r\n");
            released.lock().unwrap().recv().unwrap();
        }
        agent.send("0\r\n\r\n");
        agent.message();
    });
    let rig = proxy(&upstream);
    let mut agent = rig.connect();
    agent.send(POST).head().unwrap();
    for _ in 0..3 {
        assert_eq!(agent.chunk().unwrap(), b"data: 1\n\n");
        release.send(()).unwrap();
    }
    assert_eq!(agent.chunk().unwrap(), b"");
}

#[test]
fn an_abandoned_call_closes_its_upstream_connection_at_once() {
    for start in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    ] {
        let (sender, words) = mpsc::channel();
        let sender = Mutex::new(sender);
        let upstream = RawUpstream::start(move |_, mut agent| {
            agent.message().unwrap();
            agent.send(start);
            sender.lock().unwrap().send("asked").unwrap();
            // Returns when the proxy closes, and not before.
            assert_eq!(agent.stream.read(&mut [0]).unwrap_or(0), 0);
            sender.lock().unwrap().send("closed").unwrap();
        });
        let rig = proxy(&upstream);
        let mut agent = rig.connect();
        agent.send(POST);
        assert_eq!(receive(&words), "asked");
        if !start.is_empty() {
            agent.head().unwrap();
        }
        drop(agent);
        assert_eq!(receive(&words), "closed", "{start:?}");
    }
}

#[test]
fn a_connection_that_died_while_idle_costs_no_call() {
    let upstream = RawUpstream::start(move |_, mut agent| {
        agent.message().unwrap();
        agent.send(OK);
        // Closed without a word after its first answer.
    });
    let rig = proxy(&upstream);
    for _ in 0..5 {
        let (status, body) = post(&rig);
        // The close may cross with a next request that is already on its way; then and only
        // then the call fails, because nobody knows whether it was carried out.
        assert!(status == 200 || body.contains("Broken"), "{body}");
    }
}

#[test]
fn a_request_that_was_sent_is_not_sent_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let upstream = RawUpstream::start(move |_, mut agent| {
        agent.message().unwrap();
        agent.send(OK);
        if agent.message().is_some() {
            // Carried out, for all we know, and no answer.
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let rig = proxy(&upstream);
    assert_eq!(post(&rig).0, 200);
    let (status, body) = post(&rig);
    assert!(status == 502 && body.contains("Broken"), "{body}");
    assert_eq!(
        (requests.load(Ordering::SeqCst), upstream.connections()),
        (1, 1)
    );
}

#[test]
fn a_connection_is_not_used_again_after_an_answer_that_did_not_end_well() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"[..],
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let upstream = RawUpstream::repeating(answer);
        let rig = proxy(&upstream);
        for _ in 0..2 {
            assert!(!post(&rig).1.contains("evil"), "{}", answer.escape_ascii());
        }
        assert_eq!(upstream.connections(), 2, "{}", answer.escape_ascii());
    }
}

#[test]
fn a_connection_is_not_used_again_when_the_request_was_not_sent_to_its_end() {
    let upstream = RawUpstream::start(move |_, mut agent| {
        while agent.head().is_some() {
            agent.send(OK);
        }
    });
    let rig = proxy(&upstream);
    let mut agent = rig.connect();
    agent.send("POST / HTTP/1.1\r\nHost: x\r\nX-Stream: 1\r\nContent-Length: 9\r\n\r\nhi");
    assert_eq!(agent.answer().body, b"ok");
    assert_eq!(
        rig.connect()
            .send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .answer()
            .body,
        b"ok"
    );
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_none() {
    for (answer, expected) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"[..], "Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "Broken"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "Broken"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Coding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", "Coding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Coding"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "Upgrade"),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "Broken"),
        (b"\x16\x03\x01\x00\xff not http at all\r\n\r\n", "Broken"),
        (b"", "Broken"),
    ] {
        let upstream = RawUpstream::start(move |_, mut agent| {
            agent.message();
            agent.send(answer);
        });
        let (status, body) = post(&proxy(&upstream));
        assert!(status == 502 && body.contains(expected), "{}: {body}", answer.escape_ascii());
    }
    assert!(Flaw::Length.to_string().contains("length"));
}

#[test]
fn a_head_without_end_is_no_answer() {
    let upstream = RawUpstream::start(move |_, mut agent| {
        agent.message();
        agent.send("HTTP/1.1 200 OK\r\nX-A: ");
        // The proxy closes in the middle.
        drop(std::io::Write::write_all(
            &mut agent.stream,
            &vec![b'a'; 2_000_000],
        ));
    });
    let (status, body) = post(&proxy(&upstream));
    assert!(status == 502 && body.contains("Broken"), "{body}");
}

#[test]
fn interim_answers_are_dropped() {
    let upstream = RawUpstream::start(move |_, mut agent| {
        while agent.message().is_some() {
            for _ in 0..20 {
                agent.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
            }
            agent.send(OK);
        }
    });
    let rig = proxy(&upstream);
    assert_eq!(
        (post(&rig), post(&rig)),
        ((200, "ok".into()), (200, "ok".into()))
    );
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_answer_that_is_cut_short_does_not_look_complete() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n",
    ] {
        let upstream = RawUpstream::start(move |_, mut agent| {
            agent.message();
            agent.send(answer);
        });
        let rig = proxy(&upstream);
        let mut agent = rig.connect();
        agent.send(POST);
        assert_eq!(agent.message(), None, "{}", answer.escape_ascii());
    }
}

#[test]
fn silence_is_not_waited_for_forever() {
    let (sender, words) = mpsc::channel();
    let sender = Mutex::new(sender);
    let upstream = RawUpstream::start(move |_, mut agent| {
        agent.message();
        assert_eq!(agent.stream.read(&mut [0]).unwrap_or(0), 0);
        sender.lock().unwrap().send("closed").unwrap();
    });
    let rig = proxy_with(&upstream, PoolConfig::default(), Duration::from_millis(50));
    let (status, body) = post(&rig);
    assert!(status == 502 && body.contains("Timeout"), "{body}");
    assert_eq!(receive(&words), "closed");
}

#[test]
fn nobody_there_is_said_at_once() {
    let mut upstream = RawUpstream::repeating(OK);
    upstream.address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let (status, body) = post(&proxy(&upstream));
    assert!(status == 502 && body.contains("Connect"), "{body}");
}

#[test]
fn an_idle_connection_is_not_kept_forever() {
    let (sender, words) = mpsc::channel();
    let sender = Mutex::new(sender);
    let upstream = RawUpstream::start(move |_, mut agent| {
        while agent.message().is_some() {
            agent.send(OK);
        }
        sender.lock().unwrap().send("closed").unwrap();
    });
    let config = PoolConfig {
        idle: Duration::from_millis(50),
        ..PoolConfig::default()
    };
    let rig = proxy_with(&upstream, config, PATIENT);
    assert_eq!(post(&rig).0, 200);
    assert_eq!(receive(&words), "closed");
}

#[test]
fn no_more_idle_connections_are_kept_than_allowed() {
    let config = PoolConfig {
        max_idle: 0,
        ..PoolConfig::default()
    };
    let upstream = RawUpstream::repeating(OK);
    let rig = proxy_with(&upstream, config, PATIENT);
    assert_eq!((post(&rig).0, post(&rig).0), (200, 200));
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_collected_answer_is_bounded() {
    let upstream = RawUpstream::start(move |number, mut agent| {
        agent.message();
        match number {
            0 => agent.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"),
            1 => agent.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n"),
            2 => agent.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx"),
            3 => agent.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nabcde\r\n0\r\n\r\n"),
            _ => {
                agent.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx");
                return;
            }
        };
        agent.message();
    });
    let target = Upstream::parse(&upstream.url()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let get = |time: Duration| {
        runtime.block_on(async {
            let pool = Pool::new(PoolConfig::default(), TlsRoots::none().unwrap());
            let request = Request::get("/").body(RequestBody::Empty).unwrap();
            let answer = pool.send(&target, request, PATIENT).await.unwrap();
            collect(answer.into_body(), 10, time).await
        })
    };
    assert_eq!(get(PATIENT), Err(Uncollected::TooLarge));
    assert_eq!(get(PATIENT), Err(Uncollected::TooLarge));
    assert_eq!(get(Duration::from_millis(20)), Err(Uncollected::Timeout));
    assert_eq!(get(PATIENT), Ok(Bytes::from("abcdeabcde")));
    assert_eq!(get(PATIENT), Err(Uncollected::Broken));
}

#[test]
fn a_connection_known_to_be_dead_is_not_used() {
    let (sender, words) = mpsc::channel();
    let sender = Mutex::new(sender);
    let upstream = RawUpstream::start(move |_, mut agent| {
        agent.message().unwrap();
        agent.send(OK);
        drop(agent);
        sender.lock().unwrap().send("closed").unwrap();
    });
    let target = Upstream::parse(&upstream.url()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pool = Pool::new(PoolConfig::default(), TlsRoots::none().unwrap());
        for _ in 0..3 {
            let request = Request::post("/")
                .body(RequestBody::from(Bytes::from("hi")))
                .unwrap();
            let answer = pool.send(&target, request, PATIENT).await.unwrap();
            assert_eq!(
                collect(answer.into_body(), 10, PATIENT).await,
                Ok("ok".into())
            );
            assert_eq!(receive(&words), "closed");
            // Lets the runtime look at its sockets once.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(upstream.connections(), 3);
}

#[test]
fn tls_is_trusted_only_with_the_right_name_and_authority() {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let upstream = RawUpstream::start(move |_, agent| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut agent = Agent::new(rustls::StreamOwned::new(session, agent.stream));
        while let Some(message) = agent.message() {
            assert_eq!(agent.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert!(message.header("host").unwrap().starts_with("localhost:"));
            agent.send(OK);
        }
    });
    let port = upstream.address.port();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = |host: &str, roots: TlsRoots| {
        let target = Upstream::parse(&format!("https://{host}:{port}/")).unwrap();
        runtime.block_on(async {
            let pool = Pool::new(PoolConfig::default(), roots);
            let mut answers = vec![];
            for _ in 0..2 {
                let request = Request::get("/").body(RequestBody::Empty).unwrap();
                let answer = pool.send(&target, request, PATIENT).await?;
                answers.push(collect(answer.into_body(), 10, PATIENT).await.unwrap());
            }
            Ok::<_, Unreachable>(answers)
        })
    };
    let roots = TlsRoots::only([certificate]).unwrap();
    assert_eq!(ask("localhost", roots.clone()).unwrap(), ["ok", "ok"]);
    assert_eq!(upstream.connections(), 1);
    assert!(matches!(ask("127.0.0.1", roots), Err(Unreachable::Tls(_))));
    assert!(matches!(
        ask("localhost", TlsRoots::none().unwrap()),
        Err(Unreachable::Tls(_))
    ));
}

#[test]
fn an_upstream_url_is_read_once_and_strictly() {
    let good = |url: &str| {
        let upstream = Upstream::parse(url).unwrap();
        let query = upstream.query().unwrap_or("-").to_owned();
        [
            upstream.origin(),
            upstream.authority(),
            upstream.path(),
            &query,
        ]
        .join(" ")
    };
    assert_eq!(
        good("http://Tools.Test/mcp"),
        "http://tools.test tools.test /mcp -"
    );
    assert_eq!(
        good("https://tools.test:443/a/b?c=d"),
        "https://tools.test tools.test /a/b c=d"
    );
    assert_eq!(
        good("https://tools.test:80"),
        "https://tools.test:80 tools.test:80 / -"
    );
    assert_eq!(
        good("http://127.0.0.1:3001/mcp"),
        "http://127.0.0.1:3001 127.0.0.1:3001 /mcp -"
    );
    assert_eq!(
        good("http://[::1]:3001/"),
        "http://[::1]:3001 [::1]:3001 / -"
    );
    for bad in [
        "",
        "/mcp",
        "tools.test",
        "ftp://tools.test/",
        "http://",
        "http:///mcp",
        "http://user@tools.test/",
        "http://user:pw@tools.test/",
        "http://tools.test/#x",
        "http://tools.test:0/",
        "http://tools.test:70000/",
        "http://tools.test:/",
        "https://-.-/",
        "http://tools.test/ x",
        "http://tools_test /",
    ] {
        assert!(Upstream::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_error_names_the_upstream() {
    let error = Unreachable::Connect(std::io::Error::other("10.0.0.7:80"));
    assert_eq!(error.to_string(), "the upstream cannot be reached");
}
