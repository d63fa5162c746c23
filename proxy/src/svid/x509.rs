//! The rules for certificates of SPIFFE workloads (X509-SVID §3 to §5).

use std::sync::Arc;

use jiff::Timestamp;
use rustls::{
    CertificateError, Error, RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime},
    server::{ParsedCertificate, WebPkiClientVerifier},
};
use x509_cert::{
    Certificate,
    der::{Decode as _, Reader as _, SliceReader},
    ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName, name::GeneralName},
};

use super::{Bundles, SpiffeId};

/// Certificates of one chain or bundle.
const MOST: usize = 64;

/// Why a certificate or key proves no workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("a certificate cannot be read")]
    Unreadable,
    /// There is none, or far too many.
    #[error("there is no certificate, or too many")]
    Number,
    /// Not exactly one URI in the subject's alternative names, or not this one.
    #[error("its leaf does not name exactly this ID")]
    Name,
    /// It is an authority, or its key usage is not that of a leaf.
    #[error("its leaf may not sign, or may sign certificates")]
    Usage,
    /// No bundle of its trust domain.
    #[error("there is no bundle of its trust domain")]
    Bundle,
    /// It does not lead to the bundle of its trust domain.
    #[error("its chain does not lead to the bundle of its trust domain")]
    Chain,
    /// It is not valid at this time.
    #[error("it is not valid now")]
    Expired,
    /// Its key is of another kind than assertions are signed with.
    #[error("its key is not of the curve P-256, which assertions are signed on (ES256)")]
    Kind,
    /// Its key is not that of its leaf.
    #[error("its key is not that of its leaf")]
    Key,
}

/// What is known of a leaf that keeps the rules.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) expires: Timestamp,
}

/// Reads DER certificates that stand one after another.
///
/// # Errors
/// [`Unfit::Unreadable`], [`Unfit::Number`].
pub fn certificates(der: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let mut reader = SliceReader::new(der).map_err(|_| Unfit::Unreadable)?;
    let mut found = Vec::new();
    while !reader.is_finished() {
        if found.len() == MOST {
            return Err(Unfit::Number);
        }
        let one = reader.tlv_bytes().map_err(|_| Unfit::Unreadable)?;
        found.push(CertificateDer::from(one.to_vec()));
    }
    if found.is_empty() {
        return Err(Unfit::Number);
    }
    Ok(found)
}

/// Proves that a chain is that workload's, good for both sides of a connection.
pub(super) fn prove_own(
    id: &SpiffeId,
    chain: &[CertificateDer<'static>],
    bundles: &Bundles,
    now: UnixTime,
) -> Result<Leaf, Unfit> {
    let (leaf, between) = chain.split_first().ok_or(Unfit::Number)?;
    let known = inspect(id, leaf)?;
    let roots = bundles.get(id.trust_domain()).ok_or(Unfit::Bundle)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    served_by(leaf, between, roots, now, &provider).map_err(|error| unfit(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider);
    let verifier = verifier.build().map_err(|_| Unfit::Bundle)?;
    verifier
        .verify_client_cert(leaf, between, now)
        .map_err(|error| unfit(&error))?;
    Ok(known)
}

/// Proves that a server's chain is that workload's.
///
/// # Errors
/// [`Unfit`].
pub fn prove_server(
    id: &SpiffeId,
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    bundles: &Bundles,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Unfit> {
    inspect(id, leaf)?;
    let roots = bundles.get(id.trust_domain()).ok_or(Unfit::Bundle)?;
    served_by(leaf, between, roots, now, provider).map_err(|error| unfit(&error))
}

fn served_by(
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let leaf = ParsedCertificate::try_from(leaf)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, between, now, algorithms)
}

fn unfit(error: &Error) -> Unfit {
    match error {
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Unfit::Expired,
        Error::InvalidCertificate(
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
        ) => Unfit::Usage,
        _ => Unfit::Chain,
    }
}

/// What a leaf itself must be, whoever signed it.
fn inspect(id: &SpiffeId, leaf: &CertificateDer<'_>) -> Result<Leaf, Unfit> {
    let leaf = Certificate::from_der(leaf).map_err(|_| Unfit::Unreadable)?;
    let leaf = leaf.tbs_certificate();
    let names = leaf.get_extension::<SubjectAltName>();
    let (critical, SubjectAltName(names)) =
        names.map_err(|_| Unfit::Unreadable)?.ok_or(Unfit::Name)?;
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    });
    let nameless = leaf.subject().is_empty();
    if uris.next() != Some(id.as_str()) || uris.next().is_some() || (nameless && !critical) {
        return Err(Unfit::Name);
    }
    let constraints = leaf.get_extension::<BasicConstraints>();
    let constraints = constraints.map_err(|_| Unfit::Unreadable)?;
    let usage = leaf.get_extension::<KeyUsage>();
    let (critical, usage) = usage.map_err(|_| Unfit::Unreadable)?.ok_or(Unfit::Usage)?;
    let signs = usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign();
    if constraints.is_some_and(|(_, constraints)| constraints.ca) || !critical || !signs {
        return Err(Unfit::Usage);
    }
    let expires = leaf.validity().not_after.to_unix_duration().as_secs();
    let expires = i64::try_from(expires).map_err(|_| Unfit::Unreadable)?;
    Ok(Leaf {
        expires: Timestamp::from_second(expires).map_err(|_| Unfit::Unreadable)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use outrider_integration::{Authority, Leaf, Made};
    use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

    use super::*;
    use crate::svid::Svid;

    const ID: &str = "spiffe://example.org/agent/triage";

    fn bundles(domain: &str, authority: &Authority) -> Bundles {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().into()).unwrap();
        Bundles::from([(domain.to_owned(), Arc::new(roots))])
    }

    fn verified(made: &Made, bundles: Bundles) -> Result<Svid, Unfit> {
        let (chain, key) = (&made.certificate, made.key.clone().into());
        let id = SpiffeId::parse(ID).unwrap();
        Svid::verified(id, chain, key, bundles, UnixTime::now())
    }

    fn verdict(leaf: &Leaf) -> Result<Svid, Unfit> {
        let authority = Authority::new();
        verified(&authority.sign(leaf), bundles("example.org", &authority))
    }

    #[test]
    fn a_good_svid_holds_until_its_leaf_expires() {
        let svid = verdict(&Leaf::svid(ID).lasting(Duration::from_mins(5))).unwrap();
        assert_eq!((svid.id.as_str(), svid.chain().len()), (ID, 1));
        let left = Timestamp::now().duration_until(svid.expires).as_secs();
        assert!((290..=300).contains(&left), "{left}");
        assert!(!format!("{svid:?}").contains("key"));
        let without = Leaf {
            purposes: vec![],
            ..Leaf::svid(ID)
        };
        assert!(
            verdict(&without).is_ok(),
            "a leaf need not say what it is for"
        );
    }

    #[test]
    fn a_leaf_that_breaks_a_rule_is_refused() {
        let good = || Leaf::svid(ID);
        let uris = |uris: &[&str]| Leaf {
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            ..good()
        };
        let usages = |usages: &[KeyUsagePurpose]| Leaf {
            usages: usages.to_vec(),
            ..good()
        };
        let purposes = |purpose: ExtendedKeyUsagePurpose| Leaf {
            purposes: vec![purpose],
            ..good()
        };
        let sign = KeyUsagePurpose::DigitalSignature;
        for (leaf, expected) in [
            (uris(&[]), Unfit::Name),
            (uris(&["spiffe://example.org/agent/other"]), Unfit::Name),
            (uris(&[ID, "spiffe://example.org/agent/other"]), Unfit::Name),
            (uris(&[ID, "https://example.org/"]), Unfit::Name),
            (
                Leaf {
                    authority: true,
                    ..good()
                },
                Unfit::Usage,
            ),
            (usages(&[]), Unfit::Usage),
            (usages(&[KeyUsagePurpose::KeyAgreement]), Unfit::Usage),
            (usages(&[sign, KeyUsagePurpose::KeyCertSign]), Unfit::Usage),
            (usages(&[sign, KeyUsagePurpose::CrlSign]), Unfit::Usage),
            (purposes(ExtendedKeyUsagePurpose::ClientAuth), Unfit::Usage),
            (purposes(ExtendedKeyUsagePurpose::ServerAuth), Unfit::Usage),
            (good().lasting(Duration::ZERO), Unfit::Expired),
            (
                Leaf {
                    kind: &rcgen::PKCS_ECDSA_P384_SHA384,
                    ..good()
                },
                Unfit::Kind,
            ),
            (
                Leaf {
                    kind: &rcgen::PKCS_ED25519,
                    ..good()
                },
                Unfit::Kind,
            ),
        ] {
            assert_eq!(verdict(&leaf).unwrap_err(), expected, "{leaf:?}");
        }
    }

    #[test]
    fn another_authority_another_key_or_another_domains_bundle_proves_nothing() {
        let (authority, other) = (Authority::new(), Authority::new());
        let made = authority.sign(&Leaf::svid(ID));
        let refused = |made: &Made, bundles: Bundles| verified(made, bundles).unwrap_err();
        assert_eq!(refused(&made, bundles("example.org", &other)), Unfit::Chain);
        assert_eq!(
            refused(&made, bundles("other.org", &authority)),
            Unfit::Bundle
        );
        let key = authority.sign(&Leaf::svid(ID)).key;
        let apart = Made {
            key,
            ..made.clone()
        };
        assert_eq!(
            refused(&apart, bundles("example.org", &authority)),
            Unfit::Key
        );
        let cut = Made {
            certificate: made.certificate[..100].to_vec(),
            ..made
        };
        assert_eq!(
            refused(&cut, bundles("example.org", &authority)),
            Unfit::Unreadable
        );
    }

    #[test]
    fn certificates_that_stand_one_after_another_are_told_apart_and_counted() {
        let one = Authority::new().der();
        assert_eq!(certificates(&one.repeat(3)).unwrap().len(), 3);
        assert_eq!(certificates(&[]).unwrap_err(), Unfit::Number);
        assert_eq!(
            certificates(&one.repeat(MOST + 1)).unwrap_err(),
            Unfit::Number
        );
        assert_eq!(
            certificates(&[&one[..], b"x"].concat()).unwrap_err(),
            Unfit::Unreadable
        );
    }
}
