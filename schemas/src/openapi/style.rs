//! How values are written as text: the styles of OpenAPI (3.0.4 §4.7.12.2, RFC 6570).

use std::{borrow::Cow, collections::BTreeMap};

use regorus::Value;

use super::{
    shape::{Shape, Types},
    text::{Plus, percent, typed},
    undecodable::Reason,
};
use crate::json;

/// A value of the `style` keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    Space,
    Pipe,
    Deep,
}

/// Whether `explode` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Explode {
    Yes,
    No,
}

/// How the characters of one text are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// Percent-encoded (RFC 3986): paths and cookies.
    Percent,
    /// The same with `+` for a space: queries and forms.
    Form,
    /// As it is: headers, and cookies of the style `cookie`.
    Plain,
}

impl Script {
    pub(super) fn read(self, text: &str) -> Result<Cow<'_, str>, Reason> {
        match self {
            Self::Plain => Some(Cow::Borrowed(text)),
            Self::Percent => percent(text, Plus::Literal),
            Self::Form => percent(text, Plus::Space),
        }
        .ok_or(Reason::Encoding)
    }
}

/// What a value is made of.
#[derive(Debug, Clone)]
pub(super) enum Make {
    /// One value.
    One(Types),
    /// Values of one kind; or, where `one` allows it, a value that is no list.
    List { items: Types, one: Types },
    /// Names with values; or, where `one` allows it, a value that is no object.
    Object(Members),
}

/// The members of an object.
#[derive(Debug, Clone)]
pub(super) struct Members {
    pub(super) known: BTreeMap<String, Types>,
    /// Other members, where the schema says so in as many words.
    pub(super) rest: Option<Types>,
    pub(super) one: Types,
}

impl Members {
    pub(super) fn typed(&self, name: &str, text: &str) -> Value {
        let types = self.known.get(name).copied().or(self.rest);
        typed(text, types.unwrap_or_default())
    }
}

/// How one parameter is read.
#[derive(Debug, Clone)]
pub(super) enum Coding {
    /// `content: application/json`.
    Json,
    /// By a style.
    Styled {
        style: Style,
        explode: Explode,
        make: Make,
    },
}

impl Make {
    /// What a shape is read into; the words say why that cannot be told.
    pub(super) fn of(shape: &Shape) -> Result<Self, &'static str> {
        let types = shape.types;
        match (types.array, types.object) {
            (true, true) => Err("is an array or an object, which text does not tell apart"),
            (true, false) => {
                let items = shape.items.as_ref().map(|items| items.types);
                let items = items.unwrap_or_default();
                if (items.array || items.object) && !items.is_primitive() {
                    return Err("is a list of lists or objects, which no style defines");
                }
                Ok(Self::List { items, one: types })
            }
            (false, true) => Ok(Self::Object(Members {
                known: shape
                    .members
                    .iter()
                    .map(|(name, member)| (name.clone(), member.types))
                    .collect(),
                rest: shape.rest.as_ref().map(|rest| rest.types),
                one: types,
            })),
            (false, false) => Ok(Self::One(types)),
        }
    }
}

/// Whether an object has members that no style can write.
pub(super) fn has_deep_members(shape: &Shape) -> bool {
    let deep = |types: Types| (types.array || types.object) && !types.is_primitive();
    shape.types.object && shape.members.values().any(|member| deep(member.types))
}

impl Coding {
    /// Reads one text: everything but parameters that are spread over several.
    pub(super) fn read(&self, name: &str, text: &str, script: Script) -> Result<Value, Reason> {
        match self {
            Self::Json => {
                let text = script.read(text)?;
                json::parse(text.as_bytes()).map_err(Reason::Json)
            }
            Self::Styled {
                style,
                explode,
                make,
            } => Reader {
                name,
                script,
                style: *style,
                explode: *explode,
            }
            .read(make, text),
        }
    }
}

/// What reads one text.
#[derive(Clone, Copy)]
struct Reader<'a> {
    name: &'a str,
    script: Script,
    style: Style,
    explode: Explode,
}

impl Reader<'_> {
    fn read(self, make: &Make, text: &str) -> Result<Value, Reason> {
        match make {
            Make::One(types) => self.one(*types, text),
            Make::List { items, one } => {
                let parts = self.list(text)?;
                if let ([_], true) = (parts.as_slice(), one.is_primitive()) {
                    return self.one(*one, text);
                }
                let items = parts.into_iter().map(|part| self.part(part, *items));
                Ok(items.collect::<Result<Vec<_>, _>>()?.into())
            }
            Make::Object(members) => self.object(members, text),
        }
    }

    fn one(self, types: Types, text: &str) -> Result<Value, Reason> {
        let text = match self.style {
            Style::Label => text.strip_prefix('.').ok_or(Reason::Style)?,
            Style::Matrix => self.named(text.strip_prefix(';').ok_or(Reason::Style)?)?,
            _ => text,
        };
        Ok(typed(&self.script.read(text)?, types))
    }

    /// What follows `name=`; nothing where there is only the name (RFC 6570 §3.2.7).
    fn named(self, text: &str) -> Result<&str, Reason> {
        let rest = text.strip_prefix(self.name).ok_or(Reason::Style)?;
        if rest.is_empty() {
            return Ok(rest);
        }
        rest.strip_prefix('=').ok_or(Reason::Style)
    }

    fn list(self, text: &str) -> Result<Vec<&str>, Reason> {
        match (self.style, self.explode) {
            (Style::Matrix, Explode::Yes) => self
                .split(text)?
                .into_iter()
                .map(|part| self.named(part))
                .collect(),
            _ => self.split(text),
        }
    }

    /// Takes the leading character away and cuts at the delimiter, before anything is decoded.
    fn split(self, text: &str) -> Result<Vec<&str>, Reason> {
        Ok(match (self.style, self.explode) {
            (Style::Label, Explode::Yes) => text
                .strip_prefix('.')
                .ok_or(Reason::Style)?
                .split('.')
                .collect(),
            (Style::Label, Explode::No) => text
                .strip_prefix('.')
                .ok_or(Reason::Style)?
                .split(',')
                .collect(),
            (Style::Matrix, Explode::Yes) => text
                .strip_prefix(';')
                .ok_or(Reason::Style)?
                .split(';')
                .collect(),
            (Style::Matrix, Explode::No) => {
                let text = text.strip_prefix(';').ok_or(Reason::Style)?;
                self.named(text)?.split(',').collect()
            }
            (Style::Space, _) => cut(text, &["%20", "+", " "]),
            (Style::Pipe, _) => cut(text, &["%7C", "%7c", "|"]),
            _ => text.split(',').map(|part| self.trim(part)).collect(),
        })
    }

    /// White space around the members of a list in a header (RFC 9110 §5.6.1).
    fn trim(self, text: &str) -> &str {
        match self.script {
            Script::Plain => text.trim_matches([' ', '\t']),
            Script::Percent | Script::Form => text,
        }
    }

    /// The characters that would have cut a list, had they not been encoded. RFC 6570 and the
    /// tables of 3.0.3 cut labels differently, so both count.
    fn delimiters(self) -> &'static [char] {
        match (self.style, self.explode) {
            (Style::Label, _) => &['.', ','],
            (Style::Matrix, Explode::Yes) => &[';'],
            (Style::Space, _) => &[' '],
            (Style::Pipe, _) => &['|'],
            _ => &[','],
        }
    }

    fn part(self, text: &str, types: Types) -> Result<Value, Reason> {
        Ok(typed(&self.text(text)?, types))
    }

    fn text(self, text: &str) -> Result<Cow<'_, str>, Reason>
    where
        Self: Sized,
    {
        let text = self.script.read(text)?.into_owned();
        if text.contains(self.delimiters()) {
            return Err(Reason::Delimiter);
        }
        Ok(Cow::Owned(text))
    }

    fn object(self, members: &Members, text: &str) -> Result<Value, Reason> {
        let parts = self.split(text)?;
        if parts.len() == 1 && members.one.is_primitive() {
            return self.one(members.one, text);
        }
        let pairs: Vec<(&str, &str)> = match self.explode {
            Explode::Yes => parts
                .into_iter()
                .map(|part| part.split_once('=').ok_or(Reason::Style))
                .collect::<Result<_, _>>()?,
            Explode::No => {
                let (pairs, rest) = parts.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(Reason::Style);
                }
                pairs.iter().map(|[name, value]| (*name, *value)).collect()
            }
        };
        let mut object = BTreeMap::new();
        for (name, value) in pairs {
            let name = self.text(name)?;
            let value = members.typed(&name, &self.text(value)?);
            if object.insert(Value::from(&*name), value).is_some() {
                return Err(Reason::Twice);
            }
        }
        Ok(object.into())
    }
}

/// Cuts at any of `delimiters`.
fn cut<'t>(text: &'t str, delimiters: &[&str]) -> Vec<&'t str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let first = delimiters
            .iter()
            .filter_map(|delimiter| rest.split_once(delimiter))
            .min_by_key(|(part, _)| part.len());
        let Some((part, after)) = first else {
            parts.push(rest);
            return parts;
        };
        parts.push(part);
        rest = after;
    }
}
