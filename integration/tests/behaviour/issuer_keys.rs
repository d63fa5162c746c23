//! The keys of `tasks.issuers`: read again, replaced, gone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use outrider_integration::{
    IssuerKey, KeyServer, Sidecar, ToolServer, key_set, task_claims, until,
};
use serde_json::{Value, json};

use crate::{
    issuers::{ISSUER, believing, code, prepared, with_token},
    support::{Form::ToolResult, echo, hi, refused},
};

#[test]
fn a_key_that_is_taken_out_of_its_file_counts_no_longer() {
    let server = echo();
    let (old, new) = (
        IssuerKey::new("EdDSA", "old"),
        IssuerKey::new("EdDSA", "new"),
    );
    let sidecar = believing(&server, &key_set([&old]), &json!({}));
    let (first, second) = (
        old.sign(&task_claims(ISSUER, "t")),
        new.sign(&task_claims(ISSUER, "t")),
    );
    assert_eq!(code(&sidecar, &first), "ok");
    assert_eq!(code(&sidecar, &second), "task_invalid");
    let path = sidecar.path("keys.json");
    std::fs::write(&path, key_set([&old, &new]).to_string()).unwrap();
    until("the new key", || {
        (code(&sidecar, &second) == "ok").then_some(())
    });
    assert_eq!(code(&sidecar, &first), "ok");
    std::fs::write(&path, key_set([&new]).to_string()).unwrap();
    until("the end of the old key", || {
        (code(&sidecar, &first) == "task_invalid").then_some(())
    });
    assert_eq!(code(&sidecar, &second), "ok");
}

/// A server that proves to be 127.0.0.1 by the certificate that is returned.
fn secured(keys: &Value) -> (KeyServer, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let server = KeyServer::start_over(keys, move |stream| {
        let session = rustls::ServerConnection::new(Arc::clone(&config));
        let session = session.map_err(std::io::Error::other)?;
        Ok(rustls::StreamOwned::new(session, stream))
    });
    (server, made.cert.pem())
}

fn over_https(server: &ToolServer, keys: &KeyServer, ca: &str, more: &Value) -> Sidecar {
    let mut section = json!({"jwks": format!("https://{}/keys", keys.address()), "ca": "ca.pem"});
    for (key, value) in more.as_object().unwrap() {
        section[key] = value.clone();
    }
    let setup = prepared(server, &json!({}), &section);
    setup.file("ca.pem", ca);
    setup.start()
}

#[test]
fn keys_behind_https_rotate_without_a_lost_call() {
    let server = echo();
    let (old, new) = (
        IssuerKey::new("EdDSA", "old"),
        IssuerKey::new("ES256", "new"),
    );
    let (keys, ca) = secured(&key_set([&old]));
    let sidecar = over_https(&server, &keys, &ca, &json!({"refresh": "300ms"}));
    let (first, second) = (
        old.sign(&task_claims(ISSUER, "t")),
        new.sign(&task_claims(ISSUER, "t")),
    );
    // The first call waits for the keys.
    assert_eq!(code(&sidecar, &first), "ok");
    let published = |set: &Value| {
        keys.serve(set);
        let asked = keys.asked();
        // The one under way may have had the old set; one that follows another finds it taken in.
        until("the keys to be asked for", || {
            (keys.asked() > asked + 2).then_some(())
        });
    };
    let done = AtomicBool::new(false);
    let use_new = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calls = || {
            let mut calls = 0;
            while !done.load(Ordering::SeqCst) {
                let token = if use_new.load(Ordering::SeqCst) {
                    &second
                } else {
                    &first
                };
                assert_eq!(code(&sidecar, token), "ok");
                calls += 1;
            }
            calls
        };
        let running: Vec<_> = (0..3).map(|_| scope.spawn(calls)).collect();
        published(&key_set([&old, &new]));
        use_new.store(true, Ordering::SeqCst);
        // A call with the old token may still be under way.
        published(&key_set([&old, &new]));
        published(&key_set([&new]));
        done.store(true, Ordering::SeqCst);
        for calls in running {
            assert!(calls.join().unwrap() > 0);
        }
    });
    until("the end of the old key", || {
        (code(&sidecar, &first) == "task_invalid").then_some(())
    });
    assert_eq!(code(&sidecar, &second), "ok");
}

#[test]
fn keys_that_cannot_be_read_any_more_serve_until_they_are_stale() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let (keys, ca) = secured(&key_set([&key]));
    let sidecar = over_https(
        &server,
        &keys,
        &ca,
        &json!({"refresh": "200ms", "max_stale": "3s"}),
    );
    let token = key.sign(&task_claims(ISSUER, "t"));
    assert_eq!(code(&sidecar, &token), "ok");
    keys.fail(503);
    let asked = keys.asked();
    until("a failure", || (keys.asked() > asked + 1).then_some(()));
    assert_eq!(code(&sidecar, &token), "ok");
    until("the end of stale keys", || {
        (code(&sidecar, &token) == "dependency_unavailable").then_some(())
    });
    refused(
        &sidecar,
        &server,
        (ToolResult, "dependency_unavailable"),
        || with_token(&sidecar, &token).call("echo", &hi()),
    );
    keys.serve(&key_set([&key]));
    until("fresh keys", || {
        (code(&sidecar, &token) == "ok").then_some(())
    });
}

#[test]
fn keys_of_somebody_whom_nobody_vouches_for_are_none() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let (keys, _) = secured(&key_set([&key]));
    let (_, other_ca) = secured(&key_set([&key]));
    let sidecar = over_https(&server, &keys, &other_ca, &json!({}));
    let token = key.sign(&task_claims(ISSUER, "t"));
    refused(
        &sidecar,
        &server,
        (ToolResult, "dependency_unavailable"),
        || with_token(&sidecar, &token).call("echo", &hi()),
    );
    assert_eq!(keys.asked(), 0);
}
