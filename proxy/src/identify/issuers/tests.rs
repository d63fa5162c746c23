use std::sync::OnceLock;

use outrider_policy::Level;
use serde_json::{Value, json};

use super::*;
use crate::jose::{
    Algorithm, Location, Settings,
    testing::{TestKey, document},
};

const AGENT: &str = "spiffe://example.org/agent/triage";
const ISSUER: &str = "https://iam.example.org";
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key() -> &'static TestKey {
    static KEY: OnceLock<TestKey> = OnceLock::new();
    KEY.get_or_init(|| TestKey::new(Algorithm::EdDsa))
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "outrider", "sub": "user:ada", "act": {"sub": AGENT}, "jti": "j1",
        "iat": NOW, "exp": NOW + 600,
        "task": {"id": "t1", "intent": "ticket.triage", "tools": ["tickets/*"],
                 "max_classification": "internal", "budget": {"calls": 3}, "parent": "t0"},
    })
}

/// The claims with one of them other, or gone.
fn with(pointer: &str, value: impl Into<Option<Value>>) -> Value {
    let mut claims = claims();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value.into() {
        Some(value) => parent.insert(name.into(), value),
        None => parent.remove(name),
    };
    claims
}

struct Room {
    _directory: tempfile::TempDir,
    issuers: Issuers,
}

fn room(change: impl Fn(&mut Issuer)) -> Room {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    std::fs::write(&path, document(&[key().jwk("k")])).unwrap();
    let source = Source::open(Settings::new(ISSUER, Location::File(path))).unwrap();
    let mut issuer = Issuer {
        name: ISSUER.into(),
        audience: "outrider".into(),
        verified_chain: false,
        single_use: false,
        max_ttl: Duration::from_hours(24),
        source: Arc::new(source),
    };
    change(&mut issuer);
    Room {
        _directory: directory,
        issuers: Issuers::new(vec![issuer]),
    }
}

impl Room {
    fn verify_at(&self, token: &str, now: i64) -> Result<Terms, Untrusted> {
        let digest = token_digest(token.as_bytes());
        let bearer = Bearer {
            agent: AGENT,
            depth: 4,
        };
        self.issuers
            .verify(token.as_bytes(), &digest, bearer, at(now))
    }

    fn says(&self, claims: &Value) -> Result<Terms, Untrusted> {
        self.verify_at(&key().sign("k", "outrider-task+jwt", claims), NOW)
    }
}

#[test]
fn a_good_token_grants_what_it_says_and_no_more() {
    let terms = room(|_| ()).says(&claims()).unwrap();
    assert_eq!((&*terms.id, &*terms.token_id), ("t1", "j1"));
    assert_eq!((&*terms.issuer, &*terms.key), (ISSUER, "k"));
    assert_eq!(
        (&*terms.subject, &*terms.intent),
        ("user:ada", "ticket.triage")
    );
    assert_eq!(terms.actors, [Arc::<str>::from(AGENT)]);
    let tools = terms.tools.unwrap();
    assert_eq!(
        tools
            .iter()
            .map(outrider_policy::Pattern::as_str)
            .collect::<Vec<_>>(),
        ["tickets/*"]
    );
    assert_eq!(
        (terms.max_classification, terms.budget),
        (Some(Level::Internal), Some(3))
    );
    assert_eq!(terms.parent.as_deref(), Some("t0"));
    assert_eq!((terms.opened, terms.expires), (at(NOW), at(NOW + 630)));
}

#[test]
fn what_a_token_leaves_out_is_left_to_the_intent() {
    let room = room(|_| ());
    let mut few = with("/task", json!({"id": "t1", "intent": "i"}));
    few["aud"] = json!(["other", "outrider"]);
    few["more"] = json!({"claims": "are ignored"});
    let terms = room.says(&few).unwrap();
    assert!(terms.tools.is_none() && terms.max_classification.is_none());
    assert!(terms.budget.is_none() && terms.parent.is_none());
    let none = room.says(&with("/task/tools", json!([]))).unwrap();
    assert_eq!(none.tools.map(|tools| tools.len()), Some(0));
}

#[test]
fn each_claim_is_required_and_must_be_as_it_should_be() {
    let room = room(|_| ());
    let bad = |claims: Value, claim: &'static str| {
        assert_eq!(
            room.says(&claims).map(drop),
            Err(Untrusted::Bad(BadToken::BadClaim(claim))),
            "{claims}"
        );
    };
    for claim in ["aud", "sub", "act", "jti", "iat", "exp", "task"] {
        for value in [
            None,
            Some(json!("")),
            Some(json!(null)),
            Some(json!({})),
            Some(json!(1.5)),
        ] {
            let empty = value == Some(json!({}));
            let named = if claim == "task" && empty {
                "id"
            } else {
                claim
            };
            bad(with(&format!("/{claim}"), value), named);
        }
    }
    for (pointer, value, claim) in [
        ("/iss", None, "iss"),
        ("/iss", Some(json!("")), "iss"),
        ("/iss", Some(json!([ISSUER])), "iss"),
        ("/aud", Some(json!("Outrider")), "aud"),
        ("/aud", Some(json!(["outrider", 1])), "aud"),
        ("/act/sub", None, "act"),
        ("/act/sub", Some(json!("")), "act"),
        (
            "/act/sub",
            Some(json!("spiffe://example.org/agent/other")),
            "act",
        ),
        ("/act/sub", Some(json!([AGENT])), "act"),
        ("/act/act", Some(json!("x")), "act"),
        ("/act/act", Some(json!({})), "act"),
        ("/act/act", Some(json!(null)), "act"),
        ("/act", Some(json!([{"sub": AGENT}])), "act"),
        ("/iat", Some(json!("1800000000")), "iat"),
        ("/exp", Some(json!("1800000600")), "exp"),
        ("/exp", Some(json!(1_800_000_600.0)), "exp"),
        ("/exp", Some(json!(-1)), "exp"),
        ("/exp", Some(json!(1e20)), "exp"),
        ("/exp", Some(json!(NOW)), "exp"),
        ("/nbf", Some(json!("0")), "nbf"),
        ("/nbf", Some(json!(null)), "nbf"),
        ("/task/id", None, "id"),
        ("/task/id", Some(json!("")), "id"),
        ("/task/id", Some(json!(7)), "id"),
        ("/task/id", Some(json!("a\nb")), "id"),
        ("/task/intent", None, "intent"),
        ("/task/intent", Some(json!("")), "intent"),
        ("/task/tools", Some(json!("tickets/*")), "tools"),
        ("/task/tools", Some(json!(null)), "tools"),
        ("/task/tools", Some(json!(["tickets"])), "tools"),
        ("/task/tools", Some(json!([7])), "tools"),
        (
            "/task/max_classification",
            Some(json!(null)),
            "max_classification",
        ),
        (
            "/task/max_classification",
            Some(json!("secret")),
            "max_classification",
        ),
        (
            "/task/max_classification",
            Some(json!("Public")),
            "max_classification",
        ),
        ("/task/budget", Some(json!(3)), "budget"),
        ("/task/budget", Some(json!({})), "budget"),
        ("/task/budget", Some(json!({"calls": -1})), "budget"),
        ("/task/budget", Some(json!({"calls": 1.5})), "budget"),
        (
            "/task/budget",
            Some(json!({"calls": 1, "tokens": 1})),
            "budget",
        ),
        ("/task/parent", Some(json!(null)), "parent"),
        ("/task/parent", Some(json!("")), "parent"),
        ("/task/approval", Some(json!(true)), "task"),
        ("/task", Some(json!([])), "task"),
    ] {
        bad(with(pointer, value), claim);
    }
    assert_eq!(
        room.says(&with("/iss", json!("https://other.example")))
            .map(drop),
        Err(Untrusted::UnknownIssuer)
    );
}

#[test]
fn a_token_holds_for_its_time_and_not_longer_than_its_issuer_may_say() {
    let hour = room(|issuer| issuer.max_ttl = Duration::from_hours(1));
    let lasting = |seconds: i64| hour.says(&with("/exp", json!(NOW + seconds))).map(drop);
    assert_eq!(lasting(3600), Ok(()));
    assert_eq!(lasting(3601), Err(Untrusted::TooLong));
    let token = key().sign("k", "outrider-task+jwt", &claims());
    let at = |now| hour.verify_at(&token, now).map(drop);
    assert_eq!(at(NOW + 629), Ok(()));
    assert_eq!(at(NOW + 630), Err(BadToken::Expired.into()));
    assert_eq!(at(NOW - 30), Ok(()));
    assert_eq!(at(NOW - 31), Err(BadToken::NotYet.into()));
}

#[test]
fn only_a_token_that_is_good_but_for_its_time_is_said_to_have_expired() {
    let room = room(|_| ());
    let other = TestKey::new(Algorithm::EdDsa).sign("k", "outrider-task+jwt", &claims());
    assert_eq!(
        room.verify_at(&other, NOW + 9_000).map(drop),
        Err(BadToken::BadSignature.into())
    );
    let late = key().sign("k", "outrider-task+jwt", &with("/aud", json!("other")));
    assert_eq!(
        room.verify_at(&late, NOW + 9_000).map(drop),
        Err(BadToken::BadClaim("aud").into())
    );
}

fn chain(length: usize) -> Value {
    let mut act = json!({"sub": "agent:0"});
    for number in 1..length {
        act = json!({"sub": format!("agent:{number}"), "act": act});
    }
    act["sub"] = json!(AGENT);
    with("/act", act)
}

#[test]
fn a_chain_counts_only_where_its_issuer_vouches_for_it_and_no_further_than_it_may() {
    assert_eq!(
        room(|_| ()).says(&chain(2)).map(drop),
        Err(Untrusted::Chain)
    );
    let vouching = room(|issuer| issuer.verified_chain = true);
    let actors = vouching.says(&chain(5)).unwrap().actors;
    let expected = [AGENT, "agent:3", "agent:2", "agent:1", "agent:0"];
    assert_eq!(actors, expected.map(Arc::<str>::from));
    assert_eq!(vouching.says(&chain(6)).map(drop), Err(Untrusted::TooDeep));
    assert_eq!(
        vouching.says(&chain(60)).map(drop),
        Err(BadToken::BadClaim("act").into())
    );
}

#[test]
fn another_typ_is_no_task_token() {
    let room = room(|_| ());
    for typ in ["JWT", "outrider-assertion+jwt", "Outrider-Task+JWT"] {
        let token = key().sign("k", typ, &claims());
        assert_eq!(
            room.verify_at(&token, NOW).map(drop),
            Err(BadToken::OtherType.into())
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_verified_token_is_remembered_until_the_keys_change() {
    let room = room(|_| ());
    let token = key().sign("k", "outrider-task+jwt", &claims());
    let digest = token_digest(token.as_bytes());
    assert_eq!(room.issuers.holds(&digest), Ok(false));
    room.verify_at(&token, NOW).unwrap();
    assert_eq!(room.issuers.holds(&digest), Ok(true));
    let source = &room.issuers.all()[0].source;
    source.refresh().await.unwrap();
    assert_eq!(room.issuers.holds(&digest), Ok(true));
    let Location::File(path) = &source.settings().location else {
        panic!("the keys are in a file");
    };
    let other = TestKey::new(Algorithm::EdDsa).jwk("k");
    std::fs::write(path, document(&[other])).unwrap();
    source.refresh().await.unwrap();
    assert_eq!(room.issuers.holds(&digest), Ok(false));
    assert_eq!(
        room.verify_at(&token, NOW).map(drop),
        Err(BadToken::BadSignature.into())
    );
}
