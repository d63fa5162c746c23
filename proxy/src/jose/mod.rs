//! What others sign: keys they publish and tokens they make, read strictly (RFC 7515 to 7519).
//!
//! In: bytes of a token, and the keys of whoever is trusted to make it. Out: [`Claims`], or
//! [`BadToken`]. Strict on purpose (RFC 8725): the algorithm is the key's and never the token's to
//! choose, no key is taken from a token or fetched for it, and a claim that is there but not as it
//! should be is never taken for absent.

mod claims;
mod jwk;
mod jwks;
mod jws;

#[cfg(test)]
pub(crate) mod testing;

pub use claims::{Claims, Lifetime, SKEW};
pub(crate) use jwk::thumbprint;
pub use jwk::{BadSet, KeySet, MAX_KEYS, NoKey, PublicKey, RefusedKey, Usage};
pub use jwks::{BadSource, Location, Settings, Source, Stale, Status};
pub use jws::{BadToken, Jws, LONGEST, Typ};

/// How a token may be signed (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA-PSS with SHA-256.
    Ps256,
}

impl Algorithm {
    /// The name in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    /// The algorithm of that name, compared exactly.
    pub fn named(name: &str) -> Option<Self> {
        [Self::EdDsa, Self::Es256, Self::Rs256, Self::Ps256]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }
}
