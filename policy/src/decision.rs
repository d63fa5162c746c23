//! The answer: a verdict and the evidence for it.

use std::fmt;
use std::sync::Arc;

use regorus::Value;

use crate::value::{object, shared};

/// What the policy says about one call.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Allow, deny or hold.
    pub verdict: Verdict,
    /// Everything that speaks against the call, what gives the code first; empty for an allowed one.
    pub reasons: Vec<Reason>,
    /// The rule that decided: `grant:ID`, `allow`, `exception:ID`, `guard:scope`, `deny:REASON`, `approve:REASON`, `none`.
    pub rule: Arc<str>,
    /// The exception that permits the call, if one was needed.
    pub exception: Option<ExceptionUse>,
    /// JSON Pointers (RFC 6901) into the call of what the record must not show.
    pub redact: Vec<String>,
    /// Guards and grants (or `allow`) would permit the tool: violations of its schema may be shown to this caller.
    pub reachable: bool,
    /// What the library answered, for the record.
    pub answer: Answer,
}

/// What the library answered, or would have.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The usual call is permitted by the grant that [`Decision::rule`] names: nothing else is to be said, and the
    /// library was not asked.
    Granted,
    /// What the entry point returned; [`Value::Undefined`] after an error.
    Returned(Value),
}

/// Allow, deny or hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The call may be made.
    Allow,
    /// It may not.
    Deny(Refusal),
    /// A person is to decide.
    Hold(Approval),
}

/// Who may approve, and for how long that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Those any one of whom may approve; never empty. With several `approve` rules, those that all of them name.
    pub approvers: Vec<String>,
    /// The shortest duration given, as written, such as `15m`.
    pub ttl: Option<String>,
}

/// An exception that permits a call; a use of it is spent when the call is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionUse {
    /// Its ID.
    pub id: Arc<str>,
    /// How many calls it may permit.
    pub max_uses: Option<u64>,
}

/// One thing that speaks against a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Its identifier, `[a-z0-9_]{1,64}`.
    pub reason: Arc<str>,
    /// For the record.
    pub message: Arc<str>,
    /// For the agent.
    pub public: Option<Arc<str>>,
}

/// Why a call is denied: the codes a policy can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The agent is not in the inventory.
    AgentUnknown,
    /// Its entry is past its expiry, or has no owner or no purpose.
    AgentExpired,
    /// It is suspended or revoked.
    AgentRevoked,
    /// The task is in no state that can be used.
    TaskInvalid,
    /// The task's time is over.
    TaskExpired,
    /// The task was revoked or closed.
    TaskRevoked,
    /// The task is suspended.
    TaskSuspended,
    /// The tool is outside the task's scope, or the delegation is widened.
    ScopeExceeded,
    /// The content is classified above what task, intent or grant reach.
    ClassificationExceeded,
    /// The intent does not declare the tool, nobody grants it, or a rule denies it.
    PolicyDenied,
    /// The policy failed: an error, a time-out, an undefined or malformed result.
    PolicyError,
}

impl Refusal {
    const CODES: [(Self, &'static str); 11] = [
        (Self::AgentUnknown, "agent_unknown"),
        (Self::AgentExpired, "agent_expired"),
        (Self::AgentRevoked, "agent_revoked"),
        (Self::TaskInvalid, "task_invalid"),
        (Self::TaskExpired, "task_expired"),
        (Self::TaskRevoked, "task_revoked"),
        (Self::TaskSuspended, "task_suspended"),
        (Self::ScopeExceeded, "scope_exceeded"),
        (Self::ClassificationExceeded, "classification_exceeded"),
        (Self::PolicyDenied, "policy_denied"),
        (Self::PolicyError, "policy_error"),
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        Self::CODES
            .iter()
            .find(|(refusal, _)| *refusal == self)
            .map_or("policy_error", |(_, code)| code)
    }

    pub(crate) fn from_code(code: &str) -> Option<Self> {
        Self::CODES
            .iter()
            .find(|(_, known)| *known == code)
            .map(|(refusal, _)| *refusal)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}

impl Decision {
    /// The decision when there is none: the policy failed, and why.
    pub(crate) fn failed(message: &str, result: Value) -> Self {
        Self {
            verdict: Verdict::Deny(Refusal::PolicyError),
            reasons: vec![Reason {
                reason: Arc::from("policy_error"),
                message: Arc::from(message),
                public: None,
            }],
            rule: Arc::from("none"),
            exception: None,
            redact: Vec::new(),
            reachable: false,
            answer: Answer::Returned(result),
        }
    }

    /// What the library answers when the usual call is permitted by a grant.
    pub(crate) fn granted(grant: &str) -> Self {
        Self {
            verdict: Verdict::Allow,
            reasons: Vec::new(),
            rule: format!("grant:{grant}").into(),
            exception: None,
            redact: Vec::new(),
            reachable: true,
            answer: Answer::Granted,
        }
    }

    /// The answer as a value.
    pub fn result(&self) -> Value {
        match &self.answer {
            Answer::Returned(result) => result.clone(),
            Answer::Granted => object([
                ("allow", Value::from(true)),
                ("approvals", Value::new_set()),
                ("code", Value::from("ok")),
                ("exception", Value::from("")),
                ("failures", Value::new_set()),
                ("reachable", Value::from(true)),
                ("redact", Value::new_set()),
                ("rule", shared(&self.rule)),
            ]),
        }
    }

    /// Whether the call may be made now.
    pub fn allows(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}
