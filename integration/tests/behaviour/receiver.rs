//! Security events of an identity provider: what it says of a principal, every sidecar obeys before it
//! is acknowledged; what cannot be believed or understood revokes nothing.

use std::path::PathBuf;

use outrider_integration::{
    Answer, BEARER, CAEP, Kept, PollServer, Receiver, Request, Setup, Sidecar, Store, Tool,
    ToolServer, Transmitter, deliver, post, until,
};
use serde_json::{Value, json};

use crate::support::{Form::ToolResult, OUTRIDER, before, echo, hi, refused};

const ISSUER: &str = "https://idp.example.org";

fn idp() -> Transmitter {
    Transmitter::new(ISSUER)
}

fn socket(sidecar: &Sidecar) -> PathBuf {
    sidecar.path("control.sock")
}

/// A running receiver of that transmitter, which these sidecars obey.
fn receiver(idp: &Transmitter, sidecars: &[&Sidecar]) -> Receiver {
    let sockets: Vec<_> = sidecars.iter().map(|sidecar| socket(sidecar)).collect();
    Receiver::new(OUTRIDER, idp).obeyed_by(&sockets).start()
}

/// A token of a task that is done for that subject.
fn token_for(sidecar: &Sidecar, subject: &str) -> String {
    sidecar.open_task(&["--subject", subject]).token
}

fn revocations(sidecar: &Sidecar) -> Vec<Value> {
    let run = sidecar.command(&["revoke", "list", "--json"]);
    assert_eq!(run.status, 0, "{run:?}");
    let list: Value = serde_json::from_str(&run.stdout).unwrap();
    list.as_array().unwrap().clone()
}

fn err(answer: &Answer) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
    (
        answer.status,
        body["err"].as_str().unwrap_or_default().to_owned(),
    )
}

#[test]
fn a_session_that_is_over_loses_its_stream_and_its_next_call() {
    let server = ToolServer::start(vec![
        Tool::doing("stream", |exchange| {
            exchange.begin_events();
            exchange.event(&json!({
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": 1, "progress": 1},
            }));
            exchange.wait_until_gone();
        }),
        Tool::echo("echo"),
    ]);
    let sidecar = before(&server);
    let idp = idp();
    let receiver = receiver(&idp, &[&sidecar]);
    let mut alice = sidecar.stranger().with_token(&token_for(&sidecar, "alice"));
    let mut bob = sidecar.stranger().with_token(&token_for(&sidecar, "bob"));
    let mut stream = alice.start(&Request::call("stream", &hi()));
    let head = stream.head().unwrap().unwrap();
    stream.event().unwrap().unwrap();

    let reason = json!({"reason_admin": {"en": "laptop stolen"}});
    let claims = idp.claims("alice", "session-revoked", &reason);
    let answer = deliver(receiver.address(), &idp.sign(&claims));
    assert_eq!((answer.status, answer.text()), (202, String::new()));
    stream.rest();
    let outcome = sidecar.outcome(head.get("outrider-decision-id").unwrap());
    assert_eq!(outcome["ended"], "cut", "{outcome}");
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        alice.call("echo", &hi())
    });
    assert!(bob.call("echo", &hi()).is_tool_success(), "another goes on");

    let [noted] = &receiver.logged("revoked")[..] else {
        panic!("{:?}", receiver.log());
    };
    assert_eq!(noted["who"], format!("ssf:{ISSUER}"));
    assert_eq!(
        (&noted["revoked"], &noted["id"]),
        (&json!("subject"), &json!("alice"))
    );
    assert_eq!(
        (&noted["event"], &noted["why"]),
        (&json!("session-revoked"), &json!("laptop stolen"))
    );
    assert_eq!(noted["jti"], claims["jti"]);
    let [there] = &revocations(&sidecar)[..] else {
        panic!("one revocation");
    };
    let why = there["why"].as_str().unwrap();
    assert!(
        why.contains(ISSUER) && why.contains("laptop stolen"),
        "{there}"
    );
    let labels = ["event=\"session-revoked\"", "result=\"revoked\""];
    let revoked = receiver.metric("outrider_receiver_events_total", &labels);
    assert!((revoked - 1.0).abs() < f64::EPSILON, "{revoked}");
}

#[test]
fn who_signs_in_again_goes_on() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let receiver = Receiver::new(OUTRIDER, &idp)
        .obeyed_by(&[socket(&sidecar)])
        .config(|config| config["transmitters"][0]["leeway"] = json!("1ms"))
        .start();
    let mut before = sidecar.stranger().with_token(&token_for(&sidecar, "alice"));
    assert_eq!(
        deliver(receiver.address(), &idp.session_revoked("alice")).status,
        202
    );
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        before.call("echo", &hi())
    });
    // The second of the event belongs to what was before it.
    let token = until("a later second", || {
        let run = sidecar.command(&["task", "open", "--intent", "work", "--subject", "alice"]);
        (run.status == 0).then_some(run.stdout.trim().to_owned())
    });
    let mut after = sidecar.stranger().with_token(&token);
    assert!(after.call("echo", &hi()).is_tool_success());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_believed_or_understood_revokes_nothing() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let receiver = receiver(&idp, &[&sidecar]);
    let at = receiver.address();
    let mut alice = sidecar.stranger().with_token(&token_for(&sidecar, "alice"));
    let good = || idp.claims("alice", "session-revoked", &json!({}));
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        idp.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        idp.sign(&claims)
    };
    let other = Transmitter::new("https://idp.example.org");
    let now = good()["iat"].as_i64().unwrap();
    let event = |event: &str, what: Value| idp.sign(&idp.claims("alice", event, &what));
    for (token, expected) in [
        (
            with("iss", json!("https://other.example.org")),
            "invalid_issuer",
        ),
        (
            with("aud", json!("https://other.example.org")),
            "invalid_audience",
        ),
        (with("sub", json!("alice")), "invalid_request"),
        (with("exp", json!(now + 60)), "invalid_request"),
        (with("iat", json!(now + 3600)), "invalid_request"),
        (with("iat", json!(now - 8 * 86_400)), "invalid_request"),
        (with("iat", json!("1")), "invalid_request"),
        (with("events", json!({})), "invalid_request"),
        (
            with("sub_id", json!({"format": "opaque"})),
            "invalid_request",
        ),
        (
            with(
                "sub_id",
                json!({"format": "saml_assertion_id", "issuer": "i", "assertion_id": "a"}),
            ),
            "invalid_request",
        ),
        (
            with(
                "sub_id",
                json!({"format": "complex", "device": {"format": "opaque", "id": "d"}}),
            ),
            "invalid_request",
        ),
        (without("sub_id"), "invalid_request"),
        (without("jti"), "invalid_request"),
        (without("iat"), "invalid_request"),
        (without("aud"), "invalid_audience"),
        (without("iss"), "invalid_issuer"),
        (
            event("credential-change", json!({"change_type": "lost"})),
            "invalid_request",
        ),
        (event("risk-level-change", json!({})), "invalid_request"),
        (idp.sign_as("JWT", &good()), "invalid_request"),
        (idp.sign_as("outrider-task+jwt", &good()), "invalid_request"),
        (other.sign(&good()), "invalid_key"),
        (idp.key.confused(&good()), "invalid_key"),
        ("a.b.c".into(), "invalid_request"),
        (String::new(), "invalid_request"),
    ] {
        let answer = deliver(at, &token);
        assert_eq!(err(&answer), (400, expected.into()), "{}", answer.text());
        assert!(!answer.text().contains("alice"), "{}", answer.text());
    }
    let token = idp.sign(&good());
    let bearer = format!("Bearer {BEARER}");
    let kind = ("content-type", "application/secevent+jwt");
    let long = vec![b'x'; 64 * 1024 + 1];
    for (fields, body, expected) in [
        (vec![kind], token.as_bytes(), (401, "authentication_failed")),
        (
            vec![kind, ("authorization", BEARER)],
            token.as_bytes(),
            (401, "authentication_failed"),
        ),
        (
            vec![kind, ("authorization", "Bearer wrong")],
            token.as_bytes(),
            (401, "authentication_failed"),
        ),
        (
            vec![("authorization", &bearer)],
            token.as_bytes(),
            (400, "invalid_request"),
        ),
        (
            vec![
                ("authorization", &bearer),
                ("content-type", "application/json"),
            ],
            token.as_bytes(),
            (400, "invalid_request"),
        ),
        (
            vec![("authorization", &bearer), kind],
            &long,
            (413, "invalid_request"),
        ),
    ] {
        let answer = post(at, "/events", &fields, body);
        assert_eq!(err(&answer), (expected.0, expected.1.into()), "{fields:?}");
    }
    let fields = [kind, ("authorization", &*bearer)];
    assert_eq!(post(at, "/other", &fields, token.as_bytes()).status, 404);

    assert!(
        alice.call("echo", &hi()).is_tool_success(),
        "nothing was revoked"
    );
    assert_eq!(revocations(&sidecar), Vec::<Value>::new());
    assert_eq!(receiver.logged("revoked"), Vec::<Value>::new());
    let noted = receiver.logged("signal_refused");
    assert_eq!(noted.len(), 24, "{noted:?}");
    assert!(!format!("{noted:?}").contains("alice"));
    let codes = receiver.metric(
        "outrider_receiver_tokens_total",
        &["result=\"invalid_key\""],
    );
    assert!((codes - 2.0).abs() < f64::EPSILON, "{codes}");
    assert_eq!(deliver(at, &token).status, 202, "the good one is taken");
}

#[test]
fn a_token_counts_once_however_often_it_is_delivered() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let mut receiver = receiver(&idp, &[&sidecar]);
    let token = idp.session_revoked("alice");
    assert_eq!(deliver(receiver.address(), &token).status, 202);
    assert_eq!(revocations(&sidecar).len(), 1);
    let lift = sidecar.command(&["revoke", "lift", "subject", "alice"]);
    assert_eq!(lift.status, 0, "{lift:?}");
    let again = |receiver: &Receiver| {
        assert_eq!(deliver(receiver.address(), &token).status, 202);
        assert_eq!(
            revocations(&sidecar),
            Vec::<Value>::new(),
            "it was dealt with"
        );
        assert_eq!(receiver.logged("revoked").len(), 1);
    };
    again(&receiver);
    assert!(receiver.stop().success());
    let mut receiver = receiver.start();
    again(&receiver);
    receiver.kill();
    again(&receiver.start());
}

#[test]
fn many_deliveries_of_a_token_at_once_are_one() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let receiver = receiver(&idp, &[&sidecar]);
    let (at, token) = (receiver.address(), idp.session_revoked("alice"));
    let deliveries: Vec<_> = (0..20)
        .map(|_| {
            let token = token.clone();
            std::thread::spawn(move || deliver(at, &token).status)
        })
        .collect();
    for delivery in deliveries {
        assert_eq!(delivery.join().unwrap(), 202);
    }
    assert_eq!(receiver.logged("revoked").len(), 1);
}

#[test]
fn a_token_is_acknowledged_once_every_sidecar_obeys() {
    let server = echo();
    let (one, other) = (before(&server), before(&server));
    let idp = idp();
    let receiver = receiver(&idp, &[&one, &other]);
    let token = idp.session_revoked("alice");
    let mut other = {
        let mut stopping = other;
        stopping.signal("TERM");
        stopping.wait();
        stopping
    };
    let answer = deliver(receiver.address(), &token);
    assert_eq!(
        (answer.status, answer.head.get("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(
        revocations(&one).len(),
        1,
        "who can be reached obeys at once"
    );
    assert_eq!(receiver.get("/readyz").status, 503);
    other = other.start_again();
    assert_eq!(deliver(receiver.address(), &token).status, 202);
    assert_eq!(revocations(&other).len(), 1);
    receiver.ready();
}

#[test]
fn a_sidecar_that_is_away_keeps_no_other_from_hearing_all_of_a_token() {
    let server = echo();
    let (one, mut other) = (before(&server), before(&server));
    let idp = idp();
    let receiver = receiver(&idp, &[&one, &other]);
    other.signal("TERM");
    other.wait();
    let mut claims = idp.claims("", "session-revoked", &json!({}));
    let known = |subject: &str| json!({"format": "iss_sub", "iss": ISSUER, "sub": subject});
    claims["sub_id"] = json!({"format": "aliases", "identifiers": [known("alice"), known("ally")]});
    let answer = deliver(receiver.address(), &idp.sign(&claims));
    assert_eq!(answer.status, 503, "{}", answer.text());
    let obeyed = revocations(&one);
    assert_eq!(obeyed.len(), 2, "{obeyed:?}");
}

#[test]
fn what_nothing_follows_from_is_acknowledged_and_noted() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let receiver = receiver(&idp, &[&sidecar]);
    let send = |claims: &Value| deliver(receiver.address(), &idp.sign(claims)).status;
    let mut verification = idp.claims("", "", &json!({}));
    verification["sub_id"] = json!({"format": "opaque", "id": "stream-1"});
    let uri = "https://schemas.openid.net/secevent/ssf/event-type/verification";
    verification["events"] = json!({uri: {"state": "x"}});
    assert_eq!(send(&verification), 202);
    assert_eq!(
        send(&idp.claims("alice", "session-established", &json!({}))),
        202
    );
    let update = json!({"credential_type": "password", "change_type": "update"});
    assert_eq!(
        send(&idp.claims("alice", "credential-change", &update)),
        202
    );
    assert_eq!(
        send(&idp.claims(
            "alice",
            "risk-level-change",
            &json!({"current_level": "LOW"})
        )),
        202
    );
    assert_eq!(revocations(&sidecar), Vec::<Value>::new());
    let noted = receiver.logged("signal_received");
    let events: Vec<_> = noted
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    let established = format!("{CAEP}session-established");
    let expected = [
        "verification",
        &established,
        "credential-change/update",
        "risk-level-change/LOW",
    ];
    assert_eq!(events, expected);
}

#[test]
fn an_operator_says_what_events_mean_and_whom() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let receiver = Receiver::new(OUTRIDER, &idp)
        .obeyed_by(&[socket(&sidecar)])
        .config(|config| {
            config["transmitters"][0]["map"] = json!({
                "credential-change/update": "revoke_all", "session-revoked": "ignore",
            });
            config["transmitters"][0]["subjects"] = json!({"iss_sub": "idp:{sub}"});
        })
        .start();
    assert_eq!(
        deliver(receiver.address(), &idp.session_revoked("alice")).status,
        202
    );
    assert_eq!(revocations(&sidecar), Vec::<Value>::new());
    let update = idp.claims(
        "alice",
        "credential-change",
        &json!({"change_type": "update"}),
    );
    assert_eq!(deliver(receiver.address(), &idp.sign(&update)).status, 202);
    let all = revocations(&sidecar);
    assert_eq!(all[0]["target"], json!({"subject": "idp:alice"}));
    assert_eq!(all[0]["issued_before"], Value::Null);
}

#[test]
fn agents_and_tokens_can_be_meant_as_well() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let receiver = receiver(&idp, &[&sidecar]);
    let mut alice = sidecar.stranger().with_token(&token_for(&sidecar, "alice"));
    let mut agent = idp.claims("", "session-revoked", &json!({}));
    agent["sub_id"] = json!({"format": "uri", "uri": "spiffe://example.org/agent/test"});
    let mut token = idp.claims("", "session-revoked", &json!({}));
    token["sub_id"] = json!({"format": "jwt_id", "iss": "https://unknown.example.org", "jti": "7"});
    assert_eq!(deliver(receiver.address(), &idp.sign(&token)).status, 202);
    assert!(alice.call("echo", &hi()).is_tool_success());
    assert_eq!(deliver(receiver.address(), &idp.sign(&agent)).status, 202);
    refused(&sidecar, &server, (ToolResult, "task_revoked"), || {
        alice.call("echo", &hi())
    });
    let all = revocations(&sidecar);
    let kinds: Vec<_> = all.iter().map(|one| one["target"].to_string()).collect();
    assert!(kinds.iter().any(|kind| kind.contains("agent")), "{kinds:?}");
    assert!(
        kinds.iter().any(|kind| kind.contains("\"token\"")),
        "{kinds:?}"
    );
}

#[test]
fn tokens_are_fetched_and_acknowledged_once_they_are_dealt_with() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let stream = PollServer::start();
    let mut receiver = Receiver::new(OUTRIDER, &idp)
        .obeyed_by(&[socket(&sidecar)])
        .polling(&stream.url())
        .start();
    let mut tokens = Vec::new();
    for subject in ["alice", "bob", "carol"] {
        let claims = idp.claims(subject, "session-revoked", &json!({}));
        tokens.push((
            claims["jti"].as_str().unwrap().to_owned(),
            idp.sign(&claims),
        ));
    }
    let forged = Transmitter::new(ISSUER).session_revoked("dave");
    let renamed = idp.session_revoked("erin");
    stream.tell(
        tokens
            .iter()
            .map(|(id, token)| (id.as_str(), token.clone())),
    );
    stream.tell([("forged", forged), ("renamed", renamed)]);
    until("every token to be answered", || {
        (stream.acknowledged().len() == 3 && stream.errors().len() == 2).then_some(())
    });
    assert_eq!(revocations(&sidecar).len(), 3);
    let errors = stream.errors();
    assert_eq!(errors["renamed"]["err"], "invalid_request", "{errors:?}");
    assert!(errors.contains_key("forged"), "{errors:?}");
    assert!(
        stream
            .requests()
            .iter()
            .all(|request| request["maxEvents"] == 2)
    );

    stream.fail(true);
    until("a failed request", || {
        (receiver.metric("outrider_receiver_polls_total", &["result=\"failed\""]) > 0.0)
            .then_some(())
    });
    stream.fail(false);
    let late = idp.claims("frank", "session-revoked", &json!({}));
    stream.tell([(late["jti"].as_str().unwrap(), idp.sign(&late))]);
    until("the stream to go on", || {
        (revocations(&sidecar).len() == 4).then_some(())
    });
    assert!(receiver.stop().success());
    // At the latest with its farewell.
    assert_eq!(stream.acknowledged().len(), 4);
}

#[test]
fn what_is_not_dealt_with_is_not_acknowledged_and_fetched_again() {
    let server = echo();
    let mut sidecar = before(&server);
    let idp = idp();
    let stream = PollServer::start();
    let receiver = Receiver::new(OUTRIDER, &idp)
        .obeyed_by(&[socket(&sidecar)])
        .polling(&stream.url())
        .start();
    sidecar.signal("TERM");
    sidecar.wait();
    let claims = idp.claims("alice", "session-revoked", &json!({}));
    stream.tell([(claims["jti"].as_str().unwrap(), idp.sign(&claims))]);
    let later = ["result=\"unavailable\""];
    until("two attempts", || {
        (receiver.metric("outrider_receiver_tokens_total", &later) >= 2.0).then_some(())
    });
    assert_eq!(stream.acknowledged(), Vec::<String>::new());
    let sidecar = sidecar.start_again();
    until("the acknowledgement", || {
        (stream.acknowledged().len() == 1).then_some(())
    });
    assert_eq!(revocations(&sidecar).len(), 1);
}

#[test]
fn a_receiver_is_checked_before_it_runs() {
    let idp = idp();
    let good = Receiver::new(OUTRIDER, &idp).obeyed_by(&["control.sock".into()]);
    let run = good.run(&["--check"]);
    assert_eq!(run.status, 0, "{run:?}");
    let bad = good.config(|config| {
        config["listen"]["address"] = json!("0.0.0.0:0");
        config["transmitters"][0]["audience"] = json!("");
    });
    let run = bad.run(&["--check"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("receiver.yaml"), "{run:?}");
    assert_eq!(bad.run(&[]).status, 2);
    assert_eq!(bad.run(&["-c", "missing.yaml"]).status, 2);
}

#[test]
fn secrets_stand_nowhere() {
    let server = echo();
    let sidecar = before(&server);
    let idp = idp();
    let receiver = receiver(&idp, &[&sidecar]);
    deliver(receiver.address(), &idp.session_revoked("alice"));
    deliver(receiver.address(), "x");
    let pages = [
        receiver.errors(),
        format!("{:?}", receiver.log()),
        receiver.get("/metrics").text(),
        receiver.get("/readyz").text(),
    ];
    for page in pages {
        assert!(!page.contains(BEARER), "{page}");
    }
}

/// A receiver of the fleet that shares that store.
fn of_fleet(store: &Store, idp: &Transmitter) -> Receiver {
    let receiver = Receiver::new(OUTRIDER, idp).config(|config| {
        config["state"] = json!({
            "store": store.url(), "password": "${file:store-password}", "ca": store.ca(),
        });
    });
    receiver.file("store-password", "secret\n");
    let receiver = receiver.start();
    receiver.ready();
    receiver
}

#[test]
fn a_fleet_obeys_and_two_receivers_do_one_work() {
    let Some(binary) = Store::binary() else {
        return;
    };
    let mut store = Store::start(&binary, Kept::Nothing);
    let server = echo();
    let sidecars = [(); 2].map(|()| store.shared(Setup::new(OUTRIDER, &server)).start());
    for sidecar in &sidecars {
        until("the store to count", || {
            (sidecar.get("/readyz").status == 200).then_some(())
        });
    }
    let idp = idp();
    let receivers = [of_fleet(&store, &idp), of_fleet(&store, &idp)];
    let mut agents = sidecars
        .each_ref()
        .map(|sidecar| sidecar.stranger().with_token(&token_for(sidecar, "alice")));
    for agent in &mut agents {
        assert!(agent.call("echo", &hi()).is_tool_success());
    }
    let token = idp.session_revoked("alice");
    let deliveries: Vec<_> = (0..10)
        .map(|at| {
            let (to, token) = (receivers[at % 2].address(), token.clone());
            std::thread::spawn(move || deliver(to, &token).status)
        })
        .collect();
    for delivery in deliveries {
        assert_eq!(delivery.join().unwrap(), 202);
    }
    for (sidecar, agent) in sidecars.iter().zip(&mut agents) {
        until("the fleet to obey", || {
            (!revocations(sidecar).is_empty()).then_some(())
        });
        refused(sidecar, &server, (ToolResult, "task_revoked"), || {
            agent.call("echo", &hi())
        });
    }
    let noted = receivers
        .iter()
        .map(|receiver| receiver.logged("revoked").len());
    assert_eq!(noted.sum::<usize>(), 1);

    let late = idp.session_revoked("bob");
    store.kill();
    assert_eq!(deliver(receivers[0].address(), &late).status, 503);
    store.start_again();
    receivers[0].ready();
    assert_eq!(deliver(receivers[0].address(), &late).status, 202);
    until("the fleet to obey", || {
        (revocations(&sidecars[1]).len() == 2).then_some(())
    });
}
