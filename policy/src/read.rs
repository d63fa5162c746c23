//! The value the library returns, read into a [`Decision`].
//!
//! Anything but the exact shape is a refusal: undefined, a boolean that is not one, a `deny` without its reason.

use std::collections::BTreeSet;
use std::sync::Arc;

use regorus::Value;

use crate::decision::{Answer, Approval, Decision, ExceptionUse, Reason, Refusal, Verdict};
use crate::value::member;

/// What is wrong with a result.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error("the policy's result is undefined")]
    Undefined,
    #[error("the policy's result has no proper `{0}`")]
    Member(&'static str),
    #[error("a `deny` is not an object with a reason of `[a-z0-9_]{{1,64}}` and a message")]
    Denial,
    #[error("an `approve` is not an object with a reason and a non-empty list of approvers")]
    Approval,
    #[error("the policy's result contradicts itself")]
    Contradiction,
}

/// The exceptions of the data, for the uses of the one that is named.
pub(crate) fn decision(result: Value, exceptions: Option<&Value>) -> Decision {
    match read(&result, exceptions) {
        Ok(decision) => Decision {
            answer: Answer::Returned(result),
            ..decision
        },
        Err(malformed) => Decision::failed(&malformed.to_string(), result),
    }
}

fn read(result: &Value, exceptions: Option<&Value>) -> Result<Decision, Malformed> {
    if matches!(result, Value::Undefined) {
        return Err(Malformed::Undefined);
    }
    let denials = denials(result)?;
    let approvals = elements(result, "approvals")?;
    let allow = boolean(result, "allow")?;
    let code = text(result, "code").ok_or(Malformed::Member("code"))?;
    let rule = text(result, "rule").ok_or(Malformed::Member("rule"))?;
    let decided = match (allow, &*code, denials.first(), approvals.is_empty()) {
        (true, "ok", None, true) => Decided::new(Verdict::Allow, rule, Vec::new()),
        (false, "approval_required", None, false) => hold(&approvals)?,
        (false, code, Some(first), _) if code == first.refusal.code() => Decided::new(
            Verdict::Deny(first.refusal),
            Arc::clone(&first.rule),
            denials.into_iter().map(|denial| denial.reason).collect(),
        ),
        _ => return Err(Malformed::Contradiction),
    };
    Ok(Decision {
        verdict: decided.verdict,
        reasons: decided.reasons,
        rule: decided.rule,
        exception: exception(result, exceptions)?,
        redact: redactions(result)?,
        reachable: boolean(result, "reachable")?,
        answer: Answer::Returned(Value::Undefined),
    })
}

struct Decided {
    verdict: Verdict,
    rule: Arc<str>,
    reasons: Vec<Reason>,
}

impl Decided {
    fn new(verdict: Verdict, rule: Arc<str>, reasons: Vec<Reason>) -> Self {
        Self {
            verdict,
            rule,
            reasons,
        }
    }
}

struct Denial {
    refusal: Refusal,
    rule: Arc<str>,
    reason: Reason,
}

/// The failures in the order of their precedence: the set is sorted by the number in front.
fn denials(result: &Value) -> Result<Vec<Denial>, Malformed> {
    elements(result, "failures")?
        .iter()
        .map(|failure| {
            let failure = match failure {
                Value::Array(pair) => pair.get(1).ok_or(Malformed::Member("failures"))?,
                _ => return Err(Malformed::Member("failures")),
            };
            denial(failure)
        })
        .collect()
}

fn denial(failure: &Value) -> Result<Denial, Malformed> {
    let refusal = text(failure, "code")
        .and_then(|code| Refusal::from_code(&code))
        .ok_or(Malformed::Member("failures"))?;
    let rule = text(failure, "rule").ok_or(Malformed::Member("failures"))?;
    let Some(denied) = member(failure, "denied") else {
        let reason = reason(failure).ok_or(Malformed::Member("failures"))?;
        return Ok(Denial {
            refusal,
            rule,
            reason,
        });
    };
    let reason = reason(denied).ok_or(Malformed::Denial)?;
    Ok(Denial {
        refusal,
        rule: format!("{rule}:{}", reason.reason).into(),
        reason,
    })
}

fn reason(value: &Value) -> Option<Reason> {
    let reason = text(value, "reason").filter(|reason| is_identifier(reason))?;
    let public = match member(value, "public") {
        None => None,
        Some(Value::String(text)) => Some(Arc::clone(text)),
        Some(_) => return None,
    };
    Some(Reason {
        reason,
        message: text(value, "message")?,
        public,
    })
}

/// `[a-z0-9_]{1,64}`.
pub(crate) fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn hold(approvals: &[&Value]) -> Result<Decided, Malformed> {
    let mut reasons = Vec::new();
    let mut common: Option<BTreeSet<String>> = None;
    let mut shortest: Option<(u64, String)> = None;
    for approval in approvals {
        let asked = asked(approval).ok_or(Malformed::Approval)?;
        reasons.push(asked.reason);
        common = Some(match common {
            None => asked.approvers,
            Some(common) => common.intersection(&asked.approvers).cloned().collect(),
        });
        shortest = shortest.into_iter().chain(asked.ttl).min();
    }
    let approvers: Vec<String> = common.unwrap_or_default().into_iter().collect();
    let first = reasons.first().ok_or(Malformed::Approval)?;
    if approvers.is_empty() {
        // Nobody can speak for all the rules that hold the call.
        return Ok(Decided::new(
            Verdict::Deny(Refusal::PolicyDenied),
            Arc::from("approve"),
            reasons,
        ));
    }
    let rule = format!("approve:{}", first.reason).into();
    let ttl = shortest.map(|(_, written)| written);
    Ok(Decided::new(
        Verdict::Hold(Approval { approvers, ttl }),
        rule,
        reasons,
    ))
}

struct Asked {
    reason: Reason,
    approvers: BTreeSet<String>,
    /// In milliseconds, and as written.
    ttl: Option<(u64, String)>,
}

fn asked(approval: &Value) -> Option<Asked> {
    let message = text(approval, "message").unwrap_or_else(|| Arc::from("a person is to decide"));
    let reason = Reason {
        reason: text(approval, "reason").filter(|reason| is_identifier(reason))?,
        message,
        public: text(approval, "public"),
    };
    let approvers: BTreeSet<String> = items(member(approval, "approvers")?)?
        .into_iter()
        .map(|approver| match approver {
            Value::String(name) if !name.is_empty() => Some(name.to_string()),
            _ => None,
        })
        .collect::<Option<_>>()?;
    if approvers.is_empty() {
        return None;
    }
    let ttl = match member(approval, "ttl") {
        None => None,
        Some(Value::String(written)) => Some((milliseconds(written)?, written.to_string())),
        Some(_) => return None,
    };
    Some(Asked {
        reason,
        approvers,
        ttl,
    })
}

/// A duration such as `250ms`, `30s`, `15m`, `2h`, `1d`.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(factor)
}

fn exception(
    result: &Value,
    exceptions: Option<&Value>,
) -> Result<Option<ExceptionUse>, Malformed> {
    let id = text(result, "exception").ok_or(Malformed::Member("exception"))?;
    if id.is_empty() {
        return Ok(None);
    }
    let granted = exceptions
        .and_then(|all| member(all, &id))
        .ok_or(Malformed::Member("exception"))?;
    let max_uses = match (member(granted, "limited"), member(granted, "max_uses")) {
        (Some(Value::Bool(false)), _) => None,
        (Some(Value::Bool(true)), Some(uses)) => {
            Some(uses.as_u64().map_err(|_| Malformed::Member("exception"))?)
        }
        _ => return Err(Malformed::Member("exception")),
    };
    Ok(Some(ExceptionUse { id, max_uses }))
}

fn redactions(result: &Value) -> Result<Vec<String>, Malformed> {
    elements(result, "redact")?
        .into_iter()
        .map(|pointer| match pointer {
            Value::String(pointer) if pointer.starts_with('/') => Ok(pointer.to_string()),
            _ => Err(Malformed::Member("redact")),
        })
        .collect()
}

fn boolean(result: &Value, key: &'static str) -> Result<bool, Malformed> {
    match member(result, key) {
        Some(Value::Bool(value)) => Ok(*value),
        _ => Err(Malformed::Member(key)),
    }
}

fn text(value: &Value, key: &str) -> Option<Arc<str>> {
    match member(value, key) {
        Some(Value::String(text)) => Some(Arc::clone(text)),
        _ => None,
    }
}

fn elements<'a>(result: &'a Value, key: &'static str) -> Result<Vec<&'a Value>, Malformed> {
    member(result, key)
        .and_then(items)
        .ok_or(Malformed::Member(key))
}

fn items(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Set(items) => Some(items.iter().collect()),
        Value::Array(items) => Some(items.iter().collect()),
        _ => None,
    }
}
