//! The public keys of an issuer (RFC 7517), each with the one algorithm it verifies.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use outrider_schemas::json;
use serde_json::{Map, Value};

/// A key set that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadKeys {
    /// It is no key set.
    #[error("expected a JWK Set: `{{\"keys\": […]}}`")]
    NotASet,
    /// A key is not whole.
    #[error("a key of the set is broken")]
    Broken,
    /// A key that should be public is private.
    #[error("a key of the set is private: publish its public half only")]
    Private,
    /// Two keys have one name.
    #[error("two keys of the set have one `kid`, or one has none beside others")]
    Ambiguous,
    /// No key can verify a token.
    #[error("the set has no key for EdDSA, ES256, RS256 or PS256")]
    Empty,
}

/// The keys of one issuer that verify signatures.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<VerifyingKey>);

#[derive(Clone, Debug)]
pub(super) struct VerifyingKey {
    kid: Option<String>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    Rsa {
        padding: Padding,
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Padding {
    Pkcs1,
    Pss,
}

impl KeySet {
    /// Reads a JWK Set. Keys for other uses or of other kinds are left out (RFC 7517 §5).
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn read(text: &[u8]) -> Result<Self, BadKeys> {
        let set = json::parse_document(text).map_err(|_| BadKeys::NotASet)?;
        let keys = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(BadKeys::NotASet)?;
        let mut found: Vec<VerifyingKey> = Vec::new();
        for key in keys {
            let key = key.as_object().ok_or(BadKeys::Broken)?;
            if let Some(key) = VerifyingKey::read(key)? {
                if found.iter().any(|other| other.kid == key.kid) {
                    return Err(BadKeys::Ambiguous);
                }
                found.push(key);
            }
        }
        if found.len() > 1 && found.iter().any(|key| key.kid.is_none()) {
            return Err(BadKeys::Ambiguous);
        }
        if found.is_empty() {
            Err(BadKeys::Empty)
        } else {
            Ok(Self(found))
        }
    }

    /// The one key that a token's header can mean.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&VerifyingKey> {
        match (kid, self.0.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(_), keys) => keys.iter().find(|key| key.kid.as_deref() == kid),
        }
    }
}

impl VerifyingKey {
    fn read(jwk: &Map<String, Value>) -> Result<Option<Self>, BadKeys> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") {
            return Ok(None);
        }
        if jwk.contains_key("d") || jwk.contains_key("k") {
            return Err(BadKeys::Private);
        }
        let material = match (text("kty"), text("crv"), text("alg")) {
            (Some("OKP"), Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => {
                Material::Ed25519(bytes(jwk, "x", Some(32))?)
            }
            (Some("EC"), Some("P-256"), None | Some("ES256")) => {
                let (x, y) = (bytes(jwk, "x", Some(32))?, bytes(jwk, "y", Some(32))?);
                Material::P256([&[4][..], &x, &y].concat())
            }
            (Some("RSA"), _, Some(algorithm @ ("RS256" | "PS256"))) => Material::Rsa {
                padding: if algorithm == "RS256" {
                    Padding::Pkcs1
                } else {
                    Padding::Pss
                },
                n: bytes(jwk, "n", None)?,
                e: bytes(jwk, "e", None)?,
            },
            _ => return Ok(None),
        };
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) if !kid.is_empty() => Some(kid.clone()),
            Some(_) => return Err(BadKeys::Broken),
        };
        Ok(Some(Self { kid, material }))
    }

    /// The only `alg` a token under this key may name.
    pub(super) fn algorithm(&self) -> &'static str {
        match self.material {
            Material::Ed25519(_) => "EdDSA",
            Material::P256(_) => "ES256",
            Material::Rsa {
                padding: Padding::Pkcs1,
                ..
            } => "RS256",
            Material::Rsa {
                padding: Padding::Pss,
                ..
            } => "PS256",
        }
    }

    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x)
                .verify(signed, signature)
                .is_ok(),
            Material::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed, signature)
                .is_ok(),
            Material::Rsa { padding, n, e } => {
                let scheme = match padding {
                    Padding::Pkcs1 => &RSA_PKCS1_2048_8192_SHA256,
                    Padding::Pss => &RSA_PSS_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }
                    .verify(scheme, signed, signature)
                    .is_ok()
            }
        }
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str, length: Option<usize>) -> Result<Vec<u8>, BadKeys> {
    let text = jwk
        .get(name)
        .and_then(Value::as_str)
        .ok_or(BadKeys::Broken)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadKeys::Broken)?;
    if length.is_some_and(|length| length != bytes.len()) || bytes.is_empty() {
        return Err(BadKeys::Broken);
    }
    Ok(bytes)
}
