//! An isolated agent, seen from outside: what it is started with, and the bridge to its sidecar.
//!
//! The agent's namespaces hold nothing that leads out. The two ports of their loopback address are
//! listened on by a socket that is handed out here: what is accepted there goes to the sidecar, over
//! connections that are made outside.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::MetadataExt as _, fs::PermissionsExt as _},
    path::PathBuf,
};

use anyhow::Context as _;
use tokio::{net::UnixListener, process::Command, task::JoinSet};

use super::{
    agent::{self, Ended},
    bridge,
    environment::{Variables, private_directory},
    namespace::Enter,
    plan::{EMPTY, Plan, hidden, sockets},
    sidecar::Sidecar,
    this_program,
};
use crate::{config::Loaded, link::Link, listen::ListenAddress};

/// Whoever owns nothing.
const NOBODY: u32 = 65_534;

/// An isolation that can be had, as far as can be told before anything is started.
#[derive(Debug)]
pub(super) struct Prepared {
    working: PathBuf,
    hidden: Vec<PathBuf>,
    /// Another user than we are.
    user: Option<u32>,
}

impl Prepared {
    pub(super) fn new(loaded: &Loaded, user: Option<u32>) -> anyhow::Result<Self> {
        let working = fs::canonicalize(std::env::current_dir()?)?;
        let hidden = hidden(loaded, &working)?;
        let root = rustix::process::geteuid().is_root();
        let user = match (root, user) {
            (true, Some(0)) => {
                anyhow::bail!("`--user`: root is not isolated from root's files: name another user")
            }
            (true, Some(user)) => Some(user),
            (true, None) => match fs::metadata(&working)?.uid() {
                0 => Some(NOBODY),
                owner => Some(owner),
            },
            (false, Some(_)) => anyhow::bail!("`--user` is for root: leave it out"),
            (false, None) => None,
        };
        Ok(Self {
            working,
            hidden,
            user,
        })
    }

    /// Runs an agent to its end.
    pub(super) async fn run(
        self,
        command: &[String],
        variables: &Variables,
        sidecar: &Sidecar,
    ) -> anyhow::Result<Ended> {
        let places = places(sidecar);
        let room = Room::new()?;
        let plan = Plan {
            ports: places.iter().map(|(port, _)| *port).collect(),
            empty: usual(),
            hidden: self.hidden,
            sockets: sockets()?,
            kept: variables.files()?,
            working: self.working,
        };
        fs::write(Plan::of(&room.0), serde_json::to_vec(&plan)?)?;
        let door = UnixListener::bind(room.0.join("door"))?;
        if self.user.is_some() {
            let anybody = fs::Permissions::from_mode(0o666);
            fs::set_permissions(room.0.join("door"), anybody)?;
        }
        let mut enter = Command::new(this_program()?);
        enter.arg(Enter::NAME).arg(&room.0).arg("--").args(command);
        variables.apply(&mut enter);
        if let Some(user) = self.user {
            // Whoever starts as another user has no group of ours either.
            enter.uid(user).gid(user);
        }
        let mut child = enter.kill_on_drop(true).spawn()?;
        let link = tokio::select! {
            met = door.accept() => Link::over(met?.0),
            status = child.wait() => return Ok(status?.into()),
        };
        let sockets = tokio::select! {
            met = link.receive::<()>() => met?,
            status = child.wait() => return Ok(status?.into()),
        };
        let mut bridges = JoinSet::new();
        let ((), sockets) = sockets.context("the agent's namespaces could not be made")?;
        for (socket, (_, place)) in sockets.into_iter().zip(places) {
            bridges.spawn_local(bridge::serve(TcpListener::from(socket), place)?);
        }
        agent::wait(child, false).await
    }
}

/// What begins empty, as far as it is there.
fn usual() -> Vec<PathBuf> {
    let all = EMPTY.iter().map(PathBuf::from);
    all.filter(|path| path.is_dir()).collect()
}

/// Where the ports inside lead.
fn places(sidecar: &Sidecar) -> Vec<(u16, ListenAddress)> {
    let forward = sidecar.listener().map(ListenAddress::Tcp);
    let port = |address: &ListenAddress| match address {
        ListenAddress::Tcp(address) => Some(SocketAddr::port(address)),
        ListenAddress::Unix(_) => None,
    };
    let all = forward.into_iter().chain(sidecar.reverse().cloned());
    all.filter_map(|address| Some((port(&address)?, address)))
        .collect()
}

/// A directory that is gone when dropped.
#[derive(Debug)]
struct Room(PathBuf);

impl Room {
    fn new() -> anyhow::Result<Self> {
        private_directory("outrider-exec").map(Self)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
