//! The key by which we prove ourselves to a token server, and the JWTs that do (RFC 7523 §3,
//! RFC 8693 §2.1).
//!
//! In: a PKCS#8 key of a kind that token servers take, and claims. Out: a compact JWT that is good
//! for a minute and for one server.

use std::{fmt, path::Path};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

/// Larger than any key file, so that a wrong path does not read a disk into memory.
const LARGEST_FILE: u64 = 32 * 1024;

/// Below this an RSA key proves nothing.
const LEAST_RSA_BYTES: usize = 256;

/// A key that proves us to a token server. It prints its public name only.
pub struct Signer {
    pair: Pair,
    kid: String,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A key that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadKey {
    /// The file could not be read.
    #[error("cannot read the key file")]
    Unreadable,
    /// The file is not one private key in PEM.
    #[error("expected a PKCS#8 private key in PEM: `BEGIN PRIVATE KEY`")]
    NotPem,
    /// It is of another kind.
    #[error(
        "expected a key for Ed25519, P-256 or RSA of at least 2048 bits, such as `openssl genpkey -algorithm ed25519` makes"
    )]
    Kind,
    /// The cryptographic library did not sign.
    #[error("signing failed")]
    Unsigned,
}

impl Signer {
    /// Reads a key from a file; `kid` names it, or else its JWK thumbprint (RFC 7638).
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn load(path: &Path, kid: Option<&str>) -> Result<Self, BadKey> {
        use std::io::Read as _;
        let file = std::fs::File::open(path).map_err(|_| BadKey::Unreadable)?;
        let mut text = String::new();
        file.take(LARGEST_FILE)
            .read_to_string(&mut text)
            .map_err(|_| BadKey::Unreadable)?;
        Self::from_pem(&SecretString::from(text), kid)
    }

    /// The same of PEM text.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_pem(text: &SecretString, kid: Option<&str>) -> Result<Self, BadKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.expose_secret().as_bytes());
        let der = der.map_err(|_| BadKey::NotPem)?;
        let der = SecretSlice::from(der.secret_pkcs8_der().to_vec());
        let pair = Pair::read(der.expose_secret())?;
        let kid = match kid {
            Some(kid) => kid.to_owned(),
            None => thumbprint(&pair.required_members()?),
        };
        Ok(Self { pair, kid })
    }

    /// The key's name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half as a JWK, for the token server's list of keys.
    ///
    /// # Errors
    /// [`BadKey::Kind`].
    pub fn jwk(&self) -> Result<String, BadKey> {
        let members = self.pair.required_members()?;
        let members = members.trim_start_matches('{').trim_end_matches('}');
        let mut kid = Vec::new();
        crate::json::write_str(&self.kid, &mut kid);
        let (kid, alg) = (String::from_utf8_lossy(&kid), self.pair.algorithm());
        Ok(format!(
            r#"{{{members},"kid":{kid},"alg":"{alg}","use":"sig"}}"#
        ))
    }

    /// Signs claims as a compact JWT of this `typ`, which is one of our own words.
    ///
    /// # Errors
    /// [`BadKey::Unsigned`].
    pub fn sign(&self, typ: &str, claims: &serde_json::Value) -> Result<SecretString, BadKey> {
        let header = serde_json::json!({
            "alg": self.pair.algorithm(), "kid": self.kid, "typ": typ,
        });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let signature = self.pair.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token.into())
    }
}

impl Pair {
    fn read(der: &[u8]) -> Result<Self, BadKey> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::Ed25519(pair));
        }
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der) {
            return Ok(Self::P256(pair));
        }
        match RsaKeyPair::from_pkcs8(der) {
            Ok(pair) if pair.public_modulus_len() >= LEAST_RSA_BYTES => Ok(Self::Rsa(pair)),
            Ok(_) | Err(_) => Err(BadKey::Kind),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BadKey> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(pair) => pair.try_sign(message).map(|s| s.as_ref().to_vec()),
            Self::P256(pair) => pair.sign(&random, message).map(|s| s.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature)
            }
        }
        .map_err(|_| BadKey::Unsigned)
    }

    /// The members of the JWK that its thumbprint is made of, in order (RFC 7638 §3.2, RFC 8037 §2).
    fn required_members(&self) -> Result<String, BadKey> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Ok(match self {
            Self::Ed25519(pair) => {
                let x = text(pair.public_key().as_ref());
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
            Self::P256(pair) => {
                // An uncompressed point: 4, then both coordinates (SEC 1 §2.3.3).
                let point = pair.public_key().as_ref();
                let point = point.strip_prefix(&[4]).filter(|both| both.len() == 64);
                let (x, y) = point.ok_or(BadKey::Kind)?.split_at(32);
                let (x, y) = (text(x), text(y));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Self::Rsa(pair) => {
                let (n, e) = modulus_and_exponent(pair.public_key().as_ref())?;
                let (n, e) = (text(n), text(e));
                format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)
            }
        })
    }
}

/// The two numbers of an `RSAPublicKey` in DER (RFC 8017 A.1.1), without leading zeros.
fn modulus_and_exponent(der: &[u8]) -> Result<(&[u8], &[u8]), BadKey> {
    let (sequence, _) = element(der, 0x30).ok_or(BadKey::Kind)?;
    let (modulus, rest) = element(sequence, 2).ok_or(BadKey::Kind)?;
    let (exponent, _) = element(rest, 2).ok_or(BadKey::Kind)?;
    Ok((positive(modulus), positive(exponent)))
}

fn positive(number: &[u8]) -> &[u8] {
    number.strip_prefix(&[0]).unwrap_or(number)
}

/// The content of a DER element of that tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let add = |sum: usize, byte: &u8| sum.checked_mul(256)?.checked_add(usize::from(*byte));
        (length.iter().try_fold(0, add)?, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (found == tag).then_some((content, rest))
}

fn thumbprint(members: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::{AsDer as _, Pkcs8V1Der},
        rsa::KeySize,
        signature::{
            ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
            UnparsedPublicKey,
        },
    };
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn pem(der: &[u8]) -> SecretString {
        let text = STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n").into()
    }

    fn bytes(text: &serde_json::Value) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
    }

    /// Whether a token is signed by the key that the JWK tells.
    fn verified(token: &str, jwk: &str) -> serde_json::Value {
        let jwk: serde_json::Value = serde_json::from_str(jwk).unwrap();
        assert!(jwk.get("d").is_none());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let header: serde_json::Value = {
            let (header, _) = signed.split_once('.').unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
        };
        assert_eq!((&header["kid"], &header["alg"]), (&jwk["kid"], &jwk["alg"]));
        let signed = signed.as_bytes();
        match jwk["alg"].as_str().unwrap() {
            "EdDSA" => UnparsedPublicKey::new(&ED25519, bytes(&jwk["x"]))
                .verify(signed, &signature)
                .unwrap(),
            "ES256" => {
                let point = [vec![4], bytes(&jwk["x"]), bytes(&jwk["y"])].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, &signature)
                    .unwrap();
            }
            "RS256" => RsaPublicKeyComponents {
                n: bytes(&jwk["n"]),
                e: bytes(&jwk["e"]),
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, signed, &signature)
            .unwrap(),
            other => panic!("{other}"),
        }
        header
    }

    fn ecdsa() -> SecretString {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        pem(der.unwrap().as_ref())
    }

    fn rsa(size: KeySize) -> SecretString {
        let pair = RsaKeyPair::generate(size).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        pem(der.as_ref())
    }

    #[test]
    fn each_kind_of_key_signs_what_its_own_jwk_verifies() {
        let ed25519 = pem(Ed25519KeyPair::generate()
            .unwrap()
            .to_pkcs8v1()
            .unwrap()
            .as_ref());
        for key in [ed25519, ecdsa(), rsa(KeySize::Rsa2048)] {
            let signer = Signer::from_pem(&key, None).unwrap();
            let token = signer
                .sign("JWT", &serde_json::json!({"sub": "a"}))
                .unwrap();
            let header = verified(token.expose_secret(), &signer.jwk().unwrap());
            assert_eq!(header["typ"], "JWT");
            assert_eq!(signer.kid().len(), 43);
        }
    }

    #[test]
    fn the_server_may_know_a_key_by_another_name() {
        let signer = Signer::from_pem(&ecdsa(), Some("of \"mine\"")).unwrap();
        let token = signer.sign("JWT", &serde_json::json!({})).unwrap();
        verified(token.expose_secret(), &signer.jwk().unwrap());
        assert_eq!(signer.kid(), "of \"mine\"");
    }

    #[test]
    fn what_is_no_such_key_is_refused() {
        let bad = |text: SecretString| Signer::from_pem(&text, None).unwrap_err();
        assert_eq!(bad("".into()), BadKey::NotPem);
        assert_eq!(bad(pem(b"x")), BadKey::Kind);
        let missing = Signer::load(Path::new("/nonexistent/key.pem"), None);
        assert_eq!(missing.unwrap_err(), BadKey::Unreadable);
    }

    #[test]
    fn a_signer_never_prints_its_secret() {
        let signer = Signer::from_pem(&ecdsa(), Some("k")).unwrap();
        assert_eq!(format!("{signer:?}"), r#"Signer { kid: "k", .. }"#);
    }
}
