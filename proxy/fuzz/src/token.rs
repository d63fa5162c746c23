//! Tokens of other issuers and the sets of their keys: whatever is sent, nothing is believed that
//! no key of the issuer has signed, and nothing that was signed is believed against the rules.

mod keys;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use outrider::{
    identify::issuers::{Bearer, Issuer, Issuers},
    jose::{KeySet, Location, MAX_KEYS, Settings, Source, Usage},
    state::token_digest,
    task::Terms,
};
use serde_json::{Value, json};

use self::keys::{KEYS, Key};
use crate::fixture::AGENT;

const ISSUER: &str = "https://iam.example.org";

/// The second at which every token is judged.
const NOW: i64 = 1_800_000_000;

static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.json");
    let set = json!({"keys": KEYS.iter().map(Key::jwk).collect::<Vec<_>>()});
    std::fs::write(&path, set.to_string()).expect("a file");
    let source = Source::open(Settings::new(ISSUER, Location::File(path))).expect("keys");
    Issuers::new(vec![Issuer {
        name: ISSUER.into(),
        audience: "outrider".into(),
        verified_chain: true,
        single_use: false,
        max_ttl: std::time::Duration::from_secs(3600),
        source: Arc::new(source),
    }])
});

/// The first byte says how the others become a token, or that they are a set of keys.
pub fn run(data: &[u8]) {
    let Some((way, rest)) = data.split_first() else {
        return;
    };
    match way % 5 {
        0 => raw(rest),
        1 => forged(rest),
        2 => signed(rest),
        3 => mutated(rest),
        _ => set(rest),
    }
}

fn believed(token: &[u8]) -> Option<Terms> {
    let bearer = Bearer {
        agent: AGENT,
        depth: 4,
    };
    let now = Timestamp::from_second(NOW).expect("a time");
    let digest = token_digest(token);
    ISSUERS.verify(token, &digest, bearer, now).ok()
}

/// Bytes as they are: believed only where one of the keys has signed them, by its algorithm.
fn raw(token: &[u8]) {
    if believed(token).is_none() {
        return;
    }
    let text = std::str::from_utf8(token).expect("a token is text");
    let (signed, signature) = text.rsplit_once('.').expect("a token has parts");
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    let by = |key: &Key| key.has_signed(signed.as_bytes(), &signature);
    assert!(KEYS.iter().any(by), "believed, and nobody has signed it");
}

/// A header and claims of the input's, parted by a zero byte, under what is no signature of them.
fn forged(rest: &[u8]) {
    let Some((how, rest)) = rest.split_first() else {
        return;
    };
    let (header, claims) = parts(rest);
    let content = content(header, claims);
    let key = &KEYS[usize::from(how / 8) % KEYS.len()];
    let signature = match how % 6 {
        0 => key.other().sign(content.as_bytes()),
        1 => key.sign(claims),
        2 => key.sign(good_content(key).as_bytes()),
        3 => {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &key.public());
            hmac::sign(&secret, content.as_bytes()).as_ref().to_vec()
        }
        4 => vec![0; 64],
        _ => Vec::new(),
    };
    // The one content of which it would be a signature.
    if content == good_content(key) && how % 6 == 2 {
        return;
    }
    let token = format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert!(
        believed(token.as_bytes()).is_none(),
        "a forgery is believed"
    );
}

/// A header and claims of the input's under a good signature: believed only by the rules.
fn signed(rest: &[u8]) {
    let Some((how, rest)) = rest.split_first() else {
        return;
    };
    let key = &KEYS[usize::from(*how) % KEYS.len()];
    let (header, claims) = parts(rest);
    let content = content(header, claims);
    let signature = URL_SAFE_NO_PAD.encode(key.sign(content.as_bytes()));
    if let Some(terms) = believed(format!("{content}.{signature}").as_bytes()) {
        let header: Value = serde_json::from_slice(header).expect("a header is JSON");
        let claims: Value = serde_json::from_slice(claims).expect("claims are JSON");
        by_the_rules(key, &header, &claims, &terms);
    }
}

/// What every believed token must be, written down apart from the program.
fn by_the_rules(key: &Key, header: &Value, claims: &Value, terms: &Terms) {
    assert_eq!(header["typ"], "outrider-task+jwt");
    assert_eq!(header["alg"], key.algorithm());
    assert!(header.get("kid").is_none_or(|kid| kid == key.kid()));
    for name in ["crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c"] {
        assert!(header.get(name).is_none(), "`{name}` is believed");
    }
    assert_eq!(claims["iss"], ISSUER);
    let for_us = claims["aud"] == "outrider"
        || claims["aud"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == "outrider"));
    assert!(for_us, "a token for somebody else is believed");
    let time = |name: &str| claims[name].as_i64().expect("a whole number of seconds");
    let (iat, exp) = (time("iat"), time("exp"));
    assert!(exp > NOW - 30 && iat <= NOW + 30 && iat < exp && exp - iat <= 3600);
    assert!(
        claims
            .get("nbf")
            .is_none_or(|nbf| nbf.as_i64().is_some_and(|nbf| nbf <= NOW + 30))
    );
    assert_eq!(claims["act"]["sub"], AGENT);
    for (told, claimed) in [
        (&terms.subject, &claims["sub"]),
        (&terms.token_id, &claims["jti"]),
        (&terms.id, &claims["task"]["id"]),
        (&terms.intent, &claims["task"]["intent"]),
    ] {
        assert_eq!(claimed.as_str(), Some(&**told));
        assert!(!told.is_empty());
    }
    assert!((1..=5).contains(&terms.actors.len()));
    let task = claims["task"].as_object().expect("a task");
    assert_eq!(task.contains_key("tools"), terms.tools.is_some());
    assert_eq!(task.contains_key("budget"), terms.budget.is_some());
    assert_eq!(
        task.contains_key("max_classification"),
        terms.max_classification.is_some()
    );
    assert_eq!(task.contains_key("parent"), terms.parent.is_some());
}

/// A good token of which some bytes are others: none is believed but the good one.
fn mutated(rest: &[u8]) {
    let Some((which, rest)) = rest.split_first() else {
        return;
    };
    let key = &KEYS[usize::from(*which) % KEYS.len()];
    let content = good_content(key);
    let signature = key.sign(content.as_bytes());
    let good = format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes();
    let mut token = good.clone();
    for change in rest.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % token.len().max(1);
        match change[2] % 4 {
            0 => token[at] ^= change[3],
            1 => token.insert(at, change[3]),
            2 if token.len() > 1 => drop(token.remove(at)),
            _ => token.truncate(at.max(1)),
        }
    }
    assert_eq!(believed(&token).is_some(), token == good);
}

/// A set of keys: what is read of it is in bounds and can be asked.
fn set(text: &[u8]) {
    for usage in [Usage::Signatures, Usage::JwtSvid] {
        let Ok(set) = KeySet::read(text, usage) else {
            continue;
        };
        assert!(set.keys().len() + set.refused().len() <= MAX_KEYS);
        for key in set.keys() {
            assert_eq!(key.thumbprint().len(), 43);
            assert!(key.kid().is_none_or(|kid| (1..=256).contains(&kid.len())));
            for signer in KEYS.iter() {
                let same = signer.jwk()["x"]
                    .as_str()
                    .is_some_and(|x| std::str::from_utf8(text).is_ok_and(|text| text.contains(x)));
                let rsa = signer.algorithm() == "RS256";
                let algorithm = signer.named();
                let signature = signer.sign(b"text");
                assert!(
                    same || rsa || !key.verifies(algorithm, b"text", &signature),
                    "another key verifies"
                );
            }
        }
    }
}

/// The input up to its first zero byte, and what follows.
fn parts(rest: &[u8]) -> (&[u8], &[u8]) {
    let at = rest.iter().position(|byte| *byte == 0);
    let (header, claims) = rest.split_at(at.unwrap_or(rest.len()));
    (header, claims.get(1..).unwrap_or_default())
}

fn content(header: &[u8], claims: &[u8]) -> String {
    let encoded = |part| URL_SAFE_NO_PAD.encode(part);
    format!("{}.{}", encoded(header), encoded(claims))
}

fn good_content(key: &Key) -> String {
    let header = json!({"alg": key.algorithm(), "kid": key.kid(), "typ": "outrider-task+jwt"});
    let claims = json!({
        "iss": ISSUER, "aud": "outrider", "sub": "user:ada", "act": {"sub": AGENT}, "jti": "j",
        "iat": NOW, "exp": NOW + 600, "task": {"id": "t", "intent": "work"},
    });
    content(header.to_string().as_bytes(), claims.to_string().as_bytes())
}
