use serde_json::json;

use super::*;
use crate::jose::testing::{TestKey, encoded, set};

const ALL: [Algorithm; 4] = [
    Algorithm::EdDsa,
    Algorithm::Es256,
    Algorithm::Rs256,
    Algorithm::Ps256,
];
const TYP: Typ = Typ::Exactly("t+jwt");

fn verify(token: &str, keys: &KeySet) -> Result<(), BadToken> {
    Jws::read(token.as_bytes())?.verify(TYP, keys).map(drop)
}

#[test]
fn a_token_of_each_algorithm_is_its_keys() {
    for algorithm in ALL {
        let key = TestKey::new(algorithm);
        let token = key.sign("k", "t+jwt", &json!({"iss": "i"}));
        let keys = key.set("k");
        let read = Jws::read(token.as_bytes()).unwrap();
        assert_eq!(read.unverified_issuer(), Some("i"));
        let (claims, by) = read.verify(TYP, &keys).unwrap();
        assert_eq!((claims.text("iss"), by.kid()), (Ok("i"), Some("k")));
        let other = TestKey::new(algorithm).set("k");
        assert_eq!(verify(&token, &other), Err(BadToken::BadSignature));
    }
}

#[test]
fn the_signatures_of_the_standards_examples_verify() {
    let p256 = json!({"kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9\
                 leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfT\
                 jDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let keys = set(&[p256]);
    let read = Jws::read(token.as_bytes()).unwrap();
    let (claims, _) = read.verify(Typ::Plain, &keys).unwrap();
    assert_eq!(claims.text("iss"), Ok("joe"));
}

/// One algorithm's token under the name of another, with every key there is.
#[test]
fn the_key_chooses_the_algorithm_and_not_the_token() {
    let keys: Vec<TestKey> = ALL.into_iter().map(TestKey::new).collect();
    for key in &keys {
        let only = key.set("k");
        for name in [
            "none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES384", "RS512", "A128KW",
            "dir",
        ] {
            let header = json!({"alg": name, "kid": "k", "typ": "t+jwt"}).to_string();
            let good = key.token(&header, "{}");
            assert_eq!(
                verify(&good, &only),
                Err(BadToken::OtherAlgorithm),
                "{name}"
            );
            let (unsigned, _) = good.rsplit_once('.').unwrap();
            assert_eq!(
                verify(&format!("{unsigned}."), &only),
                Err(BadToken::OtherAlgorithm)
            );
        }
        // The public key taken for a shared secret, in both forms an attacker may try.
        for secret in [key.public_der(), key.jwk("k").to_string().into_bytes()] {
            let header = encoded(r#"{"alg":"HS256","kid":"k","typ":"t+jwt"}"#);
            let signed = format!("{header}.{}", encoded("{}"));
            let mac = aws_lc_rs::hmac::sign(
                &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret),
                signed.as_bytes(),
            );
            let token = format!("{signed}.{}", encoded(mac));
            assert_eq!(verify(&token, &only), Err(BadToken::OtherAlgorithm));
        }
    }
    for (key, own) in keys.iter().zip(ALL) {
        for other in ALL {
            let header = json!({"alg": other.as_str(), "kid": "k", "typ": "t+jwt"}).to_string();
            let result = verify(&key.token(&header, "{}"), &key.set("k"));
            let rsa = |a| matches!(a, Algorithm::Rs256 | Algorithm::Ps256);
            let expected = match other {
                _ if own == other => Ok(()),
                _ if rsa(own) && rsa(other) => Err(BadToken::BadSignature),
                _ => Err(BadToken::OtherAlgorithm),
            };
            assert_eq!(result, expected, "{own:?} as {other:?}");
        }
    }
}

#[test]
fn an_rsa_key_that_says_its_padding_takes_no_other() {
    let key = TestKey::new(Algorithm::Rs256).also(Algorithm::Ps256);
    let mut jwk = key.jwk("k");
    let token = key.sign("k", "t+jwt", &json!({}));
    assert_eq!(verify(&token, &set(&[jwk.clone()])), Ok(()));
    jwk["alg"] = "RS256".into();
    assert_eq!(verify(&token, &set(&[jwk])), Err(BadToken::OtherAlgorithm));
}

#[test]
fn headers_that_bring_keys_or_extensions_are_refused() {
    let key = TestKey::new(Algorithm::EdDsa);
    let attacker = TestKey::new(Algorithm::EdDsa);
    for (name, value) in [
        ("jwk", attacker.jwk("k")),
        ("jwk", json!(null)),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/cert")),
        ("x5c", json!(["AAAA"])),
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("kid", json!("")),
        ("kid", json!(null)),
        ("kid", json!(["k"])),
        ("kid", json!("x".repeat(257))),
        ("typ", json!(1)),
        ("alg", json!(["EdDSA"])),
    ] {
        let mut header = json!({"alg": "EdDSA", "kid": "k", "typ": "t+jwt"});
        header[name] = value;
        for signer in [&key, &attacker] {
            let token = signer.token(&header.to_string(), "{}");
            assert_eq!(
                verify(&token, &key.set("k")),
                Err(BadToken::BadHeader),
                "{header}"
            );
        }
    }
    let header = r#"{"alg":"EdDSA","kid":"k","typ":"t+jwt","x5t":"AA","x5t#S256":"AA","cty":"x"}"#;
    assert_eq!(verify(&key.token(header, "{}"), &key.set("k")), Ok(()));
}

#[test]
fn a_hostile_kid_is_looked_up_as_a_text_and_nothing_else() {
    let key = TestKey::new(Algorithm::EdDsa);
    for kid in [
        "../../../dev/null",
        "/dev/null",
        "k' OR '1'='1",
        "k\u{0}",
        "K",
        "k ",
        " k",
        "|id",
        "*",
        "https://attacker.example/k",
        "${env:PATH}",
    ] {
        let token = key.sign(kid, "t+jwt", &json!({}));
        assert_eq!(
            verify(&token, &key.set("k")),
            Err(BadToken::UnknownKey),
            "{kid}"
        );
    }
}

#[test]
fn without_a_kid_the_only_fitting_key_serves() {
    let (a, b) = (
        TestKey::new(Algorithm::EdDsa),
        TestKey::new(Algorithm::EdDsa),
    );
    let p256 = TestKey::new(Algorithm::Es256);
    let token = a.token(r#"{"alg":"EdDSA","typ":"t+jwt"}"#, "{}");
    assert_eq!(verify(&token, &a.set("a")), Ok(()));
    assert_eq!(verify(&token, &set(&[a.jwk("a"), p256.jwk("p")])), Ok(()));
    assert_eq!(
        verify(&token, &set(&[a.jwk("a"), b.jwk("b")])),
        Err(BadToken::AmbiguousKey)
    );
    assert_eq!(verify(&token, &p256.set("p")), Err(BadToken::UnknownKey));
}

#[test]
fn another_typ_is_refused() {
    let key = TestKey::new(Algorithm::EdDsa);
    for typ in ["JWT", "T+JWT", "application/t+jwt", "t+jwt ", ""] {
        let token = key.sign("k", typ, &json!({}));
        assert_eq!(
            verify(&token, &key.set("k")),
            Err(BadToken::OtherType),
            "{typ}"
        );
    }
    let token = key.token(r#"{"alg":"EdDSA","kid":"k"}"#, "{}");
    assert_eq!(verify(&token, &key.set("k")), Err(BadToken::OtherType));
}

#[test]
fn psychic_signatures_and_those_out_of_range_are_refused() {
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let key = TestKey::new(Algorithm::Es256);
    let good = key.sign("k", "t+jwt", &json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let zero = [0; 32];
    for (r, s) in [
        (&zero[..], &zero[..]),
        (&zero, s),
        (r, &zero),
        (&order, s),
        (r, &order),
        (&order, &order),
        (&[0xff; 32], s),
        (r, &[0xff; 32]),
        (s, r),
    ] {
        let token = format!("{signed}.{}", encoded([r, s].concat()));
        assert_eq!(verify(&token, &key.set("k")), Err(BadToken::BadSignature));
    }
}

#[test]
fn an_eddsa_signature_has_one_form() {
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10u8,
    ];
    let key = TestKey::new(Algorithm::EdDsa);
    let good = key.sign("k", "t+jwt", &json!({}));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut carry = 0;
    for (to, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*to) + u16::from(add) + carry;
        (*to, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0);
    let token = format!("{signed}.{}", encoded(&signature));
    assert_eq!(verify(&token, &key.set("k")), Err(BadToken::BadSignature));
}

#[test]
fn a_signature_of_another_length_or_form_is_refused() {
    for algorithm in ALL {
        let key = TestKey::new(algorithm);
        let (keys, good) = (key.set("k"), key.sign("k", "t+jwt", &json!({})));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let der = [
            &[0x30, 0x44, 2, 0x20][..],
            &bytes[..32],
            &[2, 0x20],
            &bytes[32..],
        ]
        .concat();
        for other in [
            &bytes[..bytes.len() - 1],
            &[&bytes[..], &[0]].concat(),
            &[&[0], &bytes[..]].concat(),
            &der,
            &[],
        ] {
            let token = format!("{signed}.{}", encoded(other));
            assert_eq!(verify(&token, &keys), Err(BadToken::BadSignature));
        }
    }
}

#[test]
fn what_is_not_exactly_a_compact_token_is_malformed() {
    let key = TestKey::new(Algorithm::EdDsa);
    let (keys, good) = (key.set("k"), key.sign("k", "t+jwt", &json!({})));
    assert_eq!(verify(&good, &keys), Ok(()));
    let parts: Vec<_> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let flattened = json!({"protected": header, "payload": claims, "signature": signature});
    for bad in [
        String::new(),
        "..".into(),
        header.into(),
        format!("{header}.{claims}"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{signature}"),
        format!("{header}.{claims}.x.{signature}"),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{signature}\n"),
        format!(" {good}"),
        format!("{header}..{signature}"),
        format!("Bearer {good}"),
        flattened.to_string(),
        format!("{header}.{}.{signature}", "A".repeat(LONGEST)),
    ] {
        assert_eq!(verify(&bad, &keys), Err(BadToken::Malformed), "{bad:.80}");
    }
    for claims in [
        "",
        "null",
        "[]",
        "\"x\"",
        "{} ",
        "{}x",
        r#"{"a":1,"a":2}"#,
        r#"{"a":1,"\u0061":2}"#,
        "\u{feff}{}",
    ] {
        let token = key.token(r#"{"alg":"EdDSA","kid":"k","typ":"t+jwt"}"#, claims);
        // White space around is JSON all the same.
        let expected = if claims == "{} " {
            Ok(())
        } else {
            Err(BadToken::Malformed)
        };
        assert_eq!(verify(&token, &keys), expected, "{claims}");
    }
    for header in [
        r#"{"alg":"EdDSA","kid":"k","kid":"k","typ":"t+jwt"}"#,
        r#"{"alg":"none","alg":"EdDSA","kid":"k","typ":"t+jwt"}"#,
        r#"[{"alg":"EdDSA","kid":"k","typ":"t+jwt"}]"#,
    ] {
        assert_eq!(
            verify(&key.token(header, "{}"), &keys),
            Err(BadToken::Malformed)
        );
    }
}

#[test]
fn no_changed_byte_of_a_token_goes_unseen() {
    let key = TestKey::new(Algorithm::EdDsa);
    let keys = key.set("k");
    let good = key.sign("k", "t+jwt", &json!({"iss": "i", "sub": "s"}));
    for at in 0..good.len() {
        for flip in [1, 2, 0x20] {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= flip;
            let read = Jws::read(&bytes).and_then(|jws| jws.verify(TYP, &keys).map(drop));
            assert!(read.is_err(), "byte {at}");
        }
    }
}
