//! Header names as the least careful reader downstream may read them, and values that say our words.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::rejection::{Header, Rejection};

/// Headers whose name begins like this are ours alone.
const OURS: &str = "outrider-";

/// A word of ours and the header value that says it, made once.
#[derive(Debug, Clone)]
pub struct Told {
    text: Arc<str>,
    value: Option<HeaderValue>,
}

impl Told {
    /// The word, percent-encoded for a header.
    pub fn new(text: Arc<str>) -> Self {
        let value = HeaderValue::from_maybe_shared(Bytes::from(percent_encode(&text)));
        Self {
            text,
            value: value.ok(),
        }
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What says it; none where a header cannot.
    pub fn value(&self) -> Option<&HeaderValue> {
        self.value.as_ref()
    }
}

/// Encodes everything outside 0x21 to 0x7E, and `%` itself (RFC 3986 §2.1), so that no word can
/// end a line or begin another header.
fn percent_encode(text: &str) -> String {
    let stays = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'%';
    if text.bytes().all(stays) {
        return text.to_owned();
    }
    let mut encoded = String::with_capacity(3 * text.len());
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
            let digits = [digit(byte >> 4), digit(byte & 15)];
            encoded.push('%');
            encoded.extend(digits.map(|digit| digit.to_ascii_uppercase()));
        }
    }
    encoded
}

/// Takes out of trailers what nobody may say there: how a message is framed, where it goes, who
/// sends it, what is in it (RFC 9110 §6.5.1).
pub fn fit_for_trailers(trailers: &mut HeaderMap) {
    const NEVER: [&str; 16] = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "content-range",
        "transfer-encoding",
        "trailer",
        "te",
        "cache-control",
        "expect",
        "max-forwards",
        "pragma",
        "range",
        "authorization",
        "www-authenticate",
        "set-cookie",
    ];
    let unfit = |name: &&HeaderName| {
        let text = name.as_str();
        NEVER.iter().any(|word| loosely(text, word)) || begins_loosely(text, "if-")
    };
    let unfit: Vec<HeaderName> = trailers.keys().filter(unfit).cloned().collect();
    for name in unfit {
        trailers.remove(name);
    }
}

/// Whether the name belongs to us: `outrider-…` in any spelling. Neither agents nor upstreams
/// may send such a header.
pub fn is_ours(name: &HeaderName) -> bool {
    begins_loosely(name.as_str(), OURS)
}

/// Whether a lower-case header name is this word when `_` counts as `-`, as CGI and much that
/// came after it read names (RFC 3875 §4.1.18).
pub fn loosely(name: &str, word: &str) -> bool {
    name.len() == word.len() && begins_loosely(name, word)
}

/// Whether a lower-case header name begins with this word when `_` counts as `-`.
pub fn begins_loosely(name: &str, word: &str) -> bool {
    let dash = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let same = |(a, b): (u8, u8)| dash(a) == dash(b);
    name.len() >= word.len() && name.bytes().zip(word.bytes()).all(same)
}

/// Refuses headers that a lax reader takes for one that is judged: those with `_` in a name that
/// looks so.
///
/// # Errors
/// There is one.
pub fn no_twins(headers: &HeaderMap, looks_judged: impl Fn(&str) -> bool) -> Result<(), Rejection> {
    let twin = |name: &HeaderName| name.as_str().contains('_') && looks_judged(name.as_str());
    if headers.keys().any(twin) {
        return Err(Rejection::HeaderMismatch(Header::Twin));
    }
    Ok(())
}
