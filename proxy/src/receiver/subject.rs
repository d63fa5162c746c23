//! To whom something happened, as others write it (RFC 9493), and whom that is here.
//!
//! In: a subject identifier. Out: the targets of a revocation. One that cannot be mapped is an
//! error, never nobody: a revocation that hits nobody would be taken for one that was done.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{state::Target, task::TaskKey};

/// The longest name of anybody here, in bytes: what the control socket takes.
const LONGEST: usize = 512;

/// The most identifiers of one subject.
const MOST_ALIASES: usize = 16;

/// Formats that can be mapped, the members that their templates may use, and the usual template.
const FORMATS: [(&str, &[&str], &str); 7] = [
    ("iss_sub", &["iss", "sub"], "{sub}"),
    ("email", &["email"], "{email}"),
    ("opaque", &["id"], "{id}"),
    ("uri", &["uri"], "{uri}"),
    ("account", &["uri"], "{uri}"),
    ("phone_number", &["phone_number"], "{phone_number}"),
    ("did", &["url"], "{url}"),
];

/// A subject that nobody here can be found for. The texts repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unmapped {
    /// It has no format, or one that is not mapped.
    #[error("the subject identifier's `format` is not one that is mapped here")]
    Format,
    /// A member of its format is missing or no plain text.
    #[error("the subject identifier's `{0}` is missing, empty, too long or not plain text")]
    Member(&'static str),
    /// It names no user.
    #[error("the complex subject has no `user` that could be mapped")]
    NoUser,
    /// Its aliases are none, too many, or nested.
    #[error("expected `identifiers` with 1 to {MOST_ALIASES} identifiers that are no aliases")]
    Aliases,
}

/// `subjects` of a transmitter: for each format, whom it means here.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Subjects(BTreeMap<&'static str, Template>);

/// A mapping that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadSubjects {
    /// There is no such format.
    #[error("`{0}` is no format of subject identifiers that can be mapped: expected one of {known}", known = known())]
    Format(String),
    /// It means nobody in particular.
    #[error(
        "expected a text with a member in braces, such as `{example}`, after `subject:`, `agent:` or `task:` where that is meant, or `refuse`"
    )]
    Template {
        /// What would do.
        example: &'static str,
    },
}

fn known() -> String {
    let names: Vec<_> = FORMATS
        .iter()
        .map(|(name, ..)| format!("`{name}`"))
        .collect();
    names.join(", ")
}

impl Default for Subjects {
    fn default() -> Self {
        let usual = |(format, members, text): &(&'static str, &'static [&'static str], &str)| {
            Template::read(text, members).map(|template| (*format, template))
        };
        Self(FORMATS.iter().filter_map(usual).collect())
    }
}

impl TryFrom<BTreeMap<String, String>> for Subjects {
    type Error = BadSubjects;

    fn try_from(given: BTreeMap<String, String>) -> Result<Self, BadSubjects> {
        let mut all = Self::default();
        for (name, text) in given {
            let known = FORMATS.iter().find(|(format, ..)| **format == *name);
            let (format, members, example) = known.ok_or(BadSubjects::Format(name))?;
            if text == "refuse" {
                all.0.remove(format);
                continue;
            }
            let template = Template::read(&text, members);
            let template = template.ok_or(BadSubjects::Template { example })?;
            all.0.insert(format, template);
        }
        Ok(all)
    }
}

/// Whom a template means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whom {
    /// A principal, and the agent of that name where it is one.
    Either,
    Subject,
    Agent,
    Task,
}

/// A name with places for members of an identifier.
#[derive(Clone, Debug)]
struct Template {
    whom: Whom,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Member(&'static str),
}

impl Template {
    fn read(text: &str, members: &[&'static str]) -> Option<Self> {
        let kinds = [
            ("subject:", Whom::Subject),
            ("agent:", Whom::Agent),
            ("task:", Whom::Task),
        ];
        let kind = |(word, whom)| Some((text.strip_prefix(word)?, whom));
        let (mut rest, whom) = kinds
            .into_iter()
            .find_map(kind)
            .unwrap_or((text, Whom::Either));
        let mut pieces = Vec::new();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}')?;
            let member = members.iter().find(|member| **member == name)?;
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Member(member));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let braces =
            |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(['{', '}']));
        let says = pieces.iter().any(|piece| matches!(piece, Piece::Member(_)));
        (says && !pieces.iter().any(braces)).then_some(Self { whom, pieces })
    }

    fn fill(&self, identifier: &Map<String, Value>) -> Result<Arc<str>, Unmapped> {
        let (mut name, mut last) = (String::new(), "format");
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Member(member) => {
                    name.push_str(text(identifier, member)?);
                    last = member;
                }
            }
        }
        if name.len() > LONGEST || name.chars().any(char::is_control) {
            return Err(Unmapped::Member(last));
        }
        Ok(name.into())
    }
}

/// A member that says something.
fn text<'a>(identifier: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, Unmapped> {
    let text = identifier.get(member).and_then(Value::as_str);
    let plain =
        |text: &&str| (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control);
    text.filter(plain).ok_or(Unmapped::Member(member))
}

impl Subjects {
    /// Whom an identifier means; `issuer` says so, and vouches for tasks.
    ///
    /// # Errors
    /// [`Unmapped`]; there is at least one target otherwise.
    pub fn targets(
        &self,
        identifier: &Map<String, Value>,
        issuer: &str,
    ) -> Result<Vec<Target>, Unmapped> {
        match format(identifier) {
            Some("complex") => match identifier.get("user") {
                Some(Value::Object(user)) => self.simple(user, issuer),
                _ => Err(Unmapped::NoUser),
            },
            Some("aliases") => self.aliases(identifier, issuer),
            _ => self.simple(identifier, issuer),
        }
    }

    /// All who can be found, and at least one.
    fn aliases(
        &self,
        identifier: &Map<String, Value>,
        issuer: &str,
    ) -> Result<Vec<Target>, Unmapped> {
        let Some(Value::Array(all)) = identifier.get("identifiers") else {
            return Err(Unmapped::Aliases);
        };
        if !(1..=MOST_ALIASES).contains(&all.len()) {
            return Err(Unmapped::Aliases);
        }
        let (mut targets, mut failed) = (Vec::new(), Unmapped::Aliases);
        for one in all {
            let Value::Object(one) = one else {
                return Err(Unmapped::Aliases);
            };
            match self.simple(one, issuer) {
                Ok(found) => targets.extend(found),
                Err(error) => failed = error,
            }
        }
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() {
            Err(failed)
        } else {
            Ok(targets)
        }
    }

    fn simple(
        &self,
        identifier: &Map<String, Value>,
        issuer: &str,
    ) -> Result<Vec<Target>, Unmapped> {
        let format = format(identifier).ok_or(Unmapped::Format)?;
        if format == "jwt_id" {
            return Ok(vec![Target::Token {
                issuer: Some(text(identifier, "iss")?.into()),
                id: text(identifier, "jti")?.into(),
            }]);
        }
        let template = self.0.get(format).ok_or(Unmapped::Format)?;
        let name = template.fill(identifier)?;
        Ok(match template.whom {
            Whom::Either if name.starts_with("spiffe://") => {
                vec![Target::Agent(Arc::clone(&name)), Target::Subject(name)]
            }
            Whom::Either | Whom::Subject => vec![Target::Subject(name)],
            Whom::Agent => vec![Target::Agent(name)],
            Whom::Task => vec![Target::Task(TaskKey {
                issuer: issuer.into(),
                id: name,
            })],
        })
    }
}

fn format(identifier: &Map<String, Value>) -> Option<&str> {
    identifier.get("format").and_then(Value::as_str)
}

#[cfg(test)]
mod tests;
