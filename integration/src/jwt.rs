//! Signed tokens (RFC 7515, RFC 7517), verified by other means than the product's.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, UnparsedPublicKey};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::sha256_base64url;

/// A verified token.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The protected header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
}

/// The header of a compact token, unverified.
///
/// # Panics
/// When it is none.
pub fn jwt_header(token: &str) -> Value {
    json_part(token.split_once('.').expect("a compact token").0)
}

/// Verifies a compact token with the one key of the set that its `kid` names, which must be an
/// Ed25519 or P-256 key whose `kid` is its RFC 7638 thumbprint.
///
/// # Panics
/// When anything is not so.
pub fn verify_with_jwks(token: &str, jwks: &Value) -> Claims {
    let (signed, signature) = token.rsplit_once('.').expect("a compact token");
    let (header, claims) = signed.split_once('.').expect("a compact token");
    let header = json_part(header);
    let keys = jwks["keys"].as_array().expect("a key set");
    let key = keys
        .iter()
        .find(|key| key["kid"] == header["kid"])
        .expect("the key is published");
    assert_eq!(key["kid"], json!(thumbprint(key)));
    assert_eq!(key["alg"], header["alg"]);
    assert!(key.get("d").is_none(), "a private key is published");
    let member = |name: &str| bytes(key[name].as_str().expect(name));
    let verified = if key["kty"] == "EC" {
        let point = [vec![4], member("x"), member("y")].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &bytes(signature))
    } else {
        UnparsedPublicKey::new(&ED25519, member("x")).verify(signed.as_bytes(), &bytes(signature))
    };
    verified.expect("a good signature");
    Claims {
        header,
        claims: json_part(claims),
    }
}

/// A new Ed25519 key as PKCS#8 PEM (RFC 8410).
///
/// # Panics
/// When the system has no randomness.
pub fn new_ed25519_pem() -> String {
    let key = Ed25519KeyPair::generate().expect("randomness");
    let der = key.to_pkcs8v1().expect("a key");
    let text = STANDARD.encode(der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn thumbprint(key: &Value) -> String {
    let required = match key["kty"].as_str() {
        Some("EC") => format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            key["x"], key["y"]
        ),
        _ => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":{}}}"#, key["x"]),
    };
    sha256_base64url(required.as_bytes())
}

fn json_part(part: &str) -> Value {
    serde_json::from_slice(&bytes(part)).expect("JSON in a token")
}

fn bytes(part: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part).expect("unpadded base64url")
}
