//! `services[].tls`: whom a service is proved by, and what we prove ourselves by there.

use std::time::Duration;

use outrider_integration::{
    Authority, Leaf, Made, Setup, Sidecar, Svids, TlsFront, ToolServer, WorkloadApi, until,
};
use serde_json::{Value, json};

use crate::{
    spiffe::{AGENT, api, proved, svid, until_ready},
    support::{OUTRIDER, at_the_same_time, check_record, echo, hi},
};

const SERVICE: &str = "spiffe://example.org/service/tools";
const HOUR: Duration = Duration::from_hours(1);

/// A certificate of a server at 127.0.0.1 or `localhost`.
fn of_server(authority: &Authority) -> Made {
    authority.sign(&Leaf {
        uris: Vec::new(),
        ..Leaf::svid("").named("localhost").named("127.0.0.1")
    })
}

/// The service `tools` behind TLS, with that section.
fn behind(setup: Setup, front: &TlsFront, tls: Value) -> Setup {
    setup.config(|config| {
        let service = &mut config["services"][0];
        service["upstream"] = format!("https://localhost:{}/mcp", front.address().port()).into();
        service["tls"] = tls;
    })
}

/// Runs a call that fails on the way to its service, and checks that nothing reached it.
fn unreachable(sidecar: &Sidecar, server: &ToolServer) {
    let before = server.bytes();
    let answer = sidecar.agent().call("echo", &hi());
    assert_eq!(answer.code(), "upstream_unreachable", "{}", answer.text());
    assert_eq!(server.bytes(), before);
}

#[test]
fn a_service_is_proved_by_its_own_authority_and_by_no_other() {
    let server = echo();
    let (authority, other) = (Authority::new(), Authority::new());
    let front = TlsFront::start(&of_server(&authority), None, server.address());
    for (ca, good) in [(&authority, true), (&other, false)] {
        let setup = Setup::new(OUTRIDER, &server);
        setup.file("ca.pem", &ca.pem());
        let sidecar = behind(setup, &front, json!({"ca": "ca.pem"})).start();
        if good {
            assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
        } else {
            unreachable(&sidecar, &server);
        }
    }
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn a_service_that_asks_for_a_certificate_gets_the_configured_one() {
    let server = echo();
    let (authority, clients) = (Authority::new(), Authority::new());
    let own = of_server(&authority);
    let front = TlsFront::start(&own, Some(&clients.der()), server.address());
    let client = clients.sign(&Leaf::svid("urn:sidecar"));
    let setup = Setup::new(OUTRIDER, &server);
    setup.file("ca.pem", &authority.pem());
    setup.file("certificate.pem", &client.certificate_pem);
    setup.file("key.pem", &client.key_pem);
    let with = json!({
        "ca": "ca.pem",
        "identity": {"certificate": "certificate.pem", "key": "key.pem"},
    });
    let mut sidecar = behind(setup, &front, with).start();
    assert!(sidecar.agent().call("echo", &hi()).is_tool_success());
    assert_eq!(front.shown(), std::slice::from_ref(&client.certificate));

    // Another one counts from the reload on, as its file has changed.
    let next = clients.sign(&Leaf::svid("urn:sidecar"));
    let setup = sidecar.setup();
    setup.file("key.pem", &next.key_pem);
    setup.file("certificate.pem", &next.certificate_pem);
    until("the new certificate to be shown", || {
        let answer = sidecar.agent().call("echo", &hi());
        assert!(answer.is_tool_success(), "{}", answer.text());
        front.shown().contains(&next.certificate).then_some(())
    });
}

#[test]
fn a_service_that_asks_for_a_certificate_gets_nothing_where_none_is_configured() {
    let server = echo();
    let (authority, clients) = (Authority::new(), Authority::new());
    let front = TlsFront::start(
        &of_server(&authority),
        Some(&clients.der()),
        server.address(),
    );
    let setup = Setup::new(OUTRIDER, &server);
    setup.file("ca.pem", &authority.pem());
    let sidecar = behind(setup, &front, json!({"ca": "ca.pem"})).start();
    unreachable(&sidecar, &server);
    assert!(front.shown().is_empty());
}

/// A sidecar whose agent's SVID is shown to the service, which takes no other trust domain's.
fn with_svid(server: &ToolServer, server_id: &str, of_front: &Leaf) -> World {
    let authority = Authority::new();
    let own = authority.sign(of_front);
    let front = TlsFront::start(&own, Some(&authority.der()), server.address());
    let setup = Setup::new(OUTRIDER, server);
    let api = api(&setup);
    let (made, svids) = svid(&authority, HOUR);
    api.give(&svids);
    let tls = json!({"identity": "svid", "server_id": server_id});
    let sidecar = proved(behind(setup, &front, tls), &api).start();
    until_ready(&sidecar);
    World {
        authority,
        front,
        api,
        made,
        sidecar,
    }
}

struct World {
    authority: Authority,
    front: TlsFront,
    api: WorkloadApi,
    made: Made,
    sidecar: Sidecar,
}

#[test]
fn the_agents_svid_is_shown_and_the_service_is_proved_by_its_spiffe_id() {
    let server = echo();
    let world = with_svid(&server, SERVICE, &Leaf::svid(SERVICE));
    assert!(world.sidecar.agent().call("echo", &hi()).is_tool_success());
    assert_eq!(world.front.shown(), [world.made.certificate]);
}

#[test]
fn a_service_of_another_spiffe_id_or_of_none_is_no_service() {
    for leaf in [
        Leaf::svid("spiffe://example.org/service/other"),
        Leaf {
            uris: Vec::new(),
            ..Leaf::svid("").named("localhost")
        },
        Leaf {
            uris: vec![SERVICE.into(), "spiffe://example.org/service/other".into()],
            ..Leaf::svid("")
        },
        Leaf::svid(SERVICE).lasting(Duration::ZERO),
    ] {
        let server = echo();
        let world = with_svid(&server, SERVICE, &leaf);
        unreachable(&world.sidecar, &server);
    }
}

#[test]
fn a_service_of_another_trust_domain_is_proved_by_its_federated_bundle_alone() {
    let server = echo();
    let there = "spiffe://other.org/service/tools";
    let world = with_svid(&server, there, &Leaf::svid(there));
    // Signed by an authority of ours, which is none of theirs.
    unreachable(&world.sidecar, &server);
    let bundle = world.authority.der();
    let svids = Svids::none().with(AGENT, &world.made, &bundle);
    world
        .api
        .give(&svids.federated("spiffe://other.org", &bundle));
    until("the bundle to be in force", || {
        let answer = world.sidecar.agent().call("echo", &hi());
        answer.is_tool_success().then_some(())
    });
}

#[test]
fn no_call_is_lost_while_the_svid_that_is_shown_rotates() {
    let server = echo();
    let world = with_svid(&server, SERVICE, &Leaf::svid(SERVICE));
    let World {
        authority,
        front,
        api,
        sidecar,
        ..
    } = &world;
    let calls = || {
        at_the_same_time(4, || {
            let answer = sidecar.agent().call("echo", &hi());
            assert!(answer.is_tool_success(), "{}", answer.text());
        });
    };
    for _ in 0..10 {
        let (made, svids) = svid(authority, HOUR);
        api.give(&svids);
        until("the new SVID to be shown", || {
            calls();
            front.shown().contains(&made.certificate).then_some(())
        });
        // No connection of the SVID before carries a call any more.
        let connections = front.shown().len();
        calls();
        let new = front.shown().split_off(connections);
        assert!(new.iter().all(|shown| *shown == made.certificate));
    }
    check_record(sidecar);
}

#[test]
fn a_tls_section_that_cannot_work_is_told_by_check() {
    let server = echo();
    let front = TlsFront::start(&of_server(&Authority::new()), None, server.address());
    let files = json!({"certificate": "certificate.pem", "key": "key.pem"});
    for (tls, word) in [
        (json!({"ca": "none.pem"}), "no such file"),
        (json!({"ca": "key.pem"}), "BEGIN CERTIFICATE"),
        (json!({"identity": "svid"}), "source: spiffe"),
        (json!({"server_id": SERVICE}), "source: spiffe"),
        (json!({"server_id": "https://a/b"}), "SPIFFE ID"),
        (
            json!({"ca": "ca.pem", "server_id": SERVICE}),
            "leave `ca` out",
        ),
        (json!({"identity": "other"}), "`svid` or"),
        (json!({"identity": files}), "not that of the certificate"),
        (json!({"identity": {"certificate": "ca.pem"}}), "key"),
        (json!({"nope": 1}), "nope"),
    ] {
        let setup = Setup::new(OUTRIDER, &server);
        let (one, other) = (Authority::new(), Authority::new());
        setup.file("ca.pem", &one.pem());
        setup.file("certificate.pem", &of_server(&one).certificate_pem);
        setup.file("key.pem", &of_server(&other).key_pem);
        let setup = behind(setup, &front, tls.clone());
        setup.write();
        let run = setup.run(&["check"]);
        assert_ne!(run.status, 0, "{tls}: {run:?}");
        assert!(run.stdout.contains(word), "{tls}: {run:?}");
    }
    let plain = Setup::new(OUTRIDER, &server)
        .config(|config| config["services"][0]["tls"] = json!({"ca": "ca.pem"}));
    plain.file("ca.pem", &Authority::new().pem());
    plain.write();
    let run = plain.run(&["check"]);
    assert!(run.stdout.contains("for an `https` upstream"), "{run:?}");
}
