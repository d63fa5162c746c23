//! Certificates for the comparison over TLS: one authority made at start, trusted by everyone, and one certificate for
//! `localhost` that every server shows.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in the certificate.
pub(crate) const NAME: &str = "localhost";

/// The files, as long as the value lives.
#[derive(Debug)]
pub(crate) struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub(crate) fn make() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority
            .distinguished_name
            .push(DnType::CommonName, "authority of the comparison");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&key)?.pem();
        let leaf_key = KeyPair::generate()?;
        let names = vec![NAME.to_owned(), "127.0.0.1".to_owned()];
        let issuer = Issuer::new(authority, key);
        let leaf = CertificateParams::new(names)?.signed_by(&leaf_key, &issuer)?;
        let made = Self { directory };
        fs::write(made.root(), root)?;
        fs::write(made.certificate(), leaf.pem())?;
        fs::write(made.key(), leaf_key.serialize_pem())?;
        fs::write(made.both(), leaf.pem() + &leaf_key.serialize_pem())?;
        Ok(made)
    }

    /// The authority's certificate.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// The server's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    /// The server's key.
    pub(crate) fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Certificate and key in one file.
    pub(crate) fn both(&self) -> PathBuf {
        self.directory.path().join("both.pem")
    }

    /// A client that trusts the authority.
    pub(crate) fn connector(&self) -> Result<TlsConnector> {
        trusting(&self.root())
    }
}

/// A client that trusts the authority in that file.
pub(crate) fn trusting(root: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root)?)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A server that shows that certificate.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
