//! Checks a chain of log lines. Pure: lines and public keys in, a report out.
//!
//! Each line must be one compact JSON object (RFC 8259) whose last members are `prev` and `hash`,
//! `hash` the SHA-256 of what stands before it, `prev` the hash of the line before; `seq` starts
//! at 1 and counts every line; checkpoints carry a signature over the head they stand on.

use std::{
    borrow::Cow,
    fmt,
    io::{self, BufRead, Read as _},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::de::{self, IgnoredAny, MapAccess, Visitor};

use super::{
    checkpoint::{Head, PublicKeys, Signature},
    line::write_hex,
};

/// What `prev` is in the first line of a chain.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 64 << 20;

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

/// Follows a chain line by line.
#[derive(Debug, Clone)]
pub struct Follower {
    instance: Option<String>,
    seq: u64,
    prev: String,
    first: FirstLine,
}

/// How the first line that is seen is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstLine {
    /// It must be the first line of the log.
    Genesis,
    /// Its place in the chain is taken at its word.
    Trusted,
}

impl Follower {
    /// Starts before the first line.
    pub fn new(first: FirstLine) -> Self {
        Self {
            instance: None,
            seq: 0,
            prev: GENESIS.to_owned(),
            first,
        }
    }

    /// The number of the last line that was followed; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The hash of the last line that was followed.
    pub fn prev(&self) -> &str {
        &self.prev
    }

    /// The instance of the lines that were followed.
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// Follows one line, given without its newline.
    ///
    /// # Errors
    ///
    /// The [`Fault`] by which it breaks the chain; nothing is followed then.
    pub fn follow<'a>(&mut self, line: &'a [u8]) -> Result<Line<'a>, Fault> {
        let line = Line::parse(line)?;
        if self.instance.is_none() && self.first == FirstLine::Trusted {
            self.seq = line.seq.checked_sub(1).ok_or(Fault::Start { found: 0 })?;
            line.prev.clone_into(&mut self.prev);
        }
        self.continues(&line)?;
        self.seq = line.seq;
        line.hash.clone_into(&mut self.prev);
        self.instance
            .get_or_insert_with(|| line.instance.clone().into_owned());
        Ok(line)
    }

    fn continues(&self, line: &Line<'_>) -> Result<(), Fault> {
        let expected = self.seq.saturating_add(1);
        match &self.instance {
            None if line.seq != expected => return Err(Fault::Start { found: line.seq }),
            Some(instance) if line.instance != instance.as_str() => return Err(Fault::Instance),
            _ => {}
        }
        if line.seq != expected {
            return Err(Fault::Seq {
                expected,
                found: line.seq,
            });
        }
        if line.prev == self.prev {
            Ok(())
        } else {
            Err(Fault::Prev)
        }
    }
}

/// The first line that breaks the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The name its file was given by.
    pub file: String,
    /// Its number in that file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A checkpoint kept elsewhere, which the log must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    seq: u64,
    hash: String,
}

impl Witness {
    /// Reads one checkpoint line.
    ///
    /// # Errors
    ///
    /// The [`Fault`] of the line: its form, its hash, its signature.
    pub fn parse(text: &str, keys: &PublicKeys) -> Result<Self, Fault> {
        let line = Line::parse(text.trim_end_matches('\n').as_bytes())?;
        check_signature(line.signature(keys).ok_or(Fault::Form)?, keys)?;
        Ok(Self {
            seq: line.seq,
            hash: line.hash.to_owned(),
        })
    }

    /// The checkpoint's number.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

fn check_signature(signature: Signature, keys: &PublicKeys) -> Result<(), Fault> {
    match signature {
        Signature::Good => Ok(()),
        Signature::Bad => Err(Fault::Signature),
        Signature::KeyUnknown if keys.is_empty() => Ok(()),
        Signature::KeyUnknown => Err(Fault::KeyUnknown),
    }
}

/// What is known about removal of the last lines, which a chain alone cannot show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// No witness was given.
    NotExcluded,
    /// The witness is in the log: nothing up to it was cut off.
    Excluded {
        /// The number of the witness.
        up_to: u64,
    },
    /// The witness is not in the log.
    HeadMissing {
        /// The number of the witness.
        seq: u64,
    },
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Every line up to this number is unchanged and in its place; 0 for none.
    pub verified_to: u64,
    /// The number of the last checkpoint whose signature was checked; 0 for none.
    pub signed_to: u64,
    /// The first line that breaks the chain; nothing after it was looked at.
    pub first_bad: Option<BadLine>,
    /// Whether removed last lines can be excluded.
    pub truncation: Truncation,
}

impl Report {
    /// Whether the chain is whole as far as can be told.
    pub fn is_whole(&self) -> bool {
        self.first_bad.is_none() && !matches!(self.truncation, Truncation::HeadMissing { .. })
    }
}

/// One verification under way, over one or several files in sequence.
#[derive(Debug)]
pub struct Verification<'a> {
    keys: &'a PublicKeys,
    witness: Option<&'a Witness>,
    chain: Follower,
    report: Report,
}

impl<'a> Verification<'a> {
    /// Starts a verification. With no keys signatures are not checked; with some, a checkpoint of
    /// another key is a fault.
    pub fn new(keys: &'a PublicKeys, witness: Option<&'a Witness>) -> Self {
        let truncation = witness.map_or(Truncation::NotExcluded, |witness| {
            Truncation::HeadMissing { seq: witness.seq }
        });
        let report = Report {
            verified_to: 0,
            signed_to: 0,
            first_bad: None,
            truncation,
        };
        Self {
            keys,
            witness,
            chain: Follower::new(FirstLine::Genesis),
            report,
        }
    }

    /// Reads the next file of the sequence, called `name` in the report.
    ///
    /// # Errors
    ///
    /// The reader's own.
    pub fn read(&mut self, name: &str, mut reader: impl BufRead) -> io::Result<()> {
        let mut buffer = Vec::new();
        let mut number = 0;
        while self.report.first_bad.is_none() {
            buffer.clear();
            number += 1;
            if reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut buffer)?
                == 0
            {
                break;
            }
            if let Err(fault) = self.line(&buffer) {
                self.report.first_bad = Some(BadLine {
                    file: name.to_owned(),
                    line: number,
                    fault,
                });
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = line.strip_suffix(b"\n").ok_or(Fault::Torn)?;
        let mut chain = self.chain.clone();
        let line = chain.follow(line)?;
        if let Some(signature) = line.signature(self.keys) {
            check_signature(signature, self.keys)?;
            if signature == Signature::Good {
                self.report.signed_to = line.seq;
            }
        }
        if self
            .witness
            .is_some_and(|witness| witness.seq == line.seq && witness.hash == line.hash)
        {
            self.report.truncation = Truncation::Excluded { up_to: line.seq };
        }
        self.report.verified_to = line.seq;
        self.chain = chain;
        Ok(())
    }

    /// Ends the verification.
    pub fn finish(self) -> Report {
        self.report
    }
}
