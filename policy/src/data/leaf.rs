//! Leaf types: they refuse a value where it stands, so that the reader of the file can say where.

use std::fmt;
use std::ops::Deref;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A non-empty word without control characters or space at its ends: an ID, an owner, a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a word of 1 to 512 characters without control characters or space at its ends")]
pub struct NotAName;

/// The name of an intent such as `ticket.triage`: a declared identifier, never free text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IntentName(String);

/// The text is no [`IntentName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an identifier such as `ticket.triage`: letters, digits, `.`, `_`, `-`, `:`, `/`, at most 128"
)]
pub struct NotAnIntent;

/// The text is no RFC 3339 timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time such as `2027-06-30T00:00:00Z`")]
pub struct NotATime;

impl TryFrom<String> for Name {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let sound = !text.is_empty()
            && text.chars().count() <= 512
            && text.trim() == text
            && !text.chars().any(char::is_control);
        sound.then_some(Self(text)).ok_or(NotAName)
    }
}

impl TryFrom<String> for IntentName {
    type Error = NotAnIntent;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let sound = text.len() <= 128
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "._-:/".contains(letter));
        sound.then_some(Self(text)).ok_or(NotAnIntent)
    }
}

macro_rules! reads_as_text {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    )*};
}

reads_as_text!(Name, IntentName);

/// An RFC 3339 time as a leaf.
#[derive(Clone, Copy)]
pub(super) struct When(Timestamp);

impl TryFrom<String> for When {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // RFC 3339 has neither the week dates nor the bracketed zones that the parser also knows.
        if text.contains('[') {
            return Err(NotATime);
        }
        text.parse().map(Self).map_err(|_| NotATime)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(reader)?).map_err(serde::de::Error::custom)
    }
}

/// `expires` of a document: absent, or an RFC 3339 time.
pub(super) mod optional_time {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp, When};

    #[expect(clippy::ref_option, reason = "the shape that serde asks for")]
    pub(in crate::data) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        writer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.to_string()).serialize(writer)
    }

    pub(in crate::data) fn deserialize<'de, D: Deserializer<'de>>(
        reader: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<When>::deserialize(reader)?.map(|When(time)| time))
    }
}

/// `expires` where it is required.
pub(super) mod time {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Timestamp, When};

    pub(in crate::data) fn serialize<S: Serializer>(
        time: &Timestamp,
        writer: S,
    ) -> Result<S::Ok, S::Error> {
        time.to_string().serialize(writer)
    }

    pub(in crate::data) fn deserialize<'de, D: Deserializer<'de>>(
        reader: D,
    ) -> Result<Timestamp, D::Error> {
        When::deserialize(reader).map(|When(time)| time)
    }
}
