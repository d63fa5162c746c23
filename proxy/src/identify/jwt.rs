//! A task token of another issuer in, what it grants out, or nothing (RFC 7515, RFC 7519).
//!
//! Strict on purpose (RFC 8725): the algorithm comes from the issuer's key and not from the
//! token, no key is ever taken from a token, and a claim that is there but not as it should be
//! is never treated as absent.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use outrider_policy::{Level, Pattern};
use outrider_schemas::json;
use serde_json::{Map, Value};

use super::jwk::KeySet;
use crate::task::Terms;

/// The `typ` of a task token, compared exactly.
const TYP: &str = "outrider-task+jwt";

/// The longest token: what fits into the headers of a request with room to spare.
const LONGEST: usize = 16 * 1024;

/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(30);

/// How many actors a chain may have.
const MOST_ACTORS: usize = 16;

/// Header members that change what is signed or where keys come from (RFC 7515 §4.1.11,
/// RFC 7797). A token that needs them needs what is not done here.
const UNSUPPORTED: [&str; 2] = ["crit", "b64"];

/// Whose tokens are accepted, and for whom they must be.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Exactly the `iss` of its tokens.
    pub issuer: Arc<str>,
    /// What `aud` must name.
    pub audience: Arc<str>,
    /// Its keys.
    pub keys: KeySet,
}

/// A token that grants nothing. The texts are for operators and repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadToken {
    /// It is no compact JWS of a readable header and claims.
    #[error("the token is malformed")]
    Malformed,
    /// Its header asks for what is not done here.
    #[error("the token's header names another type, algorithm or extension")]
    WrongHeader,
    /// The issuer has no such key.
    #[error("the token is signed by a key the issuer does not publish")]
    UnknownKey,
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

/// Verifies a token of this issuer for this agent and returns what it grants.
///
/// # Errors
/// [`BadToken`]; nothing of the token is believed then.
pub fn verify(
    token: &[u8],
    issuer: &Issuer,
    agent: &str,
    now: Timestamp,
) -> Result<Terms, BadToken> {
    let claims = Claims(signed_claims(token, &issuer.keys)?);
    let (opened, expires) = claims.times(now)?;
    claims.is_from(issuer)?;
    let actors = claims.actors(agent)?;
    let task = Claims(claims.object("task")?.clone());
    Ok(Terms {
        id: task.text("id", "task.id")?,
        token_id: claims.text("jti", "jti")?,
        issuer: Arc::clone(&issuer.issuer),
        subject: claims.text("sub", "sub")?,
        actors,
        intent: task.text("intent", "task.intent")?,
        tools: task.tools()?,
        max_classification: task.max_classification()?,
        budget: task.budget()?,
        opened,
        expires,
        parent: task
            .has("parent")
            .then(|| task.text("parent", "task.parent"))
            .transpose()?,
        opened_by: Arc::clone(&issuer.issuer),
    })
}

/// The claims of a token whose header and signature are right. Claims are not even read before.
fn signed_claims(token: &[u8], keys: &KeySet) -> Result<Map<String, Value>, BadToken> {
    let token = std::str::from_utf8(token).map_err(|_| BadToken::Malformed)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(BadToken::Malformed)?;
    if token.len() > LONGEST || claims.contains('.') {
        return Err(BadToken::Malformed);
    }
    let header = Claims(object(header)?);
    if header.get("typ") != Some(TYP) || UNSUPPORTED.iter().any(|name| header.has(name)) {
        return Err(BadToken::WrongHeader);
    }
    if header.has("kid") && header.get("kid").is_none() {
        return Err(BadToken::WrongHeader);
    }
    let key = keys.find(header.get("kid")).ok_or(BadToken::UnknownKey)?;
    if header.get("alg") != Some(key.algorithm()) {
        return Err(BadToken::WrongHeader);
    }
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| BadToken::Malformed)?;
    if !key.verifies(signed.as_bytes(), &signature) {
        return Err(BadToken::BadSignature);
    }
    object(claims)
}

/// Canonical, unpadded base64url of one strict JSON object.
fn object(part: &str) -> Result<Map<String, Value>, BadToken> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| BadToken::Malformed)?;
    match json::parse_document(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(BadToken::Malformed),
    }
}

/// An object of which every member is taken as it should be or not at all.
struct Claims(Map<String, Value>);

impl Claims {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    fn text(&self, name: &str, shown: &'static str) -> Result<Arc<str>, BadToken> {
        filled(self.0.get(name))
            .map(Arc::from)
            .ok_or(BadToken::BadClaim(shown))
    }

    fn object(&self, name: &'static str) -> Result<&Map<String, Value>, BadToken> {
        self.0
            .get(name)
            .and_then(Value::as_object)
            .ok_or(BadToken::BadClaim(name))
    }

    /// Whole seconds since the epoch; a fraction would be rounded in somebody's favour.
    fn time(&self, name: &'static str) -> Result<Timestamp, BadToken> {
        let second = self
            .0
            .get(name)
            .and_then(Value::as_i64)
            .ok_or(BadToken::BadClaim(name))?;
        Timestamp::from_second(second).map_err(|_| BadToken::BadClaim(name))
    }

    /// When the task was opened and when it is over, the skew included.
    fn times(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), BadToken> {
        let (issued, expires) = (self.time("iat")?, self.time("exp")?);
        let begins = if self.has("nbf") {
            self.time("nbf")?.max(issued)
        } else {
            issued
        };
        let latest = expires
            .checked_add(SKEW)
            .map_err(|_| BadToken::BadClaim("exp"))?;
        if expires <= issued {
            return Err(BadToken::BadClaim("exp"));
        }
        if now >= latest {
            return Err(BadToken::Expired);
        }
        if now.checked_add(SKEW).map_err(|_| BadToken::NotYet)? < begins {
            return Err(BadToken::NotYet);
        }
        Ok((issued, latest))
    }

    fn is_from(&self, issuer: &Issuer) -> Result<(), BadToken> {
        if self.get("iss") != Some(&*issuer.issuer) {
            return Err(BadToken::BadClaim("iss"));
        }
        let ours = |value: &Value| value.as_str() == Some(&*issuer.audience);
        let for_us = match self.0.get("aud") {
            Some(Value::Array(all)) => all.iter().all(Value::is_string) && all.iter().any(ours),
            Some(one) => ours(one),
            None => false,
        };
        if for_us {
            Ok(())
        } else {
            Err(BadToken::BadClaim("aud"))
        }
    }

    /// The chain of `act`, the outermost first, which must be this agent (RFC 8693 §4.1).
    fn actors(&self, agent: &str) -> Result<Vec<Arc<str>>, BadToken> {
        let bad = BadToken::BadClaim("act");
        let mut actors = Vec::new();
        let mut next = self.0.get("act");
        while let Some(actor) = next {
            let actor = actor.as_object().ok_or(bad)?;
            let sub = filled(actor.get("sub")).ok_or(bad)?;
            if actors.len() == MOST_ACTORS {
                return Err(bad);
            }
            actors.push(Arc::from(sub));
            next = actor.get("act");
        }
        if actors
            .first()
            .is_some_and(|first: &Arc<str>| **first == *agent)
        {
            Ok(actors)
        } else {
            Err(bad)
        }
    }

    /// `tools`: an empty list permits nothing, and is not the same as none.
    fn tools(&self) -> Result<Option<Vec<Pattern>>, BadToken> {
        let bad = BadToken::BadClaim("task.tools");
        let Some(tools) = self.0.get("tools") else {
            return Ok(None);
        };
        let pattern = |tool: &Value| {
            let text = filled(Some(tool)).ok_or(bad)?;
            Pattern::try_from(text.to_owned()).map_err(|_| bad)
        };
        tools
            .as_array()
            .ok_or(bad)?
            .iter()
            .map(pattern)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn max_classification(&self) -> Result<Option<Level>, BadToken> {
        let bad = BadToken::BadClaim("task.max_classification");
        if !self.has("max_classification") {
            return Ok(None);
        }
        let level = self.get("max_classification").ok_or(bad)?;
        level.parse().map(Some).map_err(|_| bad)
    }

    fn budget(&self) -> Result<Option<u64>, BadToken> {
        let Some(budget) = self.0.get("budget") else {
            return Ok(None);
        };
        let calls = budget.get("calls").and_then(Value::as_u64);
        calls.map(Some).ok_or(BadToken::BadClaim("task.budget"))
    }
}

/// A text that says something, in characters that cannot steer a log.
fn filled(value: Option<&Value>) -> Option<&str> {
    let text = value?.as_str()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests;
