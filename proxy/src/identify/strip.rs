//! Takes from a request what its sender may not say: about itself, or to the next hop.
//!
//! Runs once the task token was read and before anything is judged, so that no header is judged
//! and then missing from what is sent. What is ours is added much later, by `tag`.

use http::{HeaderMap, HeaderName, header};

use super::task::TASK_TOKEN;
use crate::headers::{begins_loosely, is_ours, loosely};

/// Who the sender claims to be or to speak for; a service may ask for these by name.
const CLAIMS: [&str; 8] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "forwarded",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-real-ip",
];

/// Beginnings of names of the same kind as [`CLAIMS`].
const CLAIM_FAMILIES: [&str; 3] = ["x-forwarded", "x-original-", "x-rewrite-"];

/// Between two hops only (RFC 9110 §7.6.1), or settled by us with the next hop.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
];

/// Beginnings of hop-by-hop names.
const HOP_FAMILY: &str = "proxy-";

/// Removes forged, identifying and hop-by-hop headers, in any spelling (`_` equals `-`), and
/// those that `Connection` names. A header of a claiming kind stays if `passthrough` has exactly
/// its name; one of ours never does. Works for trailers too.
///
/// Returns the names of ours ([`is_ours`]) that were sent or named, other than the task token: what
/// an honest agent has no reason to send.
pub fn strip(headers: &mut HeaderMap, passthrough: &[HeaderName]) -> Vec<HeaderName> {
    let named = named_by_connection(headers);
    let mut gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name, passthrough))
        .cloned()
        .collect();
    gone.extend(named);
    for name in &gone {
        headers.remove(name);
    }
    gone.retain(|name| is_ours(name) && *name != TASK_TOKEN);
    gone
}

fn unwanted(name: &HeaderName, passthrough: &[HeaderName]) -> bool {
    let text = name.as_str();
    let one_of = |words: &[&str]| words.iter().any(|word| loosely(text, word));
    if is_ours(name) || one_of(&HOP_BY_HOP) {
        return true;
    }
    let claims = one_of(&CLAIMS) || CLAIM_FAMILIES.iter().any(|word| begins_loosely(text, word));
    (claims || begins_loosely(text, HOP_FAMILY)) && !passthrough.contains(name)
}

/// The names that `Connection` lists, save those that carry the message itself.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn left(lines: &[(&str, &str)], passthrough: &[&'static str]) -> Vec<String> {
        let mut headers = headers(lines);
        let passthrough: Vec<_> = passthrough
            .iter()
            .map(|n| HeaderName::from_static(n))
            .collect();
        strip(&mut headers, &passthrough);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn no_spelling_of_an_identifying_or_hop_by_hop_header_stays() {
        for name in [
            "Outrider-Agent",
            "OUTRIDER-SUBJECT",
            "outrider_agent",
            "Outrider_Task-Token",
            "outrider-task-token",
            "outrider-",
            "outrider-anything-new",
            "Authorization",
            "Cookie",
            "Proxy-Authorization",
            "proxy_authorization",
            "Proxy-Connection",
            "proxy-anything",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_for",
            "X-Forwarded_Host",
            "x-forwarded",
            "X-Original-URL",
            "x_original_method",
            "X-Rewrite-URL",
            "X_Rewrite_URL",
            "X-HTTP-Method-Override",
            "x_http_method_override",
            "X-Method-Override",
            "X-HTTP-Method",
            "x-real-ip",
            "X_Real_IP",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "transfer_encoding",
            "Upgrade",
            "HTTP2-Settings",
            "Expect",
        ] {
            assert!(left(&[(name, "x")], &[]).is_empty(), "{name}");
            assert!(
                left(&[(name, "x"), (name, "y")], &[]).is_empty(),
                "{name} twice"
            );
        }
    }

    #[test]
    fn what_belongs_to_the_call_stays() {
        for name in [
            "host",
            "content-type",
            "content-length",
            "accept",
            "mcp-session-id",
            "x-api-version",
            "outrider",
            "x-outrider-agent",
            "cookies",
            "t-e",
            "x-forward",
            "traceparent",
        ] {
            assert_eq!(left(&[(name, "x")], &[]), [name]);
        }
    }

    #[test]
    fn what_connection_names_goes_however_it_is_written() {
        let lines = [
            ("connection", "close, X-Secret-Thing ,,mcp-name"),
            ("connection", "x-other"),
            ("x-secret-thing", "1"),
            ("mcp-name", "1"),
            ("x-other", "1"),
            ("host", "tickets.example.org"),
        ];
        assert_eq!(left(&lines, &["mcp-name"]), ["host"]);
    }

    #[test]
    fn connection_cannot_take_away_what_carries_the_message() {
        let lines = [
            ("connection", "host, content-length"),
            ("host", "a"),
            ("content-length", "0"),
        ];
        assert_eq!(left(&lines, &[]).len(), 2);
    }

    #[test]
    fn a_service_gets_the_claims_it_asks_for_by_exactly_this_name() {
        let lines = [
            ("authorization", "x"),
            ("cookie", "x"),
            ("x_forwarded_for", "x"),
        ];
        assert_eq!(
            left(&lines, &["authorization", "x-forwarded-for"]),
            ["authorization"]
        );
    }

    #[test]
    fn no_service_can_ask_for_ours_or_for_another_hops() {
        let lines = [
            ("outrider-agent", "x"),
            ("connection", "close"),
            ("te", "trailers"),
        ];
        assert!(left(&lines, &["outrider-agent", "connection", "te"]).is_empty());
    }

    #[test]
    fn forgeries_are_named_and_the_task_token_is_none() {
        let mut headers = headers(&[
            ("outrider-task-token", "t"),
            ("Outrider_Task_Token", "t"),
            ("Outrider-Agent", "spiffe://example.org/admin"),
            ("authorization", "x"),
            ("connection", "outrider-decision-id, outrider-task-token"),
        ]);
        let mut forged: Vec<_> = strip(&mut headers, &[])
            .iter()
            .map(ToString::to_string)
            .collect();
        forged.sort();
        assert_eq!(
            forged,
            [
                "outrider-agent",
                "outrider-decision-id",
                "outrider_task_token"
            ]
        );
        assert!(headers.is_empty());
    }
}
