//! One line of a log, taken apart as strictly as it can be.

use std::{borrow::Cow, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use super::checkpoint::{Head, PublicKeys, Signature};
use crate::json::write_hex;

/// The members of a checkpoint, in their order.
const CHECKPOINT: [&str; 8] = [
    "type",
    "instance",
    "timestamp",
    "seq",
    "kid",
    "sig",
    "prev",
    "hash",
];

/// Why a line breaks its chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is not one compact JSON object with the members every line has.
    #[error("is not one compact JSON object that ends with `prev` and `hash`")]
    Form,
    /// The line has no newline at its end.
    #[error("is torn: it does not end with a newline")]
    Torn,
    /// The line was changed.
    #[error("does not have the hash it states: it was changed")]
    Hash,
    /// A line before was changed, removed or inserted.
    #[error("does not continue the line before: lines were changed, removed or inserted here")]
    Prev,
    /// The number does not follow.
    #[error("has seq {found} where {expected} follows: lines were removed or inserted here")]
    Seq {
        /// What follows the line before.
        expected: u64,
        /// What the line says.
        found: u64,
    },
    /// The chain does not start with its first line.
    #[error("starts at seq {found}: the lines before it are missing")]
    Start {
        /// What the line says.
        found: u64,
    },
    /// The line belongs to another log.
    #[error("belongs to another instance's log")]
    Instance,
    /// A known key did not make the checkpoint's signature.
    #[error("is a checkpoint with a wrong signature")]
    Signature,
    /// Keys are known, but not the one the checkpoint names.
    #[error("is a checkpoint of a key that was not given")]
    KeyUnknown,
}

/// One line, taken apart.
#[derive(Debug)]
pub struct Line<'a> {
    /// `decision`, `outcome` or `checkpoint`.
    pub kind: Cow<'a, str>,
    /// The log's instance.
    pub instance: Cow<'a, str>,
    /// The line's number.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: &'a str,
    /// The line's own hash; [`Line::parse`] has recomputed it.
    pub hash: &'a str,
    checkpoint: Option<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Line<'a> {
    /// Takes a line, without its newline, apart and recomputes its hash.
    ///
    /// # Errors
    ///
    /// [`Fault::Form`] or [`Fault::Hash`].
    pub fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(line).map_err(|_| Fault::Form)?;
        let (body, prev, hash) = split(text).ok_or(Fault::Form)?;
        let mut expected = Vec::with_capacity(64);
        write_hex(digest(&SHA256, body.as_bytes()).as_ref(), &mut expected);
        if !is_compact(line) {
            return Err(Fault::Form);
        }
        let members: Members<'a> = serde_json::from_str(text).map_err(|_| Fault::Form)?;
        if expected != hash.as_bytes() {
            return Err(Fault::Hash);
        }
        members.into_line(prev, hash).ok_or(Fault::Form)
    }

    /// Whether this is a checkpoint, and who signed it.
    pub fn signature(&self, keys: &PublicKeys) -> Option<Signature> {
        let (kid, sig) = self.checkpoint.as_ref()?;
        Some(keys.check(
            kid,
            sig,
            Head {
                instance: &self.instance,
                seq: self.seq,
                prev: self.prev,
            },
        ))
    }
}

/// Splits `…,"prev":"<64>","hash":"<64>"}` into what is hashed, `prev` and `hash`.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (body, hash) = cut_tail(text.strip_suffix("\"}")?, ",\"hash\":\"")?;
    let (_, prev) = cut_tail(body.strip_suffix('"')?, ",\"prev\":\"")?;
    Some((body, prev, hash))
}

fn cut_tail<'a>(text: &'a str, before: &str) -> Option<(&'a str, &'a str)> {
    let (head, digits) = text.split_at_checked(text.len().checked_sub(64)?)?;
    let hex = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    Some((head.strip_suffix(before)?, digits)).filter(|_| hex)
}

/// Whether no white space stands between the tokens of a JSON text.
fn is_compact(json: &[u8]) -> bool {
    let (mut in_string, mut escaped) = (false, false);
    json.iter().all(|&byte| {
        let in_token = in_string;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        in_token || !byte.is_ascii_whitespace()
    })
}

/// The members of a line that the chain needs; the others are only checked for their form.
#[derive(Default)]
struct Members<'a> {
    names: Vec<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    instance: Option<Cow<'a, str>>,
    seq: Option<u64>,
    kid: Option<Cow<'a, str>>,
    sig: Option<Cow<'a, str>>,
}

impl<'a> Members<'a> {
    fn into_line(self, prev: &'a str, hash: &'a str) -> Option<Line<'a>> {
        let kind = self.kind?;
        let checkpoint = if kind == "checkpoint" {
            (self.names == CHECKPOINT).then_some(())?;
            Some((self.kid?, self.sig?))
        } else {
            None
        };
        Some(Line {
            kind,
            instance: self.instance?,
            seq: self.seq?,
            prev,
            hash,
            checkpoint,
        })
    }

    fn take<M: MapAccess<'a>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "type" => self.kind = Some(map.next_value::<Text<'a>>()?.0),
            "instance" => self.instance = Some(map.next_value::<Text<'a>>()?.0),
            "seq" => self.seq = Some(map.next_value()?),
            "kid" => self.kid = Some(map.next_value::<Text<'a>>()?.0),
            "sig" => self.sig = Some(map.next_value::<Text<'a>>()?.0),
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Members<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object without duplicate members")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut members = Members::default();
        while let Some(Text(name)) = map.next_key()? {
            if members.names.contains(&name) {
                return Err(de::Error::custom("duplicate member"));
            }
            members.take(&name, &mut map)?;
            members.names.push(name);
        }
        Ok(members)
    }
}
