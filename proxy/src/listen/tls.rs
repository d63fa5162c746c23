//! TLS towards agents: what a listener proves itself by, and the handshake.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// `tls:` of a listener.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The certificate and those that vouch for it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What is spoken in TLS, the preferred first (RFC 7301).
pub(super) const PROTOCOLS: [&[u8]; 2] = [H2, b"http/1.1"];
/// The name of HTTP/2.
const H2: &[u8] = b"h2";

/// Whether HTTP/2 was agreed upon.
pub(super) fn speaks_h2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(H2)
}

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadIdentity {
    /// There is no certificate in the file.
    #[error("expected certificates in PEM: `BEGIN CERTIFICATE`")]
    NoCertificate,
    /// There is no private key in the file.
    #[error("expected a private key in PEM: `BEGIN PRIVATE KEY`")]
    NoKey,
    /// They do not go together, or are of an unknown kind.
    #[error("certificate and key cannot be used together: {0}")]
    Unusable(rustls::Error),
}

/// What a listener proves itself by.
#[derive(Clone)]
pub struct Identity(Arc<ServerConfig>);

impl Identity {
    /// Joins a chain of certificates and the key of the first, both PEM. TLS 1.2 and 1.3,
    /// HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    ///
    /// [`BadIdentity`].
    pub fn read(certificates: &str, key: &SecretString) -> Result<Self, BadIdentity> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| BadIdentity::NoCertificate)?;
        if chain.is_empty() {
            return Err(BadIdentity::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| BadIdentity::NoKey)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BadIdentity::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(BadIdentity::Unusable)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Self(Arc::new(config)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The identity of a listener that is in force; a reload exchanges it.
#[derive(Clone)]
pub struct Presented(Arc<ArcSwap<ServerConfig>>);

impl Presented {
    /// Begins with this one.
    pub fn new(identity: &Identity) -> Self {
        Self(Arc::new(ArcSwap::new(Arc::clone(&identity.0))))
    }

    /// Presents another one from the next handshake on.
    pub fn replace(&self, identity: &Identity) {
        self.0.store(Arc::clone(&identity.0));
    }

    /// The same for who speaks HTTP/1.1 only, and so agrees upon nothing else.
    pub(crate) async fn accept_http1(
        &self,
        stream: TcpStream,
        bound: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut config = ServerConfig::clone(&self.0.load());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        accept(Arc::new(config), stream, bound).await
    }

    /// Makes a connection one of TLS, if its agent does within `bound`.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        bound: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        accept(self.0.load_full(), stream, bound).await
    }
}

/// Makes a stream one of TLS, if whoever is at its other end does within `bound`.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ServerConfig>,
    stream: S,
    bound: Duration,
) -> io::Result<TlsStream<S>> {
    timeout(bound, TlsAcceptor::from(config).accept(stream)).await?
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").finish_non_exhaustive()
    }
}
