use serde_json::json;

use super::*;
use crate::jose::testing::{TestKey, document, encoded, set};

const ALL: [Algorithm; 4] = [
    Algorithm::EdDsa,
    Algorithm::Es256,
    Algorithm::Rs256,
    Algorithm::Ps256,
];

fn read(jwk: &Value) -> Result<PublicKey, RefusedKey> {
    PublicKey::read(jwk.as_object().unwrap(), Usage::Signatures)
}

/// The modulus of RFC 7638 §3.1.
const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6\
                 tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQ\
                 R0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhA\
                 I4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

/// The public key of RFC 7515, appendix A.3.
fn rfc7515_p256() -> Value {
    json!({"kty": "EC", "crv": "P-256",
           "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
           "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
}

/// The public key of RFC 8037, appendix A.2.
fn rfc8037() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn with(mut jwk: Value, name: &str, value: impl Into<Value>) -> Value {
    jwk[name] = value.into();
    jwk
}

#[test]
fn thumbprints_are_those_of_the_standards_examples() {
    let rsa = json!({"kty": "RSA", "n": N, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
    for (jwk, thumbprint) in [
        (rsa, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        (rfc8037(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
    ] {
        assert_eq!(read(&jwk).unwrap().thumbprint(), thumbprint);
    }
}

#[test]
fn a_key_serves_the_algorithms_of_its_kind_and_no_others() {
    for algorithm in ALL {
        let jwk = TestKey::new(algorithm).jwk("k");
        let key = read(&jwk).unwrap();
        let serves: Vec<_> = ALL.into_iter().filter(|a| key.serves(*a)).collect();
        match algorithm {
            Algorithm::EdDsa | Algorithm::Es256 => assert_eq!(serves, [algorithm]),
            Algorithm::Rs256 | Algorithm::Ps256 => {
                assert_eq!(serves, [Algorithm::Rs256, Algorithm::Ps256]);
            }
        }
        let key = read(&with(jwk, "alg", algorithm.as_str())).unwrap();
        let serves: Vec<_> = ALL.into_iter().filter(|a| key.serves(*a)).collect();
        assert_eq!(serves, [algorithm]);
    }
}

#[test]
fn what_is_not_a_public_key_for_signatures_is_refused() {
    let rsa = || json!({"kty": "RSA", "n": N, "e": "AQAB"});
    let decoded = URL_SAFE_NO_PAD.decode(N).unwrap();
    let mut even = decoded.clone();
    *even.last_mut().unwrap() &= 0xfe;
    let off_curve = with(rfc7515_p256(), "y", encoded([7; 32]));
    let long = [&[1], &decoded[..]].concat();
    for (jwk, why) in [
        (json!({}), RefusedKey::Broken),
        (json!({"kty": 7}), RefusedKey::Broken),
        (json!({"kty": "oct"}), RefusedKey::Secret),
        (json!({"kty": "oct", "k": "AAAA"}), RefusedKey::Secret),
        (with(rfc8037(), "d", "AAAA"), RefusedKey::Secret),
        (with(rfc7515_p256(), "d", "AAAA"), RefusedKey::Secret),
        (with(rsa(), "p", "AAAA"), RefusedKey::Secret),
        (with(rfc8037(), "k", Value::Null), RefusedKey::Secret),
        (json!({"kty": "XYZ"}), RefusedKey::Otherwise),
        (with(rfc8037(), "crv", "X25519"), RefusedKey::Otherwise),
        (with(rfc7515_p256(), "crv", "P-384"), RefusedKey::Otherwise),
        (
            with(rfc7515_p256(), "crv", "secp256k1"),
            RefusedKey::Otherwise,
        ),
        (with(rfc8037(), "use", "enc"), RefusedKey::Otherwise),
        (with(rfc8037(), "use", "jwt-svid"), RefusedKey::Otherwise),
        (with(rfc8037(), "use", 1), RefusedKey::Broken),
        (
            with(rfc8037(), "key_ops", json!(["sign"])),
            RefusedKey::Otherwise,
        ),
        (with(rfc8037(), "key_ops", "verify"), RefusedKey::Broken),
        (with(rfc8037(), "kid", ""), RefusedKey::Broken),
        (with(rfc8037(), "kid", 7), RefusedKey::Broken),
        (with(rfc8037(), "kid", "x".repeat(257)), RefusedKey::Broken),
        (with(rfc8037(), "alg", "ES256"), RefusedKey::Confused),
        (with(rfc8037(), "alg", "HS256"), RefusedKey::Confused),
        (with(rfc8037(), "alg", "none"), RefusedKey::Confused),
        (with(rfc7515_p256(), "alg", "RS256"), RefusedKey::Confused),
        (with(rsa(), "alg", "EdDSA"), RefusedKey::Confused),
        (with(rsa(), "alg", "RS512"), RefusedKey::Otherwise),
        (with(rsa(), "alg", "RSA-OAEP"), RefusedKey::Otherwise),
        (with(rfc8037(), "x", encoded([7; 31])), RefusedKey::Broken),
        (with(rfc8037(), "x", encoded([7; 33])), RefusedKey::Broken),
        (
            with(rfc8037(), "x", format!("{}=", encoded([7; 32]))),
            RefusedKey::Broken,
        ),
        (with(rfc8037(), "x", Value::Null), RefusedKey::Broken),
        (with(rfc8037(), "x", encoded([0; 32])), RefusedKey::Weak),
        (with(rfc8037(), "x", encoded(first(1))), RefusedKey::Weak),
        (with(rfc8037(), "x", encoded([0xff; 32])), RefusedKey::Weak),
        (
            with(rfc7515_p256(), "x", encoded([7; 31])),
            RefusedKey::Broken,
        ),
        (off_curve, RefusedKey::Broken),
        (
            with(
                with(rfc7515_p256(), "x", encoded([0; 32])),
                "y",
                encoded([0; 32]),
            ),
            RefusedKey::Broken,
        ),
        (with(rsa(), "n", encoded(&decoded[1..])), RefusedKey::Weak),
        (with(rsa(), "n", encoded([0xff; 128])), RefusedKey::Weak),
        (with(rsa(), "n", encoded([0xff; 1025])), RefusedKey::Weak),
        (with(rsa(), "n", encoded(even)), RefusedKey::Weak),
        (
            with(rsa(), "n", encoded([&[0], &decoded[..]].concat())),
            RefusedKey::Broken,
        ),
        (with(rsa(), "n", ""), RefusedKey::Broken),
        (with(rsa(), "e", encoded([1])), RefusedKey::Weak),
        (with(rsa(), "e", encoded([2])), RefusedKey::Weak),
        (with(rsa(), "e", encoded([1, 0, 0])), RefusedKey::Weak),
        (with(rsa(), "e", encoded([1, 0, 0, 0, 1])), RefusedKey::Weak),
        (with(rsa(), "e", encoded([0, 1, 0, 1])), RefusedKey::Broken),
        (with(rsa(), "e", "AQA"), RefusedKey::Weak),
    ] {
        assert_eq!(read(&jwk).map(|key| key.kid), Err(why), "{jwk}");
    }
    assert!(read(&with(rsa(), "n", encoded(long))).is_ok());
    assert!(read(&with(rsa(), "e", encoded([3]))).is_ok());
}

#[test]
fn keys_of_small_order_are_refused_in_either_sign() {
    // The point of order two has y = -1.
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    for point in SMALL_ORDER.into_iter().chain([minus_one]) {
        for sign in [0, 0x80] {
            let mut point = point;
            point[31] |= sign;
            let jwk = with(rfc8037(), "x", encoded(point));
            assert_eq!(read(&jwk).map(drop), Err(RefusedKey::Weak));
        }
    }
}

#[test]
fn a_bad_key_leaves_the_others_of_its_set_alone() {
    let found = set(&[
        json!({"kty": "oct", "k": "AAAA", "kid": "a"}),
        with(rfc8037(), "kid", "b"),
        json!("c"),
        json!({"kty": "EC", "crv": "P-521", "kid": "d"}),
    ]);
    let kids: Vec<_> = found.keys().iter().map(PublicKey::kid).collect();
    assert_eq!(kids, [Some("b")]);
    let refused = [
        (0, RefusedKey::Secret),
        (2, RefusedKey::Broken),
        (3, RefusedKey::Otherwise),
    ];
    assert_eq!(found.refused(), refused);
}

#[test]
fn what_is_no_set_is_refused_and_an_empty_one_is_a_set() {
    let read = |text: &str| KeySet::read(text.as_bytes(), Usage::Signatures);
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[],"keys":[]}"#,
        "\u{feff}{\"keys\":[]}",
        r#"{"keys":[]} x"#,
        "<html>",
    ] {
        assert_eq!(read(text).map(drop), Err(BadSet::NotASet), "{text}");
    }
    assert!(read(r#"{"keys":[]}"#).unwrap().keys().is_empty());
    let many = vec![rfc8037(); MAX_KEYS + 1];
    let many = KeySet::read(&document(&many), Usage::Signatures);
    assert_eq!(many.map(drop), Err(BadSet::TooMany));
}

#[test]
fn a_key_is_found_by_name_and_algorithm_and_never_guessed_among_several() {
    let (a, b) = (
        with(rfc8037(), "kid", "a"),
        with(rfc7515_p256(), "kid", "b"),
    );
    let two = set(&[a.clone(), b.clone()]);
    let find = |set: &KeySet, kid, algorithm| {
        set.find(kid, algorithm)
            .map(|key| key.kid().unwrap_or("").to_owned())
    };
    let (eddsa, es256) = (Algorithm::EdDsa, Algorithm::Es256);
    assert_eq!(find(&two, Some("a"), eddsa), Ok("a".into()));
    assert_eq!(find(&two, Some("a"), es256), Err(NoKey::OtherAlgorithm));
    assert_eq!(find(&two, Some("c"), eddsa), Err(NoKey::Unknown));
    assert_eq!(find(&two, None, es256), Ok("b".into()));
    assert_eq!(find(&two, None, Algorithm::Rs256), Err(NoKey::Unknown));
    let other = TestKey::new(eddsa).jwk("c");
    let three = set(&[a.clone(), b, other]);
    assert_eq!(find(&three, None, eddsa), Err(NoKey::Ambiguous));
    let twins = set(&[a, TestKey::new(eddsa).jwk("a")]);
    assert_eq!(find(&twins, Some("a"), eddsa), Err(NoKey::Ambiguous));
}

#[test]
fn a_bundle_of_spiffe_gives_its_keys_for_jwt_svids_alone() {
    let keys = [
        with(with(rfc8037(), "kid", "a"), "use", "x509-svid"),
        with(with(rfc7515_p256(), "kid", "b"), "use", "jwt-svid"),
    ];
    let found = KeySet::read(&document(&keys), Usage::JwtSvid).unwrap();
    assert_eq!(found.keys().len(), 1);
    assert_eq!(found.keys()[0].kid(), Some("b"));
}
