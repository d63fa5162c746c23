//! A token server's answer, read strictly (RFC 6749 §5, RFC 8693 §2.2).

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{TokenType, lifetime};
use crate::credentials::{Fault, Got, scope::is_word};
use outrider_schemas::json;

/// What an answer is held against.
pub(super) struct Asked<'a> {
    /// The scope that was asked for.
    pub(super) scope: Option<&'a str>,
    /// The type that was asked for; none where the answer need not name one.
    pub(super) issued: Option<TokenType>,
    /// How long a token is good for whose answer does not say.
    pub(super) ttl: Option<Duration>,
}

/// The errors that a token server may name (RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 8707 §2,
/// RFC 9449 §5); others are not repeated.
const ERRORS: [&str; 11] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "access_denied",
    "temporarily_unavailable",
    "server_error",
    "invalid_dpop_proof",
];

/// Reads an answer.
pub(super) fn read(answer: Response<Bytes>, asked: &Asked<'_>) -> Result<Got, Fault> {
    let (head, body) = answer.into_parts();
    let json = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().split(|byte| *byte == b';').next();
        kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    });
    let object = || match json::parse_document(&body) {
        Ok(Value::Object(object)) if json => Ok(object),
        Ok(_) | Err(_) => Err(Fault::Unusable("it is not a JSON object")),
    };
    let got = if head.status == StatusCode::OK {
        object().and_then(|object| token(object, asked))
    } else {
        Err(refusal(head.status, object().ok().as_ref()))
    };
    if let Ok(mut bytes) = body.try_into_mut() {
        secrecy::zeroize::Zeroize::zeroize(&mut *bytes);
    }
    got
}

fn refusal(status: StatusCode, object: Option<&Map<String, Value>>) -> Fault {
    let said = object.and_then(|object| object.get("error")?.as_str());
    let known = said.and_then(|said| ERRORS.into_iter().find(|known| *known == said));
    match known {
        Some(known) if status.is_client_error() => Fault::Refused(known),
        _ => Fault::Status(status),
    }
}

fn token(mut object: Map<String, Value>, asked: &Asked<'_>) -> Result<Got, Fault> {
    let Some(Value::String(token)) = object.remove("access_token") else {
        return Err(Fault::Unusable("there is no `access_token`"));
    };
    let secret = SecretString::from(token);
    usable(&secret)?;
    kind(&object, asked.issued.as_ref())?;
    scope(&object, asked.scope)?;
    let lifetime = match (object.get("expires_in"), asked.ttl) {
        (None, Some(ttl)) => ttl.min(crate::credentials::LONGEST),
        (None, None) => {
            return Err(Fault::Unusable("it has no `expires_in`: give `ttl`"));
        }
        (Some(said), _) => match said.as_u64().filter(|seconds| *seconds > 0) {
            Some(seconds) => lifetime(seconds),
            None => return Err(Fault::Unusable("`expires_in` is no number of seconds")),
        },
    };
    Ok(Got { secret, lifetime })
}

/// A token is visible ASCII: whatever else it may be, it ends no header.
fn usable(secret: &SecretString) -> Result<(), Fault> {
    use secrecy::ExposeSecret as _;
    let token = secret.expose_secret();
    if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(Fault::Unusable("`access_token` is no token"))
    }
}

/// The type is what was asked for, and one that whoever holds it can use.
fn kind(object: &Map<String, Value>, asked: Option<&TokenType>) -> Result<(), Fault> {
    let word = |name: &str| object.get(name).map(|value| value.as_str().unwrap_or(""));
    if let Some(asked) = asked
        && word("issued_token_type") != Some(asked.as_str())
    {
        return Err(Fault::Unusable(
            "`issued_token_type` is not what was asked for",
        ));
    }
    // A token for a header of its own says so (RFC 8693 §2.2.1).
    let own_header = asked.is_some_and(|asked| !asked.is_access_token());
    match word("token_type") {
        Some(word) if word.eq_ignore_ascii_case("bearer") => Ok(()),
        Some("N_A") if own_header => Ok(()),
        _ => Err(Fault::Unusable(
            "`token_type` is not `Bearer`, and we could not prove another one",
        )),
    }
}

/// The scope is no wider than what was asked for.
fn scope(object: &Map<String, Value>, asked: Option<&str>) -> Result<(), Fault> {
    let (Some(given), Some(asked)) = (object.get("scope"), asked) else {
        return Ok(());
    };
    let bad = Fault::Unusable("`scope` is wider than what was asked for");
    let given = given.as_str().ok_or(bad.clone())?;
    let mut words = given.split(' ').filter(|word| !word.is_empty());
    if words.all(|word| is_word(word) && asked.split(' ').any(|asked| asked == word)) {
        Ok(())
    } else {
        Err(bad)
    }
}
