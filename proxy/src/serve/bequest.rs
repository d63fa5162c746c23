//! What a sidecar and its successor tell each other.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{listen::ca::Authority, state, tag};

/// What a sidecar tells its successor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Bequest {
    /// It gets nothing.
    Refused(String),
    /// Everything, with descriptors in the order of [`Estate::places`]; nothing is decided until
    /// the successor has answered.
    Estate(Box<Estate>),
    /// It is the successor's now.
    Yours,
    /// A connection without a call, with its descriptor.
    Connection {
        listener: Arc<str>,
        /// What was read from it already, in base64.
        ahead: String,
    },
    /// Lines of the decision log, each ended by a newline: how calls ended here.
    Lines(String),
}

/// What a successor tells its predecessor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Claim {
    /// It can go on with everything.
    Able,
    /// Authority has changed: calls that are running may have to be cut.
    Decreed(state::Decree),
}

/// What a sidecar leaves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Estate {
    pub(super) places: Vec<Place>,
    /// Who vouches for the tasks that were opened there.
    pub(super) issuer: Arc<str>,
    pub(super) authority: state::Estate,
    /// How often exceptions were used.
    pub(super) uses: Vec<(Arc<str>, u64)>,
    /// The public keys that verify assertions which may still be under way.
    #[serde(default)]
    pub(super) keys: Vec<tag::Published>,
    /// The key of the authority that agents trust, PEM: it is nowhere else.
    #[serde(default)]
    pub(super) ca_key: Option<CaKey>,
}

/// A private key, PEM: it goes over, and is never printed.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct CaKey(String);

impl CaKey {
    pub(super) fn of(authority: &Authority) -> Self {
        Self(authority.key())
    }
}

impl From<CaKey> for SecretString {
    fn from(key: CaKey) -> Self {
        key.0.into()
    }
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    DecisionLog,
    SecurityLog,
    State(PathBuf),
    Listener {
        name: String,
        /// As the configuration has it.
        address: String,
    },
    Admin(SocketAddr),
    Control(PathBuf),
}
