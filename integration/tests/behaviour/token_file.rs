//! `identity: { source: token_file }`: the agent is who a projected token says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use outrider_integration::{Setup, Sidecar, ToolServer, until};
use serde_json::{Value, json};

use crate::{
    spiffe::{AGENT, until_ready},
    support::{Form, OUTRIDER, echo, hi, refused},
};

const SUBJECT: &str = "system:serviceaccount:agents:triage";
const MISSING: (Form, &str) = (Form::Problem(401), "identity_missing");
const INVALID: (Form, &str) = (Form::Problem(401), "identity_invalid");

/// Whoever issues tokens.
struct Issuer {
    key: EcdsaKeyPair,
    kid: String,
}

impl Issuer {
    fn new(kid: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            key,
            kid: kid.to_owned(),
        }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
        json!({"kty": "EC", "crv": "P-256", "x": part(1), "y": part(33), "kid": self.kid, "alg": "ES256", "use": "sig"})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.kid});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The claims that Kubernetes projects, for so long.
fn claims(ttl: Duration) -> Value {
    json!({
        "iss": "https://kubernetes.test",
        "aud": ["outrider"],
        "sub": SUBJECT,
        "iat": now(),
        "nbf": now(),
        "exp": now() + ttl.as_secs(),
        "kubernetes.io": {"namespace": "agents", "serviceaccount": {"name": "triage", "uid": "u"}},
    })
}

const HOUR: Duration = Duration::from_hours(1);

fn setup(server: &ToolServer, issuer: &Issuer) -> Setup {
    let setup = Setup::new(OUTRIDER, server).config(|config| {
        config["identity"] = json!({
            "source": "token_file",
            "token": "token",
            "issuer": "https://kubernetes.test",
            "audience": "outrider",
            "jwks": "file:jwks.json",
            "map": {SUBJECT: AGENT, "system:serviceaccount:agents:other": "spiffe://example.org/agent/other"},
        });
    });
    publish(&setup, &[issuer]);
    setup
}

fn publish(setup: &Setup, issuers: &[&Issuer]) {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    setup.file("jwks.json", &json!({"keys": keys}).to_string());
}

/// Renews the token as the kubelet does: a file of another name takes its place.
fn renew(setup: &Setup, token: &str) {
    setup.file("token.next", token);
    std::fs::rename(setup.path("token.next"), setup.path("token")).unwrap();
}

fn detail(sidecar: &Sidecar) -> String {
    sidecar.get("/readyz").json()["identity"]["detail"].to_string()
}

#[test]
fn a_good_token_proves_the_agent_and_its_renewal_loses_no_call() {
    let server = echo();
    let issuer = Issuer::new("one");
    let setup = setup(&server, &issuer);
    let mut sidecar = setup.start();
    until("the missing file to be noticed", || {
        detail(&sidecar).contains("cannot be read").then_some(())
    });
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, MISSING, || agent.call("echo", &hi()));
    renew(
        sidecar.setup(),
        &format!("{}\n", issuer.sign(&claims(HOUR))),
    );
    until_ready(&sidecar);
    let task = sidecar.open_task(&[]);
    let mut agent = sidecar.stranger().with_token(&task.token);
    for turn in 0..10 {
        let ttl = HOUR + Duration::from_secs(turn * 600);
        renew(sidecar.setup(), &issuer.sign(&claims(ttl)));
        let expires = now() + ttl.as_secs();
        until("the renewed token to count", || {
            let answer = agent.call("echo", &hi());
            assert!(answer.is_tool_success(), "{}", answer.text());
            let name = "outrider_identity_expiry_timestamp_seconds";
            let seen = sidecar.metric(name, &["source=\"token_file\""]);
            #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
            let off = (seen - expires as f64).abs();
            (off < 30.0).then_some(())
        });
    }
    let line = sidecar.decisions().pop().unwrap();
    assert_eq!(
        line["input"]["agent"]["attested_by"], "token_file",
        "{line}"
    );
}

#[test]
fn a_token_that_does_not_say_what_it_must_proves_nobody() {
    let issuer = Issuer::new("one");
    let other = Issuer::new("one");
    let edited = |edit: fn(&mut Value)| {
        let mut claims = claims(HOUR);
        edit(&mut claims);
        issuer.sign(&claims)
    };
    let past = |claims: &mut Value| {
        claims["iat"] = (now() - 7200).into();
        claims["nbf"] = claims["iat"].clone();
        claims["exp"] = (now() - 3600).into();
    };
    let server = echo();
    let mut sidecar = setup(&server, &issuer).start();
    let mut agent = sidecar.agent();
    for token in [
        String::new(),
        "nothing".to_owned(),
        other.sign(&claims(HOUR)),
        edited(|claims| claims["iss"] = "https://other.test".into()),
        edited(|claims| claims["aud"] = json!(["somebody"])),
        edited(|claims| claims["sub"] = "system:serviceaccount:agents:other".into()),
        edited(|claims| claims["sub"] = "system:serviceaccount:agents:unknown".into()),
        edited(|claims| claims["exp"] = json!("soon")),
        edited(|claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        edited(past),
        edited(|claims| claims["nbf"] = (now() + 3600).into()),
    ] {
        // From a good one to a bad one, each time.
        renew(sidecar.setup(), &issuer.sign(&claims(HOUR)));
        until_ready(&sidecar);
        assert!(agent.call("echo", &hi()).is_tool_success());
        renew(sidecar.setup(), &token);
        until("the bad token to be noticed", || {
            (sidecar.get("/readyz").status == 503).then_some(())
        });
        refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));
        assert!(!detail(&sidecar).contains(&token) || token.is_empty());
    }
}

#[test]
fn a_token_that_is_not_renewed_proves_nobody_from_its_expiry_on() {
    let server = echo();
    let issuer = Issuer::new("one");
    let setup = setup(&server, &issuer);
    renew(&setup, &issuer.sign(&claims(Duration::from_secs(4))));
    let mut sidecar = setup.start();
    until_ready(&sidecar);
    let mut agent = sidecar.agent();
    assert!(agent.call("echo", &hi()).is_tool_success());
    until("the token to expire", || {
        detail(&sidecar).contains("expired at").then_some(())
    });
    refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));
    renew(sidecar.setup(), &issuer.sign(&claims(HOUR)));
    until_ready(&sidecar);
    assert!(agent.call("echo", &hi()).is_tool_success());
}

#[test]
fn a_key_that_its_issuer_takes_back_proves_nobody() {
    let server = echo();
    let (before, after) = (Issuer::new("one"), Issuer::new("two"));
    let setup = setup(&server, &before);
    renew(&setup, &before.sign(&claims(HOUR)));
    let mut sidecar = setup.start();
    until_ready(&sidecar);
    publish(sidecar.setup(), &[&after]);
    until("the key to be gone", || {
        (sidecar.get("/readyz").status == 503).then_some(())
    });
    let mut agent = sidecar.agent();
    refused(&sidecar, &server, INVALID, || agent.call("echo", &hi()));
    renew(sidecar.setup(), &after.sign(&claims(HOUR)));
    until_ready(&sidecar);
    assert!(agent.call("echo", &hi()).is_tool_success());
}
