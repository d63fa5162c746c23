//! What may be wrong with the store.

use ::redis::{ErrorKind, RedisError};

/// Why there is no connection, for the log. Says nothing of where or as whom.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be reached")]
    Unreachable,
    #[error("it does not prove itself by TLS")]
    Unproven,
    #[error("it does not answer in time")]
    Silent,
    #[error("it refuses user or password")]
    Unauthorised,
    #[error("the user may not do what is needed (see `state` in the reference for the ACL)")]
    Forbidden,
    #[error("the connection broke")]
    Broken,
    #[error("its fleet has another `state.key`")]
    Foreign,
    #[error("it answers what is not understood")]
    Strange,
    #[error("it answers with the error `{0}`")]
    Refuses(String),
}

/// No word for an error is longer.
const LONGEST_WORD: usize = 32;

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
                Self::Unauthorised
            }
            (_, Some("NOPERM")) => Self::Forbidden,
            (ErrorKind::Io, _) => Self::Broken,
            (_, Some(word)) => Self::Refuses(word.chars().take(LONGEST_WORD).collect()),
            _ => Self::Strange,
        }
    }
}
