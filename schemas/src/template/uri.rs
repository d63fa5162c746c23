//! A concrete URI, read once so that all templates can be tried on it.

use super::MOST_BYTES;

/// A URI in normal form without anything that could lead out of its place, decoded to the end.
#[derive(Debug)]
pub(super) struct Uri<'a> {
    raw: &'a [u8],
    decoded: Vec<u8>,
    /// Where each decoded byte begins in `raw`, and the end of the last.
    starts: Vec<usize>,
    /// Which decoded byte begins at a byte of `raw`, if any does; and the end.
    places: Vec<Option<usize>>,
}

impl<'a> Uri<'a> {
    /// Reads a URI; `None` for one that no template may match.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let raw = text.as_bytes();
        if raw.len() > MOST_BYTES || !normal(raw) {
            return None;
        }
        let (decoded, mut starts): (Vec<u8>, Vec<usize>) = units(raw).into_iter().unzip();
        starts.push(raw.len());
        let text = std::str::from_utf8(&decoded).ok()?;
        if text.chars().any(|c| c.is_control() || c == '\\') || dot_segment(&decoded) {
            return None;
        }
        let mut places = vec![None; raw.len() + 1];
        for (place, start) in starts.iter().enumerate() {
            *places.get_mut(*start)? = Some(place);
        }
        Some(Self {
            raw,
            decoded,
            starts,
            places,
        })
    }

    /// The bytes behind all percent-encoding.
    pub(super) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// How many decoded bytes there are: places are counted in them.
    pub(super) fn len(&self) -> usize {
        self.decoded.len()
    }

    /// The place behind `literal` if the URI has it at `place`, by its undecoded bytes.
    pub(super) fn behind(&self, place: usize, literal: &[u8]) -> Option<usize> {
        let start = *self.starts.get(place)?;
        let rest = self.raw.get(start..)?;
        if !rest.starts_with(literal) {
            return None;
        }
        // A literal that ends within an encoded byte is not what the URI says.
        self.places.get(start + literal.len()).copied()?
    }

    /// Whether the undecoded bytes end so.
    pub(super) fn ends_with(&self, literal: &[u8]) -> bool {
        self.raw.ends_with(literal)
    }

    /// The decoded byte at `place`.
    pub(super) fn byte(&self, place: usize) -> Option<u8> {
        self.decoded.get(place).copied()
    }

    /// The byte at `place` if it stands there unencoded.
    pub(super) fn plain(&self, place: usize) -> Option<u8> {
        let (start, end) = (self.starts.get(place)?, self.starts.get(place + 1)?);
        (end - start == 1).then(|| self.byte(place))?
    }

    fn dot(&self, place: usize) -> bool {
        self.byte(place) == Some(b'.')
    }

    /// Whether a segment ends before `place`.
    fn ends(&self, place: usize) -> bool {
        self.byte(place).is_none_or(separates)
    }

    /// Whether a value that begins at `place` begins with a dot segment.
    pub(super) fn dots_from(&self, place: usize) -> bool {
        self.dot(place) && (self.ends(place + 1) || self.dot(place + 1) && self.ends(place + 2))
    }

    /// Whether a value that ends before `place` ends with a dot segment, were it longer than that.
    pub(super) fn dots_before(&self, place: usize) -> bool {
        let back = |by: usize| place.checked_sub(by);
        let begins = |by: usize| back(by).is_none_or(|at| self.ends(at));
        let dot = |by: usize| back(by).is_some_and(|at| self.dot(at));
        dot(1) && (begins(2) || dot(2) && begins(3))
    }
}

/// Removes all percent-encoding, also of percent signs that were encoded themselves.
pub(super) fn decode(text: &str) -> Vec<u8> {
    units(text.as_bytes())
        .into_iter()
        .map(|(byte, _)| byte)
        .collect()
}

/// The decoded bytes, each with the place where it begins in `raw`.
fn units(raw: &[u8]) -> Vec<(u8, usize)> {
    let mut units: Vec<(u8, usize)> = Vec::with_capacity(raw.len());
    for (start, &byte) in raw.iter().enumerate() {
        units.push((byte, start));
        // What was decoded may complete another triple: each turn takes two bytes away.
        while let [.., (b'%', start), (high, _), (low, _)] = *units.as_slice() {
            let Some(byte) = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low) else {
                break;
            };
            units.truncate(units.len() - 3);
            units.push((byte, start));
        }
    }
    units
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether the bytes are those of a URI in normal form: encoded is what must be, in upper case
/// (RFC 3986 §2, §6.2.2.1, §6.2.2.2).
fn normal(raw: &[u8]) -> bool {
    let mut bytes = raw.iter().copied();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => triple(bytes.next(), bytes.next()),
            _ => unreserved(byte) || b":/?#[]@!$&'()*+,;=".contains(&byte),
        };
        if !good {
            return false;
        }
    }
    true
}

fn triple(high: Option<u8>, low: Option<u8>) -> bool {
    let digits = high.zip(low);
    let upper =
        digits.filter(|(high, low)| !high.is_ascii_lowercase() && !low.is_ascii_lowercase());
    let byte = upper.and_then(|(high, low)| Some(hex(high)? << 4 | hex(low)?));
    byte.is_some_and(|byte| !unreserved(byte))
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether a byte ends a segment for some reader: `..;x` and `.. ` are `..` to a few.
fn separates(byte: u8) -> bool {
    b"/?#&=;,: ".contains(&byte)
}

fn dot_segment(decoded: &[u8]) -> bool {
    decoded
        .split(|byte| separates(*byte))
        .any(|segment| matches!(segment, b"." | b".."))
}
