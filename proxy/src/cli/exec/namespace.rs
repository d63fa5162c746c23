//! The namespaces of an isolated agent, seen from inside: made by one process, furnished by the next,
//! which is the first of its PID namespace, and inherited by the agent without a capability.
//!
//! What is made empty or covered here stays so: the agent can make user namespaces of its own, in
//! which the mounts of these are locked (`mount_namespaces(7)`).

use std::{
    ffi::CStr,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind,
        mount_change, move_mount, open_tree,
    },
    net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, sendto, socket},
    process::{Signal, set_parent_process_death_signal, setsid},
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};
use tokio::{net::UnixStream, process::Command};

use super::{agent, plan::Plan, this_program};
use crate::link::Link;

/// Makes the namespaces, and hands out what is listened on in them.
#[derive(Debug, clap::Args)]
pub struct Enter {
    room: PathBuf,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Enter {
    /// The hidden command.
    pub const NAME: &'static str = "exec-enter";

    /// Runs to the end of the agent.
    ///
    /// # Errors
    /// What could not be set up; then no agent was started.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        close_fds::set_fds_cloexec(3, &[]);
        // One thread: what it leaves behind, all leave behind.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.entered())
    }

    async fn entered(&self) -> anyhow::Result<ExitCode> {
        let link = Link::over(UnixStream::connect(self.room.join("door")).await?);
        let plan = Plan::read(&self.room)?;
        leave()?;
        raise_loopback().context("the loopback address cannot be used")?;
        let listeners: Vec<_> = plan
            .ports
            .iter()
            .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)))
            .collect::<Result<_, _>>()?;
        let handed: Vec<_> = listeners.iter().map(|listener| listener.as_fd()).collect();
        link.send(&(), &handed).await?;
        drop((link, listeners));
        keep_capabilities().context("capabilities cannot be kept")?;
        let child = Command::new(this_program()?)
            .arg(Within::NAME)
            .arg(&self.room)
            .arg("--")
            .args(&self.command)
            .spawn()?;
        Ok(agent::wait(child, false).await?.into())
    }
}

/// Leaves every namespace that others share.
fn leave() -> anyhow::Result<()> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let all = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    #[expect(deprecated, reason = "its danger is to shared file descriptors, which stay shared here")]
    rustix::thread::unshare(all).context(
        "`--isolate` needs user namespaces, which this kernel or container does not allow: set `sysctl user.max_user_namespaces` above 0, and `kernel.unprivileged_userns_clone` or `kernel.apparmor_restrict_unprivileged_userns` so that they are allowed; or run the sidecar under another user and use `outrider net apply`",
    )?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write(
        "/proc/self/uid_map",
        format!("{uid} {uid} 1", uid = uid.as_raw()),
    )?;
    fs::write(
        "/proc/self/gid_map",
        format!("{gid} {gid} 1", gid = gid.as_raw()),
    )?;
    Ok(())
}

/// Sets the loopback interface up, by the one message for that (rtnetlink(7)).
fn raise_loopback() -> io::Result<()> {
    const NEW_LINK: u16 = 16;
    const REQUEST_ACK: u16 = 5;
    const UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    message.extend([1_u32, 0].map(u32::to_ne_bytes).concat());
    // Any family and type, interface 1, up: the flag and what of the flags is to change.
    message.extend([0_u32, 1, UP, UP].map(u32::to_ne_bytes).concat());
    let kernel = netlink::SocketAddrNetlink::new(0, 0);
    let talk = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sendto(&talk, &message, SendFlags::empty(), &kernel)?;
    let mut answer = [0; 64];
    recv(&talk, &mut answer[..], RecvFlags::empty())?;
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Furnishes the namespaces, and runs the agent in them: the first process there.
#[derive(Debug, clap::Args)]
pub struct Within {
    room: PathBuf,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Within {
    /// The hidden command.
    pub const NAME: &'static str = "exec-within";

    /// Runs to the end of the agent; with it everything ends that it started.
    ///
    /// # Errors
    /// What could not be furnished; then no agent was started.
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let plan = Plan::read(&self.room)?;
        // What is typed elsewhere is not for the agent, and what it types is for nobody.
        setsid()?;
        furnish(&plan)?;
        give_up_capabilities().context("capabilities cannot be given up")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (program, arguments) = self.command.split_first().context("no command was given")?;
        runtime.block_on(async {
            let child = Command::new(program)
                .args(arguments)
                .spawn()
                .with_context(|| format!("cannot start `{program}`"))?;
            Ok(agent::wait(child, false).await?.into())
        })
    }
}

fn furnish(plan: &Plan) -> anyhow::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("mounts cannot be made private")?;
    let nothing = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", nothing, None).context(
        "`/proc` cannot be mounted anew: a container that hides parts of it forbids that",
    )?;
    let working = open_tree(
        rustix::fs::CWD,
        &plan.working,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
    .with_context(|| format!("cannot keep `{}`", plan.working.display()))?;
    for directory in &plan.empty {
        empty(directory)?;
    }
    if plan
        .empty
        .iter()
        .any(|empty| plan.working.starts_with(empty))
    {
        fs::create_dir_all(&plan.working)?;
        move_mount(
            working,
            "",
            rustix::fs::CWD,
            &plan.working,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
    }
    // Now, since some of it may be in the place that has just come back.
    for directory in &plan.hidden {
        empty(directory)?;
    }
    for (file, text) in &plan.kept {
        if !file.exists() {
            let directory = file.parent().context("a file without a directory")?;
            fs::create_dir_all(directory)?;
            fs::write(file, text)?;
        }
    }
    for socket in &plan.sockets {
        cover(socket)?;
    }
    // The old place may be under a cover.
    std::env::set_current_dir(&plan.working)?;
    Ok(())
}

/// Makes a directory empty; one that cannot be reached is out of the agent's reach as well.
fn empty(directory: &Path) -> anyhow::Result<()> {
    let options: &CStr = c"mode=1777";
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    match mount("tmpfs", directory, "tmpfs", flags, options) {
        Ok(()) => Ok(()),
        Err(error) if is_out_of_reach(error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot hide `{}`", directory.display())),
    }
}

/// Puts nothing in a socket's place.
fn cover(file: &Path) -> anyhow::Result<()> {
    match mount_bind("/dev/null", file) {
        Ok(()) => Ok(()),
        Err(error) if is_out_of_reach(error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot hide `{}`", file.display())),
    }
}

fn is_out_of_reach(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::NOENT | Errno::ACCESS | Errno::NOTDIR)
}

/// Hands what the next process needs to furnish the namespaces over to it, whoever it runs as.
fn keep_capabilities() -> io::Result<()> {
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::SETPCAP;
    let own = capabilities(None)?;
    set_capabilities(
        None,
        CapabilitySets {
            inheritable: needed,
            ..own
        },
    )?;
    for capability in needed.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

fn give_up_capabilities() -> io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // One that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let none = CapabilitySet::empty();
    Ok(set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?)
}
