//! `outrider doctor`: a running sidecar says how it stands.

use std::os::unix::fs::PermissionsExt as _;

use outrider_integration::{Setup, Sidecar};
use serde_json::Value;

use crate::support::{OUTRIDER, before, echo};

fn findings(sidecar: &Sidecar) -> (i32, Value) {
    let run = sidecar.command(&["doctor", "--json"]);
    let said = serde_json::from_str(&run.stdout);
    (run.status, said.unwrap_or_else(|_| panic!("{run:?}")))
}

fn finding<'a>(said: &'a Value, topic: &str) -> &'a Value {
    let mut all = said["findings"].as_array().unwrap().iter();
    all.find(|found| found["topic"] == topic).expect(topic)
}

#[test]
fn a_sound_sidecar_says_so_for_people_and_for_programs() {
    let server = echo();
    let sidecar = before(&server);
    let (status, said) = findings(&sidecar);
    assert_eq!((status, &said["ok"]), (0, &Value::Bool(true)), "{said}");
    for (topic, state) in [
        ("sidecar", "ok"),
        ("isolation", "warn"),
        ("identity", "ok"),
        ("policy", "ok"),
        ("state", "ok"),
        ("log", "ok"),
    ] {
        assert_eq!(finding(&said, topic)["state"], state, "{said}");
    }
    let run = sidecar.command(&["doctor"]);
    assert_eq!(run.status, 0);
    let identity = run.stdout.lines().find(|line| line.contains("identity"));
    assert!(identity.unwrap().starts_with("ok "), "{}", run.stdout);
}

#[test]
fn an_agent_whose_entry_has_expired_is_found() {
    let server = echo();
    let sidecar = Setup::new(OUTRIDER, &server)
        .data(|data| data["agents"][0]["expires"] = "2020-01-01T00:00:00Z".into())
        .start();
    let (status, said) = findings(&sidecar);
    assert_eq!((status, &said["ok"]), (1, &Value::Bool(false)));
    assert_eq!(finding(&said, "identity")["state"], "fail", "{said}");
}

#[test]
fn without_a_sidecar_the_status_is_two() {
    let setup = Setup::bare(OUTRIDER);
    setup.write();
    let run = setup.run(&["doctor", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 2, "{run:?}");
    assert!(run.stderr.contains("outrider run"), "{run:?}");
}

/// Tests that runtime, found in a directory where it is what `program` says, else where it usually is.
fn runtime(name: &str, program: Option<&str>) -> (i32, Value) {
    let mut setup = Setup::bare(OUTRIDER);
    if let Some(program) = program {
        setup.file(name, program);
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(setup.path(name), open).unwrap();
        let path = format!("{}:/usr/bin:/bin", setup.path(".").display());
        setup.environment("PATH", &path);
    }
    let run = setup.run(&["doctor", "--runtimes", "--json", "--only", name]);
    let told: Value = serde_json::from_str(&run.stdout).unwrap();
    (run.status, told["runtimes"][0].clone())
}

#[test]
fn a_runtime_is_caught_when_its_call_was_decided_and_answered() {
    let (status, curl) = runtime("curl", None);
    if curl["verdict"] == "not_found" {
        eprintln!("skipped: no curl");
        return;
    }
    assert_eq!((status, &curl["verdict"]), (0, &"caught".into()), "{curl}");
    assert!(curl["why"].is_null(), "{curl}");
}

#[test]
fn a_runtime_that_goes_round_is_not_caught_whatever_it_answers() {
    let elsewhere = "#!/bin/sh\necho 'curl 9.9.9, of somebody'\n";
    let (status, curl) = runtime("curl", Some(elsewhere));
    assert_eq!(
        (status, &curl["verdict"]),
        (1, &"not_caught".into()),
        "{curl}"
    );
    assert_eq!(curl["version"], "9.9.9");
    let why = curl["why"].as_str().unwrap();
    assert!(why.contains("answered from elsewhere"), "{why}");
    assert!(
        curl["advice"].as_str().unwrap().contains("exec --isolate"),
        "{curl}"
    );
}

#[test]
fn a_runtime_that_distrusts_the_authority_is_told_what_it_reads() {
    let distrusting = "#!/bin/sh\nunset CURL_CA_BUNDLE SSL_CERT_FILE\nexec /usr/bin/curl \"$@\"\n";
    if !std::path::Path::new("/usr/bin/curl").exists() {
        eprintln!("skipped: no curl");
        return;
    }
    let (status, curl) = runtime("curl", Some(distrusting));
    assert_eq!(
        (status, &curl["verdict"]),
        (1, &"refuses_certificate".into()),
        "{curl}"
    );
    assert!(
        curl["advice"].as_str().unwrap().contains("CURL_CA_BUNDLE"),
        "{curl}"
    );
}
