//! Public keys as others publish them (RFC 7517, RFC 7518 §6, RFC 8037), each with the algorithms
//! it verifies.

use std::fmt;

use aws_lc_rs::{
    digest,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
        RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use outrider_schemas::json;
use serde_json::{Map, Value};

use super::Algorithm;

/// The most keys of one set.
pub const MAX_KEYS: usize = 128;

/// The longest name of a key, in bytes.
pub(super) const MAX_KID: usize = 256;

/// Members that only a private or shared key has (RFC 7518 §6.2.2, §6.3.2, §6.4).
const SECRETS: [&str; 10] = ["d", "k", "p", "q", "dp", "dq", "qi", "oth", "priv", "seed"];

/// Bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The y coordinates of the points of Ed25519 whose order divides eight. Under such a key one
/// signature fits many messages.
const SMALL_ORDER: [[u8; 32]; 7] = [
    first(0x00),
    first(0x01),
    // p - 1, and the other spellings of 0 and 1.
    prime(0xec),
    prime(0xed),
    prime(0xee),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// A number next to 2^255 - 19, by its lowest byte.
const fn prime(byte: u8) -> [u8; 32] {
    let mut point = [0xff; 32];
    point[0] = byte;
    point[31] = 0x7f;
    point
}

const fn first(byte: u8) -> [u8; 32] {
    let mut point = [0; 32];
    point[0] = byte;
    point
}

/// For what a set publishes its keys (`use`, RFC 7517 §4.2).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Usage {
    /// Signatures in general: `sig`, or nothing said.
    #[default]
    Signatures,
    /// JWT-SVIDs in a SPIFFE bundle: exactly `jwt-svid`.
    JwtSvid,
}

/// A key that is not taken from a set. The texts repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum RefusedKey {
    /// It is for something else: encryption, another algorithm or curve.
    #[error("it is for something else than EdDSA, ES256, RS256 or PS256 signatures")]
    Otherwise,
    /// It is, or has, a secret.
    #[error("it is private or shared: publish public keys only")]
    Secret,
    /// A member is missing, or is not what its kind of key says.
    #[error("it is broken")]
    Broken,
    /// `alg` is not of its kind of key.
    #[error("its `alg` is not one of its kind of key")]
    Confused,
    /// It is too small, or proves nothing.
    #[error("it is too weak or too large")]
    Weak,
}

/// A document that is no set of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadSet {
    /// It is not one.
    #[error("expected a JWK Set: `{{\"keys\": […]}}`")]
    NotASet,
    /// It has more keys than [`MAX_KEYS`].
    #[error("the set has more than {MAX_KEYS} keys")]
    TooMany,
}

/// No key of a set may verify a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoKey {
    /// None has that name.
    Unknown,
    /// The one of that name has another algorithm.
    OtherAlgorithm,
    /// More than one could be meant.
    Ambiguous,
}

/// A public key that verifies signatures.
#[derive(Clone)]
pub struct PublicKey {
    kid: Option<Box<str>>,
    thumbprint: Box<str>,
    /// Of an RSA key that says no `alg` there are two.
    ways: Vec<(Algorithm, ParsedPublicKey)>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey")
            .field("kid", &self.kid)
            .field("thumbprint", &self.thumbprint)
            .finish_non_exhaustive()
    }
}

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    refused: Vec<(usize, RefusedKey)>,
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517 §5). A key that cannot be used is left out and told of in
    /// [`refused`](Self::refused); the others serve. A set without keys is one.
    ///
    /// # Errors
    /// [`BadSet`].
    pub fn read(text: &[u8], usage: Usage) -> Result<Self, BadSet> {
        let set = json::parse_document(text).map_err(|_| BadSet::NotASet)?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or(BadSet::NotASet)?;
        if keys.len() > MAX_KEYS {
            return Err(BadSet::TooMany);
        }
        let mut found = Self::default();
        for (at, key) in keys.iter().enumerate() {
            let read = key.as_object().ok_or(RefusedKey::Broken);
            match read.and_then(|jwk| PublicKey::read(jwk, usage)) {
                Ok(key) => found.keys.push(key),
                Err(why) => found.refused.push((at, why)),
            }
        }
        Ok(found)
    }

    /// A set of these keys.
    pub fn of(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self {
            keys: keys.into_iter().collect(),
            refused: Vec::new(),
        }
    }

    /// The keys that serve.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Which keys of the document do not serve, by their place in it, and why.
    pub fn refused(&self) -> &[(usize, RefusedKey)] {
        &self.refused
    }

    /// The one key that a token's header can mean.
    ///
    /// # Errors
    /// [`NoKey`]: none, or more than one.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&PublicKey, NoKey> {
        let named = |key: &&PublicKey| kid.is_none() || key.kid() == kid;
        let mut fitting = self
            .keys
            .iter()
            .filter(named)
            .filter(|key| key.serves(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
            (None, _) if kid.is_some() && self.keys.iter().any(|key| named(&key)) => {
                Err(NoKey::OtherAlgorithm)
            }
            (None, _) => Err(NoKey::Unknown),
        }
    }
}

impl PublicKey {
    /// Reads one JWK.
    ///
    /// # Errors
    /// [`RefusedKey`].
    pub fn read(jwk: &Map<String, Value>, usage: Usage) -> Result<Self, RefusedKey> {
        if SECRETS.iter().any(|name| jwk.contains_key(*name)) {
            return Err(RefusedKey::Secret);
        }
        for_signatures(jwk, usage)?;
        let algorithm = algorithm(jwk)?;
        let kid = kid(jwk)?;
        let (thumbprint, ways) = match (optional(jwk, "kty")?, optional(jwk, "crv")?) {
            (Some("OKP"), Some("Ed25519")) => ed25519(jwk)?,
            (Some("EC"), Some("P-256")) => p256(jwk)?,
            (Some("RSA"), _) => rsa(jwk)?,
            (Some("oct"), _) => return Err(RefusedKey::Secret),
            (Some(_), _) => return Err(RefusedKey::Otherwise),
            (None, _) => return Err(RefusedKey::Broken),
        };
        let ways: Vec<_> = ways
            .into_iter()
            .filter(|(way, _)| algorithm.is_none_or(|said| said == *way))
            .collect();
        if ways.is_empty() {
            return Err(RefusedKey::Confused);
        }
        Ok(Self {
            kid,
            thumbprint,
            ways,
        })
    }

    /// What the key is called where it is published.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What the key is: its thumbprint (RFC 7638 §3).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether the key verifies signatures of this algorithm.
    pub fn serves(&self, algorithm: Algorithm) -> bool {
        self.way(algorithm).is_some()
    }

    /// Whether this is the key's signature of these bytes, by this algorithm.
    pub fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        self.way(algorithm)
            .is_some_and(|key| key.verify_sig(signed, signature).is_ok())
    }

    fn way(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let mut ways = self.ways.iter();
        ways.find(|(way, _)| *way == algorithm).map(|(_, key)| key)
    }
}

type Material = (Box<str>, Vec<(Algorithm, ParsedPublicKey)>);

fn ed25519(jwk: &Map<String, Value>) -> Result<Material, RefusedKey> {
    let (x, shown) = coordinate(jwk, "x")?;
    let mut y = x;
    y[31] &= 0x7f;
    if SMALL_ORDER.contains(&y) || !is_reduced(&y) {
        return Err(RefusedKey::Weak);
    }
    let key = ParsedPublicKey::new(&ED25519, x).map_err(|_| RefusedKey::Broken)?;
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{shown}"}}"#);
    Ok((thumbprint(&members), vec![(Algorithm::EdDsa, key)]))
}

/// Whether a coordinate is below the prime 2^255 - 19.
fn is_reduced(y: &[u8; 32]) -> bool {
    let [lowest, between @ .., highest] = y;
    *highest != 0x7f || between.iter().any(|byte| *byte != 0xff) || *lowest < 0xed
}

fn p256(jwk: &Map<String, Value>) -> Result<Material, RefusedKey> {
    let ((x, shown_x), (y, shown_y)) = (coordinate(jwk, "x")?, coordinate(jwk, "y")?);
    let point = [&[4][..], &x, &y].concat();
    // A point that is not on the curve is refused here.
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let key = key.map_err(|_| RefusedKey::Broken)?;
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{shown_x}","y":"{shown_y}"}}"#);
    Ok((thumbprint(&members), vec![(Algorithm::Es256, key)]))
}

fn rsa(jwk: &Map<String, Value>) -> Result<Material, RefusedKey> {
    let ((n, shown_n), (e, shown_e)) = (number(jwk, "n")?, number(jwk, "e")?);
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) || !odd(&n) || e.len() > 4 || !odd(&e) || e == [1] {
        return Err(RefusedKey::Weak);
    }
    let components = RsaPublicKeyComponents { n: &n, e: &e };
    let way = |algorithm, parameters: &'static RsaParameters| {
        let key = components.to_parsed_public_key(parameters);
        key.map(|key| (algorithm, key))
            .map_err(|_| RefusedKey::Broken)
    };
    let ways = vec![
        way(Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256)?,
        way(Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256)?,
    ];
    let members = format!(r#"{{"e":"{shown_e}","kty":"RSA","n":"{shown_n}"}}"#);
    Ok((thumbprint(&members), ways))
}

fn for_signatures(jwk: &Map<String, Value>, usage: Usage) -> Result<(), RefusedKey> {
    let fits = match (usage, optional(jwk, "use")?) {
        (Usage::Signatures, None | Some("sig")) | (Usage::JwtSvid, Some("jwt-svid")) => true,
        (Usage::Signatures | Usage::JwtSvid, _) => false,
    };
    let verifies = match jwk.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|one| one == "verify"),
        Some(_) => return Err(RefusedKey::Broken),
    };
    if fits && verifies {
        Ok(())
    } else {
        Err(RefusedKey::Otherwise)
    }
}

fn algorithm(jwk: &Map<String, Value>) -> Result<Option<Algorithm>, RefusedKey> {
    match optional(jwk, "alg")? {
        None => Ok(None),
        // The name RFC 9864 gives to the one curve that is meant.
        Some("Ed25519") => Ok(Some(Algorithm::EdDsa)),
        Some(name) if name.starts_with("HS") || name == "none" => Err(RefusedKey::Confused),
        Some(name) => Algorithm::named(name)
            .map(Some)
            .ok_or(RefusedKey::Otherwise),
    }
}

fn kid(jwk: &Map<String, Value>) -> Result<Option<Box<str>>, RefusedKey> {
    match optional(jwk, "kid")? {
        Some(kid) if kid.is_empty() || kid.len() > MAX_KID => Err(RefusedKey::Broken),
        kid => Ok(kid.map(Into::into)),
    }
}

/// A member that is a text where it is there.
fn optional<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, RefusedKey> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(RefusedKey::Broken),
    }
}

fn coordinate<'a>(
    jwk: &'a Map<String, Value>,
    name: &str,
) -> Result<([u8; 32], &'a str), RefusedKey> {
    let (bytes, shown) = decoded(jwk, name)?;
    let bytes = bytes.try_into().map_err(|_| RefusedKey::Broken)?;
    Ok((bytes, shown))
}

/// A positive number in as few bytes as it needs (RFC 7518 §2).
fn number<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<(Vec<u8>, &'a str), RefusedKey> {
    let (bytes, shown) = decoded(jwk, name)?;
    match bytes.first() {
        None | Some(0) => Err(RefusedKey::Broken),
        Some(_) => Ok((bytes, shown)),
    }
}

fn decoded<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<(Vec<u8>, &'a str), RefusedKey> {
    let shown = optional(jwk, name)?.ok_or(RefusedKey::Broken)?;
    let bytes = URL_SAFE_NO_PAD.decode(shown);
    Ok((bytes.map_err(|_| RefusedKey::Broken)?, shown))
}

/// SHA-256 over a key's required members, in their order (RFC 7638 §3).
pub(crate) fn thumbprint(members: &str) -> Box<str> {
    let digest = digest::digest(&digest::SHA256, members.as_bytes());
    URL_SAFE_NO_PAD.encode(digest).into()
}

#[cfg(test)]
mod tests;
