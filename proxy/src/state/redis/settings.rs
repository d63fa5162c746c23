//! What a fleet is joined with.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::{limit::shared::Names, state::config::Address, upstream::TlsRoots};

/// What a fleet is joined with.
#[derive(Debug)]
pub struct Settings {
    /// Where the store is.
    pub address: Address,
    /// Its password.
    pub password: Option<SecretString>,
    /// Whom it is proved by; `None` without TLS.
    pub roots: Option<TlsRoots>,
    /// What the names of keys begin with.
    pub prefix: Arc<str>,
    /// How long a call waits for it.
    pub timeout: Duration,
    /// What holds while it is away.
    pub on_failure: OnFailure,
    /// The fleet's secret.
    pub key: Option<SecretSlice<u8>>,
}

impl Settings {
    /// How this fleet names what it counts.
    pub fn names(&self) -> Names {
        Names::new(
            self.key
                .as_ref()
                .map_or(b"outrider", |key| key.expose_secret()),
        )
    }
}

/// What holds while the store is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// Calls are refused.
    Refuse,
    /// Each of so many sidecars goes on with its part.
    LocalShare(NonZeroU64),
}
