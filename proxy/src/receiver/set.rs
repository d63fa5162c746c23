//! One security event token in, what it says out (RFC 8417, SSF 1.0 §4.1).
//!
//! Nothing of it is believed before issuer, audience and signature are those of the stream on which
//! it came. It says what happened, to whom; what follows from that is not decided here.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::jose::{BadToken, Jws, KeySet, SKEW, Typ};

/// The longest token, in bytes.
pub const LONGEST: usize = 64 * 1024;

/// The most events of one token.
pub const MOST_EVENTS: usize = 16;

/// What a token of one stream must be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Who says it.
    pub issuer: &'a str,
    /// To whom.
    pub audience: &'a str,
    /// How old it may be.
    pub max_age: Duration,
}

/// A token that is not taken. The texts repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadSet {
    /// It is no token, or none that its issuer has signed.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// It has a claim that no security event token of a stream has.
    #[error("the token has the claim `{0}`, which a security event token must not have")]
    Forbidden(&'static str),
    /// It is from another issuer than the stream's.
    #[error("the token's `iss` is not the stream's issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("the token's `aud` does not have this receiver in it")]
    Audience,
    /// It was made long ago.
    #[error("the token was issued too long ago")]
    Old,
    /// It was not made yet.
    #[error("the token's `iat` is in the future")]
    Early,
    /// It has no events, or too many, or one is no object.
    #[error("expected `events` with 1 to {MOST_EVENTS} objects")]
    Events,
    /// Nobody is named to whom it happened.
    #[error("expected a subject identifier in `sub_id`")]
    Subject,
}

/// What happened: the URI of an event type, with what belongs to it.
pub type Event = (String, Map<String, Value>);

/// What a token says.
#[derive(Debug)]
pub struct Set {
    /// Its ID (`jti`), unique with its issuer.
    pub id: Arc<str>,
    /// When it was issued.
    pub issued: Timestamp,
    /// To whom it happened (RFC 9493).
    pub subject: Map<String, Value>,
    /// What happened.
    pub events: Vec<Event>,
}

impl Set {
    /// Reads and verifies a token.
    ///
    /// # Errors
    /// [`BadSet`].
    pub fn read(
        token: &[u8],
        keys: &KeySet,
        expected: Expected<'_>,
        now: Timestamp,
    ) -> Result<Self, BadSet> {
        let jws = Jws::read_within(token, LONGEST)?;
        let (claims, _key) = jws.verify(Typ::Exactly("secevent+jwt"), keys)?;
        claims
            .is_from(expected.issuer)
            .map_err(|_| BadSet::Issuer)?;
        claims
            .is_for(expected.audience)
            .map_err(|_| BadSet::Audience)?;
        for never in ["sub", "exp"] {
            if claims.get(never).is_some() {
                return Err(BadSet::Forbidden(never));
            }
        }
        let issued = claims.time("iat")?;
        if issued > moved(now, SKEW) {
            return Err(BadSet::Early);
        }
        if moved(issued, expected.max_age) < now {
            return Err(BadSet::Old);
        }
        let Some(Value::Object(subject)) = claims.get("sub_id") else {
            return Err(BadSet::Subject);
        };
        Ok(Self {
            id: claims.text("jti")?.into(),
            issued,
            subject: subject.clone(),
            events: events(claims.get("events"))?,
        })
    }
}

/// Who a token says has made it: good for choosing a stream, for nothing else.
///
/// # Errors
/// [`BadToken`].
pub fn unverified_issuer(token: &[u8]) -> Result<String, BadToken> {
    let jws = Jws::read_within(token, LONGEST)?;
    let issuer = jws.unverified_issuer().ok_or(BadToken::BadClaim("iss"))?;
    Ok(issuer.to_owned())
}

/// What a token says its ID is: good for comparing it with how it was announced.
///
/// # Errors
/// [`BadToken`].
pub fn unverified_id(token: &[u8]) -> Result<String, BadToken> {
    let jws = Jws::read_within(token, LONGEST)?;
    let id = jws.unverified_id().ok_or(BadToken::BadClaim("jti"))?;
    Ok(id.to_owned())
}

fn events(claim: Option<&Value>) -> Result<Vec<Event>, BadSet> {
    let Some(Value::Object(events)) = claim else {
        return Err(BadSet::Events);
    };
    if !(1..=MOST_EVENTS).contains(&events.len()) {
        return Err(BadSet::Events);
    }
    let each = events.iter().map(|(uri, event)| match event {
        Value::Object(event) => Ok((uri.clone(), event.clone())),
        _ => Err(BadSet::Events),
    });
    each.collect()
}

/// A time and so much more; the end of time where there is none.
pub(super) fn moved(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl BadSet {
    /// The word for whoever sent it (RFC 8935 §2.4).
    pub const fn code(self) -> &'static str {
        match self {
            Self::Issuer => "invalid_issuer",
            Self::Audience => "invalid_audience",
            Self::Token(
                BadToken::UnknownKey
                | BadToken::AmbiguousKey
                | BadToken::OtherAlgorithm
                | BadToken::BadSignature,
            ) => "invalid_key",
            Self::Token(_)
            | Self::Forbidden(_)
            | Self::Old
            | Self::Early
            | Self::Events
            | Self::Subject => "invalid_request",
        }
    }
}

#[cfg(test)]
mod tests;
