//! The issuer's keys, the same in every run, so that a find stays one.

use std::sync::LazyLock;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
        UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use outrider::jose::Algorithm;
use serde_json::{Value, json};

/// One of each kind.
pub(super) static KEYS: LazyLock<[Key; 3]> = LazyLock::new(|| {
    [
        Key(Pair::Ed25519(seeded(1))),
        Key(Pair::P256(
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, include_bytes!("p256.der"))
                .expect("a key"),
        )),
        Key(Pair::Rsa(Box::new(
            RsaKeyPair::from_pkcs8(include_bytes!("rsa.der")).expect("a key"),
        ))),
    ]
});

/// Keys that are not the issuer's, of the same kinds.
static OTHERS: LazyLock<[Key; 2]> = LazyLock::new(|| {
    [
        Key(Pair::Ed25519(seeded(2))),
        Key(Pair::P256(
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
        )),
    ]
});

fn seeded(byte: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[byte; 32]).expect("a key")
}

pub(super) struct Key(Pair);

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Key {
    pub(super) fn named(&self) -> Algorithm {
        match self.0 {
            Pair::Ed25519(_) => Algorithm::EdDsa,
            Pair::P256(_) => Algorithm::Es256,
            Pair::Rsa(_) => Algorithm::Rs256,
        }
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self.0 {
            Pair::Ed25519(_) => "EdDSA",
            Pair::P256(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    pub(super) fn kid(&self) -> &'static str {
        match self.0 {
            Pair::Ed25519(_) => "ed",
            Pair::P256(_) => "ec",
            Pair::Rsa(_) => "rsa",
        }
    }

    pub(super) fn jwk(&self) -> Value {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = self.public();
        let mut jwk = match &self.0 {
            Pair::Ed25519(_) => json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(&public)}),
            Pair::P256(_) => json!({"kty": "EC", "crv": "P-256",
                "x": encoded(&public[1..33]), "y": encoded(&public[33..])}),
            // PKCS #1: two integers, of which the first has a leading zero.
            Pair::Rsa(_) => json!({"kty": "RSA", "n": encoded(&public[9..265]),
                "e": encoded(&public[267..])}),
        };
        jwk["kid"] = json!(self.kid());
        jwk["alg"] = json!(self.algorithm());
        jwk
    }

    pub(super) fn public(&self) -> Vec<u8> {
        match &self.0 {
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Pair::P256(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A key of the same kind that is not the issuer's; of RSA another kind, which is made at once.
    pub(super) fn other(&self) -> &'static Self {
        match self.0 {
            Pair::Ed25519(_) => &OTHERS[0],
            Pair::P256(_) | Pair::Rsa(_) => &OTHERS[1],
        }
    }

    pub(super) fn sign(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.0 {
            Pair::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
            Pair::P256(pair) => {
                let signature = pair.sign(&random, signed);
                signature.expect("a signature").as_ref().to_vec()
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signing = pair.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature);
                signing.expect("a signature");
                signature
            }
        }
    }

    pub(super) fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        let public = self.public();
        let verified = match self.0 {
            Pair::Ed25519(_) => UnparsedPublicKey::new(&ED25519, public).verify(signed, signature),
            Pair::P256(_) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public).verify(signed, signature)
            }
            Pair::Rsa(_) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
                .verify(signed, signature),
        };
        verified.is_ok()
    }
}
