//! One document of YAML as a tree that keeps how its scalars were written, and its comments.
//!
//! What Kubernetes takes a plain scalar for depends on the version of YAML; so a scalar goes out as it
//! came in, and what it means is only asked where we decide by it.

use std::{borrow::Cow, collections::HashMap};

use granit_parser::{Event, Parser, Placement, ScalarStyle, Span, StrInput};
use serde_json::{Map, Number, Value};

use super::edit::{Change, steps};

/// How deep a document may be.
const DEEPEST: usize = 64;
/// How many nodes a document may have, aliases counted for what they stand for.
const MOST: usize = 200_000;

/// A document that cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unread {
    /// Counted from 1, in the document.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

/// A node and what was written beside it.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// Lines of comments that stand before it.
    above: Vec<String>,
    /// A comment that ends its first line.
    beside: Option<String>,
    /// As it was written on one line, as long as nothing in it changes.
    flow: Option<String>,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// As it was written, and what it means.
    Scalar(String, Value),
    /// Text of several lines, in a style of its own.
    Block(String),
    List(Vec<Node>),
    /// In order; a key as it was written, and what it means.
    Map(Vec<(String, String, Node)>),
}

impl Default for What {
    fn default() -> Self {
        Self::Scalar("null".into(), Value::Null)
    }
}

impl Node {
    /// Reads one document; none where there is nothing in it.
    pub(super) fn read(text: &str) -> Result<Option<Self>, Unread> {
        let mut reader = Reader {
            text,
            events: Parser::new_from_str(text),
            waiting: None,
            comments: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
        };
        loop {
            match reader.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::DocumentStart(..), _) => break,
                _ => {}
            }
        }
        let mut node = reader.node(0)?;
        node.above.append(&mut reader.comments);
        Ok(Some(node))
    }

    /// What it means.
    pub(super) fn to_value(&self) -> Value {
        match &self.what {
            What::Scalar(_, value) => value.clone(),
            What::Block(text) => Value::String(text.clone()),
            What::List(items) => items.iter().map(Self::to_value).collect(),
            What::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(_, key, node)| (key.clone(), node.to_value()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }

    /// Applies a change whose place is there; else nothing happens.
    pub(super) fn apply(&mut self, change: &Change) {
        let mut steps: Vec<_> = steps(change.path()).collect();
        let Some(last) = steps.pop() else { return };
        let mut at = self;
        at.flow = None;
        for step in steps {
            let Some(next) = at.member(&step) else { return };
            at = next;
            at.flow = None;
        }
        match (&mut at.what, change) {
            (What::Map(entries), Change::Add { value, .. }) => {
                let node = Self::from(value);
                match entries.iter_mut().find(|(_, key, _)| *key == last) {
                    Some((_, _, there)) => *there = node,
                    None => entries.push((written(&last), last, node)),
                }
            }
            (What::Map(entries), Change::Remove { .. }) => {
                entries.retain(|(_, key, _)| *key != last);
            }
            (What::List(items), Change::Add { value, .. }) => {
                let at = last.parse().unwrap_or(items.len()).min(items.len());
                items.insert(at, Self::from(value));
            }
            (What::List(items), Change::Remove { .. }) => {
                if let Some(at) = last.parse().ok().filter(|at| *at < items.len()) {
                    items.remove(at);
                }
            }
            // The place of an object that is not there yet.
            (scalar, Change::Add { .. }) => *scalar = What::Map(Vec::new()),
            (_, Change::Remove { .. }) => {}
        }
    }

    fn member(&mut self, step: &str) -> Option<&mut Self> {
        match &mut self.what {
            What::Map(entries) => {
                let found = entries.iter_mut().find(|(_, key, _)| key == step);
                found.map(|(_, _, node)| node)
            }
            What::List(items) => items.get_mut(step.parse::<usize>().ok()?),
            What::Scalar(..) | What::Block(_) => None,
        }
    }

    /// The document as text, in block style.
    pub(super) fn write(&self) -> String {
        let mut out = String::new();
        comments(&self.above, 0, &mut out);
        match &self.what {
            What::List(_) | What::Map(_) if self.spreads() => self.members(0, &mut out),
            _ => self.put(0, &mut out),
        }
        out
    }

    /// Whether its members stand on lines of their own.
    fn spreads(&self) -> bool {
        let some = match &self.what {
            What::List(items) => !items.is_empty(),
            What::Map(entries) => !entries.is_empty(),
            What::Scalar(..) | What::Block(_) => false,
        };
        some && self.flow.is_none()
    }

    /// Writes the members, each on lines of its own.
    fn members(&self, indent: usize, out: &mut String) {
        match &self.what {
            What::Map(entries) => {
                for (key, _, node) in entries {
                    comments(&node.above, indent, out);
                    pad(indent, out);
                    node.entry(key, indent, out);
                }
            }
            What::List(items) => {
                for item in items {
                    comments(&item.above, indent, out);
                    pad(indent, out);
                    item.item(indent, out);
                }
            }
            What::Scalar(..) | What::Block(_) => {}
        }
    }

    fn entry(&self, key: &str, indent: usize, out: &mut String) {
        out.push_str(key);
        out.push(':');
        match &self.what {
            What::Map(_) | What::List(_) if self.spreads() => {
                self.end(out);
                // A list stands under its key as far to the left as the key, as in most manifests.
                let deeper = if matches!(self.what, What::Map(_)) {
                    2
                } else {
                    0
                };
                self.members(indent + deeper, out);
            }
            _ => {
                out.push(' ');
                self.put(indent, out);
            }
        }
    }

    fn item(&self, indent: usize, out: &mut String) {
        out.push_str("- ");
        match &self.what {
            What::Map(entries) if self.spreads() && self.beside.is_none() => {
                for (at, (key, _, node)) in entries.iter().enumerate() {
                    if at > 0 {
                        comments(&node.above, indent + 2, out);
                        pad(indent + 2, out);
                    }
                    node.entry(key, indent + 2, out);
                }
            }
            What::Map(_) | What::List(_) if self.spreads() => {
                out.pop();
                self.end(out);
                self.members(indent + 2, out);
            }
            _ => self.put(indent, out),
        }
    }

    /// Writes what stands on the line.
    fn put(&self, indent: usize, out: &mut String) {
        match &self.what {
            What::Scalar(text, _) => out.push_str(text),
            What::List(_) => out.push_str(self.flow.as_deref().unwrap_or("[]")),
            What::Map(_) => out.push_str(self.flow.as_deref().unwrap_or("{}")),
            What::Block(text) => return self.block(text, indent, out),
        }
        self.end(out);
    }

    fn block(&self, text: &str, indent: usize, out: &mut String) {
        let plain =
            !text.starts_with([' ', '\n']) && !text.contains(['\r', '\t']) && !text.is_empty();
        if !plain {
            out.push_str(&quoted(text));
            return self.end(out);
        }
        let (body, chomp) = match (text.strip_suffix('\n'), text.ends_with("\n\n")) {
            (_, true) => (text, "+"),
            (Some(body), false) => (body, ""),
            (None, false) => (text, "-"),
        };
        out.push('|');
        out.push_str(chomp);
        self.end(out);
        let lines = if chomp == "+" {
            body.strip_suffix('\n').unwrap_or(body)
        } else {
            body
        };
        for line in lines.split('\n') {
            if !line.is_empty() {
                pad(indent + 2, out);
                out.push_str(line);
            }
            out.push('\n');
        }
    }

    fn end(&self, out: &mut String) {
        if let Some(comment) = &self.beside {
            out.push_str(" #");
            out.push_str(comment);
        }
        out.push('\n');
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn comments(lines: &[String], indent: usize, out: &mut String) {
    for line in lines {
        pad(indent, out);
        out.push('#');
        out.push_str(line);
        out.push('\n');
    }
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Self {
        let what = match value {
            Value::Array(items) => What::List(items.iter().map(Self::from).collect()),
            Value::Object(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                // As people write it: the name first.
                entries.sort_by_key(|(key, _)| *key != "name");
                let entries = entries.into_iter();
                What::Map(
                    entries
                        .map(|(key, value)| (written(key), key.clone(), Self::from(value)))
                        .collect(),
                )
            }
            Value::String(text) => What::Scalar(written(text), value.clone()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                What::Scalar(value.to_string(), value.clone())
            }
        };
        Self {
            what,
            ..Self::default()
        }
    }
}

/// A text as a scalar that no version of YAML takes for anything else.
fn written(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"/._:-".contains(&byte);
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let lower = text.to_ascii_lowercase();
    if first && text.bytes().all(safe) && !text.ends_with(':') && !words.contains(&lower.as_str()) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// In JSON's form, which is YAML's as well.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
    waiting: Option<(Event<'a>, Span)>,
    /// Read, and not yet beside anything.
    comments: Vec<String>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    /// The next event that is not a comment on lines of its own.
    fn next(&mut self) -> Result<(Event<'a>, Span), Unread> {
        if let Some(event) = self.waiting.take() {
            return Ok(event);
        }
        loop {
            let next = self.events.next_event();
            let next = next.unwrap_or_else(|| Ok((Event::StreamEnd, Span::default())));
            let (event, span) = next.map_err(|error| Unread {
                line: error.marker().line(),
                why: error.info().clone(),
            })?;
            match event {
                Event::Comment(text, Placement::Above | Placement::Free | Placement::Last) => {
                    self.comments.push(text.into_owned());
                }
                event => return Ok((event, span)),
            }
        }
    }

    /// A comment at the end of the line that was just read.
    fn beside(&mut self) -> Result<Option<String>, Unread> {
        match self.next()? {
            (Event::Comment(text, _), _) => Ok(Some(text.into_owned())),
            other => {
                self.waiting = Some(other);
                Ok(None)
            }
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Unread> {
        let above = std::mem::take(&mut self.comments);
        let (event, span) = self.next()?;
        let node = self.node_of(event, &span, depth)?;
        Ok(Node {
            above: [above, node.above].concat(),
            ..node
        })
    }

    fn node_of(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Unread> {
        let unread = |why: &str| Unread {
            line: span.start.line(),
            why: why.to_owned(),
        };
        self.nodes += 1;
        if depth > DEEPEST || self.nodes > MOST {
            return Err(unread("the document is too deep or too large"));
        }
        let (anchor, node) = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                return Err(unread(
                    "explicit tags are not understood: write the value without `!`",
                ));
            }
            Event::Scalar(value, style, anchor, None) => {
                let what = self.scalar(&value, style, span);
                let beside = self.beside()?;
                (
                    anchor,
                    Node {
                        beside,
                        what,
                        ..Node::default()
                    },
                )
            }
            Event::SequenceStart(_, anchor, None) => (anchor, self.list(span, depth)?),
            Event::MappingStart(_, anchor, None) => (anchor, self.map(span, depth)?),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| unread("an alias of what is not complete yet"))?;
                self.nodes += node.size();
                let beside = self.beside()?;
                return Ok(Node { beside, ..node });
            }
            _ => return Err(unread("expected a value")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&self, value: &str, style: ScalarStyle, span: &Span) -> What {
        let source = span.slice(self.text).unwrap_or_default().trim_end();
        let one_line = !source.contains('\n');
        match style {
            ScalarStyle::Plain if one_line => What::Scalar(source.to_owned(), meant(value)),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if one_line => {
                What::Scalar(source.to_owned(), Value::from(value))
            }
            ScalarStyle::Literal | ScalarStyle::Folded => What::Block(value.to_owned()),
            ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                What::Scalar(quoted(value), Value::from(value))
            }
        }
    }

    fn list(&mut self, from: &Span, depth: usize) -> Result<Node, Unread> {
        let beside = self.beside()?;
        let mut items = Vec::new();
        let to = loop {
            match self.next()? {
                (Event::SequenceEnd, to) => break to,
                // After a member in flow style, or after the comma behind it.
                (Event::Comment(text, _), _) => self.comments.push(text.into_owned()),
                other => {
                    self.waiting = Some(other);
                    items.push(self.node(depth + 1)?);
                }
            }
        };
        self.ended(from, &to, beside, What::List(items))
    }

    fn map(&mut self, from: &Span, depth: usize) -> Result<Node, Unread> {
        let beside = self.beside()?;
        let mut entries: Vec<(String, String, Node)> = Vec::new();
        let to = loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            let key = match event {
                Event::MappingEnd => break span,
                Event::Comment(text, _) => {
                    self.comments.push(text.into_owned());
                    continue;
                }
                Event::Scalar(key, ..) => key,
                _ => {
                    return Err(Unread {
                        line,
                        why: "expected a name as key".into(),
                    });
                }
            };
            if key == "<<" {
                let why = "merge keys (`<<`) are not understood: write the values out".into();
                return Err(Unread { line, why });
            }
            if entries.iter().any(|(_, known, _)| *known == key) {
                return Err(Unread {
                    line,
                    why: format!("the key `{key}` is there twice"),
                });
            }
            let above = std::mem::take(&mut self.comments);
            let beside = self.beside()?;
            let node = self.node(depth + 1)?;
            let text = span
                .slice(self.text)
                .map_or(Cow::Owned(written(&key)), Cow::Borrowed);
            entries.push((
                text.trim_end().to_owned(),
                key.into_owned(),
                node.under(above, beside),
            ));
        };
        self.ended(from, &to, beside, What::Map(entries))
    }

    /// A collection, with what was written of it on one line and the comment behind that.
    fn ended(
        &mut self,
        from: &Span,
        to: &Span,
        beside: Option<String>,
        what: What,
    ) -> Result<Node, Unread> {
        let source = from.start.byte_offset().zip(to.end.byte_offset());
        let source = source.and_then(|(from, to)| self.text.get(from..to));
        let source = source.filter(|source| source.starts_with(['[', '{']));
        let flow = source.filter(|source| !source.contains('\n'));
        let behind = match source {
            Some(_) => self.beside()?,
            None => None,
        };
        Ok(Node {
            beside: beside.or(behind),
            flow: flow.map(str::to_owned),
            what,
            ..Node::default()
        })
    }
}

impl Node {
    /// As the value of a key that has comments of its own; those that stand between the two go to
    /// what comes next.
    fn under(mut self, above: Vec<String>, beside: Option<String>) -> Self {
        let between = std::mem::replace(&mut self.above, above);
        self.beside = beside.or(self.beside);
        let spreads = self.spreads();
        let next = match &mut self.what {
            What::List(items) if spreads => items.first_mut(),
            What::Map(entries) if spreads => entries.first_mut().map(|(_, _, node)| node),
            _ => None,
        };
        let above = match next {
            Some(next) => &mut next.above,
            None => &mut self.above,
        };
        above.splice(0..0, between);
        self
    }

    fn size(&self) -> usize {
        1 + match &self.what {
            What::Scalar(..) | What::Block(_) => 0,
            What::List(items) => items.iter().map(Self::size).sum(),
            What::Map(entries) => entries.iter().map(|(_, _, node)| node.size()).sum(),
        }
    }
}

/// What a plain scalar means to Kubernetes, which reads YAML 1.1.
fn meant(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        _ => {}
    }
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => return Value::Bool(true),
        "false" | "no" | "off" | "n" => return Value::Bool(false),
        _ => {}
    }
    whole(text).map_or_else(|| fraction(text), Value::Number)
}

fn whole(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => (-1, rest.to_owned()),
        None => (1, digits),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o', ..] => (8, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits.as_str()),
    };
    let number = i64::from_str_radix(digits, base).ok()?;
    Some(Number::from(sign * number))
}

fn fraction(text: &str) -> Value {
    let number = text
        .parse::<f64>()
        .ok()
        .filter(|_| text.bytes().any(|byte| byte.is_ascii_digit()));
    let number = number.and_then(Number::from_f64);
    number.map_or_else(|| Value::from(text), Value::Number)
}
