//! Names with values, `a=1&b=2`: the query, and bodies that are forms.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use regorus::Value;

use super::{
    style::{Coding, Explode, Make, Script, Style},
    text::typed,
    undecodable::{Reason, Undecodable},
};

/// The most fields of one query or form.
const MAX_FIELDS: usize = 10_000;

/// Names that make some servers take a request for one with another method.
const OVERRIDES: [&str; 2] = ["_method", "x-http-method-override"];

/// One declared parameter or property.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Arc<str>,
    pub(super) coding: Coding,
    /// `allowEmptyValue`: nothing at all stands for the empty string.
    pub(super) allow_empty: bool,
}

/// Everything that may stand in one query or form.
#[derive(Debug, Default)]
pub(super) struct Fields {
    declared: Vec<Field>,
    /// What a name on the wire belongs to.
    names: HashMap<Box<str>, usize>,
    /// The field that takes names nobody declared.
    rest: Option<usize>,
}

/// One piece of a field as it was sent.
struct Piece<'q> {
    /// The member of the object, where the name says one.
    member: Option<String>,
    raw: &'q str,
}

impl Fields {
    /// Declares a field.
    ///
    /// # Errors
    ///
    /// The name on the wire that is taken already.
    pub(super) fn declare(&mut self, field: Field) -> Result<(), String> {
        let number = self.declared.len();
        let mut names = vec![field.name.to_string()];
        if let Some(Make::Object(members)) = field.spread() {
            names = members.known.keys().cloned().collect();
            if members.rest.is_some() && self.rest.replace(number).is_some() {
                return Err("any other name".to_owned());
            }
        }
        for name in names {
            if self.names.insert(name.clone().into(), number).is_some() {
                return Err(name);
            }
        }
        self.declared.push(field);
        Ok(())
    }

    /// Reads a whole query or form; `place` is where its values will stand.
    pub(super) fn read(&self, text: &str, place: &str) -> Result<Value, Undecodable> {
        let whole = |reason| Undecodable::at(place, "", reason);
        if text.contains(';') {
            return Err(whole(Reason::Semicolon));
        }
        let mut pieces: Vec<Vec<Piece<'_>>> = Vec::new();
        pieces.resize_with(self.declared.len(), Vec::new);
        let sent = text.split('&').filter(|piece| !piece.is_empty());
        for (count, sent) in sent.enumerate() {
            if count >= MAX_FIELDS {
                return Err(whole(Reason::Undeclared));
            }
            let (name, raw) = sent.split_once('=').unwrap_or((sent, ""));
            let name = Script::Form.read(name).map_err(whole)?;
            let (number, member) = self
                .owner(&name)
                .ok_or_else(|| Undecodable::at(place, &name, Reason::Undeclared))?;
            if let Some(pieces) = pieces.get_mut(number) {
                pieces.push(Piece { member, raw });
            }
        }
        let mut values = BTreeMap::new();
        for (field, pieces) in self.declared.iter().zip(&pieces) {
            if !pieces.is_empty() {
                let value = field.read(pieces);
                let value = value.map_err(|why| Undecodable::at(place, &field.name, why))?;
                values.insert(Value::from(&*field.name), value);
            }
        }
        Ok(values.into())
    }

    /// The field a name on the wire belongs to, and which member of it.
    fn owner(&self, name: &str) -> Option<(usize, Option<String>)> {
        if let Some(&number) = self.names.get(name) {
            let spread = self.declared.get(number)?.spread().is_some();
            return Some((number, spread.then(|| name.to_owned())));
        }
        if let Some((object, member)) = deep(name)
            && let Some(&number) = self.names.get(object)
            && self.declared.get(number)?.is_deep()
        {
            return Some((number, Some(member.to_owned())));
        }
        // A name that changes the method is never one of "any others".
        let overrides = OVERRIDES
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other));
        self.rest
            .filter(|_| !overrides && !name.contains(['[', ']']))
            .map(|number| (number, Some(name.to_owned())))
    }
}

/// `object[member]`, one level deep.
fn deep(name: &str) -> Option<(&str, &str)> {
    let (object, member) = name.strip_suffix(']')?.split_once('[')?;
    (!member.is_empty() && !member.contains(['[', ']'])).then_some((object, member))
}

impl Field {
    /// The object whose members stand beside the other fields.
    fn spread(&self) -> Option<&Make> {
        match &self.coding {
            Coding::Styled {
                style: Style::Form,
                explode: Explode::Yes,
                make: make @ Make::Object(_),
            } => Some(make),
            _ => None,
        }
    }

    fn is_deep(&self) -> bool {
        matches!(
            &self.coding,
            Coding::Styled {
                style: Style::Deep,
                ..
            }
        )
    }

    fn read(&self, pieces: &[Piece<'_>]) -> Result<Value, Reason> {
        match (&self.coding, pieces) {
            (
                _,
                [
                    Piece {
                        member: None,
                        raw: "",
                    },
                ],
            ) if self.allow_empty => Ok(Value::from("")),
            (
                Coding::Styled {
                    make: Make::Object(members),
                    ..
                },
                [
                    Piece {
                        member: Some(_), ..
                    },
                    ..,
                ],
            ) => {
                let mut object = BTreeMap::new();
                for piece in pieces {
                    // `a=1&a[b]=2` is two values of one parameter.
                    let name = piece.member.as_deref().ok_or(Reason::Twice)?;
                    let value = members.typed(name, &Script::Form.read(piece.raw)?);
                    if object.insert(Value::from(name), value).is_some() {
                        return Err(Reason::Twice);
                    }
                }
                Ok(object.into())
            }
            (
                Coding::Styled {
                    style: Style::Deep,
                    make: Make::Object(members),
                    ..
                },
                [one],
            ) if members.one.is_primitive() => Ok(typed(&Script::Form.read(one.raw)?, members.one)),
            (
                Coding::Styled {
                    style: Style::Deep, ..
                },
                _,
            ) => Err(Reason::Style),
            (
                Coding::Styled {
                    style: Style::Form,
                    explode: Explode::Yes,
                    make: Make::List { items, one },
                },
                pieces,
            ) => {
                let read = |piece: &Piece<'_>, types| {
                    let text: Cow<'_, str> = Script::Form.read(piece.raw)?;
                    Ok(typed(&text, types))
                };
                if let ([piece], true) = (pieces, one.is_primitive()) {
                    return read(piece, *one);
                }
                let items = pieces.iter().map(|piece| read(piece, *items));
                Ok(items.collect::<Result<Vec<_>, _>>()?.into())
            }
            (coding, [one]) => coding.read(&self.name, one.raw, Script::Form),
            _ => Err(Reason::Twice),
        }
    }
}
