//! Says to the upstream who calls, for whom, for what, and proves it with a signed assertion.
//!
//! Comes last, on headers from which `strip` has taken everything of ours; words that stay the same
//! from call to call come as ready values ([`Told`]).

use std::{path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

mod signer;

use crate::{
    headers::Told,
    jose,
    json::{Object, write_str},
    keys::Unsigned,
    task::Task,
    units::Period,
};
pub use signer::{Published, Signer};

/// Also on every answer to the agent.
pub const DECISION_ID: HeaderName = HeaderName::from_static("outrider-decision-id");
const AGENT: HeaderName = HeaderName::from_static("outrider-agent");
const SUBJECT: HeaderName = HeaderName::from_static("outrider-subject");
const TASK: HeaderName = HeaderName::from_static("outrider-task");
const INTENT: HeaderName = HeaderName::from_static("outrider-intent");
const TOOL: HeaderName = HeaderName::from_static("outrider-tool");
const CLASSIFICATION: HeaderName = HeaderName::from_static("outrider-classification");
const ASSERTION: HeaderName = HeaderName::from_static("outrider-assertion");

/// The `typ` of an assertion's header.
const TYP: &str = "outrider-assertion+jwt";

/// No assertion lives longer.
const LONGEST: Duration = Duration::from_mins(1);

/// `services[].identity`: how much a service is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityLevel {
    /// Every header.
    #[default]
    Full,
    /// The decision ID and the assertion.
    Assertion,
    /// The decision ID.
    DecisionId,
    /// Nothing.
    None,
}

/// `assertion:`.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long an assertion is good for.
    pub ttl: Ttl,
    /// How it is signed.
    pub algorithm: Algorithm,
    /// The key file, PKCS#8 in PEM; without one a key is made at each start.
    pub key: Option<PathBuf>,
    /// How long a key that was replaced is still published.
    pub overlap: Overlap,
}

/// How long a key that was replaced is still published: at least as long as an assertion of its can
/// be good, give or take the skew of clocks; 10 minutes unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "Period")]
pub struct Overlap(Duration);

/// The time is too short for an overlap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected at least `90s`: an assertion may be that old when it is verified")]
pub struct BadOverlap;

impl Default for Overlap {
    fn default() -> Self {
        Self(Duration::from_mins(10))
    }
}

impl TryFrom<Period> for Overlap {
    type Error = BadOverlap;

    fn try_from(Period(overlap): Period) -> Result<Self, BadOverlap> {
        if overlap < LONGEST + jose::SKEW {
            Err(BadOverlap)
        } else {
            Ok(Self(overlap))
        }
    }
}

/// How long an assertion is good for: 1 to 60 whole seconds, 60 unless said otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Ttl(Duration);

/// The time is not one for an assertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected whole seconds from `1s` to `60s`")]
pub struct BadTtl;

impl Default for Ttl {
    fn default() -> Self {
        Self(LONGEST)
    }
}

impl TryFrom<String> for Ttl {
    type Error = BadTtl;

    fn try_from(text: String) -> Result<Self, BadTtl> {
        let ttl = match text.as_str() {
            "1m" => LONGEST,
            text => {
                let seconds = text.strip_suffix('s').ok_or(BadTtl)?;
                Duration::from_secs(seconds.parse().map_err(|_| BadTtl)?)
            }
        };
        if ttl.is_zero() || ttl > LONGEST {
            Err(BadTtl)
        } else {
            Ok(Self(ttl))
        }
    }
}

/// `assertion.algorithm`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Algorithm {
    /// Ed25519 (RFC 8037 §3.1).
    #[default]
    EdDsa,
    /// ECDSA over P-256 (RFC 7518 §3.4).
    Es256,
}

/// An algorithm that assertions are not signed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected `EdDSA` or `ES256`")]
pub struct BadAlgorithm;

impl TryFrom<String> for Algorithm {
    type Error = BadAlgorithm;

    fn try_from(name: String) -> Result<Self, BadAlgorithm> {
        match name.as_str() {
            "EdDSA" => Ok(Self::EdDsa),
            "ES256" => Ok(Self::Es256),
            _ => Err(BadAlgorithm),
        }
    }
}

impl From<Algorithm> for jose::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::EdDsa => Self::EdDsa,
            Algorithm::Es256 => Self::Es256,
        }
    }
}

/// What is said about one call.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The decision that permits the call.
    pub decision_id: &'a str,
    /// The task; a call without one has no subject, actor, task or intent to tell of.
    pub task: Option<&'a Task>,
    /// The tool's ID; none for a message that is no tool call.
    pub tool: Option<&'a Told>,
    /// The level of the data.
    pub classification: &'static str,
    /// The origin of the service that is to believe the assertion.
    pub audience: &'a str,
    /// The method as sent.
    pub method: &'a str,
    /// The full target URI as sent, query included.
    pub uri: &'a str,
    /// [`body_hash`] of the body as sent; `None` for a body that is streamed through.
    pub body_hash: Option<&'a [u8; 32]>,
    /// Now, in whole seconds since the epoch.
    pub now_s: i64,
}

/// SHA-256 of a body. Made once per call and shared with the record.
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = digest::digest(&digest::SHA256, body);
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}

/// Writes what `level` lets the service know.
///
/// # Errors
/// [`Unsigned`] when the assertion could not be made: the call must not be sent then.
pub fn write(
    level: IdentityLevel,
    facts: &Facts<'_>,
    signer: &Signer,
    headers: &mut HeaderMap,
) -> Result<(), Unsigned> {
    if level == IdentityLevel::None {
        return Ok(());
    }
    put_ready(
        headers,
        DECISION_ID,
        Bytes::copy_from_slice(facts.decision_id.as_bytes()),
    )?;
    if level == IdentityLevel::Full {
        say(facts, &signer.agent, headers)?;
    }
    if matches!(level, IdentityLevel::Full | IdentityLevel::Assertion) {
        let token = signer.sign(&claims(facts, signer))?;
        put_ready(headers, ASSERTION, token.into())?;
    }
    Ok(())
}

/// The headers that inform and prove nothing.
fn say(facts: &Facts<'_>, agent: &Told, headers: &mut HeaderMap) -> Result<(), Unsigned> {
    put(headers, AGENT, agent)?;
    if let Some(task) = facts.task {
        put(headers, SUBJECT, &task.told.subject)?;
        put(headers, TASK, &task.told.id)?;
        put(headers, INTENT, &task.told.intent)?;
    }
    match facts.tool {
        Some(tool) => put(headers, TOOL, tool)?,
        None => drop(headers.insert(TOOL, HeaderValue::from_static(""))),
    }
    let level = HeaderValue::from_static(facts.classification);
    headers.insert(CLASSIFICATION, level);
    Ok(())
}

/// Were a word ever not to be said, silence would be the worse answer.
fn put(headers: &mut HeaderMap, name: HeaderName, word: &Told) -> Result<(), Unsigned> {
    let value = word.value().ok_or(Unsigned)?;
    headers.insert(name, value.clone());
    Ok(())
}

/// Puts what is visible ASCII by its making.
fn put_ready(headers: &mut HeaderMap, name: HeaderName, value: Bytes) -> Result<(), Unsigned> {
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| Unsigned)?;
    headers.insert(name, value);
    Ok(())
}

/// The claims of one assertion, as compact JSON written by hand: no map, no second pass.
fn claims(facts: &Facts<'_>, signer: &Signer) -> Vec<u8> {
    let mut claims = Vec::with_capacity(768);
    let mut json = Object::begin(&mut claims);
    json.text("iss", signer.agent.as_str());
    json.text("aud", facts.audience);
    if let Some(task) = facts.task {
        json.text("sub", &task.subject);
        if !task.actors.is_empty() {
            json.with("act", |json| chain(&task.actors, json));
        }
        json.text("task", &task.id);
        json.text("intent", &task.intent);
    }
    json.text("txn", facts.decision_id);
    json.text("tool", facts.tool.map_or("", Told::as_str));
    json.text("cls", facts.classification);
    json.text("htm", facts.method);
    json.text("htu", facts.uri);
    if let Some(hash) = facts.body_hash {
        json.text("bsh", &URL_SAFE_NO_PAD.encode(hash));
    }
    json.integer("iat", facts.now_s);
    json.integer("exp", facts.now_s.saturating_add(signer.ttl));
    let mut jti = uuid::Uuid::encode_buffer();
    json.text(
        "jti",
        uuid::Uuid::now_v7().hyphenated().encode_lower(&mut jti),
    );
    json.end();
    claims
}

/// `act`, nested: the outermost is the nearest (RFC 8693 §4.1).
fn chain(actors: &[Arc<str>], json: &mut Vec<u8>) {
    for (depth, actor) in actors.iter().enumerate() {
        json.extend_from_slice(if depth == 0 {
            br#"{"sub":"#
        } else {
            br#","act":{"sub":"#
        });
        write_str(actor, json);
    }
    json.extend(actors.iter().map(|_| b'}'));
}

#[cfg(test)]
mod tests;
