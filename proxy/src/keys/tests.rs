use super::*;
use crate::jose::{Jws, KeySet, Typ, Usage};

/// The key of RFC 8037, appendix A.1, wrapped as RFC 8410 §7 says.
fn rfc8037() -> SigningKey {
    let seed = URL_SAFE_NO_PAD
        .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
        .unwrap();
    let mut der = vec![
        0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ];
    der.extend(seed);
    let pem = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der));
    SigningKey::from_pem(&pem.into()).unwrap()
}

#[test]
fn the_thumbprint_is_that_of_the_standards_example() {
    assert_eq!(
        rfc8037().kid(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

#[test]
fn the_public_half_is_that_of_the_standards_example() {
    let jwk: serde_json::Value = serde_json::from_str(&rfc8037().jwk()).unwrap();
    assert_eq!(jwk["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(jwk["kty"], "OKP");
    assert_eq!(jwk["crv"], "Ed25519");
    assert!(jwk.get("d").is_none());
}

#[test]
fn the_signature_is_that_of_the_standards_example() {
    let token = rfc8037().compact("eyJhbGciOiJFZERTQSJ9", b"Example of Ed25519 signing");
    assert_eq!(
        token.unwrap(),
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCj\
         P0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn a_key_never_prints_its_secret() {
    let shown = format!("{:?}", rfc8037());
    assert_eq!(
        shown,
        r#"SigningKey { kid: "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", .. }"#
    );
}

#[test]
fn what_is_not_one_ed25519_key_is_refused() {
    let pem = |body: &str| SigningKey::from_pem(&format!("{BEGIN}\n{body}\n{END}").into());
    assert!(matches!(pem("!"), Err(KeyError::NotPem)));
    assert!(matches!(pem(""), Err(KeyError::OtherKind)));
    assert!(matches!(pem("MAA="), Err(KeyError::OtherKind)));
    assert!(matches!(
        SigningKey::from_pem(&"".into()),
        Err(KeyError::NotPem)
    ));
    let missing = SigningKey::load(Path::new("/nonexistent/key.pem"));
    assert!(matches!(missing, Err(KeyError::Unreadable(_))));
}

/// A key made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` for this test and
/// used nowhere else.
const P256: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgKr9cgKEL2zQAv11B\nm5S7LJHPsnSdA6uB2bX3KDBXLWGhRANCAARbDlEY25KCi6MuKVHIbgOhBCBP1WDY\n4oHNrr3a1a83m2wmWVyZ4M//CCNfG1IZkt6DxY7vxdVv2a5yjSbyShi6\n-----END PRIVATE KEY-----\n";

#[test]
fn a_p256_key_of_openssl_signs_in_the_fixed_form_of_jws() {
    let key = SigningKey::from_pem(&P256.into()).unwrap();
    let token = key.compact(&key.jose_header("t+jwt"), b"{}").unwrap();
    let signature = token.rsplit_once('.').unwrap().1;
    assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap().len(), 64);
    let set = KeySet::read(jwks([&key]).as_bytes(), Usage::Signatures).unwrap();
    assert_eq!(set.keys()[0].thumbprint(), key.kid());
    let read = Jws::read(token.as_bytes()).unwrap();
    let (_, by) = read.verify(Typ::Exactly("t+jwt"), &set).unwrap();
    assert_eq!(by.kid(), Some(key.kid()));
    assert_eq!(key.jwk().matches("\"d\"").count(), 0);
}

#[test]
fn keys_of_another_kind_are_refused() {
    use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
    let random = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
    assert!(matches!(
        SigningKey::from_pkcs8(der.as_ref()),
        Err(KeyError::OtherKind)
    ));
}

#[test]
fn certificates_go_into_the_header_as_they_are() {
    let key = SigningKey::generate_p256().unwrap();
    let header = key.jose_header_with("t+jwt", &[vec![0xfb, 0xff], vec![1]]);
    let header: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(header["x5c"], serde_json::json!(["+/8=", "AQ=="]));
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["kid"], key.kid());
}

#[test]
fn a_set_holds_every_key_once() {
    let (a, b) = (
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    );
    let set: serde_json::Value = serde_json::from_str(&jwks([&a, &b])).unwrap();
    assert_eq!(set["keys"][0]["kid"], a.kid());
    assert_eq!(set["keys"][1]["kid"], b.kid());
}
