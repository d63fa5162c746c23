//! Checks a chain of log lines. Pure: lines and public keys in, a report out.
//!
//! Each line must be one compact JSON object (RFC 8259) whose last members are `prev` and `hash`,
//! `hash` the SHA-256 of what stands before it, `prev` the hash of the line before; `seq` starts
//! at 1 and counts every line; checkpoints carry a signature over the head they stand on.

use std::io::{self, BufRead, Read as _};

use super::checkpoint::{PublicKeys, Signature};
pub use super::parsed::{Fault, Line};

/// What `prev` is in the first line of a chain.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The longest line that is read, in bytes.
const MAX_LINE: u64 = 64 << 20;

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
