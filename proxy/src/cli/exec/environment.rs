//! What an agent's runtime is told: where its proxy is, whom it is to trust, by what it is known.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::process::Command;

use super::{sidecar::Sidecar, task::TaskOf};
use crate::config::{Loaded, TlsWord};

/// Variables by which clients find a proxy; most read one case, some the other.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
/// Variables that name a file with every authority to trust.
const BUNDLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "NPM_CONFIG_CAFILE",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];
/// Variables that name a file with authorities to trust beside the runtime's own.
const ADDED: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// The variables of an agent.
#[derive(Debug, Default)]
pub(super) struct Variables {
    set: Vec<(String, String)>,
}

impl Variables {
    pub(super) fn apply(&self, command: &mut Command) {
        command.envs(self.set.iter().map(|(name, value)| (name, value)));
    }

    fn put(&mut self, name: &str, value: &str) {
        self.set.push((name.to_owned(), value.to_owned()));
    }

    /// The files that they name, whole.
    pub(super) fn files(&self) -> anyhow::Result<Vec<(PathBuf, String)>> {
        let mut files = Vec::<(PathBuf, String)>::new();
        for (name, value) in &self.set {
            let path = Path::new(value);
            let file = BUNDLES.contains(&&**name) || ADDED.contains(&&**name);
            if file && !files.iter().any(|(known, _)| known == path) {
                files.push((path.to_owned(), fs::read_to_string(path)?));
            }
        }
        Ok(files)
    }
}

/// The files by which an agent knows its sidecar; gone when dropped.
#[derive(Debug)]
pub(super) struct Trust {
    directory: PathBuf,
    /// The authority behind interception alone, where there is one.
    added: Option<PathBuf>,
    /// It and those of the system.
    bundle: Option<PathBuf>,
}

impl Trust {
    pub(super) fn of(loaded: &Loaded) -> anyhow::Result<Self> {
        let directory = private_directory("outrider-trust")?;
        let mut trust = Self {
            directory,
            added: None,
            bundle: None,
        };
        let intercepts = |one: &crate::config::Listener| one.inside() == TlsWord::Intercept;
        if loaded.config.listeners.iter().any(intercepts) {
            let own = loaded.resolve(&loaded.config.ca.certificate);
            let own = fs::read_to_string(&own)
                .with_context(|| format!("`ca.certificate`: cannot read `{}`", own.display()))?;
            trust.added = Some(trust.write("outrider-ca.pem", &own)?);
            trust.bundle = Some(trust.write("bundle.pem", &format!("{own}\n{}", systems()))?);
        }
        Ok(trust)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        // What is left is public.
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// A new directory of ours that others may look into.
pub(in crate::cli) fn private_directory(kind: &str) -> anyhow::Result<PathBuf> {
    let name = format!("{kind}-{}", uuid::Uuid::new_v4().simple());
    let path = std::env::temp_dir().join(name);
    let made = fs::DirBuilder::new().mode(0o755).create(&path);
    made.with_context(|| format!("cannot make `{}`", path.display()))?;
    Ok(path)
}

/// The system's authorities, PEM.
fn systems() -> String {
    let found = rustls_native_certs::load_native_certs().certs;
    found.iter().map(|certificate| pem(certificate)).collect()
}

fn pem(certificate: &[u8]) -> String {
    let coded = STANDARD.encode(certificate);
    let lines: Vec<_> = coded
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// Where an agent reaches its sidecar.
#[derive(Debug)]
pub(super) struct Ways {
    /// The forward listener.
    pub(super) proxy: Option<SocketAddr>,
    /// The reverse listener.
    pub(super) base: Option<SocketAddr>,
}

/// What the agent is told.
pub(super) fn variables(
    sidecar: &Sidecar,
    task: &TaskOf,
    trust: &Trust,
) -> anyhow::Result<Variables> {
    let ways = Ways {
        proxy: sidecar.proxy(),
        base: sidecar.base(),
    };
    told(&ways, task.token.expose(), trust)
}

/// What an agent is told that reaches its sidecar in these ways.
pub(super) fn told(ways: &Ways, token: &str, trust: &Trust) -> anyhow::Result<Variables> {
    let mut variables = Variables::default();
    variables.put("OUTRIDER_TASK_TOKEN", token);
    if let Some(forward) = ways.proxy {
        // A token has no character that a URL would not take.
        let proxy = format!("http://task:{token}@{forward}");
        for name in PROXIES {
            variables.put(name, &proxy);
            variables.put(&name.to_ascii_lowercase(), &proxy);
        }
        let direct = ways.base.map_or_else(String::new, |base| base.to_string());
        variables.put("NO_PROXY", &direct);
        variables.put("no_proxy", &direct);
        // Node reads the variables above only if told; git presents no password until it is asked.
        variables.put("NODE_USE_ENV_PROXY", "1");
        variables.put("GIT_HTTP_PROXY_AUTHMETHOD", "basic");
    }
    if let Some(base) = ways.base {
        variables.put("OUTRIDER_URL", &format!("http://{base}"));
    }
    let path = |path: &Path| -> anyhow::Result<String> {
        let text = path.to_str().context("a path that is not UTF-8")?;
        Ok(text.to_owned())
    };
    if let Some(bundle) = &trust.bundle {
        for name in BUNDLES {
            variables.put(name, &path(bundle)?);
        }
    }
    if let Some(added) = &trust.added {
        for name in ADDED {
            variables.put(name, &path(added)?);
        }
    }
    Ok(variables)
}
