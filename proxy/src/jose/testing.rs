//! Keys and tokens of every kind, for tests.

use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Algorithm, KeySet, Usage};

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A key pair that signs as it is told to.
pub(crate) struct TestKey {
    pair: Pair,
    algorithm: Algorithm,
}

pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl TestKey {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::EdDsa => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Es256 => {
                Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            Algorithm::Rs256 | Algorithm::Ps256 => {
                Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap().into())
            }
        };
        Self { pair, algorithm }
    }

    /// The same pair, for another padding.
    pub(crate) fn also(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// Its public half, of that name, without `alg`.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        match &self.pair {
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid,
                       "x": encoded(pair.public_key())})
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": kid,
                       "x": encoded(&point[1..33]), "y": encoded(&point[33..])})
            }
            Pair::Rsa(pair) => {
                // PKCS #1: two integers, of which the first has a leading zero.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "kid": kid,
                       "n": encoded(&der[9..265]), "e": encoded(&der[267..])})
            }
        }
    }

    /// Its public half as bytes, such as an attacker takes for a shared secret.
    pub(crate) fn public_der(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Pair::P256(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    pub(crate) fn set(&self, kid: &str) -> KeySet {
        set(&[self.jwk(kid)])
    }

    pub(crate) fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
            Pair::P256(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding = match self.algorithm {
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, signed, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A token of exactly this header and these claims, as texts.
    pub(crate) fn token(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encoded(signature))
    }

    /// A token with a header as usual.
    pub(crate) fn sign(&self, kid: &str, typ: &str, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm.as_str(), "kid": kid, "typ": typ});
        self.token(&header.to_string(), &claims.to_string())
    }
}

pub(crate) fn document(keys: &[Value]) -> Vec<u8> {
    json!({"keys": keys}).to_string().into_bytes()
}

pub(crate) fn set(keys: &[Value]) -> KeySet {
    KeySet::read(&document(keys), Usage::Signatures).unwrap()
}
