//! Every way in which a call is refused, and the one table that says what the outside sees.
//!
//! A [`Rejection`] is what a stage's error becomes. The agent reads [`Rejection::row`] (code,
//! status, retry) and [`Rejection::detail`]; the operator reads the record. No text here repeats
//! argument values, policy source, upstream addresses or secrets.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::StatusCode;
use outrider_policy::Refusal;
use outrider_schemas::{json, json_schema::Violation};

use crate::{
    credentials::Unobtained,
    identify::{Unproven, agent::Unattested, issuers::Untrusted},
    jose::BadToken,
    limit::Throttled,
    listen::Unadmitted,
    overload::Overloaded,
    state::redis::Away,
    upstream::Unreachable,
};

/// Makes [`Code`] and the rows of [`Rejection::row`] of one table.
macro_rules! refusals {
    ($($name:ident $word:literal $status:ident $retry:ident $title:literal)*) => {
        /// A stable word for the outcome of a call: in refusals, records, metrics and the demo.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Code {
            /// Nothing was refused.
            Ok,
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// The word as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    Self::Ok => "ok",
                    $(Self::$name => $word,)*
                }
            }
        }

        impl Rejection {
            fn usual_row(&self) -> Row {
                let (code, status, retry, title) = match self {
                    $(Self::$name { .. } => (Code::$name, StatusCode::$status, Retry::$retry, $title),)*
                };
                Row { code, status, retry, title }
            }
        }
    };
}

refusals! {
    CallMalformed           "call_malformed"           BAD_REQUEST            WithChange    "the call is malformed"
    HeaderMismatch          "header_mismatch"          BAD_REQUEST            WithChange    "headers and body differ"
    IdentityMissing         "identity_missing"         UNAUTHORIZED           No            "the agent's identity is not there yet"
    IdentityInvalid         "identity_invalid"         UNAUTHORIZED           No            "the caller is not served here"
    TaskMissing             "task_missing"             UNAUTHORIZED           WithNewTask   "no task was presented"
    TaskInvalid             "task_invalid"             UNAUTHORIZED           WithNewTask   "the task token is not valid"
    TaskExpired             "task_expired"             UNAUTHORIZED           WithNewTask   "the task has expired"
    TaskRevoked             "task_revoked"             UNAUTHORIZED           WithNewTask   "the task has ended"
    TaskSuspended           "task_suspended"           FORBIDDEN              WithNewTask   "the task is suspended"
    AgentUnknown            "agent_unknown"            FORBIDDEN              No            "the agent is not in the inventory"
    AgentExpired            "agent_expired"            FORBIDDEN              No            "the agent's entry is not complete or has expired"
    AgentRevoked            "agent_revoked"            FORBIDDEN              No            "the agent is not active"
    ServiceUnknown          "service_unknown"          FORBIDDEN              No            "no such service"
    ToolUnknown             "tool_unknown"             FORBIDDEN              No            "no such tool or method"
    DestinationRefused      "destination_refused"      FORBIDDEN              No            "not a destination of this listener"
    SchemaViolation         "schema_violation"         UNPROCESSABLE_ENTITY   WithChange    "the arguments do not fit the tool's schema"
    RateLimited             "rate_limited"             TOO_MANY_REQUESTS      After         "a rate limit is spent"
    BudgetExhausted         "budget_exhausted"         TOO_MANY_REQUESTS      After         "the task's budget of calls is spent"
    PolicyDenied            "policy_denied"            FORBIDDEN              No            "policy does not permit this call"
    ScopeExceeded           "scope_exceeded"           FORBIDDEN              No            "the tool is outside the task's scope"
    ClassificationExceeded  "classification_exceeded"  FORBIDDEN              No            "the data is classified too high for this task"
    ApprovalRequired        "approval_required"        FORBIDDEN              WithApproval  "a person has to approve this call"
    PolicyError             "policy_error"             SERVICE_UNAVAILABLE    After         "policy gave no verdict"
    RecordUnavailable       "record_unavailable"       SERVICE_UNAVAILABLE    After         "the decision cannot be recorded"
    DependencyUnavailable   "dependency_unavailable"  SERVICE_UNAVAILABLE    After         "something that is needed to decide or to act is away"
    Overloaded              "overloaded"               SERVICE_UNAVAILABLE    After         "more calls come than can be served"
    BodyTooLarge            "body_too_large"           PAYLOAD_TOO_LARGE      WithChange    "the body is too large"
    MediaTypeRefused        "media_type_refused"       UNSUPPORTED_MEDIA_TYPE WithChange    "the media type is not served"
    UpstreamUnreachable     "upstream_unreachable"     BAD_GATEWAY            No            "the service cannot be reached"
    UpstreamTimeout         "upstream_timeout"         GATEWAY_TIMEOUT        No            "the service did not answer in time"
    ResponseRefused         "response_refused"         BAD_GATEWAY            No            "the service's answer was refused"
}

/// Whether, and after what, the same call may be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// Not as it stands, and no change of it helps.
    No,
    /// After the call itself was changed.
    WithChange,
    /// Under another task.
    WithNewTask,
    /// After a person approved it.
    WithApproval,
    /// Later.
    After,
}

impl Retry {
    /// The word as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::WithChange => "with_change",
            Self::WithNewTask => "with_new_task",
            Self::WithApproval => "with_approval",
            Self::After => "after",
        }
    }
}

/// What is wrong with a [`Header::Twin`].
const TWIN: &str = "a header with `_` in its name reads like one that is judged: leave it out";

/// How a request failed to be one well-formed call.
#[derive(Debug, Clone, PartialEq)]
pub enum Malformed {
    /// The request line, a path or a header; or a body that never arrived whole.
    Request(&'static str),
    /// A method which this endpoint does not have: 405.
    Method,
    /// The transport of MCP 2024-11-05: 405.
    OldTransport,
    /// A session that is not the caller's, or not known: 404.
    Session,
    /// The body is not strict JSON: JSON-RPC `-32700`.
    Json(json::Malformed),
    /// The body is JSON but not one message: JSON-RPC `-32600`.
    Message(&'static str),
    /// The message lacks what its revision requires: JSON-RPC `-32602`.
    Params(&'static str),
    /// A protocol revision that is not served: MCP `-32022`.
    Revision {
        /// What the agent asked for.
        requested: String,
    },
}

/// What the catalogue does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// A tool of a known service.
    Tool,
    /// A method of the protocol.
    Method,
    /// Work that a call is said to have left going on.
    Work,
}

/// Which header tells another call than the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// One that is judged, by its name.
    Judged(Cow<'static, str>),
    /// One that a lax reader takes for one that is judged. Its name is of the agent's choice.
    Twin,
}

/// What a spent limit tells the agent (draft-ietf-httpapi-ratelimit-headers-10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The limit's name in the configuration.
    pub limit: Arc<str>,
    /// Until a retry can succeed.
    pub retry_after: Duration,
    /// The quota and its window in seconds; absent for a concurrency limit.
    pub quota: Option<(u32, u64)>,
}

/// One variant per refusal.
#[derive(Debug, Clone, PartialEq)]
pub enum Rejection {
    /// The bytes are not one well-formed call.
    CallMalformed(Malformed),
    /// A mirrored header and the body tell two different calls (MCP 2026-07-28, `-32020`).
    HeaderMismatch(Header),
    /// The sidecar has not obtained the agent's identity yet.
    IdentityMissing,
    /// The caller on this connection is not one whom the listener serves, or the agent's identity is not
    /// valid.
    IdentityInvalid,
    /// No task was presented.
    TaskMissing,
    /// What was presented is not one known task token.
    TaskInvalid,
    /// The task's time is over.
    TaskExpired,
    /// The task was revoked or closed.
    TaskRevoked,
    /// The task is suspended.
    TaskSuspended,
    /// The agent is not in the inventory.
    AgentUnknown,
    /// The agent's entry has expired or lacks an owner or a purpose.
    AgentExpired,
    /// The agent's entry is not active.
    AgentRevoked,
    /// No service has this name.
    ServiceUnknown,
    /// The catalogue has no such operation.
    ToolUnknown(Unknown),
    /// Host or Origin are not this listener's.
    DestinationRefused(&'static str),
    /// The arguments do not fit the published schema; empty where they may not be told.
    SchemaViolation(Vec<Violation>),
    /// A limit is spent.
    RateLimited(Spent),
    /// The task's budget of calls is spent.
    BudgetExhausted,
    /// Intent, grant or a `deny`; with the rules' `public` texts.
    PolicyDenied(Vec<Arc<str>>),
    /// The tool is outside the task.
    ScopeExceeded,
    /// The data is classified higher than the task or grant reaches.
    ClassificationExceeded,
    /// A person has to approve it.
    ApprovalRequired(Vec<Arc<str>>),
    /// Policy gave no verdict.
    PolicyError,
    /// The decision could not be recorded.
    RecordUnavailable,
    /// A store, an issuer's keys or a credential cannot be had.
    DependencyUnavailable,
    /// More calls come than this worker can serve.
    Overloaded(Overloaded),
    /// The body is larger than allowed.
    BodyTooLarge,
    /// A media type or content encoding which this service does not take.
    MediaTypeRefused(&'static str),
    /// No connection to the service.
    UpstreamUnreachable,
    /// The service did not answer in time.
    UpstreamTimeout,
    /// The service's answer broke the protocol or a bound.
    ResponseRefused(&'static str),
}

/// One row of the table of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The stable code.
    pub code: Code,
    /// The HTTP status where HTTP carries the refusal.
    pub status: StatusCode,
    /// Whether a retry can help.
    pub retry: Retry,
    /// What was refused, in a few words.
    pub title: &'static str,
}

impl Rejection {
    /// The row of the table for this refusal.
    pub fn row(&self) -> Row {
        let row = self.usual_row();
        match self {
            Self::CallMalformed(Malformed::Method | Malformed::OldTransport) => Row {
                status: StatusCode::METHOD_NOT_ALLOWED,
                title: "method not allowed",
                ..row
            },
            Self::CallMalformed(Malformed::Session) => Row {
                status: StatusCode::NOT_FOUND,
                title: "no such session",
                ..row
            },
            _ => row,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.row().code
    }

    /// One sentence for the agent beyond the title; empty when the title says it all.
    pub fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::CallMalformed(malformed) => malformed.detail(),
            Self::HeaderMismatch(Header::Judged(name)) => {
                format!("`{name}` must be present once and equal the body").into()
            }
            Self::HeaderMismatch(Header::Twin) => TWIN.into(),
            Self::TaskMissing => "send the task's token in `Outrider-Task-Token`".into(),
            Self::ToolUnknown(Unknown::Tool) => {
                "this service publishes no tool of that name".into()
            }
            Self::ToolUnknown(Unknown::Work) => {
                "no call of this task left work of that name going on".into()
            }
            Self::ToolUnknown(Unknown::Method) => "this method is not served here".into(),
            Self::DestinationRefused(why)
            | Self::MediaTypeRefused(why)
            | Self::ResponseRefused(why) => (*why).into(),
            Self::SchemaViolation(violations) => told(violations).into(),
            Self::RateLimited(spent) => format!(
                "limit `{}`; try again in {} s",
                spent.limit,
                spent.retry_after_s()
            )
            .into(),
            Self::PolicyDenied(texts) | Self::ApprovalRequired(texts) => texts.join("; ").into(),
            _ => "".into(),
        }
    }

    /// What tells refusals of one code apart, and is not of the agent's choice.
    pub fn cause(&self) -> Cow<'static, str> {
        match self {
            Self::CallMalformed(
                Malformed::Request(why) | Malformed::Message(why) | Malformed::Params(why),
            )
            | Self::DestinationRefused(why)
            | Self::MediaTypeRefused(why) => (*why).into(),
            Self::HeaderMismatch(Header::Judged(name)) => name.clone(),
            Self::HeaderMismatch(Header::Twin) => TWIN.into(),
            Self::RateLimited(spent) => spent.limit.to_string().into(),
            _ => self.row().title.into(),
        }
    }

    /// What stands in `violations`.
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::SchemaViolation(violations) => violations,
            _ => &[],
        }
    }

    /// Seconds until a retry can succeed, where that is known.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited(spent) => Some(spent.retry_after_s()),
            Self::RecordUnavailable
            | Self::PolicyError
            | Self::DependencyUnavailable
            | Self::Overloaded(_) => Some(1),
            _ => None,
        }
    }
}

impl Rejection {
    /// What policy's refusal becomes; the texts are those that the rules made public.
    pub fn denied(refusal: Refusal, public: Vec<Arc<str>>) -> Self {
        match refusal {
            Refusal::AgentUnknown => Self::AgentUnknown,
            Refusal::AgentExpired => Self::AgentExpired,
            Refusal::AgentRevoked => Self::AgentRevoked,
            Refusal::TaskInvalid => Self::TaskInvalid,
            Refusal::TaskExpired => Self::TaskExpired,
            Refusal::TaskRevoked => Self::TaskRevoked,
            Refusal::TaskSuspended => Self::TaskSuspended,
            Refusal::ScopeExceeded => Self::ScopeExceeded,
            Refusal::ClassificationExceeded => Self::ClassificationExceeded,
            Refusal::PolicyDenied => Self::PolicyDenied(public),
            Refusal::PolicyError => Self::PolicyError,
        }
    }
}

impl From<Unproven> for Rejection {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Missing => Self::TaskMissing,
            Unproven::Invalid | Unproven::Widened(_) => Self::TaskInvalid,
            Unproven::Expired => Self::TaskExpired,
            Unproven::Revoked => Self::TaskRevoked,
            Unproven::Suspended => Self::TaskSuspended,
            Unproven::Untrusted(untrusted) => untrusted.into(),
            Unproven::NoRoom => Self::DependencyUnavailable,
        }
    }
}

impl From<Untrusted> for Rejection {
    /// The agent learns no more than that a token is over, or cannot be verified just now.
    fn from(untrusted: Untrusted) -> Self {
        match untrusted {
            Untrusted::Bad(BadToken::Expired) => Self::TaskExpired,
            Untrusted::Stale => Self::DependencyUnavailable,
            Untrusted::Bad(_)
            | Untrusted::UnknownIssuer
            | Untrusted::TooLong
            | Untrusted::Chain
            | Untrusted::TooDeep
            | Untrusted::Used => Self::TaskInvalid,
        }
    }
}

impl From<Unattested> for Rejection {
    fn from(unattested: Unattested) -> Self {
        match unattested {
            Unattested::Missing => Self::IdentityMissing,
            Unattested::Invalid => Self::IdentityInvalid,
        }
    }
}

impl From<Throttled> for Rejection {
    fn from(spent: Throttled) -> Self {
        Self::RateLimited(Spent {
            limit: spent.limit,
            retry_after: spent.retry_after,
            quota: spent
                .policy
                .window_s
                .map(|window| (spent.policy.quota, window)),
        })
    }
}

impl From<Away> for Rejection {
    fn from(Away: Away) -> Self {
        Self::DependencyUnavailable
    }
}

impl From<Unobtained> for Rejection {
    fn from(_: Unobtained) -> Self {
        Self::DependencyUnavailable
    }
}

impl From<Overloaded> for Rejection {
    fn from(overloaded: Overloaded) -> Self {
        Self::Overloaded(overloaded)
    }
}

impl From<Unadmitted> for Rejection {
    fn from(unadmitted: Unadmitted) -> Self {
        match unadmitted {
            Unadmitted::NoService => Self::ServiceUnknown,
            Unadmitted::Coding => {
                Self::MediaTypeRefused("send the body without transfer coding other than `chunked`")
            }
            Unadmitted::Host => Self::DestinationRefused("the host is not one of this listener's"),
            Unadmitted::Origin => {
                Self::DestinationRefused("the origin is not one of this listener's")
            }
            Unadmitted::Target => {
                Self::DestinationRefused("a request names a path of this listener")
            }
            Unadmitted::Tunnel => Self::DestinationRefused("no tunnel is opened here"),
            Unadmitted::NotAbsolute => Self::DestinationRefused(
                "a request to this proxy is a URL, or `CONNECT` to a host and port",
            ),
            Unadmitted::Differs => Self::DestinationRefused(
                "what the connection is for, the URL and `Host` name different hosts",
            ),
        }
    }
}

impl From<Unreachable> for Rejection {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable {
            Unreachable::Connect(_) | Unreachable::Tls(_) | Unreachable::Broken(_) => {
                Self::UpstreamUnreachable
            }
            Unreachable::Unsent(_) => {
                Self::CallMalformed(Malformed::Request("the body did not arrive whole"))
            }
            Unreachable::Forbidden => {
                Self::DestinationRefused("the host has an address that may not be dialled")
            }
            Unreachable::Timeout => Self::UpstreamTimeout,
            Unreachable::Unacceptable(_) => {
                Self::ResponseRefused("the service's answer is not well-framed HTTP")
            }
        }
    }
}

impl Spent {
    /// Whole seconds, rounded up: a retry after them succeeds.
    pub fn retry_after_s(&self) -> u64 {
        self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0)
    }
}

impl Malformed {
    fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::Request(why) | Self::Message(why) | Self::Params(why) => (*why).into(),
            Self::Method => "only POST is served here".into(),
            Self::OldTransport => {
                "the HTTP+SSE transport of MCP 2024-11-05 is not served: POST to \
                this URL with a client of 2025-03-26 or later (streamable HTTP)"
                    .into()
            }
            Self::Session => "start a new one with `initialize`, under the same task".into(),
            Self::Json(malformed) => malformed.to_string().into(),
            Self::Revision { .. } => {
                "this protocol revision is not served; use MCP 2026-07-28, or one from 2025-03-26 \
                 to 2025-11-25"
                    .into()
            }
        }
    }
}

fn told(violations: &[Violation]) -> String {
    let one = |v: &Violation| {
        let at = if v.pointer.is_empty() {
            "the arguments"
        } else {
            &v.pointer
        };
        format!("{at}: {}", v.message)
    };
    violations.iter().map(one).collect::<Vec<_>>().join("; ")
}
