//! `tasks.issuers`: tokens that somebody else has signed.

use outrider_integration::{
    Agent, IssuerKey, Request, Setup, Sidecar, ToolServer, act, key_set, task_claims,
};
use serde_json::{Value, json};

use crate::support::{Form::ToolResult, OUTRIDER, at_the_same_time, echo, hi, refused};

pub(crate) const ISSUER: &str = "https://iam.example.org";
const AGENT: &str = "spiffe://example.org/agent/test";

/// A sidecar that believes this issuer, whose keys are in `keys.json`.
pub(crate) fn believing(server: &ToolServer, keys: &Value, more: &Value) -> Sidecar {
    prepared(server, keys, more).start()
}

pub(crate) fn prepared(server: &ToolServer, keys: &Value, more: &Value) -> Setup {
    let setup = Setup::new(OUTRIDER, server).config(|config| {
        let mut section = json!({"issuer": ISSUER, "jwks": "file:keys.json"});
        for (key, value) in more.as_object().unwrap() {
            section[key] = value.clone();
        }
        config["tasks"]["issuers"] = json!([section]);
    });
    setup.file("keys.json", &keys.to_string());
    setup
}

pub(crate) fn with_token(sidecar: &Sidecar, token: &str) -> Agent {
    sidecar.stranger().with_token(token)
}

pub(crate) fn code(sidecar: &Sidecar, token: &str) -> String {
    let answer = with_token(sidecar, token).call("echo", &hi());
    let line = sidecar.decision(&answer.decision_id());
    line["code"].as_str().unwrap().to_owned()
}

/// The good claims with one of them other.
fn with(pointer: &str, value: Value) -> Value {
    let mut claims = task_claims(ISSUER, "t");
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    claims.pointer_mut(parent).unwrap()[name] = value;
    claims
}

#[test]
fn a_token_of_each_algorithm_stands_for_its_task() {
    let server = echo();
    let keys = ["EdDSA", "ES256", "RS256", "PS256"].map(|name| IssuerKey::new(name, name));
    let sidecar = believing(&server, &key_set(&keys), &json!({}));
    for key in &keys {
        let task = format!("task-{}", key.jwk()["kid"].as_str().unwrap());
        let token = key.sign(&task_claims(ISSUER, &task));
        let mut agent = with_token(&sidecar, &token);
        for _ in 0..2 {
            let answer = agent.call("echo", &hi());
            assert_eq!(answer.tool_text(), "hi", "{}", answer.text());
            let line = sidecar.decision(&answer.decision_id());
            assert_eq!(
                (
                    &line["code"],
                    &line["task"],
                    &line["subject"],
                    &line["task_source"]
                ),
                (
                    &json!("ok"),
                    &json!(task),
                    &json!("user:ada"),
                    &json!("token")
                )
            );
        }
        let received = server.received().pop().unwrap();
        assert_eq!(received.head.get("outrider-subject"), Some("user:ada"));
        assert_eq!(received.head.get("outrider-task"), Some(&*task));
        assert_eq!(received.head.get("outrider-task-token"), None);
    }
    assert!(
        sidecar.metric(
            "outrider_issuer_keys",
            &["issuer=\"https://iam.example.org\""]
        ) > 3.5
    );
}

#[test]
fn no_token_is_believed_that_is_not_exactly_right() {
    let server = echo();
    let (good, p256, rsa) = (
        IssuerKey::new("EdDSA", "k"),
        IssuerKey::new("ES256", "p"),
        IssuerKey::new("RS256", "r"),
    );
    let attacker = IssuerKey::new("EdDSA", "k");
    let sidecar = believing(&server, &key_set([&good, &p256, &rsa]), &json!({}));
    let claims = task_claims(ISSUER, "t");
    let header = |name: &str, value: Value| {
        let mut header = good.header();
        header[name] = value;
        header
    };
    let signed = good.sign(&claims);
    let (unsigned, signature) = signed.rsplit_once('.').unwrap();
    let zeros = "A".repeat(86);
    let psychic = p256.sign(&claims);
    let bad = [
        ("another key of that name", attacker.sign(&claims)),
        (
            "its own key in the header",
            attacker.token(&header("jwk", attacker.jwk()), &claims),
        ),
        (
            "a URL of keys",
            good.token(&header("jku", json!("https://attacker.example/")), &claims),
        ),
        (
            "certificates",
            good.token(&header("x5c", json!(["AAAA"])), &claims),
        ),
        (
            "a URL of certificates",
            good.token(&header("x5u", json!("https://a.example/")), &claims),
        ),
        ("crit", good.token(&header("crit", json!(["exp"])), &claims)),
        ("b64", good.token(&header("b64", json!(false)), &claims)),
        ("none", good.token(&header("alg", json!("none")), &claims)),
        (
            "none, unsigned",
            format!(
                "{}.",
                good.token(&header("alg", json!("none")), &claims)
                    .rsplit_once('.')
                    .unwrap()
                    .0
            ),
        ),
        ("HS256 under the public key", rsa.confused(&claims)),
        ("HS256 under the public JWK", good.confused(&claims)),
        (
            "another algorithm",
            good.token(&header("alg", json!("ES256")), &claims),
        ),
        (
            "no kid among several",
            good.token(
                &json!({"alg": "RS256", "typ": "outrider-task+jwt"}),
                &claims,
            ),
        ),
        (
            "an unknown kid",
            good.token(&header("kid", json!("other")), &claims),
        ),
        (
            "a path for a kid",
            good.token(&header("kid", json!("../../dev/null")), &claims),
        ),
        (
            "another typ",
            good.token(&header("typ", json!("JWT")), &claims),
        ),
        ("unsigned", format!("{unsigned}.")),
        ("cut short", format!("{unsigned}.{}", &signature[..80])),
        (
            "zeros for a signature",
            format!("{}.{zeros}", psychic.rsplit_once('.').unwrap().0),
        ),
        (
            "a claim twice",
            good.compact(
                &good.header().to_string(),
                &claims.to_string().replacen('{', "{\"sub\":\"root\",", 1),
            ),
        ),
        ("padded", format!("{signed}=")),
    ];
    for (name, token) in bad {
        eprintln!("{name}");
        refused(&sidecar, &server, (ToolResult, "task_invalid"), || {
            with_token(&sidecar, &token).call("echo", &hi())
        });
    }
    assert_eq!(code(&sidecar, &signed), "ok");
    assert!(noted(&sidecar, "the token's signature is wrong"));
}

/// Whether the security log says why a token was refused, which the agent is not told.
fn noted(sidecar: &Sidecar, why: &str) -> bool {
    let noted = |line: &Value| line["type"] == "token_refused" && line["why"] == why;
    sidecar.security_log().iter().any(noted)
}

#[test]
fn no_claim_is_believed_that_is_not_as_it_should_be() {
    let server = echo();
    let good = IssuerKey::new("EdDSA", "k");
    let sidecar = believing(&server, &key_set([&good]), &json!({}));
    let signed = good.sign(&task_claims(ISSUER, "t"));
    let now = task_claims(ISSUER, "t")["iat"].as_u64().unwrap();
    for (pointer, value) in [
        ("/iss", json!("https://iam.example.com")),
        ("/iss", json!("https://iam.example.org/")),
        ("/aud", json!("somebody")),
        ("/aud", json!(["outrider", 1])),
        ("/sub", json!("")),
        ("/act", act(&["spiffe://example.org/agent/other"])),
        ("/act", act(&[AGENT, "spiffe://example.org/agent/planner"])),
        ("/jti", Value::Null),
        ("/exp", json!((now + 60).to_string())),
        ("/exp", json!(1e18)),
        ("/exp", json!(now + 100_000)),
        ("/iat", json!(now + 100)),
        ("/iat", json!(-1)),
        ("/nbf", json!(now + 100)),
        ("/task/id", json!("")),
        ("/task/intent", Value::Null),
        ("/task/tools", json!("tools/*")),
        ("/task/max_classification", Value::Null),
        ("/task/max_classification", json!("secret")),
        ("/task/budget", json!({"calls": "many"})),
        ("/task/unknown", json!(true)),
    ] {
        let token = good.sign(&with(pointer, value));
        eprintln!("{pointer}");
        refused(&sidecar, &server, (ToolResult, "task_invalid"), || {
            with_token(&sidecar, &token).call("echo", &hi())
        });
    }
    let mut over = task_claims(ISSUER, "t");
    (over["iat"], over["exp"]) = (json!(now - 600), json!(now - 60));
    refused(&sidecar, &server, (ToolResult, "task_expired"), || {
        with_token(&sidecar, &good.sign(&over)).call("echo", &hi())
    });
    assert_eq!(code(&sidecar, &signed), "ok");
    let why = |text: &str| noted(&sidecar, text);
    assert!(why(
        "the token is of an issuer that `tasks.issuers` does not name"
    ));
    assert!(why(
        "the token names a chain of actors, and its issuer has no `verified_chain`"
    ));
}

#[test]
fn several_issuers_are_kept_apart() {
    let server = echo();
    let (a, b) = (IssuerKey::new("EdDSA", "k"), IssuerKey::new("ES256", "k"));
    let setup = Setup::new(OUTRIDER, &server).config(|config| {
        config["tasks"]["issuers"] = json!([
            {"issuer": "https://a.example", "jwks": "file:a.json"},
            {"issuer": "https://b.example", "jwks": "file:b.json", "audience": "b-outriders"},
        ]);
    });
    setup.file("a.json", &key_set([&a]).to_string());
    setup.file("b.json", &key_set([&b]).to_string());
    let sidecar = setup.start();
    let claims = |issuer: &str, audience: &str| {
        let mut claims = task_claims(issuer, "t");
        claims["aud"] = json!(audience);
        claims["task"]["budget"] = json!({"calls": 1});
        claims
    };
    for (key, issuer, audience, expected) in [
        (&a, "https://a.example", "outrider", "ok"),
        // One task of each, though both are called `t`.
        (&b, "https://b.example", "b-outriders", "ok"),
        (&b, "https://b.example", "outrider", "task_invalid"),
        (&b, "https://a.example", "outrider", "task_invalid"),
        (&a, "https://b.example", "b-outriders", "task_invalid"),
        (&a, "https://a.example", "outrider", "budget_exhausted"),
    ] {
        let token = key.sign(&claims(issuer, audience));
        assert_eq!(code(&sidecar, &token), expected, "{issuer} {audience}");
    }
}

#[test]
fn two_tokens_of_a_task_share_its_budget_and_its_end() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let sidecar = believing(&server, &key_set([&key]), &json!({}));
    let token = |jti: &str| {
        let mut claims = task_claims(ISSUER, "shared");
        claims["jti"] = json!(jti);
        claims["task"]["budget"] = json!({"calls": 3});
        key.sign(&claims)
    };
    let (one, two, three) = (token("1"), token("2"), token("3"));
    for good in [&one, &two, &one] {
        assert_eq!(code(&sidecar, good), "ok");
    }
    assert_eq!(code(&sidecar, &two), "budget_exhausted");
    let revoked = sidecar.command(&["revoke", "task", "shared"]);
    assert_eq!(revoked.status, 0, "{revoked:?}");
    for gone in [&one, &two, &three] {
        assert_eq!(code(&sidecar, gone), "task_revoked");
    }
}

#[test]
fn what_was_revoked_before_it_was_seen_counts_no_more_than_what_was_in_use() {
    let server = echo();
    let (a, b) = (IssuerKey::new("EdDSA", "a"), IssuerKey::new("ES256", "b"));
    let sidecar = believing(&server, &key_set([&a, &b]), &json!({}));
    let token = |key: &IssuerKey, id: &str| key.sign(&task_claims(ISSUER, id));
    let revoke = |kind: &str, id: &str| {
        let done = sidecar.command(&["revoke", kind, id, "--issuer", ISSUER]);
        assert_eq!(done.status, 0, "{done:?}");
    };
    let used = token(&a, "used");
    assert_eq!(code(&sidecar, &used), "ok");
    revoke("token", "j-unseen");
    assert_eq!(code(&sidecar, &token(&b, "unseen")), "task_revoked");
    revoke("task", "later");
    assert_eq!(code(&sidecar, &token(&b, "later")), "task_revoked");
    revoke("key", "a");
    assert_eq!(code(&sidecar, &used), "task_revoked");
    assert_eq!(code(&sidecar, &token(&a, "fresh")), "task_revoked");
    assert_eq!(code(&sidecar, &token(&b, "fresh")), "ok");
}

#[test]
fn a_single_use_token_serves_one_call_of_fifty_at_once() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let sidecar = believing(&server, &key_set([&key]), &json!({"single_use": true}));
    let token = key.sign(&task_claims(ISSUER, "once"));
    let answers = at_the_same_time(50, || {
        with_token(&sidecar, &token)
            .call("echo", &hi())
            .decision_id()
    });
    let codes: Vec<_> = answers
        .iter()
        .map(|id| sidecar.decision(id)["code"].clone())
        .collect();
    let count = |code: &str| codes.iter().filter(|one| *one == code).count();
    assert_eq!((count("ok"), count("task_invalid")), (1, 49), "{codes:?}");
    assert_eq!(server.received().len(), 1);
    refused(&sidecar, &server, (ToolResult, "task_invalid"), || {
        with_token(&sidecar, &token).call("echo", &hi())
    });
    // What was refused has used nothing up.
    let second = key.sign(&task_claims(ISSUER, "twice"));
    let wrong = with_token(&sidecar, &second).call("echo", &json!({"message": 7}));
    assert_eq!(wrong.decision()["code"], "schema_violation");
    assert_eq!(code(&sidecar, &second), "ok");
    assert_eq!(code(&sidecar, &second), "task_invalid");
}

#[test]
fn a_used_token_stays_used_for_a_process_that_takes_over() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let mut sidecar = believing(&server, &key_set([&key]), &json!({"single_use": true}));
    let (used, unused) = (
        key.sign(&task_claims(ISSUER, "used")),
        key.sign(&task_claims(ISSUER, "unused")),
    );
    assert_eq!(code(&sidecar, &used), "ok");
    sidecar.take_over().wait();
    assert_eq!(code(&sidecar, &used), "task_invalid");
    assert_eq!(code(&sidecar, &unused), "ok");
}

#[test]
fn a_used_token_stays_used_over_a_crash_where_state_is_kept_in_a_file() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let sidecar = prepared(&server, &key_set([&key]), &json!({"single_use": true}))
        .config(|config| config["state"] = json!({"store": "file:state.jsonl"}))
        .start();
    let (used, unused) = (
        key.sign(&task_claims(ISSUER, "used")),
        key.sign(&task_claims(ISSUER, "unused")),
    );
    assert_eq!(code(&sidecar, &used), "ok");
    let sidecar = sidecar.crash();
    assert_eq!(code(&sidecar, &used), "task_invalid");
    let sidecar = sidecar.restart();
    assert_eq!(code(&sidecar, &used), "task_invalid");
    assert_eq!(code(&sidecar, &unused), "ok");
}

#[test]
fn without_tasks_of_its_own_a_sidecar_needs_no_control_socket() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let setup = prepared(&server, &key_set([&key]), &json!({})).config(|config| {
        config["tasks"]["local"] = json!(false);
        config.as_object_mut().unwrap().remove("control");
    });
    let sidecar = setup.start();
    assert_eq!(code(&sidecar, &key.sign(&task_claims(ISSUER, "t"))), "ok");
    let setup = prepared(&server, &key_set([&key]), &json!({}))
        .config(|config| config["tasks"]["local"] = json!(false));
    let sidecar = setup.start();
    let opened = sidecar.command(&["task", "open", "--intent", "work"]);
    assert_eq!(opened.status, 2, "{opened:?}");
    assert!(opened.stderr.contains("tasks.issuers"), "{opened:?}");
}

#[test]
fn what_cannot_be_an_issuer_is_refused_at_start() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let private = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": key.jwk()["x"], "d": "AAAA"}]});
    for (keys, more, text, status) in [
        (json!({}), json!({}), "expected a JWK Set", 1),
        (json!({"keys": []}), json!({}), "has no key", 1),
        (private, json!({}), "has no key", 1),
        (
            key_set([&key]),
            json!({"jwks": "file:missing.json"}),
            "cannot be read",
            2,
        ),
        (
            key_set([&key]),
            json!({"jwks": "http://keys.example.org/"}),
            "https://",
            1,
        ),
        (
            key_set([&key]),
            json!({"issuer": "outrider:me"}),
            "outrider:",
            1,
        ),
        (key_set([&key]), json!({"issuer": ""}), "expected a name", 1),
        (
            key_set([&key]),
            json!({"ca": "ca.pem"}),
            "`ca` is for an `https` URL",
            1,
        ),
        (key_set([&key]), json!({"leeway": "5m"}), "leeway", 1),
    ] {
        let setup = prepared(&server, &keys, &more);
        setup.write();
        let check = setup.run(&["check"]);
        assert_eq!(check.status, status, "{check:?}");
        assert!(check.stdout.contains(text), "{text}: {check:?}");
        assert_eq!(setup.run(&["run"]).status, 2);
    }
    let twice = prepared(&server, &key_set([&key]), &json!({})).config(|config| {
        let one = config["tasks"]["issuers"][0].clone();
        config["tasks"]["issuers"].as_array_mut().unwrap().push(one);
    });
    twice.write();
    assert!(twice.run(&["check"]).stdout.contains("two are named"));
}

#[test]
fn a_task_narrows_what_its_intent_declares() {
    let server = echo();
    let key = IssuerKey::new("EdDSA", "k");
    let sidecar = believing(&server, &key_set([&key]), &json!({}));
    for (pointer, value, expected) in [
        ("/task/tools", json!(["tools/echo"]), "ok"),
        ("/task/tools", json!(["tools/other"]), "scope_exceeded"),
        ("/task/tools", json!([]), "scope_exceeded"),
        (
            "/task/max_classification",
            json!("public"),
            "classification_exceeded",
        ),
        ("/task/max_classification", json!("internal"), "ok"),
        ("/task/budget", json!({"calls": 0}), "budget_exhausted"),
        ("/task/intent", json!("nothing"), "scope_exceeded"),
    ] {
        let mut claims = with(pointer, value);
        claims["task"]["id"] = json!(format!("{pointer}-{expected}-{}", claims["task"]));
        claims["jti"] = json!(claims["task"].to_string());
        let token = key.sign(&claims);
        let answer = with_token(&sidecar, &token).send(&Request::call("echo", &hi()));
        let line = sidecar.decision(&answer.decision_id());
        assert_eq!(line["code"], expected, "{line}");
    }
}
