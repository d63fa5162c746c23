use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    jose::{Jws, KeySet, Typ, Usage},
    keys::SigningKey,
    task::Terms,
};

fn signer() -> Signer {
    signer_of("spiffe://example.org/agent/triage", Ttl::default())
}

fn signer_of(agent: &str, ttl: Ttl) -> Signer {
    Signer::new(SigningKey::generate().unwrap(), ttl, agent.into())
}

fn tool(id: &str) -> &'static Told {
    Box::leak(Box::new(Told::new(id.into())))
}

fn task(subject: &str, actors: &[&str]) -> Task {
    Task::new(Terms {
        key: "k".into(),
        id: "task-1".into(),
        token_id: "j".into(),
        issuer: "outrider:i".into(),
        subject: subject.into(),
        actors: actors.iter().map(|actor| (*actor).into()).collect(),
        intent: "ticket.triage".into(),
        tools: None,
        max_classification: None,
        budget: None,
        opened: Timestamp::UNIX_EPOCH,
        expires: Timestamp::MAX,
        parent: None,
        opened_by: "uid:1".into(),
    })
}

fn facts<'a>(task: Option<&'a Task>, body: &'a [u8; 32]) -> Facts<'a> {
    Facts {
        decision_id: "0198c6f4-0000-7000-8000-000000000001",
        task,
        tool: Some(tool("tickets/search")),
        classification: "internal",
        audience: "https://tickets.example.org",
        method: "POST",
        uri: "https://tickets.example.org/mcp?x=%2F&y",
        body_hash: Some(body),
        now_s: 1_000,
    }
}

fn written(level: IdentityLevel, facts: &Facts<'_>, signer: &Signer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    write(level, facts, signer, &mut headers).unwrap();
    headers
}

/// Verifies a compact JWS by nothing but the published JWK set, as an upstream would.
fn verify(token: &str, jwks: &str) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3);
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    let jwks: Value = serde_json::from_str(jwks).unwrap();
    let jwk = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|jwk| jwk["kid"] == header["kid"]);
    let public = decode(jwk.unwrap()["x"].as_str().unwrap());
    let signed = token.rsplit_once('.').unwrap().0;
    UnparsedPublicKey::new(&ED25519, public)
        .verify(signed.as_bytes(), &decode(parts[2]))
        .unwrap();
    (header, serde_json::from_slice(&decode(parts[1])).unwrap())
}

fn assertion(facts: &Facts<'_>) -> (Value, Value) {
    let signer = signer();
    let headers = written(IdentityLevel::Assertion, facts, &signer);
    let jwks = signer.jwks(Timestamp::UNIX_EPOCH);
    verify(headers["outrider-assertion"].to_str().unwrap(), &jwks)
}

#[test]
fn the_assertion_is_verified_by_the_published_key_and_binds_the_whole_call() {
    let task = task("user:42", &["spiffe://example.org/agent/triage"]);
    let hash = body_hash(b"abc");
    let (header, mut claims) = assertion(&facts(Some(&task), &hash));
    assert_eq!(header["typ"], "outrider-assertion+jwt");
    assert_eq!(header["alg"], "EdDSA");
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(jti.as_str().unwrap().len(), 36);
    assert_eq!(
        claims,
        json!({
            "iss": "spiffe://example.org/agent/triage",
            "aud": "https://tickets.example.org",
            "sub": "user:42",
            "act": {"sub": "spiffe://example.org/agent/triage"},
            "txn": "0198c6f4-0000-7000-8000-000000000001",
            "task": "task-1",
            "intent": "ticket.triage",
            "tool": "tickets/search",
            "cls": "internal",
            "htm": "POST",
            "htu": "https://tickets.example.org/mcp?x=%2F&y",
            // The example of FIPS 180-4 for "abc", as base64url.
            "bsh": "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0",
            "iat": 1_000,
            "exp": 1_060,
        })
    );
}

#[test]
fn a_changed_assertion_is_not_verified() {
    let signer = signer();
    let hash = body_hash(b"");
    let headers = written(IdentityLevel::Assertion, &facts(None, &hash), &signer);
    let (content, signature) = headers["outrider-assertion"]
        .to_str()
        .unwrap()
        .rsplit_once('.')
        .unwrap();
    let jwks: Value = serde_json::from_str(&signer.jwks(Timestamp::UNIX_EPOCH)).unwrap();
    let public = jwks["keys"][0]["x"].as_str().unwrap();
    let key = UnparsedPublicKey::new(&ED25519, URL_SAFE_NO_PAD.decode(public).unwrap());
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert!(key.verify(content.as_bytes(), &signature).is_ok());
    let mut forged = content.as_bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(key.verify(&forged, &signature).is_err());
}

#[test]
fn no_two_assertions_have_one_id() {
    let hash = body_hash(b"");
    let id = || assertion(&facts(None, &hash)).1["jti"].clone();
    assert_ne!(id(), id());
}

#[test]
fn without_a_task_nothing_is_said_about_one() {
    let hash = body_hash(b"");
    let (_, claims) = assertion(&facts(None, &hash));
    for claim in ["sub", "act", "task", "intent"] {
        assert!(claims.get(claim).is_none(), "{claim}");
    }
    let headers = written(IdentityLevel::Full, &facts(None, &hash), &signer());
    for name in ["outrider-subject", "outrider-task", "outrider-intent"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn a_streamed_body_has_no_digest() {
    let hash = body_hash(b"");
    let facts = Facts {
        body_hash: None,
        ..facts(None, &hash)
    };
    assert!(assertion(&facts).1.get("bsh").is_none());
}

#[test]
fn a_chain_of_actors_is_nested_with_the_nearest_outermost() {
    let task = task("user:42", &["a", "b", "c"]);
    let hash = body_hash(b"");
    let (_, claims) = assertion(&facts(Some(&task), &hash));
    assert_eq!(
        claims["act"],
        json!({"sub": "a", "act": {"sub": "b", "act": {"sub": "c"}}})
    );
}

#[test]
fn ids_cannot_break_out_of_their_claim_or_their_header() {
    let nasty = "a\",\"sub\":\"admin\"\\\r\nOutrider-Agent: x\u{0}\u{7f} %41é\u{2028}";
    let task = task(nasty, &[nasty]);
    let hash = body_hash(b"");
    let (_, claims) = assertion(&facts(Some(&task), &hash));
    assert_eq!(claims["sub"], nasty);
    assert_eq!(claims["act"]["sub"], nasty);
    let headers = written(IdentityLevel::Full, &facts(Some(&task), &hash), &signer());
    assert_eq!(
        headers["outrider-subject"],
        "a\",\"sub\":\"admin\"\\%0D%0AOutrider-Agent:%20x%00%7F%20%2541%C3%A9%E2%80%A8"
    );
}

#[test]
fn each_level_sends_exactly_its_headers() {
    let task = task("user:42", &["a"]);
    let hash = body_hash(b"");
    let sent = |level| {
        let headers = written(level, &facts(Some(&task), &hash), &signer());
        let mut names: Vec<String> = headers
            .keys()
            .map(|name| name.as_str().to_owned())
            .collect();
        names.sort();
        names.join(" ").replace("outrider-", "")
    };
    assert_eq!(
        sent(IdentityLevel::Full),
        "agent assertion classification decision-id intent subject task tool"
    );
    assert_eq!(sent(IdentityLevel::Assertion), "assertion decision-id");
    assert_eq!(sent(IdentityLevel::DecisionId), "decision-id");
    assert_eq!(sent(IdentityLevel::None), "");
}

#[test]
fn a_header_of_ours_that_slipped_through_is_replaced() {
    let hash = body_hash(b"");
    let mut headers = HeaderMap::new();
    headers.append("outrider-agent", HeaderValue::from_static("forged"));
    headers.append("outrider-agent", HeaderValue::from_static("forged"));
    write(
        IdentityLevel::Full,
        &facts(None, &hash),
        &signer(),
        &mut headers,
    )
    .unwrap();
    let all: Vec<_> = headers.get_all("outrider-agent").iter().collect();
    assert_eq!(all, ["spiffe://example.org/agent/triage"]);
}

#[test]
fn the_configuration_refuses_what_is_unknown_and_what_lives_too_long() {
    let config = |value: Value| serde_json::from_value::<Config>(value);
    assert_eq!(config(json!({})).unwrap(), Config::default());
    assert!(config(json!({"ttl": "60s", "algorithm": "EdDSA", "key": "a.pem"})).is_ok());
    assert!(config(json!({"algorithm": "ES256", "overlap": "15m"})).is_ok());
    assert!(config(json!({"algorithm": "RS256"})).is_err());
    for ttl in ["61s", "0s", "2m", "60", "500ms", "-1s", "1h", ""] {
        assert!(config(json!({"ttl": ttl})).is_err(), "{ttl}");
    }
    assert!(config(json!({"ttl": "1m"})).is_ok());
    assert!(config(json!({"lifetime": "1m"})).is_err());
    assert!(serde_json::from_value::<IdentityLevel>(json!("decision_id")).is_ok());
    assert!(serde_json::from_value::<IdentityLevel>(json!("partial")).is_err());
}

proptest::proptest! {
    #[test]
    fn any_id_comes_out_of_the_assertion_as_it_went_in_and_is_a_legal_header(id in ".*") {
        let task = task(&id, &[&id]);
        let hash = body_hash(b"");
        let facts = facts(Some(&task), &hash);
        let (_, claims) = assertion(&facts);
        proptest::prop_assert_eq!(claims["sub"].as_str(), Some(&*id));
        proptest::prop_assert_eq!(claims["act"]["sub"].as_str(), Some(&*id));
        let headers = written(IdentityLevel::Full, &facts, &signer());
        let visible = |byte: &u8| (0x21..=0x7e).contains(byte);
        proptest::prop_assert!(headers["outrider-subject"].as_bytes().iter().all(visible));
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Which key of the set that is published at that time has signed the assertion.
fn signed_by(assertion: &HeaderMap, signer: &Signer, now: Timestamp) -> Option<String> {
    let set = KeySet::read(signer.jwks(now).as_bytes(), Usage::Signatures).unwrap();
    let token = assertion["outrider-assertion"].as_bytes();
    let verified = Jws::read(token).unwrap().verify(Typ::Exactly(TYP), &set);
    verified.ok().map(|(_, key)| key.kid().unwrap().to_owned())
}

#[test]
fn a_replaced_key_signs_nothing_more_and_is_published_until_its_overlap_is_over() {
    let signer = signer();
    let hash = body_hash(b"");
    let sign = || written(IdentityLevel::Assertion, &facts(None, &hash), &signer);
    let (old, before) = (signer.kid(), sign());
    signer.replace(SigningKey::generate_p256().unwrap(), &[], at(0));
    let (new, after) = (signer.kid(), sign());
    assert_ne!(old, new);
    assert_eq!(signed_by(&before, &signer, at(599)), Some(old.clone()));
    assert_eq!(signed_by(&after, &signer, at(599)), Some(new.clone()));
    assert_eq!(signed_by(&before, &signer, at(600)), None);
    assert_eq!(signed_by(&after, &signer, at(600)), Some(new.clone()));
    let successor = signer_of("spiffe://example.org/agent/triage", Ttl::default());
    successor.inherit(signer.leave(at(100)));
    assert_eq!(signed_by(&after, &successor, at(699)), Some(new));
    assert_eq!(signed_by(&before, &successor, at(599)), Some(old));
}

#[test]
fn many_rotations_keep_a_bounded_set_and_the_same_key_is_in_it_once() {
    let signer = signer();
    for second in 0..100 {
        signer.replace(SigningKey::generate().unwrap(), &[], at(second));
    }
    let keys = |now| {
        let set: Value = serde_json::from_str(&signer.jwks(at(now))).unwrap();
        set["keys"].as_array().unwrap().len()
    };
    assert_eq!((keys(100), keys(800)), (33, 1));
}

#[test]
fn an_overlap_shorter_than_an_assertion_is_refused() {
    let read = |text: &str| Overlap::try_from(Period::try_from(text.to_owned()).unwrap()).is_ok();
    assert!(read("90s") && read("1h"));
    assert!(!read("89s"));
}

#[test]
fn a_signer_without_a_key_signs_nothing_and_what_it_has_signed_by_can_still_be_verified() {
    let signer = Signer::mute(Ttl::default(), "spiffe://example.org/agent/triage".into());
    let (now, hash) = (Timestamp::now(), body_hash(b""));
    let kids = || -> Vec<String> {
        let set: Value = serde_json::from_str(&signer.jwks(now)).unwrap();
        let keys = set["keys"].as_array().unwrap().iter();
        keys.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let refused = || {
        let (facts, mut headers) = (facts(None, &hash), HeaderMap::new());
        let written = write(IdentityLevel::Assertion, &facts, &signer, &mut headers);
        written == Err(Unsigned) && !headers.contains_key("outrider-assertion")
    };
    assert!(refused() && kids().is_empty() && signer.kid().is_empty());
    let key = SigningKey::generate_p256().unwrap();
    let kid = key.kid().to_owned();
    signer.replace(key, &[b"leaf".to_vec()], now);
    assert!(!refused());
    assert_eq!(kids(), std::slice::from_ref(&kid));
    signer.retire(now);
    assert!(refused() && signer.kid().is_empty());
    assert_eq!(kids(), [kid]);
}
