//! `outrider keys`: the key that signs assertions, and the one that follows it.

use std::sync::atomic::{AtomicBool, Ordering};

use outrider_integration::{Setup, Sidecar, new_ed25519_pem, verify_with_jwks};
use serde_json::Value;

use crate::support::{OUTRIDER, echo, hi};

fn published(sidecar: &Sidecar) -> Value {
    sidecar.get("/.well-known/jwks.json").json()
}

fn kids(set: &Value) -> Vec<String> {
    let keys = set["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_key_follows_another_while_calls_run_and_every_assertion_verifies() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server).start();
    let before = kids(&published(&sidecar));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calls = || {
            let mut agent = sidecar.agent();
            while !done.load(Ordering::SeqCst) {
                assert_eq!(agent.call("echo", &hi()).tool_text(), "hi");
            }
        };
        let running: Vec<_> = (0..3).map(|_| scope.spawn(calls)).collect();
        for _ in 0..5 {
            let rotated = sidecar.command(&["keys", "rotate", "--reason", "drill"]);
            assert_eq!(rotated.status, 0, "{rotated:?}");
            assert_eq!(rotated.stdout.trim(), kids(&published(&sidecar))[0]);
        }
        done.store(true, Ordering::SeqCst);
        for calls in running {
            calls.join().unwrap();
        }
    });
    let set = published(&sidecar);
    assert_eq!(kids(&set).len(), 6);
    assert!(kids(&set).contains(&before[0]));
    let mut used = std::collections::BTreeSet::new();
    for request in server.received() {
        let token = request.head.get("outrider-assertion").unwrap().to_owned();
        used.insert(verify_with_jwks(&token, &set).header["kid"].to_string());
    }
    assert!(used.len() > 1, "{used:?}");
    let noted = sidecar.security_log();
    let rotated: Vec<_> = noted
        .iter()
        .filter(|line| line["type"] == "key_rotated")
        .collect();
    assert_eq!(rotated.len(), 5);
    assert_eq!(
        (&rotated[0]["before"], &rotated[0]["why"]),
        (&before[0].as_str().into(), &"drill".into())
    );
    let shown = sidecar.command(&["keys", "jwks"]);
    assert_eq!(serde_json::from_str::<Value>(&shown.stdout).unwrap(), set);
}

#[test]
fn a_configured_key_is_replaced_by_what_its_file_then_holds() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server)
        .config(|config| config["assertion"]["key"] = "assertion.pem".into());
    setup.file("assertion.pem", &new_ed25519_pem());
    let mut sidecar = setup.start();
    let before = kids(&published(&sidecar));
    let same = sidecar.command(&["keys", "rotate"]);
    assert_eq!(same.status, 1, "{same:?}");
    assert!(same.stderr.contains("still holds the key"), "{same:?}");
    sidecar.setup().file("assertion.pem", "nonsense");
    assert_eq!(sidecar.command(&["keys", "rotate"]).status, 1);
    assert_eq!(kids(&published(&sidecar)), before);
    sidecar.setup().file("assertion.pem", &new_ed25519_pem());
    assert_eq!(sidecar.command(&["keys", "rotate"]).status, 0);
    let after = kids(&published(&sidecar));
    assert_eq!((after.len(), &after[1]), (2, &before[0]));
    assert_ne!(after[0], before[0]);
}

#[test]
fn a_process_that_takes_over_publishes_the_keys_before_it() {
    let server = echo();
    let mut sidecar = Setup::new(OUTRIDER, &server).start();
    let mut agent = sidecar.agent();
    assert_eq!(agent.call("echo", &hi()).tool_text(), "hi");
    let before = kids(&published(&sidecar));
    sidecar.take_over().wait();
    let set = published(&sidecar);
    assert_eq!(kids(&set)[1..], before);
    let token = server.received().pop().unwrap();
    verify_with_jwks(token.head.get("outrider-assertion").unwrap(), &set);
}

#[test]
fn es256_signs_as_well_and_says_so() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .config(|config| config["assertion"]["algorithm"] = "ES256".into())
        .start();
    assert_eq!(sidecar.agent().call("echo", &hi()).tool_text(), "hi");
    let key = &published(&sidecar)["keys"][0];
    assert_eq!((&key["kty"], &key["alg"]), (&"EC".into(), &"ES256".into()));
    let token = server.received().pop().unwrap();
    let token = token.head.get("outrider-assertion").unwrap().to_owned();
    let verified = outrider_integration::verify_with_jwks(&token, &published(&sidecar));
    assert_eq!(verified.header["alg"], "ES256");
}

#[test]
fn a_key_of_another_algorithm_is_refused_at_start() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server).config(|config| {
        config["assertion"]["key"] = "assertion.pem".into();
        config["assertion"]["algorithm"] = "ES256".into();
    });
    setup.file("assertion.pem", &new_ed25519_pem());
    setup.write();
    let run = setup.run(&["run"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("assertion.algorithm"), "{run:?}");
}
