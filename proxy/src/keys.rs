//! Keys of our own: made or read, named by their thumbprint, shown as JWK (RFC 7517, RFC 8037).
//!
//! Task tokens, assertions and checkpoints of the log are signed by different keys, so that no
//! signature can be passed off as one of another kind; [`SigningKey::kid`] tells keys apart.

use std::{fmt, path::Path};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretString};

use crate::jose::{Algorithm, thumbprint};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Larger than any such key file, so that a wrong path does not read a disk into memory.
const LARGEST_FILE: u64 = 16 * 1024;

/// A key that could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The machine's source of randomness failed.
    #[error("no key could be made")]
    NotMade,
    /// The file could not be read.
    #[error("cannot read the key file")]
    Unreadable(#[source] std::io::Error),
    /// The file is not one private key in PEM.
    #[error("expected one PKCS#8 private key in PEM: `{BEGIN}` … `{END}`")]
    NotPem,
    /// It is a private key of another kind.
    #[error(
        "expected an Ed25519 key, as `openssl genpkey -algorithm ed25519` makes, or a P-256 key, as \
         `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes"
    )]
    OtherKind,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// A kept key pair. It prints its public name only.
pub struct SigningKey {
    pair: Pair,
    kid: Box<str>,
}

impl SigningKey {
    /// Makes a new Ed25519 key pair.
    ///
    /// # Errors
    /// [`KeyError::NotMade`].
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate()
            .map(|pair| Self::new(Pair::Ed25519(pair)))
            .map_err(|_| KeyError::NotMade)
    }

    /// Makes a new P-256 key pair, for ES256.
    ///
    /// # Errors
    /// [`KeyError::NotMade`].
    pub fn generate_p256() -> Result<Self, KeyError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map(|pair| Self::new(Pair::P256(pair)))
            .map_err(|_| KeyError::NotMade)
    }

    /// Reads a key pair from a PKCS#8 PEM file (RFC 7468 §10, RFC 8410 §7).
    ///
    /// # Errors
    /// [`KeyError::Unreadable`] and those of [`from_pem`](Self::from_pem).
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        use std::io::Read as _;
        let file = std::fs::File::open(path).map_err(KeyError::Unreadable)?;
        let mut text = String::new();
        file.take(LARGEST_FILE)
            .read_to_string(&mut text)
            .map_err(KeyError::Unreadable)?;
        Self::from_pem(&SecretString::from(text))
    }

    /// Reads a key pair from PEM text. Text before and after the one block is ignored.
    ///
    /// # Errors
    /// [`KeyError::NotPem`] and that of [`from_pkcs8`](Self::from_pkcs8).
    pub fn from_pem(text: &SecretString) -> Result<Self, KeyError> {
        let (_, rest) = text
            .expose_secret()
            .split_once(BEGIN)
            .ok_or(KeyError::NotPem)?;
        let (body, rest) = rest.split_once(END).ok_or(KeyError::NotPem)?;
        if rest.contains(BEGIN) {
            return Err(KeyError::NotPem);
        }
        let body = SecretString::from(body.split_ascii_whitespace().collect::<String>());
        let der = STANDARD
            .decode(body.expose_secret())
            .map_err(|_| KeyError::NotPem)?;
        let der = secrecy::SecretSlice::from(der);
        Self::from_pkcs8(der.expose_secret())
    }

    /// Takes a key pair as PKCS#8 has it (RFC 5958).
    ///
    /// # Errors
    /// [`KeyError::OtherKind`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::new(Pair::Ed25519(pair)));
        }
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(|pair| Self::new(Pair::P256(pair)))
            .map_err(|_| KeyError::OtherKind)
    }

    fn new(pair: Pair) -> Self {
        let kid = thumbprint(&required(&pair));
        Self { pair, kid }
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Ed25519(_) => Algorithm::EdDsa,
            Pair::P256(_) => Algorithm::Es256,
        }
    }

    /// The key's name: its JWK thumbprint (RFC 7638 §3, RFC 8037 §2).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key: the 32 bytes of Ed25519, or the 65 of an uncompressed point of P-256.
    pub fn public(&self) -> &[u8] {
        public(&self.pair)
    }

    /// The public key as a JWK, ready to be one of [`jwks`].
    pub fn jwk(&self) -> String {
        let (required, kid, algorithm) =
            (required(&self.pair), &self.kid, self.algorithm().as_str());
        let required = required.trim_end_matches('}');
        format!(r#"{required},"kid":"{kid}","alg":"{algorithm}","use":"sig"}}"#)
    }

    /// The JOSE header of compact tokens of this `typ`, already in base64url (RFC 7515 §4.1).
    ///
    /// `typ` is one of our own words and needs no escaping.
    pub fn jose_header(&self, typ: &'static str) -> String {
        self.jose_header_with(typ, &[])
    }

    /// The same with the certificates that vouch for the key, the key's own first: `x5c`
    /// (RFC 7515 §4.1.6).
    pub fn jose_header_with(&self, typ: &'static str, chain: &[Vec<u8>]) -> String {
        let (kid, algorithm) = (&self.kid, self.algorithm().as_str());
        let shown = |certificate: &Vec<u8>| format!(r#""{}""#, STANDARD.encode(certificate));
        let certificates: Vec<_> = chain.iter().map(shown).collect();
        let vouching = match certificates.as_slice() {
            [] => String::new(),
            some => format!(r#","x5c":[{}]"#, some.join(",")),
        };
        URL_SAFE_NO_PAD.encode(format!(
            r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"{typ}"{vouching}}}"#
        ))
    }

    /// Makes a compact token: `header` as [`jose_header`](Self::jose_header) gave it, then the
    /// claims, then the signature over both (RFC 7515 §3.1).
    ///
    /// # Errors
    /// [`Unsigned`] when the cryptographic library fails.
    pub fn compact(&self, header: &str, claims: &[u8]) -> Result<String, Unsigned> {
        let mut token = String::with_capacity(header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signed = token.as_bytes();
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(signed),
            Pair::P256(pair) => pair.sign(&SystemRandom::new(), signed),
        };
        let signature = signature.map_err(|_| Unsigned)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// The cryptographic library did not sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("signing failed")]
pub struct Unsigned;

/// The JWK Set of these keys (RFC 7517 §5).
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> String {
    jwk_set(keys.into_iter().map(SigningKey::jwk))
}

/// The JWK Set of keys that are shown already.
pub fn jwk_set(keys: impl IntoIterator<Item = String>) -> String {
    let keys: Vec<String> = keys.into_iter().collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn public(pair: &Pair) -> &[u8] {
    match pair {
        Pair::Ed25519(pair) => pair.public_key().as_ref(),
        Pair::P256(pair) => pair.public_key().as_ref(),
    }
}

/// The members of a public JWK that are required, in the order in which its thumbprint wants them.
fn required(pair: &Pair) -> String {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let public = public(pair);
    match pair {
        Pair::Ed25519(_) => {
            format!(
                r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
                encoded(public)
            )
        }
        Pair::P256(_) => {
            // An uncompressed point: a mark and two coordinates (SEC 1 §2.3.3).
            let (x, y) = public
                .get(1..)
                .unwrap_or_default()
                .split_at_checked(32)
                .unwrap_or_default();
            let (x, y) = (encoded(x), encoded(y));
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
        }
    }
}

#[cfg(test)]
mod tests;
