//! Digests of policy and data.

use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

/// The SHA-256 of the parts in lower-case hex. Each part is preceded by its length, so that no two lists of parts agree.
pub(crate) fn hex(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    lower_hex(context.finish().as_ref())
}

/// Lower-case hex.
pub(crate) fn lower_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
