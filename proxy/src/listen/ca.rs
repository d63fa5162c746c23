//! The interception authority: a leaf for each host that an agent asks a TLS session of.
//!
//! In: a host's name. Out: what TLS with the agent is proved by. The authority's key is made at
//! start and lives in memory, unless `ca.key` names one; only its certificate is written, for the
//! agents that are to trust it. With the same key it has the same name, so that who trusts an
//! earlier certificate trusts the next. Whom upstreams are proved by has nothing to do with it.

use std::{
    collections::HashMap,
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
};
use secrecy::{ExposeSecret as _, SecretString};

/// How long the authority's own certificate holds.
const LIFETIME: Duration = Duration::from_hours(24 * 365);
/// How long a leaf holds.
const LEAF: Duration = Duration::from_hours(24);
/// How long one is used before another is made.
const FRESH: Duration = Duration::from_hours(12);
/// Clocks of agents may be behind ours.
const SKEW: Duration = Duration::from_hours(1);
/// Leaves that are kept.
const KEPT: usize = 1024;

fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

/// A certificate and the system's authorities, PEM.
pub fn with_systems(own: &str) -> String {
    let systems = rustls_native_certs::load_native_certs().certs;
    let systems = systems.iter().map(|certificate| pem(certificate));
    systems.fold(format!("{own}\n"), |all, one| all + &one)
}

fn pem(certificate: &[u8]) -> String {
    let coded = STANDARD.encode(certificate);
    let lines = coded.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// `ca:` of the configuration.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the certificate is written at start, PEM.
    pub certificate: PathBuf,
    /// Where it is written at start together with the system's authorities, for runtimes that read
    /// one file only, PEM.
    pub bundle: Option<PathBuf>,
    /// The authority's key, PEM (PKCS #8, ECDSA P-256 or Ed25519); made at start when absent.
    pub key: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            certificate: "outrider-ca.pem".into(),
            bundle: None,
            key: None,
        }
    }
}

/// An authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadAuthority {
    /// There is no private key in the file.
    #[error("expected a private key in PEM: `BEGIN PRIVATE KEY`")]
    NoKey,
    /// It could not be made.
    #[error("the certificate could not be made: {0}")]
    Unmade(#[from] rcgen::Error),
    /// A leaf of it cannot be used.
    #[error("a leaf cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// A certificate authority for this sidecar's agents.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What agents trust, PEM.
    certificate: String,
    /// One key for all leaves: it never leaves the process either.
    leaf_key: KeyPair,
    provider: Arc<CryptoProvider>,
    leaves: Mutex<HashMap<Box<str>, Leaf>>,
}

#[derive(Clone)]
struct Leaf {
    config: Arc<ServerConfig>,
    made: SystemTime,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one whose key nobody else ever has.
    ///
    /// # Errors
    /// [`BadAuthority::Unmade`].
    pub fn new() -> Result<Self, BadAuthority> {
        Self::of(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    /// Makes one of a key that stands in a file, PEM.
    ///
    /// # Errors
    /// [`BadAuthority`].
    pub fn read(key: &SecretString) -> Result<Self, BadAuthority> {
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| BadAuthority::NoKey)?;
        Self::of(KeyPair::try_from(&key).map_err(|_| BadAuthority::NoKey)?)
    }

    fn of(key: KeyPair) -> Result<Self, BadAuthority> {
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.distinguished_name = name("Outrider interception");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LIFETIME).into();
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            leaf_key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            leaves: Mutex::default(),
        })
    }

    /// What agents trust, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, PEM, for a successor that goes on with its agents.
    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Writes what agents trust, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written there.
    pub fn publish(&self, path: &Path) -> io::Result<()> {
        put(path, &self.certificate)
    }

    /// Writes the same together with the system's authorities.
    ///
    /// # Errors
    /// It cannot be written there.
    pub fn publish_bundle(&self, path: &Path) -> io::Result<()> {
        put(path, &with_systems(&self.certificate))
    }

    /// What TLS with an agent is proved by that asked for this host: HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// The host is none that a certificate can name.
    pub(super) fn leaf(&self, host: &str) -> Result<Arc<ServerConfig>, BadAuthority> {
        let now = SystemTime::now();
        let fresh = |leaf: &&Leaf| now.duration_since(leaf.made).is_ok_and(|age| age < FRESH);
        {
            let leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(leaf) = leaves.get(host).filter(fresh) {
                return Ok(Arc::clone(&leaf.config));
            }
        }
        let config = Arc::new(self.make(host, now)?);
        let leaf = Leaf {
            config: Arc::clone(&config),
            made: now,
        };
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if leaves.len() >= KEPT {
            leaves.retain(|_, leaf| fresh(&&*leaf));
        }
        if leaves.len() >= KEPT {
            // An agent that asks for so many hosts has them made anew.
            leaves.clear();
        }
        leaves.insert(host.into(), leaf);
        Ok(config)
    }

    fn make(&self, host: &str, now: SystemTime) -> Result<ServerConfig, BadAuthority> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("Outrider leaf");
        params.subject_alt_names = vec![match address(host) {
            Some(address) => SanType::IpAddress(address),
            None => SanType::DnsName(host.try_into()?),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - SKEW).into();
        params.not_after = (now + LEAF).into();
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let chain = vec![leaf.der().clone()];
        let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key.into())?;
        config.alpn_protocols = super::tls::PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// The address that a host is written as.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}
