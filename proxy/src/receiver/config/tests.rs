use std::fs;

use super::*;
use crate::jose::{Algorithm, testing};

const GOOD: &str = "
transmitters:
  - issuer: https://idp.example.org
    jwks: file:keys.json
    audience: https://receiver.example.org
    push: { bearer: \"${file:bearer}\" }
listen: { address: 127.0.0.1:0 }
sidecars: [control.sock]
seen: seen.jsonl
security_log: { path: security.jsonl }
";

fn loaded(yaml: &str) -> Result<Settings, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| fs::write(directory.path().join(name), text).unwrap();
    let key = testing::TestKey::new(Algorithm::EdDsa);
    file("keys.json", &testing::document(&[key.jwk("k")]));
    file("bearer", b"0123456789abcdef\n");
    file("short", b"0123456789\n");
    file("receiver.yaml", yaml.as_bytes());
    let settings = load(&directory.path().join("receiver.yaml"), |_| None);
    settings.map_err(|problems| {
        problems
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    })
}

#[test]
fn a_receiver_of_one_transmitter_needs_ten_lines() {
    let settings = loaded(GOOD).unwrap();
    let [sender] = &settings.senders[..] else {
        panic!("one sender");
    };
    assert_eq!(&*sender.transmitter.issuer, "https://idp.example.org");
    assert_eq!(settings.listen.unwrap().path, "/events");
    assert!(matches!(settings.obeys, Obeys::Sidecars { .. }));
    assert!(!format!("{:?}", settings.senders).contains("0123456789"));
}

#[test]
fn a_fleet_remembers_by_itself() {
    let fleet = GOOD
        .replace(
            "sidecars: [control.sock]",
            "state: { store: redis://localhost }",
        )
        .replace("seen: seen.jsonl", "");
    assert!(matches!(loaded(&fleet).unwrap().obeys, Obeys::Fleet(_)));
}

#[test]
fn a_transmitter_may_be_asked_instead() {
    let poll = "poll: { url: \"https://idp.example.org/poll\", bearer: \"${file:bearer}\", interval: 1s, max_events: 5 }";
    let polled = GOOD
        .replace("push: { bearer: \"${file:bearer}\" }", poll)
        .replace("listen: { address: 127.0.0.1:0 }", "");
    let settings = loaded(&polled).unwrap();
    assert!(settings.listen.is_none() && settings.senders.is_empty());
    let polled = &settings.polled[0];
    assert_eq!((polled.interval, polled.most), (Duration::from_secs(1), 5));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_is_wrong_is_said_with_what_to_do() {
    let poll = |url: &str, rest: &str| {
        let poll = format!("poll: {{ url: \"{url}\", bearer: \"${{file:bearer}}\"{rest} }}");
        GOOD.replace("push: { bearer: \"${file:bearer}\" }", &poll)
            .replace("listen: { address: 127.0.0.1:0 }\n", "")
    };
    let with = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replace(from, to)
    };
    let again = "transmitters:
  - { issuer: https://idp.example.org, jwks: file:keys.json, audience: x, push: { bearer: \"${file:bearer}\" } }";
    for (yaml, expected) in [
        (String::new(), "is empty"),
        (format!("{GOOD}colour: red\n"), "colour"),
        (with("audience:", "colour: red\n    audience:"), "colour"),
        (
            with("    audience: https://receiver.example.org\n", ""),
            "audience",
        ),
        (
            with("issuer: https://idp.example.org", "issuer: \"\""),
            "visible characters",
        ),
        (with("transmitters:", again), "named twice"),
        (with("transmitters:", again), "give each its own"),
        (with("file:keys.json", "file:missing.json"), "`jwks`"),
        (
            with("file:keys.json", "http://idp.example.org/keys"),
            "https://",
        ),
        (with("push:", "other:"), "other"),
        (
            with("    push: { bearer: \"${file:bearer}\" }\n", ""),
            "`push` or `poll`",
        ),
        (with("${file:bearer}", "${file:missing}"), "missing"),
        (with("${file:bearer}", "${file:short}"), "openssl rand"),
        (
            with("listen: { address: 127.0.0.1:0 }\n", ""),
            "`listen` is missing",
        ),
        (with("127.0.0.1:0", "0.0.0.0:0"), "loopback"),
        (
            with("127.0.0.1:0 }", "127.0.0.1:0, path: events }"),
            "`/events`",
        ),
        (with("sidecars: [control.sock]\n", ""), "say who obeys"),
        (
            with(
                "sidecars: [control.sock]\n",
                "sidecars: [a]\nstate: { store: redis://localhost }\n",
            ),
            "say who obeys",
        ),
        (
            with("sidecars: [control.sock]\n", "state: { store: memory }\n"),
            "redis://",
        ),
        (
            with(
                "sidecars: [control.sock]\n",
                "state: { store: redis://localhost }\n",
            ),
            "`seen` is for",
        ),
        (with("seen: seen.jsonl\n", ""), "`seen` is missing"),
        (
            with("security_log: { path: security.jsonl }\n", ""),
            "security_log",
        ),
        (
            with("audience:", "max_age: 91d\n    audience:"),
            "`max_age`",
        ),
        (with("audience:", "leeway: 6m\n    audience:"), "`leeway`"),
        (
            with("audience:", "map: { session-ended: revoke }\n    audience:"),
            "session-revoked",
        ),
        (
            with("audience:", "subjects: { email: all }\n    audience:"),
            "{email}",
        ),
        (poll("http://idp.example.org/poll", ""), "https://"),
        (
            poll("https://idp.example.org/poll", ", max_events: 0"),
            "`poll.max_events`",
        ),
        (
            poll("https://idp.example.org/poll", ", ca: missing.pem"),
            "`poll.ca`",
        ),
        (
            format!(
                "{}listen: {{ address: 127.0.0.1:0 }}\n",
                poll("http://127.0.0.1/p", "")
            ),
            "leave it out",
        ),
    ] {
        let problems = loaded(&yaml).unwrap_err();
        let found = problems.iter().any(|problem| problem.contains(expected));
        assert!(found, "{expected}: {problems:?} in {yaml}");
        assert!(!problems.join("").contains("0123456789"), "{problems:?}");
    }
}
