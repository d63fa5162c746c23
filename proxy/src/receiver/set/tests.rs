use serde_json::json;

use super::*;
use crate::jose::{Algorithm, testing::TestKey};

const TYP: &str = "secevent+jwt";
const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn expected() -> Expected<'static> {
    Expected {
        issuer: "https://idp.example.org",
        audience: "https://receiver.example.org",
        max_age: Duration::from_hours(24),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://idp.example.org",
        "aud": "https://receiver.example.org",
        "jti": "1",
        "iat": NOW,
        "sub_id": {"format": "email", "email": "alice@example.org"},
        "events": {"https://example.org/happened": {"x": 1}},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

struct Issuer {
    key: TestKey,
    keys: KeySet,
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        let key = TestKey::new(algorithm);
        Self {
            keys: key.set("k"),
            key,
        }
    }

    fn read(&self, claims: &Value) -> Result<Set, BadSet> {
        self.read_as(TYP, claims)
    }

    fn read_as(&self, typ: &str, claims: &Value) -> Result<Set, BadSet> {
        let token = self.key.sign("k", typ, claims);
        Set::read(token.as_bytes(), &self.keys, expected(), now())
    }
}

#[test]
fn a_token_says_what_happened_to_whom_whatever_it_is_signed_with() {
    for algorithm in [
        Algorithm::Rs256,
        Algorithm::Ps256,
        Algorithm::Es256,
        Algorithm::EdDsa,
    ] {
        let set = Issuer::new(algorithm).read(&claims()).unwrap();
        assert_eq!((&*set.id, set.issued), ("1", now()));
        assert_eq!(set.subject["email"], "alice@example.org");
        assert_eq!(set.events.len(), 1);
        assert_eq!(set.events[0].0, "https://example.org/happened");
    }
}

#[test]
fn an_audience_may_be_one_of_several() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let several = json!(["https://other.example.org", "https://receiver.example.org"]);
    assert!(issuer.read(&with("aud", several)).is_ok());
}

#[test]
fn what_is_not_as_it_should_be_is_refused_with_the_word_for_it() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let many: Map<_, _> = (0..17)
        .map(|n| (format!("https://e/{n}"), json!({})))
        .collect();
    let cases = [
        (
            with("iss", json!("https://other.example.org")),
            "invalid_issuer",
        ),
        (
            with("iss", json!("https://idp.example.org/")),
            "invalid_issuer",
        ),
        (without("iss"), "invalid_issuer"),
        (
            with("aud", json!("https://other.example.org")),
            "invalid_audience",
        ),
        (with("aud", json!([])), "invalid_audience"),
        (
            with("aud", json!(["https://receiver.example.org", 1])),
            "invalid_audience",
        ),
        (without("aud"), "invalid_audience"),
        (with("sub", json!("alice")), "invalid_request"),
        (with("sub", json!(null)), "invalid_request"),
        (with("exp", json!(NOW + 60)), "invalid_request"),
        (without("jti"), "invalid_request"),
        (with("jti", json!("")), "invalid_request"),
        (with("jti", json!(1)), "invalid_request"),
        (with("jti", json!("a\nb")), "invalid_request"),
        (without("iat"), "invalid_request"),
        (with("iat", json!("1800000000")), "invalid_request"),
        (with("iat", json!(NOW + 31)), "invalid_request"),
        (with("iat", json!(NOW - 86_401)), "invalid_request"),
        (without("sub_id"), "invalid_request"),
        (with("sub_id", json!("alice")), "invalid_request"),
        (without("events"), "invalid_request"),
        (with("events", json!({})), "invalid_request"),
        (with("events", json!([])), "invalid_request"),
        (
            with("events", json!({"https://e": null})),
            "invalid_request",
        ),
        (with("events", json!(many)), "invalid_request"),
    ];
    for (claims, code) in cases {
        let refused = issuer.read(&claims).unwrap_err();
        assert_eq!(refused.code(), code, "{claims}");
        assert!(!refused.to_string().contains("example.org"), "{refused}");
    }
}

#[test]
fn another_type_of_token_is_refused() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    for typ in [
        "JWT",
        "SECEVENT+JWT",
        "application/secevent+jwt",
        "secevent+jwt ",
        "outrider-task+jwt",
    ] {
        let refused = issuer.read_as(typ, &claims()).unwrap_err();
        assert_eq!(refused.code(), "invalid_request", "{typ}");
    }
    let bare = issuer
        .key
        .token(r#"{"alg":"EdDSA","kid":"k"}"#, &claims().to_string());
    let read = Set::read(bare.as_bytes(), &issuer.keys, expected(), now());
    assert_eq!(read.unwrap_err().code(), "invalid_request");
}

#[test]
fn what_its_issuer_has_not_signed_is_refused() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let forged = TestKey::new(Algorithm::EdDsa);
    let header = |alg: &str| format!(r#"{{"alg":"{alg}","kid":"k","typ":"{TYP}"}}"#);
    let text = claims().to_string();
    let good = issuer.key.sign("k", TYP, &claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    let cases = [
        forged.sign("k", TYP, &claims()),
        issuer.key.sign("other", TYP, &claims()),
        forged.token(&header("none"), &text),
        format!("{signed}."),
        forged.token(&header("HS256"), &text),
        issuer.key.token(&header("ES256"), &text),
    ];
    for token in cases {
        let read = Set::read(token.as_bytes(), &issuer.keys, expected(), now());
        assert_eq!(read.unwrap_err().code(), "invalid_key", "{token}");
    }
}

#[test]
fn what_is_no_token_is_refused_and_a_long_one_is_read_up_to_its_bound() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let read = |token: &[u8]| Set::read(token, &issuer.keys, expected(), now());
    for token in [&b""[..], b"a.b", b"a.b.c", b"{}", &[0xff; 8]] {
        assert_eq!(read(token).unwrap_err().code(), "invalid_request");
    }
    let long = |bytes: usize| with("events", json!({"https://e": {"x": "y".repeat(bytes)}}));
    assert!(issuer.read(&long(40_000)).is_ok());
    assert_eq!(
        issuer.read(&long(64 * 1024)).unwrap_err(),
        BadSet::Token(BadToken::Malformed)
    );
}

#[test]
fn a_claim_that_stands_twice_is_refused() {
    let issuer = Issuer::new(Algorithm::EdDsa);
    let header = format!(r#"{{"alg":"EdDSA","kid":"k","typ":"{TYP}"}}"#);
    let text = claims().to_string().replacen('{', r#"{"jti":"2","#, 1);
    let token = issuer.key.token(&header, &text);
    let read = Set::read(token.as_bytes(), &issuer.keys, expected(), now());
    assert_eq!(read.unwrap_err(), BadSet::Token(BadToken::Malformed));
}
