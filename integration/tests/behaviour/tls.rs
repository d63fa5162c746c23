//! `listeners[].tls`: agents call over TLS and in no other way.

use std::{io::Write as _, net::TcpStream, sync::Arc};

use outrider_integration::{Address, Request, Setup, Sidecar, ToolServer, until};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::CertificateDer,
    version::{TLS12, TLS13},
};
use serde_json::json;

use crate::support::{OUTRIDER, echo, hi};

/// A certificate of 127.0.0.1 and its key, in the sidecar's directory; the certificate alone.
fn certify(setup: &Setup) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    setup.file("key.pem", &made.signing_key.serialize_pem());
    setup.file("certificate.pem", &made.cert.pem());
    made.cert.der().clone()
}

fn secured(server: &ToolServer) -> (Sidecar, CertificateDer<'static>) {
    let setup = Setup::new(OUTRIDER, server).config(|config| {
        config["listeners"][0]["tls"] = json!({"certificate": "certificate.pem", "key": "key.pem"});
    });
    let certificate = certify(&setup);
    (setup.start(), certificate)
}

fn tcp(sidecar: &Sidecar) -> TcpStream {
    let Address::Tcp(address) = sidecar.listener("reverse") else {
        panic!("not TCP")
    };
    TcpStream::connect(address).unwrap()
}

type Session = StreamOwned<ClientConnection, TcpStream>;

/// A session with whoever proves to hold that certificate.
fn session(
    sidecar: &Sidecar,
    trusted: &CertificateDer<'static>,
    version: &'static rustls::SupportedProtocolVersion,
) -> std::io::Result<Session> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = "127.0.0.1".try_into().unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut session = StreamOwned::new(client, tcp(sidecar));
    while session.conn.is_handshaking() {
        session.conn.complete_io(&mut session.sock)?;
    }
    Ok(session)
}

/// What comes back up to the end of the connection.
fn told(mut stream: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn call(sidecar: &Sidecar) -> Vec<u8> {
    let request = Request::call("echo", &hi()).field("Connection", "close");
    sidecar.agent().bytes(&request)
}

#[test]
fn a_call_over_tls_is_served() {
    let server = echo();
    let (sidecar, certificate) = secured(&server);
    for version in [&TLS12, &TLS13] {
        let mut session = session(&sidecar, &certificate, version).unwrap();
        assert_eq!(session.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        session.write_all(&call(&sidecar)).unwrap();
        let answer = told(session);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn a_call_in_plain_text_reaches_nothing() {
    let server = echo();
    let (sidecar, _) = secured(&server);
    let mut plain = tcp(&sidecar);
    plain.write_all(&call(&sidecar)).unwrap();
    let answer = told(&plain);
    assert!(!answer.contains("HTTP/"), "{answer}");
    until("the fault to be counted", || {
        let label = ["reason=\"tls\""];
        (sidecar.metric("outrider_connection_errors_total", &label) > 0.0).then_some(())
    });
    assert_eq!(server.bytes(), 0);
    assert!(sidecar.decisions().is_empty(), "it was no call");
}

#[test]
fn a_changed_certificate_is_presented_from_the_reload_on_and_a_bad_one_never() {
    let server = echo();
    let (mut sidecar, before) = secured(&server);
    let mut kept = session(&sidecar, &before, &TLS13).unwrap();
    let failed =
        |sidecar: &Sidecar| sidecar.metric("outrider_policy_reload_total", &["result=\"failed\""]);
    let key = std::fs::read_to_string(sidecar.path("key.pem")).unwrap();
    certify(sidecar.setup());
    // The key of another certificate.
    sidecar.setup().file("key.pem", &key);
    sidecar.signal("HUP");
    until("the failed reload", || {
        (failed(&sidecar) > 0.0).then_some(())
    });
    assert!(session(&sidecar, &before, &TLS13).is_ok());

    let after = certify(sidecar.setup());
    until("the change to be noticed", || {
        session(&sidecar, &after, &TLS13).ok().map(drop)
    });
    assert!(session(&sidecar, &before, &TLS13).is_err());
    kept.write_all(&call(&sidecar)).unwrap();
    assert!(
        told(kept).starts_with("HTTP/1.1 200 "),
        "a session outlives its certificate"
    );
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_by_check() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server).config(|config| {
        config["listeners"][0]["tls"] = json!({"certificate": "certificate.pem", "key": "key.pem"});
    });
    setup.write();
    for (certificate, word) in [("", "BEGIN CERTIFICATE"), ("\n", "BEGIN CERTIFICATE")] {
        certify(&setup);
        setup.file("certificate.pem", certificate);
        let run = setup.run(&["check"]);
        assert_eq!(run.status, 1, "{run:?}");
        assert!(run.stdout.contains(word), "{run:?}");
    }
    certify(&setup);
    setup.file("key.pem", "nothing");
    let run = setup.run(&["check"]);
    assert!(run.stdout.contains("BEGIN PRIVATE KEY"), "{run:?}");
    let run = setup.run(&["run"]);
    assert_eq!(run.status, 2, "{run:?}");
}
