//! Forward: a permitted request goes to its service's configured upstream, and nowhere else.
//!
//! In: an [`Upstream`] and a request that is ready to be sent. Out: the answer, as a stream that
//! ends the upstream's work when it is dropped early, or [`Unreachable`]. Answers whose framing
//! two readers could read differently are no answers.

mod address;
mod body;
mod collect;
mod dial;
mod fetch;
mod guard;
mod http2;
mod mutual;
mod pool;
mod stdio;
#[cfg(test)]
mod tests;
mod tls;
mod tunnel;
mod upgrade;

use std::time::Duration;

use http::{Request, Response};

use crate::record::Permit;

pub use address::{BadUpstream, Upstream};
pub use body::{BodyCut, RequestBody, UpstreamBody};
pub use collect::{Uncollected, collect, collect_request};
pub use dial::Stream;
pub use fetch::{Fetcher, Unfetched};
pub use guard::{BadDestination, BadNetwork, Destination, Guard, Network, Unguarded};
pub use mutual::{BadClientKey, KeyFiles, Presents, Shown, TlsConfig, client_key};
pub use pool::Pool;
pub use stdio::{WRAPPER, Wrapper};
pub use tls::{BadRoots, TlsRoots, Trust, authorities};
pub use tunnel::tunnel;
pub use upgrade::{Upgraded, upgrade};

/// Sends a permitted request; the permit is used up.
///
/// # Errors
/// When there is no answer, or none whose framing is unambiguous.
pub async fn forward(
    _permit: Permit,
    pool: &Pool,
    upstream: &Upstream,
    request: Request<RequestBody>,
    patience: Duration,
) -> Result<Response<UpstreamBody>, Unreachable> {
    pool.send(upstream, request, patience).await
}

/// Bounds of a pool; each worker has its own.
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// How long a new connection may take: name look-up, TCP and TLS together.
    pub connect: Duration,
    /// Idle connections kept for one upstream.
    pub max_idle: usize,
    /// How long an idle connection is kept.
    pub idle: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            max_idle: 64,
            idle: Duration::from_secs(50),
        }
    }
}

/// An upstream gave no answer. Neither text names its address: the agent may see it.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// No connection: the name does not resolve, or nobody listens.
    #[error("the upstream cannot be reached")]
    Connect(#[source] std::io::Error),
    /// No trust: the certificate or its name does not verify, or TLS failed otherwise.
    #[error("the upstream's TLS cannot be trusted")]
    Tls(#[source] std::io::Error),
    /// An address that may not be dialled.
    #[error("the destination may not be dialled")]
    Forbidden,
    /// No answer in time.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// The connection broke before an answer.
    #[error("the upstream broke off before its answer")]
    Broken(#[source] hyper::Error),
    /// The agent broke off its body while it was sent on.
    #[error("the body did not arrive whole")]
    Unsent(#[source] hyper::Error),
    /// An answer that is not one: ambiguous framing or a change of protocol.
    #[error("the upstream's answer is not acceptable: {0}")]
    Unacceptable(Flaw),
}

impl From<Unguarded> for Unreachable {
    fn from(unguarded: Unguarded) -> Self {
        match unguarded {
            Unguarded::Forbidden => Self::Forbidden,
            Unguarded::Unresolved(error) => Self::Connect(error),
            Unguarded::Timeout => Self::Timeout,
        }
    }
}

impl From<hyper::Error> for Unreachable {
    fn from(error: hyper::Error) -> Self {
        // The engine counts the body that it is given as its user's.
        if error.is_user() {
            Self::Unsent(error)
        } else {
            Self::Broken(error)
        }
    }
}

/// What is wrong with an answer's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Status 101.
    #[error("it changes the protocol")]
    Upgrade,
    /// Two `Content-Length` lines, or one with a list.
    #[error("its length is ambiguous")]
    Length,
    /// `Transfer-Encoding` other than exactly `chunked`, or beside `Content-Length`.
    #[error("its transfer coding is ambiguous")]
    Coding,
}
