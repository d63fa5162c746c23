//! Follows the JSON Pointer in the fragment of a reference exactly as the validator does.
//!
//! Whatever it resolves and this does not would escape the measure of a schema: so fragments are
//! percent-decoded (RFC 6901 §6), and `00` is an index as `0` is.

use std::borrow::Cow;

use serde_json::Value;

/// The tokens of a pointer, still escaped; `None` if the fragment is an anchor or no text.
pub(super) fn decoded(fragment: &str) -> Option<Cow<'_, str>> {
    if !fragment.is_empty() && !fragment.starts_with('/') {
        return None;
    }
    if !fragment.contains('%') {
        return Some(Cow::Borrowed(fragment));
    }
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'%', Some(byte)) = (first, hex_pair(tail)) {
            bytes.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*bytes.first()?)?, digit(*bytes.get(1)?)?);
    u8::try_from(high * 16 + low).ok()
}

/// Every value from the one below `base` to the one the decoded pointer means; the last is `None`
/// where it leads to nothing.
pub(super) fn path<'a>(base: &'a Value, pointer: &str) -> impl Iterator<Item = Option<&'a Value>> {
    let mut at = Some(base);
    pointer.split('/').skip(1).map_while(move |token| {
        let next = step(at?, token);
        at = next;
        Some(next)
    })
}

fn step<'a>(at: &'a Value, token: &str) -> Option<&'a Value> {
    match at {
        Value::Array(items) => items.get(token.parse::<usize>().ok()?),
        Value::Object(members) => members.get(&token.replace("~1", "/").replace("~0", "~")),
        _ => None,
    }
}

/// The value that the fragment of a reference means within `base`.
pub(super) fn target<'a>(base: &'a Value, fragment: &str) -> Option<&'a Value> {
    let pointer = decoded(fragment)?;
    path(base, &pointer).last().unwrap_or(Some(base))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fragment_is_followed_as_the_validator_follows_it() {
        let document = json!({ "a/b": [1, { "~": 2, "%41": 3 }], "": 4 });
        for (fragment, expected) in [
            ("/a~1b/0", json!(1)),
            ("/a~1b/00", json!(1)),
            ("/a~1b/+1/~0", json!(2)),
            ("/a%7E1b/1/%7e", json!(2)),
            ("/a~1b/1/%2541", json!(3)),
            ("/a~1b/1/%zz", json!(null)),
            ("/", json!(4)),
        ] {
            let found = target(&document, fragment).cloned().unwrap_or_default();
            assert_eq!(found, expected, "{fragment}");
        }
        assert_eq!(target(&document, "").unwrap(), &document);
        for nothing in ["a", "/x", "/a~1b/2", "/a~1b/0/0", "/%FF"] {
            assert_eq!(target(&document, nothing), None, "{nothing}");
        }
    }
}
