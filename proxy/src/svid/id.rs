//! SPIFFE IDs: `spiffe://trust-domain/path` (SPIFFE-ID §2).

use std::{fmt, sync::Arc};

use serde::Deserialize;

const SCHEME: &str = "spiffe://";
const LONGEST: usize = 2048;
const LONGEST_DOMAIN: usize = 255;

/// The ID of a workload: a trust domain and a path.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SpiffeId {
    text: Arc<str>,
    domain: usize,
}

/// A text that is no SPIFFE ID of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected a SPIFFE ID with a path, such as `spiffe://example.org/agent/triage`")]
pub struct BadSpiffeId;

impl SpiffeId {
    /// Reads an ID; one without a path names no workload and is refused.
    ///
    /// # Errors
    /// [`BadSpiffeId`].
    pub fn parse(text: &str) -> Result<Self, BadSpiffeId> {
        let rest = text.strip_prefix(SCHEME).ok_or(BadSpiffeId)?;
        let (domain, path) = rest.split_once('/').ok_or(BadSpiffeId)?;
        let fits = text.len() <= LONGEST && is_domain(domain) && path.split('/').all(is_segment);
        if fits {
            Ok(Self {
                text: text.into(),
                domain: SCHEME.len() + domain.len(),
            })
        } else {
            Err(BadSpiffeId)
        }
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole ID, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Its trust domain, `example.org`.
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.domain).unwrap_or("")
    }
}

/// The trust domain that a text names: `spiffe://example.org` or `example.org`.
pub fn trust_domain(text: &str) -> Option<&str> {
    let domain = text.strip_prefix(SCHEME).unwrap_or(text);
    is_domain(domain).then_some(domain)
}

fn is_domain(domain: &str) -> bool {
    let known =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    !domain.is_empty() && domain.len() <= LONGEST_DOMAIN && domain.bytes().all(known)
}

fn is_segment(segment: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(known)
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = BadSpiffeId;

    fn try_from(text: String) -> Result<Self, BadSpiffeId> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        let id = SpiffeId::parse("spiffe://example.org/agent/Tri_age-1.2").unwrap();
        assert_eq!(id.trust_domain(), "example.org");
        assert_eq!(id.as_str(), "spiffe://example.org/agent/Tri_age-1.2");
    }

    #[test]
    fn what_is_no_id_of_a_workload_is_refused() {
        let long_domain = format!("spiffe://{}/a", "d".repeat(256));
        let long = format!("spiffe://example.org/{}", "a".repeat(2048));
        for text in [
            "",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/a/../b",
            "spiffe://example.org/./b",
            "spiffe:///a",
            "spiffe://Example.org/a",
            "spiffe://example.org:8080/a",
            "spiffe://user@example.org/a",
            "spiffe://ex%41mple.org/a",
            "spiffe://example.org/%61",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/a b",
            "SPIFFE://example.org/a",
            "https://example.org/a",
            &long_domain,
            &long,
        ] {
            assert_eq!(SpiffeId::parse(text), Err(BadSpiffeId), "{text}");
        }
    }
}
