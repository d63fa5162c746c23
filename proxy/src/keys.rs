//! Ed25519 keys: made or read, named by their thumbprint, shown as JWK (RFC 7517, RFC 8037).
//!
//! Task tokens, assertions and checkpoints of the log are signed by different keys, so that no
//! signature can be passed off as one of another kind; [`SigningKey::kid`] tells keys apart.

use std::{fmt, path::Path};

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretString};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// Larger than any Ed25519 key file, so that a wrong path does not read a disk into memory.
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
    /// It is a private key, but not Ed25519.
    #[error("expected an Ed25519 key, as `openssl genpkey -algorithm ed25519` makes")]
    NotEd25519,
}

/// A kept Ed25519 key pair. It prints its public name only.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    kid: String,
}

impl SigningKey {
    /// Makes a new key pair.
    ///
    /// # Errors
    /// [`KeyError::NotMade`].
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate()
            .map(Self::new)
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
    /// [`KeyError::NotPem`], [`KeyError::NotEd25519`].
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
        let pair = Ed25519KeyPair::from_pkcs8(der.expose_secret());
        pair.map(Self::new).map_err(|_| KeyError::NotEd25519)
    }

    fn new(pair: Ed25519KeyPair) -> Self {
        let kid = thumbprint(pair.public_key().as_ref());
        Self { pair, kid }
    }

    /// The key's name: its JWK thumbprint (RFC 7638 §3, RFC 8037 §2).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The 32 bytes of the public key.
    pub fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public key as a JWK, ready to be one of [`jwks`].
    pub fn jwk(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.public());
        let kid = &self.kid;
        format!(
            r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{kid}","alg":"EdDSA","use":"sig"}}"#
        )
    }

    /// The JOSE header of compact tokens of this `typ`, already in base64url (RFC 7515 §4.1).
    ///
    /// `typ` is one of our own words and needs no escaping.
    pub fn jose_header(&self, typ: &'static str) -> String {
        let kid = &self.kid;
        URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#))
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
        let signature = self.pair.try_sign(token.as_bytes()).map_err(|_| Unsigned)?;
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
    let keys: Vec<String> = keys.into_iter().map(SigningKey::jwk).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// The thumbprint of an Ed25519 public key: SHA-256 over its required members in order.
fn thumbprint(public: &[u8]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let required = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, required.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(pem(""), Err(KeyError::NotEd25519)));
        assert!(matches!(pem("MAA="), Err(KeyError::NotEd25519)));
        assert!(matches!(
            SigningKey::from_pem(&"".into()),
            Err(KeyError::NotPem)
        ));
        let missing = SigningKey::load(Path::new("/nonexistent/key.pem"));
        assert!(matches!(missing, Err(KeyError::Unreadable(_))));
    }

    #[test]
    fn an_ecdsa_key_is_refused() {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
        let rng = aws_lc_rs::rand::SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pem = format!("{BEGIN}\n{}\n{END}", STANDARD.encode(der.as_ref()));
        assert!(matches!(
            SigningKey::from_pem(&pem.into()),
            Err(KeyError::NotEd25519)
        ));
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
}
