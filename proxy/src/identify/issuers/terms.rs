//! The claims of a task token, verified, as the terms of a task (RFC 7519, RFC 8693 §4.1).

use std::{sync::Arc, time::Duration};

use outrider_policy::{Level, Pattern};
use serde_json::Value;

use crate::{
    jose::{BadToken, Claims, PublicKey, SKEW},
    task::Terms,
};

/// What a `task` may say. What it says beyond that might narrow it, so it is not ignored.
const MEMBERS: [&str; 6] = [
    "id",
    "intent",
    "tools",
    "max_classification",
    "budget",
    "parent",
];

/// The most actors that are looked at, whatever is configured.
const MOST_ACTORS: usize = 17;

/// What the claims of this issuer's token, signed by that key, grant. Their times are the caller's
/// to ask for.
pub(super) fn read(claims: &Claims, issuer: &Arc<str>, key: &PublicKey) -> Result<Terms, BadToken> {
    let task = claims.object("task")?;
    if !task.names().all(|name| MEMBERS.contains(&name)) {
        return Err(BadToken::BadClaim("task"));
    }
    let expires = claims.time("exp")?.checked_add(SKEW);
    Ok(Terms {
        id: task.text("id")?.into(),
        token_id: claims.text("jti")?.into(),
        issuer: Arc::clone(issuer),
        key: key.kid().unwrap_or(key.thumbprint()).into(),
        subject: claims.text("sub")?.into(),
        actors: actors(claims)?,
        intent: task.text("intent")?.into(),
        tools: task.get("tools").map(tools).transpose()?,
        max_classification: task.get("max_classification").map(level).transpose()?,
        budget: task.get("budget").map(budget).transpose()?,
        opened: claims.time("iat")?,
        expires: expires.map_err(|_| BadToken::BadClaim("exp"))?,
        parent: task.optional_text("parent")?.map(Into::into),
        opened_by: Arc::clone(issuer),
    })
}

/// From `iat` to `exp`, as the token has it.
pub(super) fn length(terms: &Terms) -> Duration {
    let whole = Duration::try_from(terms.expires.duration_since(terms.opened));
    whole.unwrap_or_default().saturating_sub(SKEW)
}

/// The chain of `act`, the outermost first.
fn actors(claims: &Claims) -> Result<Vec<Arc<str>>, BadToken> {
    let bad = BadToken::BadClaim("act");
    let mut actors = Vec::new();
    let mut next = Some(claims.object("act").map_err(|_| bad)?);
    while let Some(actor) = next {
        if actors.len() == MOST_ACTORS {
            return Err(bad);
        }
        actors.push(actor.text("sub").map_err(|_| bad)?.into());
        next = match actor.get("act") {
            None => None,
            Some(_) => Some(actor.object("act").map_err(|_| bad)?),
        };
    }
    Ok(actors)
}

/// An empty list permits nothing, and is not the same as none.
fn tools(tools: &Value) -> Result<Vec<Pattern>, BadToken> {
    let bad = BadToken::BadClaim("tools");
    let pattern = |tool: &Value| {
        let text = tool.as_str().ok_or(bad)?;
        Pattern::try_from(text.to_owned()).map_err(|_| bad)
    };
    let tools = tools.as_array().ok_or(bad)?;
    tools.iter().map(pattern).collect()
}

fn level(level: &Value) -> Result<Level, BadToken> {
    let level = level.as_str().and_then(|word| word.parse().ok());
    level.ok_or(BadToken::BadClaim("max_classification"))
}

fn budget(budget: &Value) -> Result<u64, BadToken> {
    let bad = BadToken::BadClaim("budget");
    let budget = budget.as_object().ok_or(bad)?;
    if budget.len() != 1 {
        return Err(bad);
    }
    budget.get("calls").and_then(Value::as_u64).ok_or(bad)
}
