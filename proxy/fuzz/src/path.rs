//! Paths: what passes holds nothing that a reader could take for another path, however often it
//! decodes.

use outrider::listen::path::{EncodedSlash, check_path, segments};

/// The first byte says whether an encoded slash may stand there.
pub fn run(data: &[u8]) {
    let Some((&first, path)) = data.split_first() else {
        return;
    };
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    let slash = if first % 2 == 0 {
        EncodedSlash::Refused
    } else {
        EncodedSlash::Allowed
    };
    if check_path(path, slash).is_err() {
        return;
    }
    let sent: Vec<_> = segments(path, slash).expect("it was checked").collect();
    assert_eq!(
        format!("/{}", sent.join("/")),
        path,
        "the segments are the path"
    );
    if slash == EncodedSlash::Allowed && check_path(path, EncodedSlash::Refused).is_err() {
        // What one decoding makes of it is a path that passes as well.
        let plain = decoded(path.as_bytes());
        plain.split(|byte| *byte == b'/').for_each(harmless);
        return;
    }
    assert!(
        http::Uri::try_from(path).is_ok(),
        "a path that cannot be sent"
    );
    let mut reading = path.as_bytes().to_vec();
    loop {
        assert_eq!(
            reading.iter().filter(|byte| **byte == b'/').count(),
            sent.len(),
            "a slash that was hidden"
        );
        reading.split(|byte| *byte == b'/').for_each(harmless);
        let next = decoded(&reading);
        if next == reading {
            return;
        }
        reading = next;
    }
}

fn harmless(segment: &[u8]) {
    let name = segment
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    assert!(name != b"." && name != b"..", "a dot segment");
    let bad = |byte: &u8| *byte < 0x20 || *byte == 0x7f || *byte == b'\\';
    assert!(
        !segment.iter().any(bad),
        "a control character or a backslash"
    );
    assert!(std::str::from_utf8(segment).is_ok(), "no text");
}

/// Decodes once what is an encoding, and leaves the rest as it is.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let pair = after
            .get(..2)
            .filter(|pair| byte == b'%' && pair.iter().all(u8::is_ascii_hexdigit));
        let Some(pair) = pair.and_then(|pair| std::str::from_utf8(pair).ok()) else {
            out.push(byte);
            continue;
        };
        out.extend(u8::from_str_radix(pair, 16));
        rest = &after[2..];
    }
    out
}
