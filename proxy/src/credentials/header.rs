//! The header that carries a credential.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::headers::{is_ours, loosely};

/// A header into which a credential may be put.
#[derive(Clone, PartialEq, Eq, Hash, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Name(HeaderName);

/// The header may not carry a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "expected a header that is neither `outrider-…`, `host`, `content-length` nor hop-by-hop, \
     such as `authorization`"
)]
pub struct BadHeader;

impl Default for Name {
    fn default() -> Self {
        Self(header::AUTHORIZATION)
    }
}

impl TryFrom<String> for Name {
    type Error = BadHeader;

    fn try_from(name: String) -> Result<Self, BadHeader> {
        const TAKEN: [HeaderName; 9] = [
            header::HOST,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::TE,
            header::TRAILER,
            header::UPGRADE,
            header::EXPECT,
        ];
        let name = HeaderName::try_from(name).map_err(|_| BadHeader)?;
        let taken = |word: &str| loosely(name.as_str(), word);
        let hop = ["keep-alive", "proxy-connection", "http2-settings"]
            .into_iter()
            .any(taken);
        if is_ours(&name) || hop || TAKEN.iter().any(|word| taken(word.as_str())) {
            return Err(BadHeader);
        }
        Ok(Self(name))
    }
}

impl Name {
    /// The header itself.
    pub fn get(&self) -> &HeaderName {
        &self.0
    }

    /// Takes out everything that an upstream might read as this header.
    pub(super) fn clear(&self, headers: &mut HeaderMap) {
        let dashed = self.0.as_str().replace('_', "-");
        let same = |name: &&HeaderName| loosely(name.as_str(), &dashed);
        let rivals: Vec<HeaderName> = headers.keys().filter(same).cloned().collect();
        for rival in rivals {
            headers.remove(rival);
        }
    }

    /// Puts a secret into the request, in place of anything else of this name.
    pub(super) fn inject(&self, value: HeaderValue, headers: &mut HeaderMap) {
        self.clear(headers);
        headers.insert(self.0.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_is_not_the_services_to_give_is_refused() {
        for header in [
            "outrider-agent",
            "Outrider_Agent",
            "Host",
            "content-length",
            "content_length",
            "connection",
            "transfer-encoding",
            "te",
            "upgrade",
            "proxy-connection",
            "a b",
            "",
        ] {
            assert!(Name::try_from(header.to_owned()).is_err(), "{header}");
        }
        assert!(Name::try_from("Authorization".to_owned()).is_ok());
    }

    #[test]
    fn a_secret_replaces_every_rival() {
        let mut headers = HeaderMap::new();
        headers.append("x-api-key", HeaderValue::from_static("agent"));
        headers.append("x_api_key", HeaderValue::from_static("agent"));
        let name = Name::try_from("X-Api-Key".to_owned()).unwrap();
        name.inject(HeaderValue::from_static("ours"), &mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-api-key"], "ours");
    }
}
