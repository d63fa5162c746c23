//! One compact JWS in, its claims out when a key of the set has signed it (RFC 7515 §5.2).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use outrider_schemas::json;
use serde_json::{Map, Value};

use super::{Algorithm, Claims, KeySet, NoKey, PublicKey, jwk::MAX_KID};

/// The longest token, in bytes: what fits into the head of a request with room to spare.
pub const LONGEST: usize = 16 * 1024;

/// Header members that change what is signed (RFC 7515 §4.1.11, RFC 7797, RFC 7516), or bring or
/// name a key (RFC 7515 §4.1.2, §4.1.3, §4.1.5, §4.1.6). A token that needs one needs what is not
/// done here. `x5t` and `x5t#S256` only name a certificate and are ignored.
const REFUSED: [&str; 8] = ["crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c"];

/// A token that proves nothing. The texts are for operators and repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum BadToken {
    /// It is no compact JWS of a readable header and claims.
    #[error("the token is malformed")]
    Malformed,
    /// Its header asks for what is not done here.
    #[error("the token's header brings a key, an extension or a bad `kid`")]
    BadHeader,
    /// It is a token of another kind.
    #[error("the token's `typ` is another one")]
    OtherType,
    /// Its `alg` is none that is served, or not the key's.
    #[error("the token's `alg` is not its key's")]
    OtherAlgorithm,
    /// Whoever is said to have made it has no such key.
    #[error("the token names a key that its issuer does not publish")]
    UnknownKey,
    /// More than one key could be meant.
    #[error("the token does not say which key of its issuer has signed it")]
    AmbiguousKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// A claim is missing or not as it should be.
    #[error("the token's claim `{0}` is missing or wrong")]
    BadClaim(&'static str),
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// What `typ` must be (RFC 8725 §3.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typ {
    /// Exactly this.
    Exactly(&'static str),
    /// `JWT`, `JOSE` or nothing, as JWT-SVIDs and service account tokens have it.
    Plain,
}

/// A token whose signature nobody has looked at yet. It gives its claims to
/// [`verify`](Self::verify) alone.
#[derive(Debug)]
pub struct Jws<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Claims,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn read(token: &'a [u8]) -> Result<Self, BadToken> {
        Self::read_within(token, LONGEST)
    }

    /// As [`read`](Self::read), for tokens of up to `longest` bytes, which come in a body.
    ///
    /// # Errors
    /// [`BadToken`].
    pub fn read_within(token: &'a [u8], longest: usize) -> Result<Self, BadToken> {
        if token.len() > longest {
            return Err(BadToken::Malformed);
        }
        let token = std::str::from_utf8(token).map_err(|_| BadToken::Malformed)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(BadToken::Malformed)?;
        let header = object(header)?;
        if REFUSED.iter().any(|name| header.contains_key(*name)) {
            return Err(BadToken::BadHeader);
        }
        let kid = text(&header, "kid")?;
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID) {
            return Err(BadToken::BadHeader);
        }
        let algorithm = text(&header, "alg")?.and_then(Algorithm::named);
        Ok(Self {
            algorithm: algorithm.ok_or(BadToken::OtherAlgorithm)?,
            kid: kid.map(Into::into),
            typ: text(&header, "typ")?.map(Into::into),
            signed,
            signature: decoded(signature)?,
            claims: Claims::new(object(claims)?),
        })
    }

    /// Who the token says has made it: good for choosing whose keys to verify it by, for nothing
    /// else.
    pub fn unverified_issuer(&self) -> Option<&str> {
        self.claims.text("iss").ok()
    }

    /// What the token says its ID is, for errors that are told to whoever sent it.
    pub fn unverified_id(&self) -> Option<&str> {
        self.claims.text("jti").ok()
    }

    /// The name of the key it says it is signed by.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// How it says it is signed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The claims, and the key of the set that has signed them. Their times, issuer and audience
    /// are the caller's to ask for.
    ///
    /// # Errors
    /// [`BadToken`]; nothing of the token is to be believed then.
    pub fn verify(self, typ: Typ, keys: &KeySet) -> Result<(Claims, &PublicKey), BadToken> {
        self.is_of(typ)?;
        let key = keys.find(self.kid(), self.algorithm).map_err(unfit)?;
        if key.verifies(self.algorithm, self.signed.as_bytes(), &self.signature) {
            Ok((self.claims, key))
        } else {
            Err(BadToken::BadSignature)
        }
    }

    fn is_of(&self, typ: Typ) -> Result<(), BadToken> {
        let fits = match (typ, self.typ.as_deref()) {
            (Typ::Exactly(wanted), typ) => typ == Some(wanted),
            (Typ::Plain, typ) => matches!(typ, None | Some("JWT" | "JOSE")),
        };
        if fits {
            Ok(())
        } else {
            Err(BadToken::OtherType)
        }
    }
}

fn unfit(why: NoKey) -> BadToken {
    match why {
        NoKey::Unknown => BadToken::UnknownKey,
        NoKey::OtherAlgorithm => BadToken::OtherAlgorithm,
        NoKey::Ambiguous => BadToken::AmbiguousKey,
    }
}

/// A header member that is a text where it is there.
fn text<'a>(header: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, BadToken> {
    match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(BadToken::BadHeader),
    }
}

/// Canonical, unpadded base64url of one strict JSON object.
fn object(part: &str) -> Result<Map<String, Value>, BadToken> {
    match json::parse_document(&decoded(part)?) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(BadToken::Malformed),
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, BadToken> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| BadToken::Malformed)
}

#[cfg(test)]
mod tests;
