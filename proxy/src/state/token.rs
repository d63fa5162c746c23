//! The claims of a task token (RFC 7519, RFC 8693 §4.1).

use std::sync::Arc;

use outrider_policy::{Level, Pattern};
use serde::Serialize;

use crate::task::Terms;

/// The `typ` of a task token's header, compared exactly by whoever verifies one.
pub(super) const TYP: &str = "outrider-task+jwt";

/// For whom task tokens are meant (`aud`).
const AUDIENCE: &str = "outrider";

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Act<'a>>,
    jti: &'a str,
    iat: i64,
    exp: i64,
    task: TaskClaim<'a>,
}

#[derive(Serialize)]
struct Act<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Act<'a>>>,
}

#[derive(Serialize)]
struct TaskClaim<'a> {
    id: &'a str,
    intent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_classification: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a str>,
}

#[derive(Serialize)]
struct Budget {
    calls: u64,
}

/// The claims of a task as compact JSON.
pub(super) fn claims(terms: &Terms) -> String {
    let claims = Claims {
        iss: &terms.issuer,
        aud: AUDIENCE,
        sub: &terms.subject,
        act: act(&terms.actors),
        jti: &terms.token_id,
        iat: terms.opened.as_second(),
        exp: terms.expires.as_second(),
        task: TaskClaim {
            id: &terms.id,
            intent: &terms.intent,
            tools: terms
                .tools
                .as_ref()
                .map(|t| t.iter().map(Pattern::as_str).collect()),
            max_classification: terms.max_classification.map(Level::as_str),
            budget: terms.budget.map(|calls| Budget { calls }),
            parent: terms.parent.as_deref(),
        },
    };
    // Strings, numbers and structs cannot fail to serialise; an empty text would only ever make
    // a token that says nothing.
    serde_json::to_string(&claims).unwrap_or_default()
}

/// The chain of actors, the nearest outermost.
fn act(actors: &[Arc<str>]) -> Option<Act<'_>> {
    let (nearest, earlier) = actors.split_first()?;
    Some(Act {
        sub: nearest,
        act: act(earlier).map(Box::new),
    })
}
