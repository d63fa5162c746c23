//! How the agent is known, whom services are proved by, and what is shown to them: sections and files in,
//! what identification and TLS run on out.

use std::{path::Path, sync::Arc};

use rustls::{pki_types::CertificateDer, sign::CertifiedKey};
use secrecy::SecretString;

use super::{
    Loaded, Service as Section,
    load::{Reader, beside, problem},
    words::HttpWord,
};
use crate::{
    identify::agent::{Misfit, Settings, Source},
    jose,
    protocol::{grpc, mcp},
    svid::CurrentSvid,
    upstream::{
        self, BadClientKey, BadRoots, KeyFiles, Presents, Shown, TlsConfig, TlsRoots, Trust,
        Upstream,
    },
};

/// The upstream of a service that is started by its callers.
pub(super) const STDIO: &str = "stdio";

/// What the files of a service's `tls` hold.
#[derive(Debug)]
pub struct TlsFiles {
    /// The authorities that prove it.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// What we prove ourselves by.
    pub key: Option<Arc<CertifiedKey>>,
}

impl Loaded {
    /// How the agent is known, with paths as they are opened.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn identity(&self) -> Result<Settings, Misfit> {
        let agent = &self.config.agent.id.0;
        let variable = |name: &str| std::env::var(name).ok();
        let mut settings = self.config.identity.settings(agent, variable)?;
        if let Settings::TokenFile(file) = &mut settings {
            file.token = self.resolve(&file.token);
            let keys = &mut file.keys;
            keys.ca = keys.ca.as_deref().map(|ca| self.resolve(ca));
            keys.location = keys.location.clone().resolved(|path| self.resolve(path));
        }
        Ok(settings)
    }

    /// What is wrong with `identity`, and with what depends on it.
    pub(super) fn check_identity(&self) -> Result<(), String> {
        let config = &self.config;
        if config.identity.source == Source::Spiffe && config.assertion.key.is_some() {
            return Err("`assertion.key`: with `identity: { source: spiffe }` the SVID's key signs assertions: leave the key out".into());
        }
        match self
            .identity()
            .map_err(|misfit| format!("`identity`: {misfit}"))?
        {
            Settings::Static | Settings::Spiffe(..) => Ok(()),
            Settings::TokenFile(file) => jose::Source::open(file.keys)
                .map(drop)
                .map_err(|bad| format!("`identity.jwks`: {bad}")),
        }
    }

    /// Where a service is, and whom it is proved by.
    pub(super) fn upstream(
        &self,
        section: &Section,
        svid: &CurrentSvid,
    ) -> Result<Upstream, String> {
        let url = match (&section.upstream, section.is_tunnel()) {
            (Some(url), false) if url == STDIO => return stdio(section),
            (Some(url), false) => url,
            (None, true) => return Ok(Upstream::nowhere()),
            (None, false) => return Err("`upstream` is missing".into()),
            (Some(_), true) => {
                return Err("a tunnel goes to the host that is asked for: name `hosts` and leave `upstream` out".into());
            }
        };
        let upstream = Upstream::parse(url).map_err(|bad| format!("`upstream`: {bad}"))?;
        let upstream = self.proved(section, upstream, svid)?;
        let grpc = section.protocol.0.name == grpc::ROW.name;
        match section.http {
            Some(HttpWord::One) if grpc => Err("`http`: gRPC is spoken over HTTP/2".into()),
            None if grpc => Ok(upstream.over_http2()),
            Some(HttpWord::Two) => Ok(upstream.over_http2()),
            Some(HttpWord::One) | None => Ok(upstream),
        }
    }

    /// An upstream with whom it is proved by.
    fn proved(
        &self,
        section: &Section,
        upstream: Upstream,
        svid: &CurrentSvid,
    ) -> Result<Upstream, String> {
        let Some(tls) = &section.tls else {
            return Ok(upstream);
        };
        if !upstream.is_secure() {
            return Err(
                "`tls` is for an `https` upstream: leave it out, or change `upstream`".into(),
            );
        }
        let read = self.tls.iter().find(|(name, _)| *name == section.name);
        let (_, read) = read.ok_or("`tls`: its files were not read")?;
        let trust = match (&read.authorities, &tls.server_id) {
            (Some(_), Some(_)) => {
                return Err(
                    "`tls`: with `server_id` the SPIFFE bundle proves the service: leave `ca` out"
                        .into(),
                );
            }
            (Some(authorities), None) => Trust::Only(authorities.clone()),
            (None, Some(id)) => Trust::Workload(id.clone(), svid.clone()),
            (None, None) => Trust::System,
        };
        let shown = match (&tls.identity, &read.key) {
            (Some(Presents::Svid), _) => Shown::Svid(svid.clone()),
            (_, Some(key)) => Shown::Key(Arc::clone(key)),
            (_, None) => Shown::Nothing,
        };
        let of_svid = matches!(shown, Shown::Svid(_)) || matches!(trust, Trust::Workload(..));
        if of_svid && self.config.identity.source != Source::Spiffe {
            return Err(
                "`tls`: `identity: svid` and `server_id` need `identity: { source: spiffe }`"
                    .into(),
            );
        }
        let roots = TlsRoots::of_service(trust, shown).map_err(|bad| format!("`tls`: {bad}"))?;
        Ok(upstream.proved_by(roots))
    }
}

/// A service that each of its callers starts for himself.
fn stdio(section: &Section) -> Result<Upstream, String> {
    if section.protocol.0.name != mcp::ROW.name {
        return Err("`upstream: stdio` is for `protocol: mcp`".into());
    }
    if section.tls.is_some()
        || section.credentials.is_some()
        || section.hosts.is_some()
        || section.http.is_some()
    {
        return Err("`upstream: stdio` runs beside its caller, in nobody's trust: leave `tls`, `http`, `credentials` and `hosts` out".into());
    }
    Ok(Upstream::stdio())
}

impl Reader {
    /// The files of a service's `tls`.
    pub(super) fn service_tls(&mut self, config: &Path, tls: &TlsConfig) -> Option<TlsFiles> {
        let authorities = match &tls.ca {
            Some(path) => {
                let file = beside(config, path);
                let text = self.text(&file)?;
                let read = upstream::authorities(&text);
                let failed =
                    |why: BadRoots| self.found.problems.push(problem(&file, why.to_string()));
                Some(read.map_err(failed).ok()?)
            }
            None => None,
        };
        let key = match &tls.identity {
            Some(Presents::Files(KeyFiles { certificate, key })) => {
                let (certificate, key) = (beside(config, certificate), beside(config, key));
                let (chain, secret) = (self.text(&certificate), self.text(&key));
                let read = upstream::client_key(&chain?, &SecretString::from(secret?));
                let failed = |why: BadClientKey| {
                    let file = match why {
                        BadClientKey::NoKey => &key,
                        BadClientKey::NoCertificate | BadClientKey::Apart => &certificate,
                    };
                    self.found.problems.push(problem(file, why.to_string()));
                };
                Some(read.map_err(failed).ok()?)
            }
            Some(Presents::Svid) | None => None,
        };
        Some(TlsFiles { authorities, key })
    }
}
