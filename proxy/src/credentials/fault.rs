//! Why a credential cannot be had. The words are our own or a standard's, never a server's or a
//! command's: those may repeat what they were given.

use http::StatusCode;

use super::{signer::BadKey, template::Unavailable};
use crate::upstream::{Unfetched, Unreachable};

/// Why a credential cannot be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// There is no connection to the token server, or none that can be trusted.
    #[error("the token server cannot be reached")]
    Unreachable,
    /// It did not come in time.
    #[error("it did not come in time")]
    Timeout,
    /// The token server refused, with an error of RFC 6749 §5.2 or RFC 8693 §2.2.2.
    #[error("the token server refused: `{0}`")]
    Refused(&'static str),
    /// The token server answered with another status.
    #[error("the token server answered with status {}", .0.as_u16())]
    Status(StatusCode),
    /// The answer is not one that can be used.
    #[error("the answer is not usable: {0}")]
    Unusable(&'static str),
    /// A key of our own cannot be used.
    #[error("`key`: {0}")]
    Key(#[from] BadKey),
    /// A file or variable of our own cannot be used.
    #[error("{0}")]
    Local(String),
    /// The command could not be started.
    #[error("the command cannot be started: {0}")]
    NotStarted(std::io::ErrorKind),
    /// The command ended with another status than 0; none when a signal ended it.
    #[error("the command failed{}", .0.map(|code| format!(" with status {code}")).unwrap_or_default())]
    Failed(Option<i32>),
    /// There is no identity of the agent to present.
    #[error("the agent's identity is not there")]
    NoIdentity,
    /// There is no task to act for.
    #[error("there is no task to act for")]
    NoTask,
    /// The task came with no token of an issuer elsewhere.
    #[error("the task came with no token of an issuer elsewhere")]
    NoTaskToken,
    /// The task ended before it was there.
    #[error("the task has ended")]
    Ended,
    /// Too many are being fetched.
    #[error("too many are being fetched")]
    Busy,
    /// The sidecar stops.
    #[error("the sidecar stops")]
    Stopped,
}

/// Whom a fault concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Concerns {
    /// Everybody who wants a credential of that source: all wait before it is asked again.
    All,
    /// The one task and scope that were asked for.
    One,
    /// Nobody later: the same may be asked at once.
    Nobody,
}

impl Fault {
    pub(super) fn concerns(&self) -> Concerns {
        match self {
            Self::Unreachable
            | Self::Timeout
            | Self::Key(_)
            | Self::Local(_)
            | Self::NotStarted(_)
            | Self::Failed(_)
            | Self::NoIdentity
            | Self::Refused("invalid_client" | "unauthorized_client" | "unsupported_grant_type") => {
                Concerns::All
            }
            Self::Status(status) => {
                if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS {
                    Concerns::All
                } else {
                    Concerns::One
                }
            }
            Self::Refused(_) | Self::Unusable(_) => Concerns::One,
            Self::NoTask | Self::NoTaskToken | Self::Ended | Self::Busy | Self::Stopped => {
                Concerns::Nobody
            }
        }
    }
}

impl From<Unfetched> for Fault {
    fn from(unfetched: Unfetched) -> Self {
        match unfetched {
            Unfetched::Unreachable(Unreachable::Timeout) => Self::Timeout,
            Unfetched::Unreachable(_) | Unfetched::Unprotected => Self::Unreachable,
            Unfetched::Unread => Self::Unusable("it is too large or broke off"),
        }
    }
}

impl From<Unavailable> for Fault {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::NotAHeader => Self::Unusable("no header may carry it"),
            other => Self::Local(other.to_string()),
        }
    }
}
