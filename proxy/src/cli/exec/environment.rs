//! What an agent's runtime is told: where its proxy is, whom it is to trust, by what it is known.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::process::Command;

use super::{sidecar::Sidecar, task::TaskOf};
use crate::{
    config::{Loaded, TlsWord},
    listen::ca::with_systems,
    runtimes::{ADDED, BASE, BUNDLES, proxied},
};

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
            trust.bundle = Some(trust.write("bundle.pem", &with_systems(&own))?);
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
        let direct = ways.base.map_or_else(String::new, |base| base.to_string());
        for (name, value) in proxied(&proxy, &direct) {
            variables.put(&name, &value);
        }
    }
    if let Some(base) = ways.base {
        variables.put(BASE, &format!("http://{base}"));
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
