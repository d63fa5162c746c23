//! Tool patterns: `service/operation`, where `*` stands for any run of characters within its part.
//!
//! In the service part it stands for services of tools only: a language model is granted apart from tools, so the service
//! of one is always named in full.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ServiceKind;

/// A pattern of tool IDs, `service/operation`.
///
/// It splits at its first `/`, as a tool ID does. `*` matches any run of characters, also none, within the service part
/// or within the operation part; everything else stands for itself. An operation may contain further `/`. A `*` in the
/// service part stands for no service of [`ServiceKind::Model`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// The text is no tool pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no tool pattern, expected `service/operation` such as `tickets/*`")]
pub struct NotAPattern(String);

/// The longest pattern in bytes.
const LONGEST: usize = 1024;

impl Pattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names one tool and no other.
    pub fn is_literal(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether the tool ID, of a service of that kind, is one of those the pattern stands for. Linear in the length of
    /// both.
    pub fn matches(&self, tool_id: &str, kind: ServiceKind) -> bool {
        match (self.0.split_once('/'), tool_id.split_once('/')) {
            (Some((service, operation)), Some((tool_service, tool_operation))) => {
                service_matches(service, tool_service, kind)
                    && part_matches(operation, tool_operation)
            }
            _ => false,
        }
    }
}

/// A list of patterns in the order in which they were written, asked as quickly when it is long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    all: Vec<Pattern>,
    literal: HashSet<String>,
    wild: Vec<Pattern>,
}

impl Patterns {
    /// Whether one of them covers the tool of a service of that kind.
    pub fn cover(&self, tool_id: &str, kind: ServiceKind) -> bool {
        self.literal.contains(tool_id) || self.wild.iter().any(|wild| wild.matches(tool_id, kind))
    }

    /// Whether one of them stands for everything that the pattern `text` stands for. A `*` of `text`
    /// is only ever covered by another `*`.
    pub fn include(&self, text: &str) -> bool {
        self.cover(text, ServiceKind::Tool)
    }

    /// Each of them.
    pub fn all(&self) -> &[Pattern] {
        &self.all
    }
}

impl FromIterator<Pattern> for Patterns {
    fn from_iter<I: IntoIterator<Item = Pattern>>(patterns: I) -> Self {
        let all: Vec<Pattern> = patterns.into_iter().collect();
        let (literal, wild): (Vec<_>, Vec<_>) = all.iter().cloned().partition(Pattern::is_literal);
        Self {
            literal: literal.into_iter().map(String::from).collect(),
            wild,
            all,
        }
    }
}

fn service_matches(pattern: &str, service: &str, kind: ServiceKind) -> bool {
    match kind {
        ServiceKind::Tool => part_matches(pattern, service),
        ServiceKind::Model => pattern == service,
    }
}

/// Greedy from the left: the first place a piece fits leaves the most room for those after it.
fn part_matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
        match text.split_once(piece) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(tail)
}

impl TryFrom<String> for Pattern {
    type Error = NotAPattern;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parts = text.split_once('/');
        let whole = parts.is_some_and(|(service, operation)| {
            !operation.is_empty() && !service.is_empty() && service.chars().all(in_service)
        });
        if whole && text.len() <= LONGEST && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(NotAPattern(text.chars().take(80).collect()))
        }
    }
}

/// A service's name is `[a-z0-9][a-z0-9-]{0,62}`; anything else in this part could never match.
fn in_service(letter: char) -> bool {
    matches!(letter, 'a'..='z' | '0'..='9' | '-' | '*')
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_star_matches_within_its_part_only() {
        for (text, tool, expected) in [
            ("tickets/*", "tickets/read", true),
            ("tickets/*", "tickets-eu/read", false),
            ("tickets*/read", "tickets-eu/read", true),
            ("tickets*/read", "tickets-eu/a/read", false),
            ("*/read", "crm/read", true),
            ("*/read", "crm/x/read", false),
            ("docs/resource:*", "docs/resource:file:///a/b", true),
            ("docs/resource:*", "docs/prompt:x", false),
            ("crm/get*_by*_id", "crm/get_user_by_its_id", true),
            ("crm/a*a", "crm/a", false),
            ("crm/a*a", "crm/aa", true),
            ("crm/*b*b", "crm/ab", false),
            ("crm/a**b", "crm/ab", true),
            ("*/*", "x/y/z", true),
            ("crm/lookup", "crm/lookup", true),
            ("crm/lookup", "crm/lookups", false),
            ("crm/GET /a/{id}", "crm/GET /a/{id}", true),
            ("crm/[a]?", "crm/a", false),
        ] {
            assert_eq!(
                pattern(text).matches(tool, ServiceKind::Tool),
                expected,
                "{text} {tool}"
            );
        }
    }

    #[test]
    fn the_service_of_a_model_is_named_in_full() {
        for (text, expected) in [
            ("openai/POST", true),
            ("openai/*", true),
            ("openai/P*", true),
            ("*/*", false),
            ("*/POST", false),
            ("open*/POST", false),
            ("openai*/POST", false),
            ("**/*", false),
        ] {
            let patterns: Patterns = [pattern(text)].into_iter().collect();
            let covers = |kind| patterns.cover("openai/POST", kind);
            assert_eq!(covers(ServiceKind::Model), expected, "{text}");
            assert!(covers(ServiceKind::Tool), "{text}");
        }
    }

    #[test]
    fn patterns_include_what_reaches_no_further() {
        let patterns: Patterns = ["tickets/*", "crm/get_*", "crm/a*b", "docs/read"]
            .map(pattern)
            .into_iter()
            .collect();
        for (text, expected) in [
            ("tickets/*", true),
            ("tickets/get*", true),
            ("*/*", false),
            ("ticket*/x", false),
            ("crm/*", false),
            ("crm/get_one", true),
            ("crm/get_*_all", true),
            ("crm/get*", false),
            ("crm/a*c*b", true),
            ("crm/a*", false),
            ("docs/read", true),
            ("docs/rea*", false),
        ] {
            assert_eq!(patterns.include(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "*",
            "tickets",
            "/read",
            "tickets/",
            "Tickets/read",
            "a b/c",
            "a/b\n",
        ] {
            assert!(Pattern::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let text = format!("crm/{}", "*a".repeat(400));
        let tool = format!("crm/{}b", "a".repeat(100_000));
        assert!(!pattern(&text).matches(&tool, ServiceKind::Tool));
    }
}
