//! Which locked resource a concrete URI is: exact URIs and URI templates (RFC 6570).
//!
//! In: the keys of `resources` in a lock file. Out: the operation that a URI stands for, or
//! nothing, which is a refusal. Two readers must not see two resources in one URI. So a template
//! matches only what RFC 3986 §6.2.2 calls normal form, and no value of a variable can lead out
//! of its place: dot segments, backslashes, control characters and, in `{var}`, slashes match at
//! no depth of percent-encoding.
//!
//! Served are `{var}`, `{+var}`, `{/var}`, `{?var}` and `{&var}`, each also with a list of
//! names. The time is bounded: bytes of the URI times parts of the template.

mod pattern;
mod uri;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

pub use self::pattern::Flaw;
use self::{
    pattern::{Pattern, scheme},
    uri::Uri,
};

/// Templates of one service.
pub const MOST_TEMPLATES: usize = 1_000;

/// Bytes of a template, and of a URI that a template matches.
pub const MOST_BYTES: usize = 4_096;

/// What the operation of a resource begins with.
pub const PREFIX: &str = "resource:";

/// The resources of one service.
#[derive(Debug, Default)]
pub struct Templates {
    /// The operation of each URI that is listed as it is.
    exact: HashMap<Box<str>, Arc<str>>,
    /// The exact URIs without their percent-encoding: no template matches another spelling.
    decoded: HashSet<Vec<u8>>,
    /// The most literal first.
    patterns: Vec<(Pattern, Arc<str>)>,
}

/// A key of `resources` that is neither a URI nor a template that is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flaw}")]
pub struct BadTemplate {
    /// The key.
    pub template: String,
    /// What is wrong.
    #[source]
    pub flaw: Flaw,
}

impl Templates {
    /// Reads the keys of `resources`: what has braces is a template, all else a URI.
    ///
    /// # Errors
    ///
    /// Every [`BadTemplate`] there is; one of them refuses the whole.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, Vec<BadTemplate>> {
        let (mut templates, mut bad) = (Self::default(), Vec::new());
        for key in keys {
            if let Err(flaw) = templates.add(key) {
                bad.push(BadTemplate {
                    template: key.to_owned(),
                    flaw,
                });
            }
        }
        templates.patterns.sort_by(|(a, name), (b, other)| {
            let most_literal_first = b.literal_bytes().cmp(&a.literal_bytes());
            most_literal_first.then_with(|| name.cmp(other))
        });
        if bad.is_empty() {
            Ok(templates)
        } else {
            Err(bad)
        }
    }

    fn add(&mut self, key: &str) -> Result<(), Flaw> {
        let operation = Arc::from(format!("{PREFIX}{key}"));
        if key.contains(['{', '}']) {
            if self.patterns.len() == MOST_TEMPLATES {
                return Err(Flaw::TooMany);
            }
            self.patterns.push((Pattern::parse(key)?, operation));
        } else {
            exact(key)?;
            self.exact.insert(key.into(), operation);
            self.decoded.insert(uri::decode(key));
        }
        Ok(())
    }

    /// The operation, `resource:` and the key, that this URI stands for: the key that is equal
    /// to it byte for byte, else the first template that matches. The template with most literal
    /// bytes is asked first, and of two such the one whose name sorts first.
    ///
    /// `None` is a refusal: no key matches, or the URI could be read in two ways.
    pub fn find(&self, uri: &str) -> Option<&Arc<str>> {
        if let Some(operation) = self.exact.get(uri) {
            return Some(operation);
        }
        if self.patterns.is_empty() {
            return None;
        }
        let uri = Uri::read(uri)?;
        if self.decoded.contains(uri.decoded()) {
            return None;
        }
        let mut patterns = self.patterns.iter();
        patterns
            .find(|(pattern, _)| pattern.matches(&uri))
            .map(|(_, operation)| operation)
    }
}

/// Checks one key of `resources` alone.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(key: &str) -> Result<(), Flaw> {
    Templates::default().add(key)
}

fn exact(key: &str) -> Result<(), Flaw> {
    if key.chars().any(char::is_control) {
        return Err(Flaw::Never);
    }
    scheme(key)
}

#[cfg(test)]
mod tests;
