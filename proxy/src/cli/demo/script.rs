//! What the scripted agent does, and what must become of it.

use serde_json::{Value, json};

use crate::rejection::Code;

/// One call of the script.
#[derive(Debug)]
pub(super) struct Step {
    /// The tool's ID.
    pub(super) tool: &'static str,
    /// How it is called.
    pub(super) how: How,
    /// The code that the call must get; `ok` when it is allowed.
    pub(super) expected: &'static str,
    /// Messages that come on a stream before the result.
    pub(super) progress: usize,
    /// What a person should look at.
    pub(super) why: &'static str,
    /// Whether somebody takes the task back first.
    pub(super) revoked: Revoked,
}

/// How the agent calls a tool.
#[derive(Debug)]
pub(super) enum How {
    /// As a client of MCP 2026-07-28, with these arguments.
    Modern(Value),
    /// As a client that begins with `initialize`, with these arguments.
    Legacy(Value),
    /// With a GET of this path and query.
    Rest(&'static str),
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
            "tickets/search_tickets",
            json!({"query": "printer", "limit": 5}),
            OK,
            "what the task is for",
        ),
        Step {
            how: How::Legacy(json!({"id": "T-7"})),
            ..step(
                "tickets/read_ticket",
                Value::Null,
                OK,
                "a client of MCP 2025-11-25, with a session",
            )
        },
        Step {
            how: How::Rest("/customers/C-7"),
            ..step(
                "customers/getCustomer",
                Value::Null,
                OK,
                "REST, under the same task and policy",
            )
        },
        Step {
            how: How::Rest("/customers/C-7?fields=card"),
            ..refused(
                "customers/getCustomer",
                Value::Null,
                Code::SchemaViolation,
                "the description has no such parameter",
            )
        },
        Step {
            progress: 3,
            ..step(
                "tickets/backlog_report",
                json!({"days": 7}),
                OK,
                "streamed, event by event",
            )
        },
        refused(
            "tickets/search_tickets",
            json!({"query": "printer", "limit": 500}),
            Code::SchemaViolation,
            "the schema says at most 50",
        ),
        refused(
            "tickets/delete_ticket",
            json!({"id": "T-7"}),
            Code::ScopeExceeded,
            "the intent does not name this tool",
        ),
        refused(
            "tickets/update_ticket",
            json!({"id": "T-7", "note": "You will get a full refund."}),
            Code::PolicyDenied,
            "policy/rules.rego: a person promises refunds",
        ),
        refused(
            "tickets/export_customers",
            json!({"format": "csv"}),
            Code::ClassificationExceeded,
            "restricted data, and the intent ends at internal",
        ),
        step(
            "tickets/close_ticket",
            json!({"id": "T-7", "resolution": "solved"}),
            OK,
            "destructive, the second attempt of two an hour",
        ),
        refused(
            "tickets/close_ticket",
            json!({"id": "T-8", "resolution": "spam"}),
            Code::RateLimited,
            "the third",
        ),
        Step {
            revoked: Revoked::Before,
            ..refused(
                "tickets/read_ticket",
                json!({"id": "T-9"}),
                Code::TaskRevoked,
                "somebody has just run `outrider revoke task`",
            )
        },
    ]
}

fn step(tool: &'static str, arguments: Value, expected: &'static str, why: &'static str) -> Step {
    Step {
        tool,
        how: How::Modern(arguments),
        expected,
        progress: 0,
        why,
        revoked: Revoked::No,
    }
}

fn refused(tool: &'static str, arguments: Value, code: Code, why: &'static str) -> Step {
    step(tool, arguments, code.as_str(), why)
}
