//! Says to the upstream who calls, for whom, for what, and proves it with a signed assertion.
//!
//! Comes last, on headers from which `strip` has taken everything of ours; values go out
//! percent-encoded, so that no ID can end a line or begin another header.

use std::{path::PathBuf, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    json::{Object, write_str},
    keys::{SigningKey, Unsigned},
    task::Task,
};

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
}

/// An algorithm that assertions are not signed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadAlgorithm {
    /// It will be there some day.
    #[error("not built yet: `ES256`; expected `EdDSA`")]
    NotBuiltYet,
    /// It will not.
    #[error("expected `EdDSA`")]
    Unknown,
}

impl TryFrom<String> for Algorithm {
    type Error = BadAlgorithm;

    fn try_from(name: String) -> Result<Self, BadAlgorithm> {
        match name.as_str() {
            "EdDSA" => Ok(Self::EdDsa),
            "ES256" => Err(BadAlgorithm::NotBuiltYet),
            _ => Err(BadAlgorithm::Unknown),
        }
    }
}

/// What is said about one call.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The decision that permits the call.
    pub decision_id: &'a str,
    /// The agent's ID.
    pub agent: &'a str,
    /// The task; a call without one has no subject, actor, task or intent to tell of.
    pub task: Option<&'a Task>,
    /// The tool's ID.
    pub tool: &'a str,
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

/// Signs assertions with a kept key and a ready header.
#[derive(Debug)]
pub struct Signer {
    key: SigningKey,
    header: String,
    ttl: i64,
}

impl Signer {
    /// Keeps the key, which signs nothing but assertions.
    pub fn new(key: SigningKey, ttl: Ttl) -> Self {
        let ttl = i64::try_from(ttl.0.as_secs()).unwrap_or(1);
        Self {
            header: key.jose_header(TYP),
            key,
            ttl,
        }
    }

    /// The key, for publishing its public half.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }
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
    put(headers, DECISION_ID, facts.decision_id)?;
    if level == IdentityLevel::Full {
        say(facts, headers)?;
    }
    if matches!(level, IdentityLevel::Full | IdentityLevel::Assertion) {
        let token = signer
            .key
            .compact(&signer.header, &claims(facts, signer.ttl))?;
        put_ready(headers, ASSERTION, token)?;
    }
    Ok(())
}

/// The headers that inform and prove nothing.
fn say(facts: &Facts<'_>, headers: &mut HeaderMap) -> Result<(), Unsigned> {
    put(headers, AGENT, facts.agent)?;
    if let Some(task) = facts.task {
        put(headers, SUBJECT, &task.subject)?;
        put(headers, TASK, &task.id)?;
        put(headers, INTENT, &task.intent)?;
    }
    put(headers, TOOL, facts.tool)?;
    put(headers, CLASSIFICATION, facts.classification)
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), Unsigned> {
    put_ready(headers, name, percent_encode(value))
}

fn put_ready(headers: &mut HeaderMap, name: HeaderName, value: String) -> Result<(), Unsigned> {
    // What comes here is visible ASCII; were it ever not, silence would be the worse answer.
    let value = HeaderValue::from_maybe_shared(Bytes::from(value)).map_err(|_| Unsigned)?;
    headers.insert(name, value);
    Ok(())
}

/// Encodes everything outside 0x21 to 0x7E, and `%` itself (RFC 3986 §2.1).
fn percent_encode(text: &str) -> String {
    let stays = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'%';
    if text.bytes().all(stays) {
        return text.to_owned();
    }
    let mut encoded = String::with_capacity(3 * text.len());
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
            let digits = [digit(byte >> 4), digit(byte & 15)];
            encoded.push('%');
            encoded.extend(digits.map(|digit| digit.to_ascii_uppercase()));
        }
    }
    encoded
}

/// The claims of one assertion, as compact JSON written by hand: no map, no second pass.
fn claims(facts: &Facts<'_>, ttl: i64) -> Vec<u8> {
    let mut claims = Vec::with_capacity(768);
    let mut json = Object::begin(&mut claims);
    json.text("iss", facts.agent);
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
    json.text("tool", facts.tool);
    json.text("cls", facts.classification);
    json.text("htm", facts.method);
    json.text("htu", facts.uri);
    if let Some(hash) = facts.body_hash {
        json.text("bsh", &URL_SAFE_NO_PAD.encode(hash));
    }
    json.integer("iat", facts.now_s);
    json.integer("exp", facts.now_s.saturating_add(ttl));
    let mut jti = uuid::Uuid::encode_buffer();
    json.text(
        "jti",
        uuid::Uuid::now_v7().hyphenated().encode_lower(&mut jti),
    );
    json.end();
    claims
}

/// `act`, nested: the outermost is the nearest (RFC 8693 §4.1).
fn chain(actors: &[std::sync::Arc<str>], json: &mut Vec<u8>) {
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
