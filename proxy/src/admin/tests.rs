use std::{net::SocketAddr, sync::Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

fn readiness(log: Check) -> Readiness {
    Readiness {
        policy: Check::Ready("r1".into()),
        identity: Check::Ready("static".into()),
        log,
        state: None,
        isolation: "uid",
    }
}

type Shared = Arc<Mutex<Readiness>>;

fn state(shared: &Shared) -> AdminState {
    let shared = Arc::clone(shared);
    AdminState {
        ready: Box::new(move || shared.lock().unwrap().clone()),
        metrics: Box::new(|accept| Page {
            content_type: "text/plain",
            text: format!("accept {accept:?}\n"),
        }),
        jwks: Some(Box::new(|| r#"{"keys":[]}"#.into())),
    }
}

/// Starts a server; it stops when the returned set is dropped.
async fn started(shared: &Shared) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, state(shared), std::future::pending()));
    (address, tasks)
}

async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = send(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn shared(log: Check) -> Shared {
    Arc::new(Mutex::new(readiness(log)))
}

#[tokio::test]
async fn every_page_is_served() {
    let (address, _server) = started(&shared(Check::Ready(String::new()))).await;
    assert_eq!(get(address, "/livez").await, (200, "live\n".into()));
    assert_eq!(get(address, "/startupz").await, (200, "started\n".into()));
    assert_eq!(
        get(address, "/.well-known/jwks.json").await,
        (200, r#"{"keys":[]}"#.into())
    );
    assert_eq!(
        get(address, "/metrics").await,
        (200, "accept None\n".into())
    );
    assert_eq!(get(address, "/").await.0, 404);
    let answer = send(
        address,
        "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: x/y\r\n\r\n",
    )
    .await;
    assert!(answer.ends_with("accept Some(\"x/y\")\n"), "{answer}");
}

#[tokio::test]
async fn readiness_follows_the_log_and_says_what_is_missing() {
    let shared = shared(Check::NotReady("cannot be written".into()));
    let (address, _server) = started(&shared).await;
    assert_eq!(get(address, "/startupz").await.0, 503);
    let (status, body) = get(address, "/readyz").await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 503);
    assert_eq!(
        body.pointer("/log"),
        Some(&serde_json::json!({"ready": false, "detail": "cannot be written"}))
    );
    assert_eq!(body.pointer("/isolation"), Some(&serde_json::json!("uid")));

    *shared.lock().unwrap() = readiness(Check::Ready(String::new()));
    assert_eq!(get(address, "/readyz").await.0, 200);
    *shared.lock().unwrap() = readiness(Check::NotReady(String::new()));
    assert_eq!(get(address, "/readyz").await.0, 503);
    assert_eq!(get(address, "/startupz").await.0, 200, "a start ends once");
    assert_eq!(get(address, "/livez").await.0, 200);
}

#[tokio::test]
async fn each_need_alone_makes_it_not_ready() {
    let missing = || Check::NotReady(String::new());
    let ready = readiness(Check::Ready(String::new()));
    assert!(ready.is_ready());
    assert!(
        !Readiness {
            policy: missing(),
            ..ready.clone()
        }
        .is_ready()
    );
    assert!(
        !Readiness {
            state: Some(missing()),
            ..ready.clone()
        }
        .is_ready()
    );
    assert!(
        !Readiness {
            identity: missing(),
            ..ready.clone()
        }
        .is_ready()
    );
    assert!(
        !Readiness {
            log: missing(),
            ..ready
        }
        .is_ready()
    );
}

#[tokio::test]
async fn only_reading_is_allowed() {
    let (address, _server) = started(&shared(Check::Ready(String::new()))).await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"] {
        let answer = send(
            address,
            &format!("{method} /metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(
            answer
                .to_ascii_lowercase()
                .contains("\r\nallow: get, head\r\n"),
            "{answer}"
        );
    }
    let answer = send(address, "HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn held_connections_do_not_keep_a_probe_out() {
    let (address, _server) = started(&shared(Check::Ready(String::new()))).await;
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 10 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(get(address, "/livez").await.0, 200);
    let mut oldest = held.swap_remove(0);
    assert_eq!(
        oldest.read(&mut [0; 1]).await.unwrap_or(0),
        0,
        "the oldest gave way"
    );
}
