//! Headers of the transport: what is admitted by the head alone, and whether mirrored headers
//! equal the body (MCP 2026-07-28 transports, header validation; SEP-2243).

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};
use outrider_policy::Value;
use outrider_schemas::catalogue::{Kind, ParamHeader};

use super::revision::Era;
use crate::{
    headers::{self, begins_loosely, loosely},
    protocol::{
        Form,
        rpc::{json_body, member},
    },
    rejection::{Header, Malformed, Rejection},
};

/// The header that names the revision.
pub(super) const VERSION: &str = "mcp-protocol-version";
/// The header that names the session.
pub(super) const SESSION: &str = "mcp-session-id";
const EVENTS: &[u8] = b"text/event-stream";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";
const PARAMETER: &str = "mcp-param-";

/// Admits a POST of identity-coded JSON, and what a session's stream is opened or ended with.
pub(super) fn admit(head: &Parts) -> Result<(), Rejection> {
    match head.method {
        Method::POST => {}
        Method::GET if head.headers.contains_key(SESSION) => return accepts_events(head),
        Method::DELETE if head.headers.contains_key(SESSION) => return Ok(()),
        // What clients of 2024-11-05 begin with; they would read a refusal as a stream that failed.
        Method::GET if accepts_events(head).is_ok() => {
            return Err(Rejection::CallMalformed(Malformed::OldTransport));
        }
        _ => return Err(Rejection::CallMalformed(Malformed::Method)),
    }
    json_body(head)
}

fn accepts_events(head: &Parts) -> Result<(), Rejection> {
    let events = |line: &HeaderValue| {
        line.as_bytes()
            .to_ascii_lowercase()
            .windows(EVENTS.len())
            .any(|part| part == EVENTS)
    };
    if head.headers.get_all(header::ACCEPT).iter().any(events) {
        Ok(())
    } else {
        Err(Rejection::CallMalformed(Malformed::Method))
    }
}

/// Refuses headers that a lax reader takes for one that is judged. Behind `mcp-param-` an
/// argument's own name may have a `_`; [`parameters_agree`] sees to those.
pub(super) fn no_twins(headers: &HeaderMap) -> Result<(), Rejection> {
    headers::no_twins(headers, |name| {
        (begins_loosely(name, "mcp-") && !name.starts_with(PARAMETER))
            || begins_loosely(name, "content-")
            || begins_loosely(name, "accept")
    })
}

/// The value of a header that may appear once.
pub(super) fn once<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, Rejection> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => Ok(Some(
            line.to_str()
                .map_err(|_| mismatch(name))?
                .trim_matches([' ', '\t']),
        )),
        _ => Err(mismatch(name)),
    }
}

/// `Mcp-Method` equals the method: required of modern requests, checked wherever it is there.
pub(super) fn method_agrees(
    headers: &HeaderMap,
    method: &str,
    era: Era,
    form: Form,
) -> Result<(), Rejection> {
    match once(headers, METHOD)? {
        Some(told) if told == method => Ok(()),
        None if form == Form::Notification || era == Era::Legacy => Ok(()),
        _ => Err(mismatch(METHOD)),
    }
}

/// An answer has neither method nor name, whatever its headers say.
pub(super) fn no_method(headers: &HeaderMap) -> Result<(), Rejection> {
    let told = [METHOD, NAME]
        .into_iter()
        .find(|name| headers.contains_key(*name));
    told.map_or(Ok(()), |name| Err(mismatch(name)))
}

/// `Mcp-Name` equals what it mirrors: required of modern requests, checked wherever it is there.
pub(super) fn name_agrees(
    headers: &HeaderMap,
    era: Era,
    name: Option<&str>,
) -> Result<(), Rejection> {
    let Some(name) = name else { return Ok(()) };
    match once(headers, NAME)? {
        None if era == Era::Legacy => Ok(()),
        Some(told) if decoded(told).is_some_and(|told| told == name) => Ok(()),
        _ => Err(mismatch(NAME)),
    }
}

/// Each `Mcp-Param-*` which the tool's schema declares equals its argument, and no other looks like
/// it: required of modern calls, checked wherever it is there.
pub(super) fn parameters_agree(
    headers: &HeaderMap,
    era: Era,
    arguments: &Value,
    declared: &[ParamHeader],
) -> Result<(), Rejection> {
    declared.iter().try_for_each(|header| {
        let twin = |name: &HeaderName| {
            name != header.name.as_str() && loosely(name.as_str(), &header.name)
        };
        if headers.keys().any(twin) {
            return Err(mismatch_of(header));
        }
        let argument = header
            .path
            .iter()
            .try_fold(arguments, |tree, name| member(tree, name));
        let mut lines = headers.get_all(header.name.as_str()).iter();
        let told = match (lines.next(), lines.next()) {
            (told, None) => {
                told.map(|told| told.to_str().unwrap_or("\0").trim_matches([' ', '\t']))
            }
            _ => return Err(mismatch_of(header)),
        };
        let left_out = era == Era::Legacy && told.is_none();
        if left_out || mirrors(header.kind, argument, told) {
            Ok(())
        } else {
            Err(mismatch_of(header))
        }
    })
}

/// An absent or null argument has no header; any other has exactly its own.
fn mirrors(kind: Kind, argument: Option<&Value>, told: Option<&str>) -> bool {
    match (argument, told) {
        (None | Some(Value::Null), told) => told.is_none(),
        (Some(_), None) => false,
        (Some(argument), Some(told)) => match (kind, argument) {
            (Kind::String, Value::String(text)) => {
                decoded(told).is_some_and(|told| *told == **text)
            }
            (Kind::Boolean, Value::Bool(flag)) => told == if *flag { "true" } else { "false" },
            (Kind::Integer, Value::Number(number)) => {
                same_integer(number.as_f64(), number.as_i64(), told)
            }
            // The schema refuses an argument of another type, after this.
            _ => true,
        },
    }
}

/// Integers are compared as numbers: `42.0` equals `42`.
fn same_integer(float: Option<f64>, integer: Option<i64>, told: &str) -> bool {
    match (integer, told.parse::<i64>()) {
        (Some(argument), Ok(told)) => argument == told,
        _ => {
            told.bytes()
                .all(|b| b.is_ascii_digit() || b == b'-' || b == b'.')
                && told
                    .parse::<f64>()
                    .ok()
                    .zip(float)
                    .is_some_and(|(told, argument)| (told - argument).abs() < f64::EPSILON)
        }
    }
}

/// Undoes the base64 sentinel `=?base64?…?=`; anything that is not one is literal text.
fn decoded(told: &str) -> Option<Cow<'_, str>> {
    let Some(inner) = told
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    else {
        return Some(told.into());
    };
    String::from_utf8(STANDARD.decode(inner).ok()?)
        .ok()
        .map(Cow::Owned)
}

/// The refusal of a header that is missing, repeated, malformed or different.
pub(super) fn mismatch(header: &'static str) -> Rejection {
    Rejection::HeaderMismatch(Header::Judged(header.into()))
}

fn mismatch_of(header: &ParamHeader) -> Rejection {
    Rejection::HeaderMismatch(Header::Judged(header.name.clone().into()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_base64_sentinel_is_undone_and_everything_else_is_literal() {
        let cases = [
            ("=?base64?SGVsbG8sIOS4lueVjA==?=", Some("Hello, 世界")),
            ("=?base64?IHBhZGRlZCA=?=", Some(" padded ")),
            (
                "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
                Some("=?base64?literal?="),
            ),
            ("=?BASE64?SGVsbG8=?=", Some("=?BASE64?SGVsbG8=?=")),
            ("SGVsbG8=", Some("SGVsbG8=")),
            ("=?base64?SGVsbG8?=", None),
            ("=?base64?!!!!?=", None),
        ];
        for (told, want) in cases {
            assert_eq!(decoded(told).as_deref(), want, "{told}");
        }
    }

    #[test]
    fn integers_are_compared_as_numbers() {
        assert!(same_integer(Some(42.0), Some(42), "42.0"));
        assert!(same_integer(Some(42.0), Some(42), "42"));
        assert!(!same_integer(Some(42.0), Some(42), "43"));
        assert!(!same_integer(Some(42.0), Some(42), "inf"));
    }
}
