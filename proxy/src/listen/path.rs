//! Paths that every reader reads alike.
//!
//! Pure functions: a path as sent comes in, and passes as it is or is refused; nothing is
//! repaired (RFC 3986 §§2.4, 3.3, 6.2.2).

use std::str;

/// Levels of percent-encoding that are looked through.
const ENCODING_DEPTH: usize = 8;

/// A path that can be read in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not start with `/`.
    #[error("the path does not start with a slash")]
    Relative,
    /// A control character, a byte outside ASCII or a character that URLs do not have.
    #[error("the path has a character that must be encoded")]
    Character,
    /// `%` without two hexadecimal digits.
    #[error("the path has an invalid percent-encoding")]
    Encoding,
    /// An encoded control character, NUL included.
    #[error("the path has an encoded control character")]
    Control,
    /// A `.` or `..` segment, raw, encoded or with parameters.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A backslash, raw or encoded.
    #[error("the path has a backslash")]
    Backslash,
    /// An encoded slash, which is refused unless the operation declares it.
    #[error("the path has an encoded slash")]
    HiddenSlash,
    /// Two slashes in a row.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// Encoded bytes that are not UTF-8.
    #[error("the path does not decode to text")]
    Text,
}

/// Whether `%2F` may stand in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedSlash {
    /// It is refused, at any depth of encoding.
    Refused,
    /// It is allowed, encoded once; it never separates segments.
    Allowed,
}

/// The segments of a path that can be read in one way only, as sent. A path that ends with `/`
/// has an empty last segment.
///
/// # Errors
///
/// When the path can be read in more than one way.
pub fn segments(path: &str, slash: EncodedSlash) -> Result<impl Iterator<Item = &str>, BadPath> {
    check_path(path, slash)?;
    Ok(path.split('/').skip(1))
}

/// Checks that a path can be read in one way only.
///
/// # Errors
///
/// When it cannot.
pub fn check_path(path: &str, slash: EncodedSlash) -> Result<(), BadPath> {
    let inner = path.strip_prefix('/').ok_or(BadPath::Relative)?;
    check_characters(path.as_bytes())?;
    let mut segments = inner.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(BadPath::EmptySegment);
        }
        check_dots(segment.as_bytes())?;
        if segment.contains('%') {
            check_encoded(segment, slash)?;
        }
    }
    Ok(())
}

/// Refuses what must not stand in a path as it is (RFC 3986 §3.3).
fn check_characters(path: &[u8]) -> Result<(), BadPath> {
    for &byte in path {
        match byte {
            b'\\' => return Err(BadPath::Backslash),
            _ if byte.is_ascii_alphanumeric() || b"/%-._~!$&'()*+,;=:@".contains(&byte) => {}
            _ => return Err(BadPath::Character),
        }
    }
    Ok(())
}

/// Refuses `.` and `..`, also with path parameters behind them.
fn check_dots(segment: &[u8]) -> Result<(), BadPath> {
    let name = segment.split(|&b| b == b';').next().unwrap_or_default();
    if name == b"." || name == b".." {
        Err(BadPath::DotSegment)
    } else {
        Ok(())
    }
}

/// What a lax reader makes of a percent sign that begins no encoding.
#[derive(Clone, Copy)]
enum Stray {
    Kept,
    Dropped,
}

/// Refuses what any reader could find in a segment that is encoded.
fn check_encoded(segment: &str, slash: EncodedSlash) -> Result<(), BadPath> {
    let text = decode(segment.as_bytes())?;
    let check = |part: &[u8]| {
        check_decoded(part.to_vec(), Stray::Kept)?;
        check_decoded(part.to_vec(), Stray::Dropped)
    };
    match slash {
        EncodedSlash::Refused => check(&text),
        EncodedSlash::Allowed => text.split(|&b| b == b'/').try_for_each(check),
    }
}

/// Decodes a text again and again and refuses what must not be found in it.
fn check_decoded(mut text: Vec<u8>, stray: Stray) -> Result<(), BadPath> {
    for _ in 0..ENCODING_DEPTH {
        str::from_utf8(&text).map_err(|_| BadPath::Text)?;
        for &byte in &text {
            match byte {
                0..=0x1f | 0x7f => return Err(BadPath::Control),
                b'\\' => return Err(BadPath::Backslash),
                b'/' => return Err(BadPath::HiddenSlash),
                _ => {}
            }
        }
        check_dots(&text)?;
        let decoded = decode_leniently(&text, stray);
        if decoded == text {
            return Ok(());
        }
        text = decoded;
    }
    Err(BadPath::Encoding)
}

/// Decodes every percent-encoding.
fn decode(text: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (byte, after) = hex_pair(after).ok_or(BadPath::Encoding)?;
        decoded.push(byte);
        rest = after;
    }
    Ok(decoded)
}

/// Decodes what is a percent-encoding, for `%25` followed by what is none is a plain percent sign.
fn decode_leniently(text: &[u8], stray: Stray) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, hex_pair(after), stray) {
            (b'%', Some((byte, after)), _) => {
                decoded.push(byte);
                rest = after;
            }
            (b'%', None, Stray::Dropped) => {}
            _ => decoded.push(byte),
        }
    }
    decoded
}

/// The byte that two hexadecimal digits write, and what follows.
fn hex_pair(text: &[u8]) -> Option<(u8, &[u8])> {
    let (pair, rest) = text.split_at_checked(2)?;
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let (high, low) = (digit(pair.first()?)?, digit(pair.get(1)?)?);
    u8::try_from(high * 16 + low).ok().map(|byte| (byte, rest))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        use BadPath::*;
        for (path, flaw) in [
            ("", Relative),
            ("a", Relative),
            ("/a/../b", DotSegment),
            ("/a/..", DotSegment),
            ("/.", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/%2e%2e/b", DotSegment),
            ("/a/%2E./b", DotSegment),
            ("/a/.%2e/b", DotSegment),
            ("/a/%252e%252e/b", DotSegment),
            ("/a/%25252e%25252E/b", DotSegment),
            ("/a/%2%65%2%65/b", Encoding),
            ("/a/%25%32%65%25%32%65/b", DotSegment),
            ("/a/%25%2532e/b", DotSegment),
            ("/a/%25%2532e%25%2532e/b", DotSegment),
            ("/a%25%2532fb", HiddenSlash),
            ("/%25%25612", Text),
            ("/a/..;/b", DotSegment),
            ("/a/..;x=y/b", DotSegment),
            ("/a/.;/b", DotSegment),
            ("/a/%2e%2e%3b/b", DotSegment),
            ("/a/..%00/b", Control),
            ("/a%00b", Control),
            ("/a%2500b", Control),
            ("/a%0d%0aX:y", Control),
            ("/a%7f", Control),
            ("/a\\b", Backslash),
            ("/a%5cb", Backslash),
            ("/a%255Cb", Backslash),
            ("/a%2fb", HiddenSlash),
            ("/a%2F..%2fb", HiddenSlash),
            ("/a%252Fb", HiddenSlash),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/%zz", Encoding),
            ("/a%", Encoding),
            ("/a%2", Encoding),
            ("/a%u002e", Encoding),
            ("/%c0%ae%c0%ae/b", Text),
            ("/%ff", Text),
            ("/%ed%a0%80", Text),
            ("/a b", Character),
            ("/a\tb", Character),
            ("/é", Character),
            ("/a?b", Character),
            ("/a#b", Character),
            ("/a\"b", Character),
            ("/a<b", Character),
            ("/a{b}", Character),
            ("/a|b", Character),
            ("/a^b", Character),
            ("/a`b", Character),
        ] {
            assert_eq!(check_path(path, EncodedSlash::Refused), Err(flaw), "{path}");
        }
        let deep = format!("/a{}2e", "%25".to_owned() + &"25".repeat(20));
        assert_eq!(check_path(&deep, EncodedSlash::Refused), Err(Encoding));
    }

    #[test]
    fn a_plain_path_passes_as_it_is() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b/c",
            "/a.b",
            "/..a",
            "/a..",
            "/...",
            "/a/%20b",
            "/%C3%A9",
            "/100%25",
            "/%25zz",
            "/a;x=1",
            "/a,b:c@d!$&'()*+=~-_",
            "/%2525",
        ] {
            assert_eq!(check_path(path, EncodedSlash::Refused), Ok(()), "{path}");
        }
        let sent: Vec<_> = segments("/a/%20b/", EncodedSlash::Refused)
            .unwrap()
            .collect();
        assert_eq!(sent, ["a", "%20b", ""]);
        assert!(segments("/a/..", EncodedSlash::Refused).is_err());
    }

    #[test]
    fn a_declared_slash_passes_once_encoded_and_never_hides_dots() {
        use BadPath::*;
        let check = |path| check_path(path, EncodedSlash::Allowed);
        assert_eq!(check("/files/a%2Fb"), Ok(()));
        assert_eq!(check("/files/a%2Fb%25"), Ok(()));
        let sent: Vec<_> = segments("/a%2fb/c", EncodedSlash::Allowed)
            .unwrap()
            .collect();
        assert_eq!(sent, ["a%2fb", "c"]);
        assert_eq!(check("/files/a%252Fb"), Err(HiddenSlash));
        assert_eq!(check("/files/a%2f..%2fb"), Err(DotSegment));
        assert_eq!(check("/files/..%2fb"), Err(DotSegment));
        assert_eq!(check("/files/a%2f%252e%252e"), Err(DotSegment));
        assert_eq!(check("/files/a%5cb"), Err(Backslash));
    }

    proptest! {
        #[test]
        fn no_encoding_smuggles_a_dot_segment(
            dots in "[.]{1,2}", depth in 0..6_usize, choice in any::<u8>(), tail in "(/b)?",
        ) {
            let mut segment = dots;
            for level in 0..depth {
                let encode = |(index, byte): (usize, u8)| {
                    if choice >> ((index + level) % 8) & 1 == 1 || byte == b'%' {
                        format!("%{byte:02x}")
                    } else {
                        char::from(byte).to_string()
                    }
                };
                segment = segment.bytes().enumerate().map(encode).collect();
            }
            let path = format!("/a/{segment}{tail}");
            prop_assert!(check_path(&path, EncodedSlash::Refused).is_err(), "{}", path);
            prop_assert!(check_path(&path, EncodedSlash::Allowed).is_err(), "{}", path);
        }
    }
}
