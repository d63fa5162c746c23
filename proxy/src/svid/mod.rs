//! What the agent proves itself by where it has an X.509-SVID, and what others are proved by.
//!
//! The Workload API's client makes a [`Svid`] and puts it into [`CurrentSvid`]; signing and TLS read it
//! there, so that a rotation reaches them at once and without a lock.

mod id;
mod x509;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret as _, SecretSlice};

use crate::{jose::Algorithm, keys::SigningKey};
pub use id::{BadSpiffeId, SpiffeId, trust_domain};
pub use x509::{Unfit, certificates, prove_server};

/// The authorities of trust domains, by trust domain.
pub type Bundles = HashMap<String, Arc<RootCertStore>>;

/// An X.509-SVID that has been verified (X509-SVID §4, §5).
pub struct Svid {
    /// The ID in its leaf.
    pub id: SpiffeId,
    /// Its chain, the leaf first, and its key, for TLS.
    pub certified: Arc<CertifiedKey>,
    /// When its leaf expires.
    pub expires: Timestamp,
    /// Whom other workloads are proved by.
    pub bundles: Bundles,
    key: SecretSlice<u8>,
}

impl Svid {
    /// Verifies a chain of DER certificates, one after another, and its PKCS#8 key against the bundle of
    /// its trust domain.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn verified(
        id: SpiffeId,
        chain: &[u8],
        key: SecretSlice<u8>,
        bundles: Bundles,
        now: UnixTime,
    ) -> Result<Self, Unfit> {
        let chain = certificates(chain)?;
        let leaf = x509::prove_own(&id, &chain, &bundles, now)?;
        signing_key(&key)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose_secret().to_vec()));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, der, &provider).map_err(|_| Unfit::Key)?;
        Ok(Self {
            id,
            certified: Arc::new(certified),
            expires: leaf.expires,
            bundles,
            key,
        })
    }

    /// Its chain, the leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Its key, for assertions.
    ///
    /// # Errors
    /// [`Unfit::Kind`], which was seen when it was verified.
    pub fn signing_key(&self) -> Result<SigningKey, Unfit> {
        signing_key(&self.key)
    }
}

fn signing_key(der: &SecretSlice<u8>) -> Result<SigningKey, Unfit> {
    let key = SigningKey::from_pkcs8(der.expose_secret()).map_err(|_| Unfit::Kind)?;
    match key.algorithm() {
        Algorithm::Es256 => Ok(key),
        Algorithm::EdDsa | Algorithm::Rs256 | Algorithm::Ps256 => Err(Unfit::Kind),
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The SVID in force, if there is one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CurrentSvid(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    svid: ArcSwapOption<Svid>,
    turn: AtomicU64,
}

impl CurrentSvid {
    /// The SVID as it stands now.
    pub fn get(&self) -> Option<Arc<Svid>> {
        self.0.svid.load_full()
    }

    /// How often it was replaced: what was made with the one before has another number.
    pub fn turn(&self) -> u64 {
        self.0.turn.load(Ordering::Acquire)
    }

    /// Puts another one in force, or none.
    pub fn set(&self, svid: Option<Arc<Svid>>) {
        self.0.svid.store(svid);
        self.0.turn.fetch_add(1, Ordering::AcqRel);
    }
}
