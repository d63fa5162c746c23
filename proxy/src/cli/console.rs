//! `outrider console`: a page for whoever operates a sidecar.
//!
//! A process of its own, run by the operator: it reads the decision log and asks the control socket,
//! as the other commands do, and shows both to a browser. The page is embedded, asks nobody else for
//! anything, and gets nothing without the token that stands behind the `#` of its address.

mod answers;
mod recent;

use std::{
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::LocalSet,
};

use super::{DEFAULT, read, record_of};
use crate::server::{self, Door};
use answers::Console;
use recent::Recent;

/// Open a page with live decisions, tasks and revocation
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Run it as root or as the sidecar's user, who may read its log and use its control socket. The page \
is on this machine only: from elsewhere, forward the port with ssh -L. Ctrl-C ends it, and with it the token in its address."
)]
pub struct Args {
    /// Configuration of the sidecar
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// Where the page is, on loopback
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// A Unix socket instead, for this user alone
    #[arg(long, value_name = "PATH", conflicts_with = "address")]
    socket: Option<PathBuf>,
    /// Open it in a browser
    #[arg(long)]
    open: bool,
    /// Print the address as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Serves the page until SIGINT or SIGTERM.
///
/// # Errors
/// The configuration cannot be read, or the address cannot be had.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if !args.address.ip().is_loopback() {
        bail!(
            "`{}` is reached from elsewhere: give a loopback address, and forward its port with `ssh -L`",
            args.address
        );
    }
    let loaded = read(&args.config)?;
    let log = record_of(&loaded);
    let control = loaded.config.control.as_ref();
    let control = control.map(|control| loaded.resolve(&control.socket));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let (door, hosts, base, _file) = open_door(args)?;
    let mut ends = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    ];
    drop(entered);
    let token = token()?;
    let console = Arc::new(Console {
        token: token.clone(),
        hosts,
        admin: loaded.config.admin.map(|admin| admin.address),
        agent: loaded.config.agent.id.0.clone(),
        environment: loaded.config.environment.clone(),
        recent: Recent::of(&log),
        log,
        control,
    });
    tell(args, &base, &token)?;
    let work = async {
        let (stop, stopping) = watch::channel(false);
        let answer = move |request| {
            let console = Arc::clone(&console);
            async move { console.answer(request).await }
        };
        let serving = server::serve(door, None, answer, stopping);
        let [interrupt, terminate] = &mut ends;
        let told = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.send_replace(true);
            // A browser keeps its connections: who ends this does not wait for it.
        };
        tokio::select! {
            () = serving => {}
            () = told => {}
        }
    };
    LocalSet::new().block_on(&runtime, work);
    Ok(ExitCode::SUCCESS)
}

/// Says where the page is.
fn tell(args: &Args, base: &str, token: &str) -> anyhow::Result<()> {
    let url = format!("{base}/#token={token}");
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::json!({ "url": url }))?;
    } else {
        writeln!(out, "{url}")?;
    }
    out.flush()?;
    if args.open && args.socket.is_none() {
        let mut browser = Command::new("xdg-open");
        let browser = browser
            .arg(&url)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if browser.spawn().is_err() {
            writeln!(
                io::stderr(),
                "no `xdg-open` here: open the address above yourself"
            )?;
        }
    }
    Ok(())
}

/// A secret that lives as long as this process.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .ok()
        .context("no random numbers are to be had")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A socket's file, which goes with the process.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

type Opened = (Door, Vec<String>, String, Option<File>);

/// Listens; gives the hosts that are answered and the page's address.
fn open_door(args: &Args) -> anyhow::Result<Opened> {
    if let Some(path) = &args.socket {
        return open_socket(path);
    }
    let bound = std::net::TcpListener::bind(args.address);
    let bound = bound.with_context(|| format!("cannot listen on `{}`", args.address))?;
    bound.set_nonblocking(true)?;
    let address = bound.local_addr()?;
    let host = match address.ip() {
        IpAddr::V4(ip) => format!("{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("[{ip}]:{}", address.port()),
    };
    let hosts = vec![host.clone(), format!("localhost:{}", address.port())];
    let door = Door::from(TcpListener::from_std(bound)?);
    Ok((door, hosts, format!("http://{host}"), None))
}

fn open_socket(path: &Path) -> anyhow::Result<Opened> {
    // Where somebody listens, or something else stands, nothing is taken away.
    let bound = UnixListener::bind(path);
    let bound = bound.with_context(|| {
        format!(
            "cannot listen on `{}`: remove what is there",
            path.display()
        )
    })?;
    let file = File(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let hosts = vec!["localhost".to_owned()];
    Ok((
        Door::Unix(bound),
        hosts,
        "http://localhost".into(),
        Some(file),
    ))
}
