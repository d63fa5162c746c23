//! TLS towards upstreams: whom we trust, with one named crypto provider.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

/// The certificate authorities that upstreams may be proved by; shared by all workers.
#[derive(Clone)]
pub struct TlsRoots(Arc<ClientConfig>);

impl std::fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsRoots").finish_non_exhaustive()
    }
}

/// Certificate authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadRoots {
    /// The system has none.
    #[error("the system has no usable certificate authorities")]
    NoneFound,
    /// The file holds none.
    #[error("expected certificates in PEM: `BEGIN CERTIFICATE`")]
    NotPem,
    /// One is not a certificate.
    #[error("a certificate authority cannot be read")]
    Unreadable(#[source] rustls::Error),
    /// The crypto provider does not offer the protocol versions.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

impl TlsRoots {
    /// The system's certificate authorities.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn system() -> Result<Self, BadRoots> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Systems carry certificates that nobody can use; one good one suffices.
        let (good, _bad) = roots.add_parsable_certificates(found.certs);
        if good == 0 {
            Err(BadRoots::NoneFound)
        } else {
            Self::from_store(roots)
        }
    }

    /// No certificate authority at all: every `https` upstream is refused.
    ///
    /// # Errors
    ///
    /// When the crypto provider cannot be set up.
    pub fn none() -> Result<Self, BadRoots> {
        Self::from_store(RootCertStore::empty())
    }

    /// Exactly these certificate authorities.
    ///
    /// # Errors
    ///
    /// When one is not a certificate.
    pub fn only(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BadRoots> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(BadRoots::Unreadable)?;
        }
        Self::from_store(roots)
    }

    /// Those in a PEM file and no others.
    ///
    /// # Errors
    ///
    /// When there is none, or one is not a certificate.
    pub fn from_pem(text: &str) -> Result<Self, BadRoots> {
        let found = CertificateDer::pem_slice_iter(text.as_bytes());
        let found: Vec<_> = found
            .collect::<Result<_, _>>()
            .map_err(|_| BadRoots::NotPem)?;
        if found.is_empty() {
            return Err(BadRoots::NotPem);
        }
        Self::only(found)
    }

    fn from_store(roots: RootCertStore) -> Result<Self, BadRoots> {
        // Named, because a second provider in the process would make the default ambiguous.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BadRoots::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.0))
    }

    /// For what speaks another protocol than HTTP.
    pub(crate) fn bare(&self) -> TlsConnector {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols.clear();
        TlsConnector::from(Arc::new(config))
    }
}
