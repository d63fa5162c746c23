//! TLS towards upstreams: whom we trust, with one named crypto provider.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::Resumption,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio_rustls::TlsConnector;

use super::{
    Upstream,
    mutual::{Shown, Workload},
};
use crate::svid::{CurrentSvid, SpiffeId};

/// What HTTP/2 is called in TLS (RFC 9113 §3.2).
pub(super) const HTTP_2: &[u8] = b"h2";

/// The certificate authorities that upstreams may be proved by; shared by all workers.
#[derive(Clone)]
pub struct TlsRoots {
    config: Arc<ClientConfig>,
    /// What a connection is made with, where that changes.
    svid: Option<CurrentSvid>,
}

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
        Self::from_store(Self::systems()?)
    }

    fn systems() -> Result<RootCertStore, BadRoots> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Systems carry certificates that nobody can use; one good one suffices.
        let (good, _bad) = roots.add_parsable_certificates(found.certs);
        if good == 0 {
            Err(BadRoots::NoneFound)
        } else {
            Ok(roots)
        }
    }

    /// What one service is proved by, and what is shown to it.
    ///
    /// # Errors
    ///
    /// When an authority is not a certificate, or the system has none.
    pub fn of_service(trust: Trust, shown: Shown) -> Result<Self, BadRoots> {
        let svid = match (&trust, &shown) {
            (Trust::Workload(_, svid), _) | (_, Shown::Svid(svid)) => Some(svid.clone()),
            (_, Shown::Nothing | Shown::Key(_)) => None,
        };
        let config = match trust {
            Trust::System => builder()?.with_root_certificates(Self::systems()?),
            Trust::Only(authorities) => builder()?.with_root_certificates(store(authorities)?),
            Trust::Workload(id, svid) => {
                let builder = builder()?;
                let provider = Arc::clone(builder.crypto_provider());
                let verifier = Arc::new(Workload { id, svid, provider });
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            }
        };
        let mut config = match shown {
            Shown::Nothing => config.with_no_client_auth(),
            shown => config.with_client_cert_resolver(Arc::new(shown)),
        };
        // A session would go on as whoever we were, with whoever it was.
        config.resumption = Resumption::disabled();
        Ok(Self {
            svid,
            ..Self::from_config(config)
        })
    }

    /// No certificate authority at all: every `https` upstream is refused.
    ///
    /// # Errors
    ///
    /// When the crypto provider cannot be set up.
    pub fn none() -> Result<Self, BadRoots> {
        Self::from_store(RootCertStore::empty())
    }

    /// The system's, where something is proved by them; else none.
    ///
    /// # Errors
    ///
    /// When there is none, and one is needed.
    pub fn needed_by(upstream: &Upstream) -> Result<Self, BadRoots> {
        if upstream.is_secure() {
            Self::system()
        } else {
            Self::none()
        }
    }

    /// Exactly these certificate authorities.
    ///
    /// # Errors
    ///
    /// When one is not a certificate.
    pub fn only(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BadRoots> {
        Self::from_store(store(certificates)?)
    }

    /// Those in a PEM file and no others.
    ///
    /// # Errors
    ///
    /// When there is none, or one is not a certificate.
    pub fn from_pem(text: &str) -> Result<Self, BadRoots> {
        Self::only(authorities(text)?)
    }

    fn from_store(roots: RootCertStore) -> Result<Self, BadRoots> {
        let config = builder()?.with_root_certificates(roots);
        Ok(Self::from_config(config.with_no_client_auth()))
    }

    fn from_config(mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
            svid: None,
        }
    }

    /// A number that changes when connections are to be made anew.
    pub(super) fn turn(&self) -> u64 {
        self.svid.as_ref().map_or(0, CurrentSvid::turn)
    }

    pub(super) fn connector(&self, http2: bool) -> TlsConnector {
        if http2 {
            self.agreeing_on(vec![HTTP_2.to_vec()])
        } else {
            TlsConnector::from(Arc::clone(&self.config))
        }
    }

    /// For what speaks another protocol than HTTP.
    pub(crate) fn bare(&self) -> TlsConnector {
        self.agreeing_on(Vec::new())
    }

    fn agreeing_on(&self, protocols: Vec<Vec<u8>>) -> TlsConnector {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols;
        TlsConnector::from(Arc::new(config))
    }
}

/// Whom one service is proved by.
#[derive(Debug)]
pub enum Trust {
    /// The system's certificate authorities.
    System,
    /// Exactly these.
    Only(Vec<CertificateDer<'static>>),
    /// The bundle of its trust domain, and it must be this workload.
    Workload(SpiffeId, CurrentSvid),
}

/// The certificate authorities in PEM text.
///
/// # Errors
/// There is none, or one cannot be read.
pub fn authorities(text: &str) -> Result<Vec<CertificateDer<'static>>, BadRoots> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes());
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|_| BadRoots::NotPem)?;
    if found.is_empty() {
        return Err(BadRoots::NotPem);
    }
    Ok(found)
}

fn store(
    certificates: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<RootCertStore, BadRoots> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(BadRoots::Unreadable)?;
    }
    Ok(roots)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, BadRoots> {
    // Named, because a second provider in the process would make the default ambiguous.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(BadRoots::Setup)
}
