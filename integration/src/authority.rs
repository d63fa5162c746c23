//! A certificate authority of a SPIFFE trust domain.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, SignatureAlgorithm,
};

/// An authority, its key and its certificate.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What a leaf says; what stands there first is a good SVID for an hour.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its URIs.
    pub uris: Vec<String>,
    /// Its DNS names.
    pub names: Vec<String>,
    /// How long it is good for; zero is over.
    pub ttl: Duration,
    /// Whether it is an authority.
    pub authority: bool,
    /// What its key may be used for.
    pub usages: Vec<KeyUsagePurpose>,
    /// What it may be used for.
    pub purposes: Vec<ExtendedKeyUsagePurpose>,
    /// The kind of its key.
    pub kind: &'static SignatureAlgorithm,
}

/// A certificate that was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Its key, PKCS#8 DER.
    pub key: Vec<u8>,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PKCS#8 PEM.
    pub key_pem: String,
}

impl Leaf {
    /// An SVID of that ID.
    pub fn svid(id: &str) -> Self {
        Self {
            uris: vec![id.to_owned()],
            names: Vec::new(),
            ttl: Duration::from_hours(1),
            authority: false,
            usages: vec![
                KeyUsagePurpose::DigitalSignature,
                KeyUsagePurpose::KeyAgreement,
            ],
            purposes: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            kind: &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }

    /// The same for so long.
    #[must_use]
    pub fn lasting(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// The same with a DNS name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }
}

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    /// When no key can be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        Self { issuer }
    }

    /// Its certificate, DER.
    pub fn der(&self) -> Vec<u8> {
        self.issuer.der().to_vec()
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a leaf.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn sign(&self, leaf: &Leaf) -> Made {
        let mut params = CertificateParams::new(leaf.names.clone()).expect("DNS names");
        for uri in &leaf.uris {
            let uri = uri.as_str().try_into().expect("an ASCII URI");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.distinguished_name = name("leaf");
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_mins(10)).into();
        params.not_after = if leaf.ttl.is_zero() {
            (now - Duration::from_mins(1)).into()
        } else {
            (now + leaf.ttl).into()
        };
        params.is_ca = if leaf.authority {
            IsCa::Ca(BasicConstraints::Unconstrained)
        } else {
            IsCa::ExplicitNoCa
        };
        params.key_usages.clone_from(&leaf.usages);
        params.extended_key_usages.clone_from(&leaf.purposes);
        let key = KeyPair::generate_for(leaf.kind).expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Made {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}
