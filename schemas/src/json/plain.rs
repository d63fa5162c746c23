//! Where a JSON string has to be looked at closely.

/// A byte in each place.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The highest bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many bytes stand before the first that ends, escapes or may not stand in a JSON string: a
/// quote, a backslash, a control character (RFC 8259 §7). Eight bytes are asked at once.
pub fn plain(bytes: &[u8]) -> usize {
    let (blocks, rest) = bytes.as_chunks::<8>();
    for (at, block) in blocks.iter().enumerate() {
        let found = special(u64::from_le_bytes(*block));
        if found != 0 {
            return at * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let is_plain = |byte: &&u8| **byte >= 0x20 && **byte != b'"' && **byte != b'\\';
    blocks.len() * 8 + rest.iter().take_while(is_plain).count()
}

/// The highest bit of each special byte, exact up to the first one: a subtraction that borrows can
/// only mark bytes behind it.
fn special(block: u64) -> u64 {
    let below = |block: u64, bound: u64| block.wrapping_sub(ONES * bound) & !block;
    let is = |byte: u8| below(block ^ (ONES * u64::from(byte)), 1);
    (below(block, 0x20) | is(b'"') | is(b'\\')) & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::plain;

    proptest! {
        #[test]
        fn it_counts_as_one_byte_at_a_time_would(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a'), Just(0x1f), Just(b'"'), Just(b'\\'), Just(0x80), Just(0x20), Just(0x21)], 0..40)
        ) {
            let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let expected = bytes.iter().position(special).unwrap_or(bytes.len());
            prop_assert_eq!(plain(&bytes), expected);
        }
    }
}
