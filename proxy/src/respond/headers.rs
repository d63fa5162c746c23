//! Headers of an answer, and refusals that no protocol says: problem details (RFC 9457).

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use serde_json::json;

use super::Answer;
use crate::{
    call::DecisionId,
    headers::{begins_loosely, is_ours},
    rejection::{Malformed, Rejection},
};

/// Headers that end with this hop, or that an inspected service has no business to set.
const DROPPED: [HeaderName; 8] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::TE,
    header::UPGRADE,
    header::SET_COOKIE,
    header::ALT_SVC,
    HeaderName::from_static("keep-alive"),
];

/// Takes out what is hop-by-hop, and what only we may say. A service that may have the agent's
/// cookies may also set them.
pub(super) fn clean(headers: &mut HeaderMap, passthrough: &[HeaderName]) {
    let kept =
        |name: &HeaderName| *name == header::SET_COOKIE && passthrough.contains(&header::COOKIE);
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(',').filter_map(|name| name.trim().parse().ok()))
        .filter(|name| name != header::CONTENT_TYPE)
        .collect();
    for name in DROPPED.iter().filter(|name| !kept(name)).chain(&named) {
        headers.remove(name);
    }
    // A service behind us is no proxy before the agent: it may ask for no proxy's credentials.
    let unfit = |name: &&HeaderName| is_ours(name) || begins_loosely(name.as_str(), "proxy-");
    let unfit: Vec<HeaderName> = headers.keys().filter(unfit).cloned().collect();
    for name in unfit {
        headers.remove(name);
    }
    headers.remove(header::CONTENT_LENGTH);
}

/// A refusal as problem details.
pub(super) fn problem(rejection: &Rejection, id: DecisionId) -> Response<Answer> {
    let row = rejection.row();
    let mut body = json!({
        "type": format!("urn:outrider:refusal:{}", row.code.as_str()),
        "title": row.title,
        "status": row.status.as_u16(),
        "detail": rejection.detail(),
        "code": row.code.as_str(),
        "decision_id": id.to_string(),
        "retry": row.retry.as_str(),
    });
    if let Some(body) = body.as_object_mut()
        && !rejection.violations().is_empty()
    {
        body.insert("violations".into(), json!(rejection.violations()));
    }
    let mut response = Response::new(Answer::bytes(Bytes::from(body.to_string())));
    *response.status_mut() = row.status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
}

/// What the agent's HTTP library reads: when to retry, what to send (RFC 9110 §10.2.3, §11.6.1,
/// §15.5.6; draft-ietf-httpapi-ratelimit-headers-10).
pub(super) fn advise(response: &mut Response<Answer>, rejection: &Rejection) {
    let status = response.status();
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    if let Some(seconds) = rejection.retry_after_s() {
        put(header::RETRY_AFTER, seconds.to_string());
    }
    match rejection {
        Rejection::RateLimited(spent) => {
            put(
                HeaderName::from_static("ratelimit"),
                format!("\"{}\";r=0;t={}", spent.limit, spent.retry_after_s()),
            );
            if let Some((quota, window)) = spent.quota {
                let mut policy = format!("\"{}\";q={quota}", spent.limit);
                write!(policy, ";w={window}").unwrap_or_default();
                put(HeaderName::from_static("ratelimit-policy"), policy);
            }
        }
        Rejection::CallMalformed(Malformed::Method | Malformed::OldTransport) => {
            put(header::ALLOW, "POST".into());
        }
        _ if status == http::StatusCode::UNAUTHORIZED => {
            put(
                header::WWW_AUTHENTICATE,
                "Outrider-Task-Token realm=\"outrider\"".into(),
            );
        }
        _ => {}
    }
}
