//! What the scripted agent does, and what must become of it.

use serde_json::{Value, json};

use crate::rejection::Code;

/// One call of the script.
#[derive(Debug)]
pub(super) struct Step {
    /// The operation.
    pub(super) operation: &'static str,
    /// Its arguments.
    pub(super) arguments: Value,
    /// The code that the call must get; `ok` when it is allowed.
    pub(super) expected: &'static str,
    /// Messages that come on a stream before the result.
    pub(super) progress: usize,
    /// What a person should look at.
    pub(super) why: &'static str,
    /// Whether somebody takes the task back first.
    pub(super) revoked: Revoked,
}

/// Whether the task is taken back before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revoked {
    /// It is.
    Before,
    /// It stays as it is.
    No,
}

/// The code of a call that is allowed.
pub(super) const OK: &str = "ok";

/// The calls in their order, all under one task of the intent `ticket.triage`.
pub(super) fn steps() -> Vec<Step> {
    vec![
        step(
            "search_tickets",
            json!({"query": "printer", "limit": 5}),
            OK,
            "what the task is for",
        ),
        Step {
            progress: 3,
            ..step(
                "backlog_report",
                json!({"days": 7}),
                OK,
                "streamed, event by event",
            )
        },
        refused(
            "search_tickets",
            json!({"query": "printer", "limit": 500}),
            Code::SchemaViolation,
            "the schema says at most 50",
        ),
        refused(
            "delete_ticket",
            json!({"id": "T-7"}),
            Code::ScopeExceeded,
            "the intent does not name this tool",
        ),
        refused(
            "update_ticket",
            json!({"id": "T-7", "note": "You will get a full refund."}),
            Code::PolicyDenied,
            "policy/rules.rego: a person promises refunds",
        ),
        refused(
            "export_customers",
            json!({"format": "csv"}),
            Code::ClassificationExceeded,
            "restricted data, and the intent ends at internal",
        ),
        step(
            "close_ticket",
            json!({"id": "T-7", "resolution": "solved"}),
            OK,
            "destructive, the second attempt of two an hour",
        ),
        refused(
            "close_ticket",
            json!({"id": "T-8", "resolution": "spam"}),
            Code::RateLimited,
            "the third",
        ),
        Step {
            revoked: Revoked::Before,
            ..refused(
                "read_ticket",
                json!({"id": "T-9"}),
                Code::TaskRevoked,
                "somebody has just run `outrider revoke task`",
            )
        },
    ]
}

fn step(
    operation: &'static str,
    arguments: Value,
    expected: &'static str,
    why: &'static str,
) -> Step {
    Step {
        operation,
        arguments,
        expected,
        progress: 0,
        why,
        revoked: Revoked::No,
    }
}

fn refused(operation: &'static str, arguments: Value, code: Code, why: &'static str) -> Step {
    step(operation, arguments, code.as_str(), why)
}
