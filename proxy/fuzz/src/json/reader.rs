//! RFC 8259 by the letter, and the bounds that the program promises: 64 levels, 250,000 values,
//! doubles, unique names, whole surrogate pairs.

use std::collections::BTreeMap;

const LEVELS: usize = 64;
const VALUES: usize = 250_000;

/// A value; numbers as they are written.
#[derive(Debug)]
pub enum Tree {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Tree>),
    Object(BTreeMap<String, Tree>),
}

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is no JSON.
    NoJson,
    /// It is JSON that is refused for what it contains.
    Content,
}

/// Reads one text.
pub fn read(bytes: &[u8]) -> Result<Tree, Refused> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refused::NoJson)?;
    let mut reader = Reader {
        rest: text,
        values: 0,
    };
    let tree = reader.value(0)?;
    reader.space();
    if reader.rest.is_empty() {
        Ok(tree)
    } else {
        Err(Refused::NoJson)
    }
}

struct Reader<'a> {
    rest: &'a str,
    values: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), Refused> {
        self.space();
        if self.takes(token) {
            Ok(())
        } else {
            Err(Refused::NoJson)
        }
    }

    fn value(&mut self, levels: usize) -> Result<Tree, Refused> {
        self.values += 1;
        if self.values > VALUES {
            return Err(Refused::Content);
        }
        self.space();
        match self.rest.as_bytes().first() {
            Some(b'{' | b'[') if levels == LEVELS => Err(Refused::Content),
            Some(b'{') => self.object(levels + 1),
            Some(b'[') => self.array(levels + 1),
            Some(b'"') => self.string().map(Tree::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Tree::Number),
            _ if self.takes("null") => Ok(Tree::Null),
            _ if self.takes("true") => Ok(Tree::Bool(true)),
            _ if self.takes("false") => Ok(Tree::Bool(false)),
            _ => Err(Refused::NoJson),
        }
    }

    fn array(&mut self, levels: usize) -> Result<Tree, Refused> {
        self.expect("[")?;
        let mut items = Vec::new();
        self.space();
        if self.takes("]") {
            return Ok(Tree::Array(items));
        }
        loop {
            items.push(self.value(levels)?);
            self.space();
            if self.takes("]") {
                return Ok(Tree::Array(items));
            }
            self.expect(",")?;
        }
    }

    fn object(&mut self, levels: usize) -> Result<Tree, Refused> {
        self.expect("{")?;
        let mut members = BTreeMap::new();
        self.space();
        if self.takes("}") {
            return Ok(Tree::Object(members));
        }
        loop {
            self.space();
            let name = self.string()?;
            if members.contains_key(&name) {
                return Err(Refused::Content);
            }
            self.expect(":")?;
            members.insert(name, self.value(levels)?);
            self.space();
            if self.takes("}") {
                return Ok(Tree::Object(members));
            }
            self.expect(",")?;
        }
    }

    /// `-`? int frac? exp?, within the range of a double.
    fn number(&mut self) -> Result<String, Refused> {
        let start = self.rest;
        self.takes("-");
        if !self.takes("0") {
            self.digits()?;
        }
        if self.takes(".") {
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            let _ = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        let text = start[..start.len() - self.rest.len()].to_owned();
        match text.parse::<f64>() {
            Ok(real) if real.is_finite() => Ok(text),
            _ => Err(Refused::Content),
        }
    }

    fn digits(&mut self) -> Result<(), Refused> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let any = rest.len() < self.rest.len();
        self.rest = rest;
        if any { Ok(()) } else { Err(Refused::NoJson) }
    }

    fn string(&mut self) -> Result<String, Refused> {
        if !self.takes("\"") {
            return Err(Refused::NoJson);
        }
        let mut text = String::new();
        loop {
            let mut rest = self.rest.chars();
            let next = rest.next().ok_or(Refused::NoJson)?;
            self.rest = rest.as_str();
            match next {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                '\0'..='\u{1f}' => return Err(Refused::NoJson),
                plain => text.push(plain),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Refused> {
        let mut rest = self.rest.chars();
        let next = rest.next().ok_or(Refused::NoJson)?;
        self.rest = rest.as_str();
        Ok(match next {
            '"' | '\\' | '/' => next,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unit_or_pair(),
            _ => return Err(Refused::NoJson),
        })
    }

    fn unit_or_pair(&mut self) -> Result<char, Refused> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or(Refused::NoJson);
        }
        if !self.takes("\\u") {
            return Err(Refused::NoJson);
        }
        let second = self.unit()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(Refused::NoJson);
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            .ok_or(Refused::NoJson)
    }

    fn unit(&mut self) -> Result<u32, Refused> {
        let digits = self.rest.get(..4).ok_or(Refused::NoJson)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Refused::NoJson);
        }
        self.rest = &self.rest[4..];
        u32::from_str_radix(digits, 16).map_err(|_| Refused::NoJson)
    }
}
