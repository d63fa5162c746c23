//! `services[].tls`: whom one service is proved by, and what we prove ourselves by there.
//!
//! SVIDs and bundles are read at each handshake: a rotation holds for the next connection, and no
//! session is resumed that was made with what was there before.

use std::{fmt, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::svid::{CurrentSvid, SpiffeId, prove_server};

/// `services[].tls`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The authorities that prove the service; the system's when absent.
    pub ca: Option<PathBuf>,
    /// What we prove ourselves by.
    pub identity: Option<Presents>,
    /// The service's SPIFFE ID, which its certificate must prove in place of its host's name.
    pub server_id: Option<SpiffeId>,
}

/// `services[].tls.identity`.
#[derive(Debug)]
pub enum Presents {
    /// `svid`: the agent's X.509-SVID.
    Svid,
    /// A certificate and its key.
    Files(KeyFiles),
}

/// A certificate and its key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFiles {
    /// The chain, the certificate first, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
}

impl<'de> Deserialize<'de> for Presents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Presents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`svid` or `{certificate: PATH, key: PATH}`")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Presents, E> {
                match word {
                    "svid" => Ok(Presents::Svid),
                    _ => Err(E::custom(
                        "expected `svid` or `{certificate: PATH, key: PATH}`",
                    )),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Presents, A::Error> {
                KeyFiles::deserialize(MapAccessDeserializer::new(map)).map(Presents::Files)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A certificate or key for the client's side that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadClientKey {
    /// No certificate in the file.
    #[error("expected certificates in PEM: `BEGIN CERTIFICATE`")]
    NoCertificate,
    /// No key in the file.
    #[error("expected a private key in PEM: `BEGIN PRIVATE KEY`")]
    NoKey,
    /// The two do not belong together.
    #[error("the key is not that of the certificate")]
    Apart,
}

/// Reads a chain and the key of its first certificate.
///
/// # Errors
/// [`BadClientKey`].
pub fn client_key(chain: &str, key: &SecretString) -> Result<Arc<CertifiedKey>, BadClientKey> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
    let chain: Vec<_> = chain
        .collect::<Result<_, _>>()
        .map_err(|_| BadClientKey::NoCertificate)?;
    if chain.is_empty() {
        return Err(BadClientKey::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes());
    let key = key.map_err(|_| BadClientKey::NoKey)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider);
    certified.map(Arc::new).map_err(|_| BadClientKey::Apart)
}

/// What is shown at each handshake.
#[derive(Clone)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// Always the same.
    Key(Arc<CertifiedKey>),
    /// The SVID as it stands then.
    Svid(CurrentSvid),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Key(_) => "Key",
            Self::Svid(_) => "Svid",
        })
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Nothing => None,
            Self::Key(key) => Some(Arc::clone(key)),
            Self::Svid(svid) => Some(Arc::clone(&svid.get()?.certified)),
        }
    }

    fn has_certs(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Key(_) => true,
            Self::Svid(svid) => svid.get().is_some(),
        }
    }
}

/// Proves a server by its SPIFFE ID, by the bundles as they stand then.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) id: SpiffeId,
    pub(super) svid: CurrentSvid,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Workload {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let svid = self.svid.get();
        let svid = svid.ok_or(CertificateError::UnknownIssuer)?;
        prove_server(&self.id, leaf, between, &svid.bundles, now, &self.provider)
            .map_err(|unfit| CertificateError::Other(OtherError(Arc::new(unfit))))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
