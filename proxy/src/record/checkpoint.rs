//! Checkpoints: the chain's head, signed, so that a rewritten log cannot pass for the old one.
//!
//! A private key signs `outrider-checkpoint-v1\n<instance>\n<seq>\n<prev>\n` with Ed25519
//! (RFC 8032); public keys travel as JWKs (RFC 8037) named by their thumbprint (RFC 7638).

use std::collections::HashMap;

use aws_lc_rs::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

/// A key that cannot be used to sign or verify checkpoints.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The text holds no PKCS#8 PEM section.
    #[error("expected a private key in PKCS#8 PEM (`BEGIN PRIVATE KEY`)")]
    NotPem,
    /// The key is of another kind, or damaged.
    #[error("expected an Ed25519 private key")]
    NotEd25519,
    /// The system could not make a key.
    #[error("the system could not make an Ed25519 key")]
    NotMade,
    /// The text is neither a JWK nor a JWK set nor one JWK a line.
    #[error("expected an Ed25519 JWK, a JWK set, or one JWK a line")]
    NotJwk,
}

/// What a checkpoint vouches for.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The log's instance, a UUID.
    pub instance: &'a str,
    /// The checkpoint's own number.
    pub seq: u64,
    /// The hash of the line before it, 64 hex digits.
    pub prev: &'a str,
}

impl Head<'_> {
    fn message(&self) -> Vec<u8> {
        format!(
            "outrider-checkpoint-v1\n{}\n{}\n{}\n",
            self.instance, self.seq, self.prev
        )
        .into_bytes()
    }
}

/// The private key of one log.
pub struct CheckpointKey {
    pair: Ed25519KeyPair,
    x: String,
    kid: String,
}

impl std::fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl CheckpointKey {
    /// Reads a PKCS#8 PEM private key (RFC 8410), as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the text is no PEM or the key not Ed25519.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPem)?;
        let pair =
            Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| KeyError::NotEd25519)?;
        Ok(Self::from_pair(pair))
    }

    /// Makes a key for one run.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotMade`] when the system yields no randomness.
    pub fn made() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate()
            .map(Self::from_pair)
            .map_err(|_| KeyError::NotMade)
    }

    fn from_pair(pair: Ed25519KeyPair) -> Self {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let kid = thumbprint(&x);
        Self { pair, x, kid }
    }

    /// The RFC 7638 thumbprint of the public key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a compact JWK (RFC 8037 §2).
    pub fn public_jwk(&self) -> String {
        let Self { x, kid, .. } = self;
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{kid}","alg":"EdDSA","use":"sig"}}"#
        )
    }

    /// The signature over `head`, unpadded base64url.
    pub fn sign(&self, head: Head<'_>) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(&head.message()).as_ref())
    }
}

/// Whether a checkpoint's signature could be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// A known key made it.
    Good,
    /// A known key is named but did not make it.
    Bad,
    /// The key it names is not among those known.
    KeyUnknown,
}

/// Public keys by thumbprint.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys(HashMap<String, Vec<u8>>);

#[derive(serde::Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
}

#[derive(serde::Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

impl PublicKeys {
    /// Reads a JWK, a JWK set (RFC 7517 §5) or one JWK a line; keys of other kinds are passed over.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotJwk`] when there is no Ed25519 key in it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Self::default();
        if let Ok(set) = serde_json::from_str::<JwkSet>(text) {
            set.keys
                .into_iter()
                .for_each(|jwk| keys.add(serde_json::from_value(jwk)));
        } else if let Ok(jwk) = serde_json::from_str::<Jwk>(text) {
            keys.add(Ok(jwk));
        } else {
            text.lines()
                .for_each(|line| keys.add(serde_json::from_str(line)));
        }
        if keys.is_empty() {
            Err(KeyError::NotJwk)
        } else {
            Ok(keys)
        }
    }

    // INVARIANT: a key is known by the thumbprint computed here, never by the `kid` its JWK claims.
    fn add(&mut self, jwk: serde_json::Result<Jwk>) {
        let Ok(Jwk { kty, crv, x }) = jwk else { return };
        let Ok(key) = URL_SAFE_NO_PAD.decode(&x) else {
            return;
        };
        if kty == "OKP" && crv == "Ed25519" && key.len() == 32 {
            self.0.insert(thumbprint(&x), key);
        }
    }

    /// Adds all keys of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key of thumbprint `kid` is known.
    pub fn contains(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// Checks the signature `sig` of the key `kid` over `head`.
    pub fn check(&self, kid: &str, sig: &str, head: Head<'_>) -> Signature {
        let Some(key) = self.0.get(kid) else {
            return Signature::KeyUnknown;
        };
        let Ok(sig) = URL_SAFE_NO_PAD.decode(sig) else {
            return Signature::Bad;
        };
        match UnparsedPublicKey::new(&ED25519, key).verify(&head.message(), &sig) {
            Ok(()) => Signature::Good,
            Err(_) => Signature::Bad,
        }
    }
}

/// RFC 7638 §3 for an Ed25519 key (RFC 8037 §2): its required members in order, hashed.
fn thumbprint(x: &str) -> String {
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8037 appendix A.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
    // The same key (its `d`) in PKCS#8 v1, RFC 8410 §7.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    const HEAD: Head<'static> = Head {
        instance: "i",
        seq: 7,
        prev: "p",
    };

    #[test]
    fn a_pem_key_is_named_as_rfc_8037_says() {
        let key = CheckpointKey::from_pem(PEM.as_bytes()).unwrap();
        assert_eq!((key.x.as_str(), key.kid()), (X, KID));
        assert!(!format!("{key:?}").contains("nWGx"));
    }

    #[test]
    fn a_signature_holds_for_its_head_only() {
        let key = CheckpointKey::made().unwrap();
        let keys = PublicKeys::parse(&key.public_jwk()).unwrap();
        let sig = key.sign(HEAD);
        assert_eq!(keys.check(key.kid(), &sig, HEAD), Signature::Good);
        for other in [
            Head { seq: 8, ..HEAD },
            Head { prev: "q", ..HEAD },
            Head {
                instance: "j",
                ..HEAD
            },
        ] {
            assert_eq!(keys.check(key.kid(), &sig, other), Signature::Bad);
        }
        assert_eq!(keys.check("someone", &sig, HEAD), Signature::KeyUnknown);
        assert_eq!(keys.check(key.kid(), "!", HEAD), Signature::Bad);
    }

    #[test]
    fn keys_are_read_alone_in_a_set_and_by_line() {
        let (one, two) = (
            CheckpointKey::made().unwrap(),
            CheckpointKey::made().unwrap(),
        );
        let set = format!(
            r#"{{"keys":[{},{{"kty":"RSA"}},{}]}}"#,
            one.public_jwk(),
            two.public_jwk()
        );
        let lines = format!("{}\n{{\"torn\n\n{}\n", one.public_jwk(), two.public_jwk());
        for text in [set, lines] {
            let keys = PublicKeys::parse(&text).unwrap();
            assert!(keys.contains(one.kid()) && keys.contains(two.kid()));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(PublicKeys::parse("").unwrap_err(), KeyError::NotJwk);
        assert_eq!(
            PublicKeys::parse(r#"{"keys":[]}"#).unwrap_err(),
            KeyError::NotJwk
        );
        assert_eq!(
            CheckpointKey::from_pem(b"no pem").unwrap_err(),
            KeyError::NotPem
        );
        let rsa = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            CheckpointKey::from_pem(rsa.as_bytes()).unwrap_err(),
            KeyError::NotEd25519
        );
    }

    #[test]
    fn the_kid_a_jwk_claims_is_not_believed() {
        let key = CheckpointKey::made().unwrap();
        let keys = PublicKeys::parse(&key.public_jwk().replace(key.kid(), "claimed")).unwrap();
        assert!(keys.contains(key.kid()) && !keys.contains("claimed"));
    }
}
