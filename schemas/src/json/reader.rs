//! The reader that decides: bytes to a [`Value`] in one pass, or nothing.
//!
//! It knows the grammar of RFC 8259 and no more; a string with an escape and a number that is no
//! plain integer go, as tokens, to the common reader. Why a text is refused is said elsewhere, by
//! reading it again.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use regorus::Value;

use super::{MAX_DEPTH, explain, plain, room::Room};

/// Digits of an integer that surely fits.
const PLAIN_DIGITS: usize = 18;

/// Reads one text; `None` for whatever is not exactly one strict value.
pub(super) fn read(text: &str, room: Room) -> Option<Value> {
    let mut reader = Reader { text, at: 0, room };
    let value = reader.value(MAX_DEPTH)?;
    reader.token().is_none().then_some(value)
}

struct Reader<'a> {
    text: &'a str,
    /// Bytes that are read.
    at: usize,
    /// What may still come.
    room: Room,
}

impl Reader<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Goes to the first byte of the next token; `None` at the end.
    fn token(&mut self) -> Option<u8> {
        loop {
            match self.byte()? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                other => return Some(other),
            }
        }
    }

    /// Steps over a token of one byte, if that is the next one.
    fn step(&mut self, expected: u8) -> Option<()> {
        (self.token()? == expected).then(|| self.at += 1)
    }

    /// The next value, which may open so many levels.
    fn value(&mut self, levels: usize) -> Option<Value> {
        self.room.value()?;
        match self.token()? {
            b'"' => self.string().map(Value::String),
            b'{' => self.object(levels.checked_sub(1)?),
            b'[' => self.array(levels.checked_sub(1)?),
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        let rest = self.text.as_bytes().get(self.at..)?;
        rest.starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            value
        })
    }

    fn array(&mut self, levels: usize) -> Option<Value> {
        self.at += 1;
        self.room.container()?;
        let mut items = Vec::new();
        if self.step(b']').is_some() {
            return Some(Value::from(items));
        }
        loop {
            self.room.item()?;
            items.push(self.value(levels)?);
            match self.token()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return None,
            }
        }
        self.at += 1;
        Some(Value::from(items))
    }

    fn object(&mut self, levels: usize) -> Option<Value> {
        self.at += 1;
        self.room.container()?;
        let mut members = BTreeMap::new();
        if self.step(b'}').is_some() {
            return Some(Value::from(members));
        }
        loop {
            let name = match self.token()? {
                b'"' => Value::String(self.string()?),
                _ => return None,
            };
            self.step(b':')?;
            self.room.member(members.len())?;
            match members.entry(name) {
                Entry::Vacant(place) => place.insert(self.value(levels)?),
                Entry::Occupied(_) => return None,
            };
            match self.token()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.at += 1;
        Some(Value::from(members))
    }

    /// The string whose opening quote is next.
    fn string(&mut self) -> Option<Arc<str>> {
        let begin = self.at + 1;
        let end = begin + plain(self.text.as_bytes().get(begin..)?);
        match self.text.as_bytes().get(end)? {
            b'"' => {
                self.at = end + 1;
                self.room.text(end - begin)?;
                self.text.get(begin..end).map(Arc::from)
            }
            b'\\' => self.escaped(end),
            _ => None,
        }
    }

    /// The string whose first escape is there.
    fn escaped(&mut self, mut end: usize) -> Option<Arc<str>> {
        let bytes = self.text.as_bytes();
        loop {
            end += plain(bytes.get(end..)?);
            match bytes.get(end)? {
                b'\\' => end += 2,
                b'"' => break,
                _ => return None,
            }
        }
        let token = self.text.get(self.at..=end)?;
        self.at = end + 1;
        let text = serde_json::from_str::<String>(token).ok()?;
        self.room.text(text.len())?;
        Some(text.into())
    }

    fn number(&mut self) -> Option<Value> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let digits = rest.strip_prefix(b"-").unwrap_or(rest);
        let count = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let sign = rest.len() - digits.len();
        let more = matches!(digits.get(count), Some(b'.' | b'e' | b'E'));
        let zero = digits.first() == Some(&b'0');
        if more || count > PLAIN_DIGITS || (zero && (count > 1 || sign > 0)) {
            return self.other_number(rest);
        }
        let token = self.text.get(self.at..self.at + sign + count)?;
        self.at += token.len();
        if sign == 0 {
            token.parse::<u64>().ok().map(Value::from)
        } else {
            token.parse::<i64>().ok().map(Value::from)
        }
    }

    /// A number with a fraction, an exponent or many digits; or what only looks like one.
    fn other_number(&mut self, rest: &[u8]) -> Option<Value> {
        let part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.iter().take_while(part).count();
        let token = self.text.get(self.at..self.at + length)?;
        self.at += length;
        explain::read(token, &Room::default()).ok()
    }
}
