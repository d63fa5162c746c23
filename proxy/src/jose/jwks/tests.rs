use std::{fs, path::Path};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::jose::{
    Algorithm,
    testing::{TestKey, document},
};

fn file(path: &Path) -> Settings {
    Settings::new("i", Location::File(path.to_owned()))
}

fn kids(source: &Source) -> Vec<String> {
    let keys = source.keys().unwrap();
    let kids = keys.keys().iter().filter_map(|key| key.kid());
    kids.map(Into::into).collect()
}

fn jwks(kids: &[&str]) -> Vec<u8> {
    let key = TestKey::new(Algorithm::EdDsa);
    document(&kids.iter().map(|kid| key.jwk(kid)).collect::<Vec<_>>())
}

#[test]
fn a_place_is_a_file_or_a_protected_url() {
    let read = |text: &str| Location::try_from(text.to_owned()).is_ok();
    for good in [
        "file:keys.json",
        "file:/etc/keys.json",
        "https://a.example/keys",
        "http://127.0.0.1:9/k",
    ] {
        assert!(read(good), "{good}");
    }
    for bad in [
        "",
        "file:",
        "keys.json",
        "/etc/keys.json",
        "http://a.example/keys",
        "ftp://a.example/k",
        "https://user:secret@a.example/k",
        "https://",
    ] {
        assert!(!read(bad), "{bad}");
    }
}

#[test]
fn a_file_that_has_no_keys_to_begin_with_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let opened = || Source::open(file(&path)).map(drop);
    assert!(matches!(opened(), Err(BadSource::Unreadable { .. })));
    fs::write(&path, "{}").unwrap();
    assert!(matches!(opened(), Err(BadSource::Set(BadSet::NotASet))));
    fs::write(&path, r#"{"keys":[]}"#).unwrap();
    assert!(matches!(opened(), Err(BadSource::NoKey)));
    fs::write(&path, " ".repeat(256 * 1024 + 1)).unwrap();
    assert!(matches!(opened(), Err(BadSource::TooLarge)));
    fs::write(&path, jwks(&["a"])).unwrap();
    assert!(opened().is_ok());
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_that_changes_is_read_again_and_a_removed_key_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    fs::write(&path, jwks(&["a", "b"])).unwrap();
    let source = Source::open(file(&path)).unwrap();
    let mut rounds = source.rounds.subscribe();
    let changes = async {
        assert_eq!(kids(&source), ["a", "b"]);
        fs::write(&path, jwks(&["b"])).unwrap();
        while kids(&source) != ["b"] {
            rounds.changed().await.unwrap();
        }
        // What cannot be read leaves the keys as they are.
        fs::write(&path, "no keys").unwrap();
        while source.status().error.is_none() {
            rounds.changed().await.unwrap();
        }
        assert_eq!(kids(&source), ["b"]);
        fs::write(&path, r#"{"keys":[]}"#).unwrap();
        while !kids(&source).is_empty() {
            rounds.changed().await.unwrap();
        }
    };
    tokio::select! {
        () = source.run() => unreachable!(),
        () = changes => {}
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_same_document_leaves_the_same_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    fs::write(&path, jwks(&["a"])).unwrap();
    let source = Source::open(file(&path)).unwrap();
    let before = source.keys().unwrap();
    source.refresh().await.unwrap();
    assert!(Arc::ptr_eq(&before, &source.keys().unwrap()));
    fs::write(&path, jwks(&["a"])).unwrap();
    source.refresh().await.unwrap();
    assert!(!Arc::ptr_eq(&before, &source.keys().unwrap()));
}

#[tokio::test(flavor = "current_thread")]
async fn keys_that_were_not_seen_for_too_long_serve_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    fs::write(&path, jwks(&["a"])).unwrap();
    let source = Source::open(file(&path)).unwrap();
    let later = |by| Instant::now() + by;
    fs::remove_file(&path).unwrap();
    assert!(source.refresh().await.is_err());
    assert!(source.keys_at(later(Duration::from_mins(59))).is_ok());
    assert_eq!(
        source.keys_at(later(Duration::from_mins(61))).map(drop),
        Err(Stale)
    );
    assert!(Source::new(file(&path)).keys().is_err());
}

/// A server that answers each request with what is said at that time, and counts them.
async fn serving(answers: Vec<Vec<u8>>) -> (Settings, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            let start = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(start.as_bytes()).await.unwrap();
            // Whoever has enough goes.
            stream.write_all(&answer).await.ok();
        }
    });
    let location = Location::try_from(url).unwrap();
    (Settings::new("i", location), server)
}

#[tokio::test(flavor = "current_thread")]
async fn an_unknown_key_is_looked_for_once_however_many_ask_and_not_again_at_once() {
    let (settings, server) = serving(vec![jwks(&["a"])]).await;
    let source = Source::open(settings).unwrap();
    assert!(source.keys().is_err());
    let asking = async {
        let ask = || source.look_again();
        tokio::join!(ask(), ask(), ask(), ask(), ask());
        assert_eq!(kids(&source), ["a"]);
        // A second request would wait for an answer that never comes.
        ask().await;
    };
    tokio::select! {
        () = source.run() => unreachable!(),
        () = asking => {}
    }
    server.await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_beyond_its_bound_is_no_set() {
    let mut endless = jwks(&["a"]);
    endless.resize(256 * 1024 + 1, b' ');
    let (settings, _server) = serving(vec![jwks(&["a"]), endless]).await;
    let source = Source::new(settings);
    source.refresh().await.unwrap();
    assert!(source.refresh().await.is_err());
    assert_eq!(kids(&source), ["a"]);
    let status = source.status();
    assert_eq!(
        (status.keys, status.refused, status.error.is_some()),
        (1, 0, true)
    );
}

#[test]
fn keys_are_read_of_a_regular_file_and_no_pipe_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jwks.json");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let refused = Source::open(file(&path)).map(drop).unwrap_err();
    assert!(matches!(refused, BadSource::Unreadable { .. }), "{refused}");
}
