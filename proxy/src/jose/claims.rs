//! The claims of a token, of which each is taken as it should be or not at all (RFC 7519 §4.1).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::BadToken;

/// How far the clocks of issuer and verifier may differ.
pub const SKEW: Duration = Duration::from_secs(30);

/// The last second of the year 9999: what is later is no time but a mistake of units.
const LAST_SECOND: i64 = 253_402_300_799;

/// The longest text of a claim that names somebody or something, in bytes.
const LONGEST_TEXT: usize = 2048;

/// Verified claims, or an object within them.
#[derive(Debug)]
pub struct Claims(Map<String, Value>);

/// From when to when a token holds, as its issuer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    /// When it was made (`iat`).
    pub issued: Timestamp,
    /// When it is over (`exp`).
    pub expires: Timestamp,
}

impl Claims {
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    /// The claim as it is.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The names of all claims.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A text that says something, in characters that cannot steer a log.
    ///
    /// # Errors
    /// [`BadToken::BadClaim`].
    pub fn text(&self, name: &'static str) -> Result<&str, BadToken> {
        filled(self.0.get(name)).ok_or(BadToken::BadClaim(name))
    }

    /// As [`text`](Self::text), where the claim is there.
    ///
    /// # Errors
    /// [`BadToken::BadClaim`].
    pub fn optional_text(&self, name: &'static str) -> Result<Option<&str>, BadToken> {
        match self.0.get(name) {
            None => Ok(None),
            Some(_) => self.text(name).map(Some),
        }
    }

    /// A time: whole seconds since the epoch. A fraction would be rounded in somebody's favour.
    ///
    /// # Errors
    /// [`BadToken::BadClaim`].
    pub fn time(&self, name: &'static str) -> Result<Timestamp, BadToken> {
        let second = self.0.get(name).and_then(Value::as_i64);
        let second = second.filter(|second| (0..=LAST_SECOND).contains(second));
        second
            .and_then(|second| Timestamp::from_second(second).ok())
            .ok_or(BadToken::BadClaim(name))
    }

    /// `iss` is exactly this.
    ///
    /// # Errors
    /// [`BadToken::BadClaim`].
    pub fn is_from(&self, issuer: &str) -> Result<(), BadToken> {
        if self.text("iss")? == issuer {
            Ok(())
        } else {
            Err(BadToken::BadClaim("iss"))
        }
    }

    /// `aud` is this, or a list of texts with this among them (RFC 7519 §4.1.3).
    ///
    /// # Errors
    /// [`BadToken::BadClaim`].
    pub fn is_for(&self, audience: &str) -> Result<(), BadToken> {
        let for_us = match self.0.get("aud") {
            Some(Value::Array(all)) => {
                all.iter().all(Value::is_string) && all.iter().any(|one| one == audience)
            }
            Some(one) => one == audience,
            None => false,
        };
        if for_us {
            Ok(())
        } else {
            Err(BadToken::BadClaim("aud"))
        }
    }

    /// When the token holds, and that it does at `now`: `iat` and `exp` must be there, `nbf` may.
    ///
    /// # Errors
    /// [`BadToken::BadClaim`], [`BadToken::NotYet`], [`BadToken::Expired`].
    pub fn lifetime(&self, now: Timestamp) -> Result<Lifetime, BadToken> {
        let lifetime = Lifetime {
            issued: self.time("iat")?,
            expires: self.expiry(now)?,
        };
        if lifetime.expires > lifetime.issued {
            Ok(lifetime)
        } else {
            Err(BadToken::BadClaim("exp"))
        }
    }

    /// When the token is over, and that it holds at `now`: `exp` must be there, `iat` and `nbf` may.
    ///
    /// # Errors
    /// As [`lifetime`](Self::lifetime).
    pub fn expiry(&self, now: Timestamp) -> Result<Timestamp, BadToken> {
        let expires = self.time("exp")?;
        for begins in ["iat", "nbf"] {
            if self.0.contains_key(begins) && self.time(begins)? > later(now)? {
                return Err(BadToken::NotYet);
            }
        }
        if later(expires)? > now {
            Ok(expires)
        } else {
            Err(BadToken::Expired)
        }
    }

    /// A claim that is an object.
    ///
    /// # Errors
    /// [`BadToken::BadClaim`].
    pub fn object(&self, name: &'static str) -> Result<Self, BadToken> {
        match self.0.get(name) {
            Some(Value::Object(object)) => Ok(Self(object.clone())),
            _ => Err(BadToken::BadClaim(name)),
        }
    }
}

fn later(time: Timestamp) -> Result<Timestamp, BadToken> {
    time.checked_add(SKEW)
        .map_err(|_| BadToken::BadClaim("exp"))
}

/// A text that is not empty, not endless, and without control characters.
fn filled(value: Option<&Value>) -> Option<&str> {
    let text = value?.as_str()?;
    let good =
        !text.is_empty() && text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control);
    good.then_some(text)
}

#[cfg(test)]
mod tests;
