//! What a token may be used for, in the words of its server: a list of words, narrowed to the tool.

use std::{fmt::Write as _, sync::Arc};

use crate::call::ToolId;

/// `scope`: words with a space between; `{service}`, `{operation}` and `{tool}` stand for those of
/// the call.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Scope {
    text: Arc<str>,
    /// Some word names the call's tool.
    narrowed: bool,
}

/// Not a scope.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "expected words with one space between, such as `read tools:{{tool}}`; `{{service}}`, `{{operation}}` and `{{tool}}` stand for those of the call"
)]
pub struct BadScope;

impl TryFrom<String> for Scope {
    type Error = BadScope;

    fn try_from(text: String) -> Result<Self, BadScope> {
        if text.is_empty() || !text.split(' ').all(good) {
            return Err(BadScope);
        }
        let narrowed = text.split(' ').any(names_tool);
        Ok(Self {
            text: text.into(),
            narrowed,
        })
    }
}

/// A word of a scope (RFC 6749 §3.3), whose braces hold only what we can fill in.
fn good(word: &str) -> bool {
    let bare = ["{service}", "{operation}", "{tool}"]
        .iter()
        .fold(word.to_owned(), |word, place| word.replace(place, "x"));
    !bare.is_empty() && is_word(&bare) && !bare.contains(['{', '}'])
}

/// Whether it is a word of a scope (RFC 6749 §3.3).
pub(super) fn is_word(word: &str) -> bool {
    let fits = |byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !word.is_empty() && word.bytes().all(fits)
}

fn names_tool(word: &str) -> bool {
    word.contains("{operation}") || word.contains("{tool}")
}

impl Scope {
    /// Whether it depends on the tool.
    pub fn is_narrowed(&self) -> bool {
        self.narrowed
    }

    /// The scope of a token for `service` and that tool. Words that name a tool are left out where
    /// there is none; nothing is left when that were all.
    pub fn of(&self, service: &str, tool: Option<&ToolId>) -> Option<Arc<str>> {
        if !self.text.contains('{') {
            return Some(Arc::clone(&self.text));
        }
        let words = self.text.split(' ');
        let words = words.filter(|word| tool.is_some() || !names_tool(word));
        let operation = tool.map_or_else(String::new, |tool| escaped(tool.operation()));
        let filled = words.map(|word| {
            word.replace("{service}", service)
                .replace("{operation}", &operation)
                .replace("{tool}", &format!("{service}/{operation}"))
        });
        let filled: Vec<String> = filled.collect();
        (!filled.is_empty()).then(|| filled.join(" ").into())
    }
}

/// Text so that it is one word and cannot be read as another: everything but letters, digits and
/// `-._~` as percent and hexadecimal (RFC 3986 §2.1).
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else if write!(out, "%{byte:02X}").is_err() {
            // A `String` takes everything.
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Result<Scope, BadScope> {
        Scope::try_from(text.to_owned())
    }

    fn of(text: &str, tool: Option<&str>) -> Option<String> {
        let tool = tool.map(|tool| ToolId::try_from(tool.to_owned()).unwrap());
        let scope = scope(text).unwrap().of("crm", tool.as_ref());
        scope.map(|scope| scope.to_string())
    }

    #[test]
    fn the_places_are_filled_with_the_calls_own_words() {
        let crm = Some("crm/lookup");
        assert_eq!(of("read", crm).unwrap(), "read");
        assert_eq!(of("a tools:{tool}", crm).unwrap(), "a tools:crm/lookup");
        assert_eq!(of("{service}:{operation}", crm).unwrap(), "crm:lookup");
    }

    #[test]
    fn no_operation_can_widen_a_scope_or_pass_for_another() {
        let scope = of("t:{tool}", Some("crm/a b/c\"%2F{tool}\u{e9}"));
        assert_eq!(scope.unwrap(), "t:crm/a%20b%2Fc%22%252F%7Btool%7D%C3%A9");
    }

    #[test]
    fn without_a_tool_the_words_that_name_one_are_left_out() {
        assert_eq!(of("mcp {service} t:{tool}", None).unwrap(), "mcp crm");
        assert_eq!(of("t:{tool} {operation}", None), None);
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in ["", " ", "a  b", "a b ", "a\"b", "{who}", "{", "a\\b", "é"] {
            assert_eq!(scope(text), Err(BadScope), "{text}");
        }
    }
}
