#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
        RsaKeyPair,
    },
};
use serde_json::json;

use super::*;
use crate::{
    identify::jwk::BadKeys,
    keys::{SigningKey, jwks},
    state::{Open, Tasks},
};

const AGENT: &str = "spiffe://example.org/agent/triage";
const NOW: i64 = 1_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn issuer(keys: &str) -> Issuer {
    Issuer {
        issuer: "https://iam.example.org".into(),
        audience: "outrider".into(),
        keys: KeySet::read(keys.as_bytes()).unwrap(),
    }
}

fn good() -> Value {
    json!({
        "iss": "https://iam.example.org", "aud": "outrider", "sub": "user:42",
        "act": {"sub": AGENT, "act": {"sub": "spiffe://example.org/agent/planner"}},
        "jti": "j-1", "iat": NOW - 10, "exp": NOW + 600,
        "task": {
            "id": "t-1", "intent": "ticket.triage", "tools": ["tickets/*"],
            "max_classification": "internal", "budget": {"calls": 3}, "parent": "t-0",
        },
    })
}

/// Signs any header and any claims, as a hostile holder of the issuer's key could.
fn sign(key: &SigningKey, header: &str, claims: &str) -> String {
    key.compact(&URL_SAFE_NO_PAD.encode(header), claims.as_bytes())
        .unwrap()
}

fn header(key: &SigningKey) -> String {
    json!({"alg": "EdDSA", "typ": TYP, "kid": key.kid()}).to_string()
}

fn judge(key: &SigningKey, claims: &Value) -> Result<Terms, BadToken> {
    let token = sign(key, &header(key), &claims.to_string());
    verify(token.as_bytes(), &issuer(&jwks([key])), AGENT, now())
}

/// A good token but for one member, named by a JSON pointer; `None` removes it.
fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut claims = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let object = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => object.insert(name.to_owned(), value),
        None => object.remove(name),
    };
    claims
}

#[test]
fn a_good_token_grants_what_it_says() {
    let terms = judge(&SigningKey::generate().unwrap(), &good()).unwrap();
    assert_eq!((&*terms.id, &*terms.token_id), ("t-1", "j-1"));
    assert_eq!(
        (&*terms.subject, &*terms.intent),
        ("user:42", "ticket.triage")
    );
    assert_eq!(
        terms.actors,
        [AGENT.into(), "spiffe://example.org/agent/planner".into()]
    );
    assert_eq!(terms.tools.unwrap()[0].as_str(), "tickets/*");
    assert_eq!(terms.max_classification, Some(Level::Internal));
    assert_eq!(
        (terms.budget, terms.parent.as_deref()),
        (Some(3), Some("t-0"))
    );
    assert_eq!(terms.expires.as_second(), NOW + 630);
}

#[test]
fn a_token_of_the_embedded_issuer_passes_the_same_verification() {
    let tasks = Tasks::new("https://iam.example.org", SigningKey::generate().unwrap());
    let open = Open {
        agent: AGENT.into(),
        intent: "ticket.triage".into(),
        subject: "uid:1".into(),
        tools: None,
        max_classification: None,
        budget: Some(0),
        ttl: Duration::from_mins(1),
        current: None,
        opened_by: "uid:1".into(),
    };
    let opened = tasks.open(open, now()).unwrap();
    let issuer = issuer(&jwks([tasks.key()]));
    let terms = verify(opened.token.as_bytes(), &issuer, AGENT, now()).unwrap();
    assert_eq!(terms.id, opened.task.id);
    assert_eq!(terms.budget, Some(0));
}

#[test]
fn a_claim_that_is_missing_or_not_as_it_should_be_is_never_treated_as_absent() {
    let key = SigningKey::generate().unwrap();
    for required in [
        "/iss",
        "/aud",
        "/sub",
        "/act",
        "/act/sub",
        "/jti",
        "/iat",
        "/exp",
        "/task",
        "/task/id",
        "/task/intent",
    ] {
        for value in [
            None,
            Some(json!("")),
            Some(Value::Null),
            Some(json!(true)),
            Some(json!([])),
        ] {
            let result = judge(&key, &with(required, value.clone()));
            assert!(
                matches!(result, Err(BadToken::BadClaim(_))),
                "{required}: {value:?}"
            );
        }
    }
    for (optional, value) in [
        ("/nbf", json!("x")),
        ("/nbf", Value::Null),
        ("/exp", json!(1e6)),
        ("/exp", json!(-1)),
        ("/exp", json!(i64::MAX)),
        ("/iat", json!(NOW + 700)),
        ("/iss", json!("https://iam")),
        ("/aud", json!(["outrider", 1])),
        ("/aud", json!(["other"])),
        ("/aud", json!("outrider2")),
        ("/act/sub", json!("spiffe://example.org/agent/other")),
        ("/act/act", json!({})),
        ("/act/act", Value::Null),
        ("/sub", json!("a\nb")),
        ("/task/tools", Value::Null),
        ("/task/tools", json!("tickets/*")),
        ("/task/tools", json!([1])),
        ("/task/tools", json!(["nonsense"])),
        ("/task/max_classification", Value::Null),
        ("/task/max_classification", json!("secret")),
        ("/task/max_classification", json!(1)),
        ("/task/budget", Value::Null),
        ("/task/budget", json!({})),
        ("/task/budget", json!(3)),
        ("/task/budget", json!({"calls": -1})),
        ("/task/budget", json!({"calls": 1.5})),
        ("/task/budget", json!({"calls": "3"})),
        ("/task/parent", Value::Null),
    ] {
        let result = judge(&key, &with(optional, Some(value.clone())));
        assert!(
            matches!(result, Err(BadToken::BadClaim(_))),
            "{optional}: {value}"
        );
    }
}

#[test]
fn several_audiences_may_be_named_when_ours_is_one() {
    let claims = with("/aud", Some(json!(["other", "outrider"])));
    assert!(judge(&SigningKey::generate().unwrap(), &claims).is_ok());
}

#[test]
fn clocks_may_differ_by_thirty_seconds_and_no_more() {
    let key = SigningKey::generate().unwrap();
    let at = |claim: &str, second: i64| judge(&key, &with(claim, Some(json!(second)))).map(|_| ());
    assert_eq!(at("/exp", NOW + 1), Ok(()));
    let old = |exp| {
        let mut claims = with("/iat", Some(json!(NOW - 1000)));
        claims["exp"] = json!(exp);
        judge(&key, &claims).map(|_| ())
    };
    assert_eq!(old(NOW - 29), Ok(()));
    assert_eq!(old(NOW - 30), Err(BadToken::Expired));
    assert_eq!(at("/nbf", NOW + 30), Ok(()));
    assert_eq!(at("/nbf", NOW + 31), Err(BadToken::NotYet));
    assert_eq!(at("/iat", NOW + 30), Ok(()));
    assert_eq!(at("/iat", NOW + 31), Err(BadToken::NotYet));
}

#[test]
fn no_header_but_the_expected_one_is_accepted() {
    let key = SigningKey::generate().unwrap();
    let issuer = issuer(&jwks([&key]));
    let kid = key.kid();
    let judge = |header: Value| {
        let token = sign(&key, &header.to_string(), &good().to_string());
        verify(token.as_bytes(), &issuer, AGENT, now()).map(|_| ())
    };
    assert_eq!(judge(json!({"alg": "EdDSA", "typ": TYP})), Ok(()));
    let mine = SigningKey::generate().unwrap().jwk();
    assert_eq!(
        judge(json!({"alg": "EdDSA", "typ": TYP, "jwk": mine, "jku": "https://x"})),
        Ok(())
    );
    for wrong in [
        json!({"alg": "none", "typ": TYP, "kid": kid}),
        json!({"alg": "HS256", "typ": TYP, "kid": kid}),
        json!({"alg": "ES256", "typ": TYP, "kid": kid}),
        json!({"alg": "eddsa", "typ": TYP, "kid": kid}),
        json!({"typ": TYP, "kid": kid}),
        json!({"alg": "EdDSA", "kid": kid}),
        json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}),
        json!({"alg": "EdDSA", "typ": "OUTRIDER-TASK+JWT", "kid": kid}),
        json!({"alg": "EdDSA", "typ": "application/outrider-task+jwt", "kid": kid}),
        json!({"alg": "EdDSA", "typ": "outrider-assertion+jwt", "kid": kid}),
        json!({"alg": "EdDSA", "typ": TYP, "kid": kid, "crit": []}),
        json!({"alg": "EdDSA", "typ": TYP, "kid": kid, "crit": ["exp"]}),
        json!({"alg": "EdDSA", "typ": TYP, "kid": kid, "b64": false}),
        json!({"alg": "EdDSA", "typ": TYP, "kid": null}),
        json!({"alg": "EdDSA", "typ": TYP, "kid": 1}),
    ] {
        assert_eq!(judge(wrong.clone()), Err(BadToken::WrongHeader), "{wrong}");
    }
    let unknown = judge(json!({"alg": "EdDSA", "typ": TYP, "kid": "other"}));
    assert_eq!(unknown, Err(BadToken::UnknownKey));
}

#[test]
fn another_signature_or_none_is_refused() {
    let (key, other) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let issuer = issuer(&jwks([&key]));
    let judge = |token: &str| verify(token.as_bytes(), &issuer, AGENT, now()).map(|_| ());
    let forged = sign(&other, &header(&key), &good().to_string());
    assert_eq!(judge(&forged), Err(BadToken::BadSignature));
    let unsigned = forged.rsplit_once('.').unwrap().0;
    assert_eq!(judge(&format!("{unsigned}.")), Err(BadToken::BadSignature));
}

#[test]
fn what_is_not_one_canonical_compact_token_is_malformed() {
    let key = SigningKey::generate().unwrap();
    let issuer = issuer(&jwks([&key]));
    let judge = |token: &str| verify(token.as_bytes(), &issuer, AGENT, now()).map(|_| ());
    let token = sign(&key, &header(&key), &good().to_string());
    assert_eq!(judge(&token), Ok(()));
    let padded = format!("{token}=");
    let long = format!("{token}{}", "A".repeat(LONGEST));
    for bad in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        &padded,
        &long,
        &format!("{token}."),
        &format!(" {token}"),
        &format!("{token}\n"),
        &format!(".{token}"),
    ] {
        assert!(judge(bad).is_err(), "{bad}");
    }
    // The last character of 64 bytes has four bits that mean nothing: they must be zero.
    let last = token.chars().next_back().unwrap();
    let position = "AQgw".find(last).unwrap();
    let twin = ["B", "R", "h", "x"][position];
    assert_eq!(
        judge(&format!("{}{twin}", token.strip_suffix(last).unwrap())),
        Err(BadToken::Malformed)
    );
    let claims = good().to_string();
    for claims in [
        claims.replacen('{', "{\"sub\":\"admin\",", 1),
        claims.replacen("\"task\":{", "\"task\":{\"\\u0069d\":\"other\",", 1),
        format!("{claims} x"),
        format!("\u{feff}{claims}"),
        "[]".to_owned(),
        "null".to_owned(),
    ] {
        assert_eq!(
            judge(&sign(&key, &header(&key), &claims)),
            Err(BadToken::Malformed),
            "{claims}"
        );
    }
    let twice = header(&key).replacen('{', "{\"alg\":\"none\",", 1);
    assert_eq!(
        judge(&sign(&key, &twice, &good().to_string())),
        Err(BadToken::Malformed)
    );
}

#[test]
fn a_chain_of_actors_has_an_end() {
    let key = SigningKey::generate().unwrap();
    let chain = |length: usize| {
        (1..length).fold(
            json!({"sub": AGENT}),
            |act, _| json!({"sub": AGENT, "act": act}),
        )
    };
    assert!(judge(&key, &with("/act", Some(chain(MOST_ACTORS)))).is_ok());
    let longer = judge(&key, &with("/act", Some(chain(MOST_ACTORS + 1))));
    assert_eq!(longer.unwrap_err(), BadToken::BadClaim("act"));
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn compact(algorithm: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let header = base64(
        json!({"alg": algorithm, "typ": TYP, "kid": "k"})
            .to_string()
            .as_bytes(),
    );
    let signed = format!("{header}.{}", base64(good().to_string().as_bytes()));
    let signature = base64(&sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[test]
fn es256_is_verified_and_a_signature_of_zeros_is_not() {
    let rng = SystemRandom::new();
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let jwk = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k",
        "x": base64(&point[1..33]), "y": base64(&point[33..])}]});
    let issuer = issuer(&jwk.to_string());
    let token = compact("ES256", |signed| {
        pair.sign(&rng, signed).unwrap().as_ref().to_vec()
    });
    assert!(verify(token.as_bytes(), &issuer, AGENT, now()).is_ok());
    let zeros = compact("ES256", |_| vec![0; 64]);
    let result = verify(zeros.as_bytes(), &issuer, AGENT, now());
    assert_eq!(result.unwrap_err(), BadToken::BadSignature);
}

#[test]
fn an_rsa_key_verifies_by_its_own_algorithm_alone() {
    let rng = SystemRandom::new();
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // RSAPublicKey (RFC 8017, A.1.1): 9 bytes, 256 of the modulus, 2 bytes, 3 of the exponent.
    let public = pair.public_key().as_ref();
    let set = |algorithm: &str| {
        json!({"keys": [{"kty": "RSA", "alg": algorithm, "kid": "k",
            "n": base64(&public[9..265]),
            "e": base64(&public[267..])}]})
        .to_string()
    };
    let token = |algorithm: &str| {
        compact(algorithm, |signed| {
            let mut signature = vec![0; pair.public_modulus_len()];
            if algorithm == "RS256" {
                pair.sign(&RSA_PKCS1_SHA256, &rng, signed, &mut signature)
                    .unwrap();
            } else {
                pair.sign(&RSA_PSS_SHA256, &rng, signed, &mut signature)
                    .unwrap();
            }
            signature
        })
    };
    for (key, algorithm, fits) in [
        ("RS256", "RS256", true),
        ("PS256", "PS256", true),
        ("RS256", "PS256", false),
        ("PS256", "RS256", false),
    ] {
        let result = verify(
            token(algorithm).as_bytes(),
            &issuer(&set(key)),
            AGENT,
            now(),
        );
        assert_eq!(result.is_ok(), fits, "{key} {algorithm}");
    }
}

#[test]
fn a_key_set_that_is_ambiguous_private_or_empty_is_refused() {
    let (a, b) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let read = |set: Value| {
        KeySet::read(set.to_string().as_bytes())
            .map(|_| ())
            .unwrap_err()
    };
    let jwk = |key: &SigningKey| serde_json::from_str::<Value>(&key.jwk()).unwrap();
    let but = |key: &SigningKey, name: &str, value: Value| {
        let mut jwk = jwk(key);
        jwk[name] = value;
        jwk
    };
    let nameless = |key: &SigningKey| {
        let mut jwk = jwk(key);
        jwk.as_object_mut().unwrap().remove("kid");
        jwk
    };
    assert_eq!(
        read(json!({"keys": [jwk(&a), jwk(&a)]})),
        BadKeys::Ambiguous
    );
    assert_eq!(
        read(json!({"keys": [nameless(&a), jwk(&b)]})),
        BadKeys::Ambiguous
    );
    assert_eq!(
        read(json!({"keys": [nameless(&a), nameless(&b)]})),
        BadKeys::Ambiguous
    );
    assert_eq!(
        read(json!({"keys": [but(&a, "d", json!("x"))]})),
        BadKeys::Private
    );
    assert_eq!(
        read(json!({"keys": [{"kty": "oct", "k": "x", "alg": "HS256"}]})),
        BadKeys::Private
    );
    assert_eq!(
        read(json!({"keys": [but(&a, "x", json!("AAAA"))]})),
        BadKeys::Broken
    );
    assert_eq!(
        read(json!({"keys": [but(&a, "kid", json!(""))]})),
        BadKeys::Broken
    );
    assert_eq!(
        read(json!({"keys": [but(&a, "use", json!("enc"))]})),
        BadKeys::Empty
    );
    assert_eq!(
        read(json!({"keys": [but(&a, "alg", json!("HS256"))]})),
        BadKeys::Empty
    );
    assert_eq!(read(json!({"keys": []})), BadKeys::Empty);
    assert_eq!(read(json!([])), BadKeys::NotASet);
}
