//! Header names as the least careful reader downstream may read them.

use http::HeaderName;

/// Headers whose name begins like this are ours alone.
const OURS: &str = "outrider-";

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
