//! What follows from an event: the operator's map over safe defaults (CAEP 1.0 §3).
//!
//! A signal only informs; what is done about it is the receiver's own policy, and this is it.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::set::moved;

/// What URIs of CAEP events begin with.
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";

/// What URIs of a stream's own events begin with.
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// The longest reason that is kept, in bytes.
const LONGEST_REASON: usize = 256;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// What was issued up to the event is revoked.
    Revoke,
    /// What is issued later is revoked as well, until it is lifted.
    RevokeAll,
    /// It is noted.
    Ignore,
}

use Act::{Ignore, Revoke};

/// An event that has a meaning: its name, the member that tells its variants apart, those variants
/// with what is usually done, and the variant of an event that has no such member.
struct Known {
    name: &'static str,
    member: &'static str,
    variants: &'static [(&'static str, Act)],
    silent: Option<&'static str>,
}

/// Events without variants have the one that is empty.
const PLAIN: &[(&str, Act)] = &[("", Revoke)];

const KNOWN: [Known; 5] = [
    Known {
        name: "session-revoked",
        member: "",
        variants: PLAIN,
        silent: Some(""),
    },
    Known {
        name: "token-claims-change",
        member: "",
        variants: PLAIN,
        silent: Some(""),
    },
    Known {
        name: "credential-change",
        member: "change_type",
        variants: &[
            ("revoke", Revoke),
            ("delete", Revoke),
            ("create", Ignore),
            ("update", Ignore),
        ],
        silent: None,
    },
    Known {
        name: "assurance-level-change",
        member: "change_direction",
        variants: &[("decrease", Revoke), ("increase", Ignore)],
        // Levels are words that cannot be compared: a change that does not say is taken for the worse.
        silent: Some("decrease"),
    },
    Known {
        name: "risk-level-change",
        member: "current_level",
        variants: &[("HIGH", Revoke), ("MEDIUM", Ignore), ("LOW", Ignore)],
        silent: None,
    },
];

impl Known {
    /// The one of that name, in full or short.
    fn named(name: &str) -> Option<&'static Self> {
        let short = name.strip_prefix(CAEP).unwrap_or(name);
        KNOWN.iter().find(|known| known.name == short)
    }
}

/// `map` of a transmitter: what is done about events, by `EVENT`, `EVENT/VARIANT` or full URI.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, Act>")]
pub struct Meanings(BTreeMap<String, Act>);

/// A map that names what there is not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is no event: expected one such as `session-revoked`, `credential-change/update`, `risk-level-change/MEDIUM`, or the URI of a further type"
)]
pub struct UnknownEvent(String);

impl TryFrom<BTreeMap<String, Act>> for Meanings {
    type Error = UnknownEvent;

    fn try_from(given: BTreeMap<String, Act>) -> Result<Self, UnknownEvent> {
        let mut all = BTreeMap::new();
        for (name, act) in given {
            for (key, weight) in keys(&name).ok_or_else(|| UnknownEvent(name.clone()))? {
                // The particular counts for more than the general, however both are written.
                let kept = all.entry(key).or_insert((weight, act));
                if weight >= kept.0 {
                    *kept = (weight, act);
                }
            }
        }
        let all = all.into_iter().map(|(key, (_, act))| (key, act)).collect();
        Ok(Self(all))
    }
}

/// What a name of the map stands for, and how particular it is.
fn keys(name: &str) -> Option<Vec<(String, u8)>> {
    let short = name.strip_prefix(CAEP).unwrap_or(name);
    let (event, variant) = match short.split_once('/') {
        Some((event, variant)) => (event, Some(variant)),
        None => (short, None),
    };
    let Some(known) = Known::named(event) else {
        let further = name.contains("://") && !name.starts_with(SSF) && !name.starts_with(CAEP);
        return further.then(|| vec![(name.to_owned(), 0)]);
    };
    let mut words = known.variants.iter().map(|(word, _)| *word);
    match variant {
        None => Some(words.map(|word| (key(known, word), 0)).collect()),
        Some(variant) => {
            let there = !variant.is_empty() && words.any(|word| word == variant);
            there.then(|| vec![(key(known, variant), 1)])
        }
    }
}

fn key(known: &Known, variant: &str) -> String {
    format!("{}/{variant}", known.name)
}

/// An event that is not as its type should be. The texts repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadEvent {
    /// What tells its variants apart is missing or unknown.
    #[error("the event's `{0}` is missing or not one that is known")]
    Variant(&'static str),
    /// Its time is none.
    #[error("the event's `event_timestamp` is no number of seconds")]
    Time,
}

/// An event, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// For metrics: its short name, `verification`, `stream-updated` or `other`.
    pub label: &'static str,
    /// For the log: its short name and variant, or its URI.
    pub name: String,
    /// What is done.
    pub act: Act,
    /// When it happened, at the latest.
    pub at: Timestamp,
    /// What was said about why.
    pub reason: Option<String>,
}

impl Meanings {
    /// Understands an event of a token of that time.
    ///
    /// # Errors
    /// [`BadEvent`].
    pub fn understand(
        &self,
        uri: &str,
        event: &Map<String, Value>,
        issued: Timestamp,
    ) -> Result<Event, BadEvent> {
        let (label, name, act) = match (Known::named(uri), uri.strip_prefix(SSF)) {
            (Some(known), _) if uri.starts_with(CAEP) => {
                let &(variant, usual) = known.variant(event)?;
                let act = self.0.get(&key(known, variant)).copied();
                let name = match variant {
                    "" => known.name.to_owned(),
                    variant => key(known, variant),
                };
                (known.name, name, act.unwrap_or(usual))
            }
            (_, Some("verification")) => ("verification", "verification".into(), Ignore),
            (_, Some("stream-updated")) => ("stream-updated", "stream-updated".into(), Ignore),
            _ => {
                let act = self.0.get(uri).copied().unwrap_or(Ignore);
                ("other", plain(uri).to_owned(), act)
            }
        };
        Ok(Event {
            label,
            name,
            act,
            at: happened(event)?.unwrap_or_else(|| whole_second(issued)),
            reason: reason(event),
        })
    }
}

impl Known {
    fn variant(
        &self,
        event: &Map<String, Value>,
    ) -> Result<&'static (&'static str, Act), BadEvent> {
        let bad = BadEvent::Variant(self.member);
        let word = match event.get(self.member).filter(|_| !self.member.is_empty()) {
            Some(word) => word.as_str().ok_or(bad)?,
            None => self.silent.ok_or(bad)?,
        };
        let mut variants = self.variants.iter();
        variants.find(|(variant, _)| *variant == word).ok_or(bad)
    }
}

/// The end of the second in which it happened: what was issued within it was issued before.
fn happened(event: &Map<String, Value>) -> Result<Option<Timestamp>, BadEvent> {
    let Some(claim) = event.get("event_timestamp") else {
        return Ok(None);
    };
    let seconds = claim.as_f64().filter(|seconds| *seconds >= 0.0);
    let second = seconds.ok_or(BadEvent::Time)?.floor();
    // What is beyond all times is later than now, and that is all it is taken for.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of a float saturates"
    )]
    let time = Timestamp::from_second(second as i64).unwrap_or(Timestamp::MAX);
    Ok(Some(whole_second(time)))
}

fn whole_second(time: Timestamp) -> Timestamp {
    moved(time, Duration::new(0, 999_999_999))
}

/// What the transmitter's administrator is told, in English where it is there.
fn reason(event: &Map<String, Value>) -> Option<String> {
    let text = match event.get("reason_admin")? {
        Value::String(text) => text,
        Value::Object(texts) => texts
            .get("en")
            .or_else(|| texts.values().next())
            .and_then(Value::as_str)?,
        _ => return None,
    };
    Some(plain(text).to_owned()).filter(|text| !text.is_empty())
}

/// As much of a text as may stand in a log.
fn plain(text: &str) -> &str {
    let end = text.find(char::is_control).unwrap_or(text.len());
    let end = text.floor_char_boundary(end.min(LONGEST_REASON));
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
