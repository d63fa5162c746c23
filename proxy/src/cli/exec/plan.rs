//! What is to be hidden from an isolated agent, and what is kept for it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::{config::Loaded, state::config::Store};

/// Directories that begin empty for the agent: others' sockets are there.
pub(super) const EMPTY: [&str; 4] = ["/tmp", "/var/tmp", "/run", "/dev/shm"];
/// Directories that an agent needs: they cannot become empty.
const SHARED: [&str; 12] = [
    "/", "/etc", "/usr", "/var", "/var/log", "/var/lib", "/home", "/root", "/opt", "/srv", "/mnt",
    "/dev",
];

/// How a namespace is set up, told from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Ports of its address 127.0.0.1 that lead to the sidecar.
    pub(super) ports: Vec<u16>,
    /// Directories that begin empty, save for where the agent works.
    pub(super) empty: Vec<PathBuf>,
    /// Directories that become empty, also where the agent works.
    pub(super) hidden: Vec<PathBuf>,
    /// Sockets behind which nothing is.
    pub(super) sockets: Vec<PathBuf>,
    /// Files that are written anew where their directory became empty.
    pub(super) kept: Vec<(PathBuf, String)>,
    /// Where the agent works.
    pub(super) working: PathBuf,
}

impl Plan {
    /// Where it stands in a room of its own.
    pub(super) fn of(room: &Path) -> PathBuf {
        room.join("plan")
    }

    /// Reads it there.
    pub(super) fn read(room: &Path) -> anyhow::Result<Self> {
        let text = fs::read(Self::of(room)).context("this is a part of `outrider exec`")?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// Every directory that only the sidecar may see, with no link on the way. A file that is hidden
/// alone would be seen again once it is replaced or rotated.
///
/// # Errors
/// One is shared with the agent.
pub(super) fn hidden(loaded: &Loaded, working: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if EMPTY.iter().any(|empty| working == Path::new(empty)) || is_shared(working) {
        bail!(
            "the working directory `{}` is everybody's: start in one of the agent's own",
            working.display()
        );
    }
    let mut directories = BTreeSet::new();
    for path in secret(loaded) {
        let path = std::path::absolute(path)?;
        // A file that is not there yet is hidden with where it will be.
        let real = fs::canonicalize(&path).unwrap_or(path);
        let parent = if real.is_dir() {
            Some(real.as_path())
        } else {
            real.parent()
        };
        let parent = parent.unwrap_or(Path::new("/"));
        let parent = fs::canonicalize(parent).unwrap_or_else(|_| parent.to_owned());
        if is_shared(&parent) {
            bail!(
                "the sidecar has `{}` in a directory that the agent needs, too: give it one of its own",
                real.display()
            );
        }
        if working.starts_with(&parent) {
            bail!(
                "the working directory `{}` is where the sidecar has `{}`, which the agent must not see: start in another directory",
                working.display(),
                real.display()
            );
        }
        directories.insert(parent);
    }
    Ok(directories.into_iter().collect())
}

fn is_shared(directory: &Path) -> bool {
    SHARED.iter().any(|shared| directory == Path::new(shared))
}

/// What the sidecar reads, writes and listens on.
fn secret(loaded: &Loaded) -> Vec<PathBuf> {
    let config = &loaded.config;
    let mut secret = vec![loaded.file.clone()];
    secret.extend(loaded.watched.iter().cloned());
    let mut add = |path: &Path| secret.push(loaded.resolve(path));
    add(&config.decision_log.path);
    if let Some(key) = &config.decision_log.key {
        add(key);
    }
    if let Some(key) = &config.decision_log.digest_key {
        add(key);
    }
    if let Some(log) = &config.security_log {
        add(&log.path);
    }
    if let Some(control) = &config.control {
        add(&control.socket);
    }
    if let Some(key) = &config.assertion.key {
        add(key);
    }
    if let Some(key) = &config.ca.key {
        add(key);
    }
    if let Store::File(path) = &config.state.store {
        add(path);
    }
    for listener in &config.listeners {
        if let crate::listen::ListenAddress::Unix(path) = &listener.address {
            add(path);
        }
    }
    secret
}

/// The sockets of this machine that have a path: a network namespace does not keep them away.
pub(super) fn sockets() -> anyhow::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/net/unix")?;
    let paths = table.lines().skip(1).filter_map(|line| {
        // The path is the last column and may hold spaces.
        let (_, path) = line.split_once(" /")?;
        Some(Path::new("/").join(path))
    });
    Ok(paths.collect::<BTreeSet<_>>().into_iter().collect())
}
