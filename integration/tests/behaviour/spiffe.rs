//! `identity: { source: spiffe }`: the agent is who the Workload API says, for as long as it says so.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use outrider_integration::{
    Authority, Claims, Leaf, Made, Setup, Sidecar, Svids, ToolServer, WorkloadApi, until,
    verify_with_jwks,
};
use serde_json::json;

use crate::support::{Form, OUTRIDER, check_record, echo, hi, refused};

/// The agent of every setup.
pub(crate) const AGENT: &str = "spiffe://example.org/agent/test";
const OTHER: &str = "spiffe://example.org/agent/other";
const INVALID: (Form, &str) = (Form::Problem(401), "identity_invalid");
const MISSING: (Form, &str) = (Form::Problem(401), "identity_missing");

/// A setup whose agent is proved by that Workload API.
pub(crate) fn proved(setup: Setup, api: &WorkloadApi) -> Setup {
    setup.config(|config| {
        config["identity"] = json!({"source": "spiffe", "socket": api.endpoint()});
    })
}

/// A Workload API in the setup's directory.
pub(crate) fn api(setup: &Setup) -> WorkloadApi {
    WorkloadApi::start(&setup.path("workload.sock"))
}

/// An SVID of the agent and what the Workload API says of it.
pub(crate) fn svid(authority: &Authority, ttl: Duration) -> (Made, Svids) {
    let made = authority.sign(&Leaf::svid(AGENT).lasting(ttl));
    let svids = Svids::none().with(AGENT, &made, &authority.der());
    (made, svids)
}

const HOUR: Duration = Duration::from_hours(1);

fn start(server: &ToolServer) -> (Sidecar, WorkloadApi) {
    let setup = Setup::new(OUTRIDER, server);
    let api = api(&setup);
    (proved(setup, &api).start(), api)
}

fn readiness(sidecar: &Sidecar) -> (u16, String) {
    let answer = sidecar.get("/readyz");
    let detail = answer.json()["identity"]["detail"].to_string();
    (answer.status, detail)
}

pub(crate) fn until_ready(sidecar: &Sidecar) {
    until("the identity to be obtained", || {
        (readiness(sidecar).0 == 200).then_some(())
    });
}

fn until_lost(sidecar: &Sidecar) -> String {
    until("the identity to be gone", || {
        let (status, detail) = readiness(sidecar);
        (status == 503).then_some(detail)
    })
}

#[test]
fn until_the_agents_identity_is_there_calls_reach_nothing() {
    let server = echo();
    let (sidecar, api) = start(&server);
    let detail = until("the Workload API to be asked", || {
        let (status, detail) = readiness(&sidecar);
        assert_eq!(status, 503);
        detail.contains("issues no identity").then_some(detail)
    });
    assert!(detail.contains("spiffe: not obtained"), "{detail}");
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, MISSING, || agent.call("echo", &hi()));

    api.give(&svid(&Authority::new(), HOUR).1);
    until_ready(&sidecar);
    assert!(agent.call("echo", &hi()).is_tool_success());
    assert_eq!(api.bare(), 0, "each request says that it is meant");
    let line = sidecar.decisions().pop().unwrap();
    assert_eq!(line["input"]["agent"]["attested_by"], "spiffe", "{line}");
    let kinds = || -> Vec<_> {
        let events = sidecar.security_log().into_iter();
        events.map(|event| event["type"].clone()).collect()
    };
    until("the event", || {
        kinds().contains(&json!("identity_obtained")).then_some(())
    });
}

#[test]
fn of_several_svids_the_agents_own_counts_and_another_is_none() {
    let server = echo();
    let (sidecar, api) = start(&server);
    let authority = Authority::new();
    let other = authority.sign(&Leaf::svid(OTHER));
    let others = Svids::none().with(OTHER, &other, &authority.der());
    api.give(&others);
    let detail = until("the answer to be seen", || {
        let (_, detail) = readiness(&sidecar);
        detail.contains("other IDs").then_some(detail)
    });
    assert!(detail.contains("agent.id"), "{detail}");
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));

    let own = authority.sign(&Leaf::svid(AGENT));
    api.give(&others.with(AGENT, &own, &authority.der()));
    until_ready(&sidecar);
    assert!(agent.call("echo", &hi()).is_tool_success());
    // What is no longer in the whole is no longer used.
    api.give(&Svids::none().with(OTHER, &other, &authority.der()));
    until_lost(&sidecar);
    refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));
}

#[test]
fn an_svid_that_is_taken_back_is_not_used_any_more_and_one_that_comes_back_is() {
    let server = echo();
    let (sidecar, api) = start(&server);
    let authority = Authority::new();
    api.give(&svid(&authority, HOUR).1);
    until_ready(&sidecar);
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());

    api.deny();
    let detail = until_lost(&sidecar);
    assert!(detail.contains("spiffe: lost"), "{detail}");
    refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));
    let lost = until("the event", || {
        let mut events = sidecar.security_log().into_iter();
        events.find(|event| event["type"] == "identity_lost")
    });
    assert_eq!(lost["source"], "spiffe", "{lost}");

    api.give(&svid(&authority, HOUR).1);
    until_ready(&sidecar);
    assert!(agent.call("echo", &hi()).is_tool_success());
    check_record(&sidecar);
}

#[test]
fn an_endpoint_that_is_away_takes_nothing_until_the_svid_expires() {
    let server = echo();
    let (sidecar, gone) = start(&server);
    let authority = Authority::new();
    gone.give(&svid(&authority, Duration::from_secs(4)).1);
    until_ready(&sidecar);
    drop(gone);
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    let detail = until_lost(&sidecar);
    assert!(detail.contains("expired at"), "{detail}");
    refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));
    until("the event", || {
        let mut events = sidecar.security_log().into_iter();
        events.find(|event| event["type"] == "identity_lost" && event["why"] == "expired")
    });

    let back = WorkloadApi::start(&sidecar.path("workload.sock"));
    back.give(&svid(&authority, HOUR).1);
    until_ready(&sidecar);
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn a_request_that_the_endpoint_calls_invalid_is_not_repeated() {
    let server = echo();
    let setup = Setup::new(OUTRIDER, &server);
    let api = api(&setup);
    api.refuse(3);
    let sidecar = proved(setup, &api).start();
    let detail = until("the refusal to be seen", || {
        let (_, detail) = readiness(&sidecar);
        detail.contains("not asked again").then_some(detail)
    });
    assert!(detail.contains("not obtained"), "{detail}");
    assert_eq!(api.asked().len(), 1);
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, MISSING, || agent.call("echo", &hi()));
}

#[test]
fn no_call_is_lost_while_svids_rotate() {
    let server = echo();
    let (sidecar, api) = start(&server);
    let authority = Authority::new();
    api.give(&svid(&authority, HOUR).1);
    until_ready(&sidecar);
    let rotations = 20;
    let done = std::sync::atomic::AtomicBool::new(false);
    let calls = std::thread::scope(|scope| {
        let (done, sidecar) = (&done, &sidecar);
        let calling: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let (mut agent, mut calls) = (sidecar.agent(), 0);
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let answer = agent.call("echo", &hi());
                        assert!(answer.is_tool_success(), "{}", answer.text());
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for turn in 0..rotations {
            let ttl = HOUR + Duration::from_secs(turn * 60);
            api.give(&svid(&authority, ttl).1);
            let expected = std::time::SystemTime::now() + ttl;
            let expected = expected.duration_since(std::time::UNIX_EPOCH).unwrap();
            until("the rotation to be seen", || {
                let name = "outrider_identity_expiry_timestamp_seconds";
                let seen = sidecar.metric(name, &["source=\"spiffe\""]);
                ((seen - expected.as_secs_f64()).abs() < 30.0).then_some(())
            });
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        calling
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<usize>()
    });
    assert_eq!(server.calls().len(), calls);
    check_record(&sidecar);
}

#[test]
fn an_assertion_is_signed_by_the_svid_which_stands_in_its_header() {
    let server = echo();
    let (sidecar, api) = start(&server);
    let authority = Authority::new();
    let set = || sidecar.get("/.well-known/jwks.json").json();
    assert_eq!(set(), json!({"keys": []}), "nothing signs yet");
    let mut agent = sidecar.agent();
    let mut kids = Vec::new();
    for turn in 0..3 {
        let (made, svids) = svid(&authority, HOUR);
        api.give(&svids);
        let kid = until("the SVID to be in force", || {
            let keys = set()["keys"].clone();
            let kid = keys[0]["kid"].clone();
            (keys.as_array()?.len() == turn + 1 && !kids.contains(&kid)).then_some(kid)
        });
        kids.insert(0, kid);
        assert!(agent.call("echo", &hi()).is_tool_success());
        let call = server.calls().pop().unwrap();
        let token = call.head.get("outrider-assertion").unwrap().to_owned();
        let Claims { header, claims } = verify_with_jwks(&token, &set());
        assert_eq!(header["alg"], "ES256");
        assert_eq!(header["kid"], kids[0]);
        assert_eq!(header["x5c"], json!([STANDARD.encode(&made.certificate)]));
        assert_eq!(claims["iss"], AGENT);
    }
    let shown: Vec<_> = set()["keys"].as_array().unwrap().clone();
    let shown: Vec<_> = shown.into_iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(shown[0], kids[0], "the key in use comes first");
    assert!(kids.iter().all(|kid| shown.contains(kid)), "{shown:?}");
    // Nobody but the Workload API replaces the key.
    let run = sidecar.command(&["keys", "rotate"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("follows from its rotation"), "{run:?}");
    assert_eq!(set()["keys"][0]["kid"], kids[0]);
}

#[test]
fn an_svid_whose_key_cannot_sign_assertions_is_refused_with_the_reason() {
    let server = echo();
    let (sidecar, api) = start(&server);
    let authority = Authority::new();
    let leaf = Leaf {
        kind: &rcgen::PKCS_ECDSA_P384_SHA384,
        ..Leaf::svid(AGENT)
    };
    let made = authority.sign(&leaf);
    api.give(&Svids::none().with(AGENT, &made, &authority.der()));
    until("the SVID to be refused", || {
        readiness(&sidecar).1.contains("P-256").then_some(())
    });
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));
}

#[test]
fn the_socket_is_found_in_the_environment() {
    let server = echo();
    let mut setup = Setup::new(OUTRIDER, &server);
    let api = api(&setup);
    api.give(&svid(&Authority::new(), HOUR).1);
    setup.environment("SPIFFE_ENDPOINT_SOCKET", &api.endpoint());
    let sidecar = setup
        .config(|config| config["identity"] = json!({"source": "spiffe"}))
        .start();
    until_ready(&sidecar);
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
}

#[test]
fn a_successor_asks_for_nothing_before_it_has_its_own_identity() {
    let server = echo();
    let (mut sidecar, api) = start(&server);
    api.give(&svid(&Authority::new(), HOUR).1);
    until_ready(&sidecar);
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    let predecessor = sidecar.take_over();
    // Not a moment without: what is there when it answers is its own.
    assert!(agent.call("echo", &hi()).is_tool_success());
    assert_eq!(readiness(&sidecar).0, 200);
    assert!(predecessor.wait().success());
    let fetches = api.asked().into_iter();
    let fetches = fetches.filter(|method| method.ends_with("FetchX509SVID"));
    assert!(fetches.count() >= 2);
    check_record(&sidecar);
}

#[test]
fn an_identity_that_cannot_work_is_told_by_check() {
    let server = echo();
    for (identity, word) in [
        (json!({"source": "spiffe"}), "SPIFFE_ENDPOINT_SOCKET"),
        (
            json!({"source": "spiffe", "socket": "run/agent.sock"}),
            "unix:///PATH",
        ),
        (
            json!({"source": "spiffe", "socket": "unix:///a", "token": "t"}),
            "knows no `token`",
        ),
        (
            json!({"source": "static", "socket": "unix:///a"}),
            "knows no `socket`",
        ),
        (
            json!({"source": "token_file", "token": "t"}),
            "needs `issuer`",
        ),
    ] {
        let setup = Setup::new(OUTRIDER, &server).config(|config| config["identity"] = identity);
        setup.write();
        let run = setup.run(&["check"]);
        assert_eq!(run.status, 1, "{run:?}");
        assert!(run.stdout.contains(word), "{word}: {run:?}");
    }
}
