//! The sidecar of an agent: the one that runs, or one of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::this_program;
use crate::{
    config::Loaded,
    control::{client, wire::Request},
    listen::{ListenAddress, Mode},
};

/// Where an agent's sidecar is.
#[derive(Debug)]
pub(in crate::cli) struct Sidecar {
    control: PathBuf,
    forward: Option<SocketAddr>,
    reverse: Option<ListenAddress>,
    /// The agent reaches it by loopback alone.
    isolated: bool,
    /// It is our own, and ends with us.
    own: Option<Child>,
}

impl Sidecar {
    /// Finds the sidecar that runs with a configuration, or starts one.
    pub(in crate::cli) fn find_or_start(
        file: &Path,
        loaded: &Loaded,
        isolated: bool,
    ) -> anyhow::Result<Self> {
        let control = loaded.config.control.as_ref();
        let control = control.with_context(|| {
            format!(
                "{}: `control.socket` is missing: a task is opened there",
                file.display()
            )
        })?;
        let control = loaded.resolve(&control.socket);
        let runs = match client::ask(&control, &Request::TaskList {}) {
            Ok(_) => true,
            Err(client::NoAnswer::NoSidecar(_)) => false,
            Err(error) => return Err(error.into()),
        };
        let (own, listening) = if runs {
            (None, configured(loaded))
        } else {
            let (child, listening) = start(file, isolated)?;
            (Some(child), listening)
        };
        let of = |mode: Mode| {
            let listeners = loaded.config.listeners.iter();
            let mut named = listeners.filter(move |one| one.mode == mode);
            named.find_map(|one| {
                let found = listening.iter().find(|(name, _)| name == one.name());
                found.map(|(_, address)| address.clone())
            })
        };
        let forward = match of(Mode::Forward) {
            Some(ListenAddress::Tcp(address)) => Some(address),
            Some(ListenAddress::Unix(_)) | None => None,
        };
        let sidecar = Self {
            control,
            forward,
            reverse: of(Mode::Reverse).map(|address| match address {
                ListenAddress::Unix(path) => ListenAddress::Unix(loaded.resolve(&path)),
                tcp @ ListenAddress::Tcp(_) => tcp,
            }),
            isolated,
            own,
        };
        if sidecar.forward.is_some_and(|address| address.port() == 0) {
            bail!(
                "the running sidecar's forward listener has no fixed port: give it one in `listeners[].address`"
            );
        }
        if sidecar.forward.is_none() && sidecar.reverse.is_none() {
            bail!(
                "no listener that an agent can call: add `{{mode: forward, address: 127.0.0.1:15002, tls: intercept}}` to `listeners`"
            );
        }
        Ok(sidecar)
    }

    pub(in crate::cli) fn control(&self) -> &Path {
        &self.control
    }

    /// Whether it was started for this agent alone.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Where the forward listener listens.
    pub(super) fn listener(&self) -> Option<SocketAddr> {
        self.forward
    }

    /// Where services are called by their names.
    pub(in crate::cli) fn reverse(&self) -> Option<&ListenAddress> {
        self.reverse.as_ref()
    }

    /// The proxy, as the agent reaches it.
    pub(super) fn proxy(&self) -> Option<SocketAddr> {
        self.forward.map(|address| self.reached(address))
    }

    /// The base of URLs, as the agent reaches it.
    pub(super) fn base(&self) -> Option<SocketAddr> {
        match self.reverse {
            Some(ListenAddress::Tcp(address)) => Some(self.reached(address)),
            Some(ListenAddress::Unix(_)) | None => None,
        }
    }

    /// A listener on every address is on loopback, too, and no other leads out of a namespace.
    fn reached(&self, address: SocketAddr) -> SocketAddr {
        if self.isolated || address.ip().is_unspecified() {
            (Ipv4Addr::LOCALHOST, address.port()).into()
        } else {
            address
        }
    }

    /// Ends the sidecar if it is our own.
    pub(super) fn stop(self) {
        drop(self);
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let Some(child) = &mut self.own else {
            return;
        };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).ok();
        }
        child.wait().ok();
    }
}

fn configured(loaded: &Loaded) -> Vec<(String, ListenAddress)> {
    let listeners = loaded.config.listeners.iter();
    listeners
        .map(|one| (one.name().to_owned(), one.address.clone()))
        .collect()
}

/// Starts a sidecar and waits until it listens.
fn start(file: &Path, isolated: bool) -> anyhow::Result<(Child, Vec<(String, ListenAddress)>)> {
    let mut command = Command::new(this_program()?);
    command.args(["run", "--json", "--leashed", "-c"]).arg(file);
    if isolated {
        command.arg("--exec-isolated");
    }
    if std::env::var_os("OUTRIDER_LOG").is_none() {
        // The terminal is the agent's.
        command.env("OUTRIDER_LOG", "error");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What is typed is for the agent.
        .process_group(0)
        .spawn()
        .context("cannot start a sidecar")?;
    let mut first = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut first)?;
    }
    if let Some(listening) = listening(&first) {
        return Ok((child, listening));
    }
    let status = child.wait()?;
    bail!("the sidecar did not start ({status}): see what it says above, or `outrider check`")
}

/// Where a sidecar says that it listens.
fn listening(first: &str) -> Option<Vec<(String, ListenAddress)>> {
    let said: serde_json::Value = serde_json::from_str(first).ok()?;
    let listeners = said.get("listening")?.as_array()?;
    let one = |listener: &serde_json::Value| {
        let name = listener.get("name")?.as_str()?.to_owned();
        Some((name, listener.get("address")?.as_str()?.parse().ok()?))
    };
    listeners.iter().map(one).collect()
}
