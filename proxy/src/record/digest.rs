//! Digests stand in for values in the record: equal values can be recognised, not read.
//!
//! A digest is `hmac-sha256:` and the first 16 bytes of HMAC-SHA-256 (RFC 2104) in unpadded
//! base64url. A leaf is digested over its compact JSON text, so the string `"1"` and the number
//! `1` differ. With a key that stays the same across restarts, equal values have equal digests in
//! every record; with a key made at start they are comparable within one run only.

use aws_lc_rs::rand::SecureRandom;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use outrider_policy::Value;
use sha2::Sha256;

use crate::json::{write_items, write_members, write_value};

/// What every digest starts with.
pub const PREFIX: &str = "hmac-sha256:";

/// How many members and items of one value are shown; an array or object that would go past it is
/// replaced by one digest, so that a hostile body cannot make its record cost more than itself.
const MAX_PLACES: usize = 256;

/// How many bytes of the tag are kept: 128 bits.
const KEPT: usize = 16;

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes for a digest key")]
pub struct NoRandomness;

/// The key of all digests, prepared once: a digest starts from a copy of two hash states, which for
/// the few bytes of a leaf costs less than aws-lc's contexts.
#[derive(Clone)]
pub struct DigestKey(Hmac<Sha256>);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(***)")
    }
}

impl DigestKey {
    /// Takes the operator's secret, of any length.
    #[expect(
        clippy::expect_used,
        reason = "a long key is hashed first (RFC 2104 §2), so none is refused"
    )]
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("a key of any length"))
    }

    /// Makes a key for this run.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`] when `random` yields nothing.
    pub fn made(random: &dyn SecureRandom) -> Result<Self, NoRandomness> {
        let mut secret = [0; 32];
        random.fill(&mut secret).map_err(|_| NoRandomness)?;
        Ok(Self::new(&secret))
    }

    /// The digest of `bytes`, for instance of a body.
    pub fn keyed(&self, bytes: &[u8]) -> String {
        let mut out = Vec::with_capacity(PREFIX.len() + 22);
        self.append(bytes, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Writes the digest of `bytes` without quotes.
    fn append(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let tag = self.0.clone().chain_update(bytes).finalize().into_bytes();
        let kept = tag.get(..KEPT).unwrap_or_default();
        let mut text = [0; 22];
        let length = URL_SAFE_NO_PAD
            .encode_slice(kept, &mut text)
            .unwrap_or_default();
        out.extend_from_slice(PREFIX.as_bytes());
        out.extend_from_slice(text.get(..length).unwrap_or_default());
    }

    /// Writes `value` as JSON with its keys kept and each leaf replaced by its digest.
    ///
    /// At most 256 members and items are shown: an array or object with more than are left is
    /// replaced by one digest of its JSON text.
    pub fn write_masked(&self, value: &Value, out: &mut Vec<u8>) {
        Mask {
            key: self,
            scratch: Vec::new(),
            left: MAX_PLACES,
        }
        .write(value, out);
    }
}

/// One masking under way.
struct Mask<'a> {
    key: &'a DigestKey,
    scratch: Vec<u8>,
    left: usize,
}

impl Mask<'_> {
    fn write(&mut self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Object(members) if self.enters(members.len()) => {
                write_members(members.iter(), out, |value, out| self.write(value, out));
            }
            Value::Array(items) if self.enters(items.len()) => {
                write_items(items.iter(), out, |value, out| self.write(value, out));
            }
            other => self.write_digest(other, out),
        }
    }

    /// Pays for `places` members or items; says whether they fit.
    fn enters(&mut self, places: usize) -> bool {
        let left = self.left.checked_sub(places);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    fn write_digest(&mut self, value: &Value, out: &mut Vec<u8>) {
        self.scratch.clear();
        write_value(value, &mut self.scratch);
        out.push(b'"');
        self.key.append(&self.scratch, out);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(key: &DigestKey, json: &str) -> serde_json::Value {
        let value: Value = serde_json::from_str(json).unwrap();
        let mut out = Vec::new();
        key.write_masked(&value, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn keys_stay_and_values_go() {
        let key = DigestKey::new(b"operator secret");
        let seen = masked(
            &key,
            r#"{"to":"alice@example.org","lines":[{"n":1},true,null],"empty":{}}"#,
        );
        assert!(!seen.to_string().contains("alice"));
        for leaf in [
            &seen["to"],
            &seen["lines"][0]["n"],
            &seen["lines"][1],
            &seen["lines"][2],
        ] {
            let text = leaf.as_str().unwrap();
            assert_eq!(text.strip_prefix(PREFIX).unwrap().len(), 22, "{text}");
        }
        assert_eq!(seen["empty"], serde_json::json!({}));
    }

    #[test]
    fn equal_values_have_equal_digests_and_others_differ() {
        let key = DigestKey::new(b"k");
        let seen = masked(&key, r#"{"a":"1","b":"1","c":1,"d":"true","e":true}"#);
        assert_eq!(seen["a"], seen["b"]);
        assert_ne!(seen["a"], seen["c"]);
        assert_ne!(seen["d"], seen["e"]);
        assert_ne!(
            seen,
            masked(
                &DigestKey::new(b"other"),
                r#"{"a":"1","b":"1","c":1,"d":"true","e":true}"#
            )
        );
    }

    #[test]
    fn a_body_digest_is_the_truncated_hmac_of_rfc_4231() {
        // RFC 4231 §4.3, test case 2: 5bdcc146bf60754e6a042426089575c7…
        let digest = DigestKey::new(b"Jefe").keyed(b"what do ya want for nothing?");
        let expected = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95,
            0x75, 0xc7,
        ];
        assert_eq!(
            digest,
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(expected))
        );
    }

    #[test]
    fn a_huge_array_is_one_digest_and_its_neighbours_stay() {
        let rows = vec![r#"{"card":"4111"}"#; 5_000].join(",");
        let seen = masked(
            &DigestKey::new(b"k"),
            &format!("{{\"rows\":[{rows}],\"to\":{{\"name\":1}}}}"),
        );
        assert!(seen["rows"].as_str().unwrap().starts_with(PREFIX));
        assert!(seen["to"]["name"].as_str().unwrap().starts_with(PREFIX));
    }

    #[test]
    fn no_shape_of_a_value_makes_more_digests_than_the_bound() {
        let level = |inner: &str| format!("[{inner}{}]", ",1".repeat(200));
        let deep = (0..60).fold("1".to_owned(), |inner, _| level(&inner));
        let wide = format!("[{}]", vec![r#"{"a":[1,2,3]}"#; 255].join(","));
        for json in [deep, wide] {
            let digests = masked(&DigestKey::new(b"k"), &json)
                .to_string()
                .matches(PREFIX)
                .count();
            assert!((1..=MAX_PLACES).contains(&digests), "{digests}");
        }
    }

    #[test]
    fn a_made_key_is_new_each_time_and_prints_nothing() {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let (one, two) = (
            DigestKey::made(&random).unwrap(),
            DigestKey::made(&random).unwrap(),
        );
        assert_ne!(one.keyed(b"x"), two.keyed(b"x"));
        assert_eq!(format!("{one:?}"), "DigestKey(***)");
    }
}
