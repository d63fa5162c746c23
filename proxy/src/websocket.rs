//! The opening handshake of a WebSocket (RFC 6455 §4): what asks for one, and what agrees to it.
//!
//! Pure functions over headers. What is said once it is open nobody here reads.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts};

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
/// What a server proves with that it has read the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET: &str = "websocket";

/// A request for a WebSocket that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a WebSocket is opened by GET over HTTP/1.1 with one key, version 13 and no body")]
pub struct BadHandshake;

/// Whether a request asks for a WebSocket.
///
/// # Errors
/// It does, and not in the one way that there is.
pub fn is_asked(head: &Parts) -> Result<bool, BadHandshake> {
    let mut protocols = head.headers.get_all(header::UPGRADE).iter();
    let named = |line: &HeaderValue| listed(line).any(|word| word.eq_ignore_ascii_case(WEBSOCKET));
    if !head.headers.get_all(header::UPGRADE).iter().any(named) {
        return Ok(false);
    }
    let alone = |line: &HeaderValue| line.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes());
    let upgrade = protocols.next().is_some_and(alone) && protocols.next().is_none();
    let version = once(&head.headers, &header::SEC_WEBSOCKET_VERSION);
    let key = once(&head.headers, &KEY).is_some_and(|key| {
        let nonce = STANDARD.decode(key.as_bytes());
        nonce.is_ok_and(|nonce| nonce.len() == 16)
    });
    let length = head.headers.get(header::CONTENT_LENGTH);
    let no_body = !head.headers.contains_key(header::TRANSFER_ENCODING)
        && length.is_none_or(|length| length == "0");
    let asked = head.method == Method::GET
        && head.version == Version::HTTP_11
        && upgrade
        && connection_says_so(&head.headers)
        && version.is_some_and(|version| version == "13")
        && key
        && no_body;
    asked.then_some(true).ok_or(BadHandshake)
}

/// Sets what `identify::strip` took: this hop asks, too.
pub fn ask(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// What a server has to say to that request.
pub fn accept(headers: &HeaderMap) -> Option<String> {
    let key = once(headers, &KEY)?.to_str().ok()?;
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    Some(STANDARD.encode(proof))
}

/// Whether a server agreed, and has read the key.
pub fn is_accepted(headers: &HeaderMap, accept: &str) -> bool {
    let upgrade = once(headers, &header::UPGRADE);
    upgrade.is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
        && connection_says_so(headers)
        && once(headers, &header::SEC_WEBSOCKET_ACCEPT).is_some_and(|line| line == accept)
}

fn connection_says_so(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONNECTION).iter();
    lines.any(|line| listed(line).any(|word| word.eq_ignore_ascii_case("upgrade")))
}

fn listed(line: &HeaderValue) -> impl Iterator<Item = &str> {
    line.to_str().unwrap_or_default().split(',').map(str::trim)
}

fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn head(method: &str, lines: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/chat");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_websocket_is_asked_for_in_one_way() {
        assert_eq!(is_asked(&head("GET", &GOOD)), Ok(true));
        assert_eq!(is_asked(&head("GET", &[])), Ok(false));
        let other = head("GET", &[("connection", "Upgrade"), ("upgrade", "h2c")]);
        assert_eq!(is_asked(&other), Ok(false));
        assert_eq!(is_asked(&head("POST", &GOOD)), Err(BadHandshake));
        for (index, (name, _)) in GOOD.iter().enumerate() {
            if *name == "upgrade" {
                continue;
            }
            let mut lines = GOOD.to_vec();
            lines.remove(index);
            assert_eq!(is_asked(&head("GET", &lines)), Err(BadHandshake), "{name}");
        }
        for more in [
            ("upgrade", "h2c"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "8"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
        ] {
            let lines = [&GOOD[..], &[more]].concat();
            assert_eq!(
                is_asked(&head("GET", &lines)),
                Err(BadHandshake),
                "{more:?}"
            );
        }
        let mut old = head("GET", &GOOD);
        old.version = Version::HTTP_10;
        assert_eq!(is_asked(&old), Err(BadHandshake));
    }

    #[test]
    fn a_server_proves_that_it_has_read_the_key() {
        // The example of RFC 6455 §1.3.
        let proof = accept(&head("GET", &GOOD).headers).unwrap();
        assert_eq!(proof, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut answer = HeaderMap::new();
        ask(&mut answer);
        assert!(!is_accepted(&answer, &proof));
        answer.insert("sec-websocket-accept", "c3BhbQ==".parse().unwrap());
        assert!(!is_accepted(&answer, &proof));
        answer.insert("sec-websocket-accept", proof.parse().unwrap());
        assert!(is_accepted(&answer, &proof));
        answer.remove("upgrade");
        assert!(!is_accepted(&answer, &proof));
    }
}
