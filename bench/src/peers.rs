//! What people would put there instead: each a plain proxy, or Envoy with OPA deciding.

mod envoy;
mod haproxy;
mod nginx;
mod opa;

use std::{
    env,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    owned::{Owned, free_address},
    tls::Certificates,
};

/// The peers in the order in which they are shown.
pub(crate) const NGINX: &str = "nginx";
pub(crate) const HAPROXY: &str = "haproxy";
pub(crate) const ENVOY: &str = "envoy";
pub(crate) const ENVOY_OPA: &str = "envoy + opa";
pub(crate) const ALL: [&str; 4] = [NGINX, HAPROXY, ENVOY, ENVOY_OPA];

/// What every peer stands before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backend<'a> {
    /// The tool server's address.
    pub(crate) address: SocketAddr,
    /// Both sides speak TLS with these, if there are any.
    pub(crate) certificates: Option<&'a Certificates>,
    /// What OPA decides by: the documents under `data`.
    pub(crate) documents: &'a Value,
}

/// A running peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    processes: Vec<Owned>,
    _directory: TempDir,
}

impl Peer {
    /// Starts it; `None` when this machine does not have it.
    pub(crate) fn start(name: &str, backend: &Backend<'_>) -> Result<Option<Self>> {
        let start = match name {
            NGINX => nginx::start,
            HAPROXY => haproxy::start,
            ENVOY => envoy::start,
            _ => envoy::start_with_opa,
        };
        let place = Place {
            directory: tempfile::tempdir()?,
            address: free_address()?,
        };
        let said = || format!("{name} said: {}", place.said());
        let Some(mut processes) = start(backend, &place).with_context(said)? else {
            return Ok(None);
        };
        if let Some(front) = processes.last_mut() {
            front.await_listener(place.address).with_context(said)?;
        }
        Ok(Some(Self {
            address: place.address,
            processes,
            _directory: place.directory,
        }))
    }

    /// Its processes; the descendants of these are its own, too.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Owned::pid).collect()
    }
}

/// Where a peer has its files and is to listen.
struct Place {
    directory: TempDir,
    address: SocketAddr,
}

impl Place {
    /// Where its processes write what they have to say: OPA's decision log, too.
    fn errors(&self) -> Result<File> {
        let path = self.directory.path().join("errors.txt");
        Ok(File::options().create(true).append(true).open(path)?)
    }

    fn said(&self) -> String {
        let path = self.directory.path().join("errors.txt");
        fs::read_to_string(path).unwrap_or_default()
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// A program on the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
