//! `outrider doctor`: a running sidecar says how it stands.

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
