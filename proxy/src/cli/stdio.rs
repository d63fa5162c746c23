//! `outrider stdio`: stands in place of an MCP server's command, so that what passes between client
//! and server passes the sidecar.
//!
//! In: the client's messages, a line each. Each becomes a request to a listener of the sidecar, is
//! decided there as any other, and comes back to a private socket of ours, behind which the server
//! runs as our child. Out: what the sidecar lets pass of the server's answers, a line each.

mod agent;
mod lines;
mod message;
mod process;
mod server;
mod socket;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use self::{agent::Agent, process::Process, server::Server, socket::Socket};
use super::{
    DEFAULT,
    exec::{Ended, OpenedFor, Sidecar, TaskOf},
    read,
};
use crate::{
    call::ServiceName,
    control::wire::Token,
    listen::ListenAddress,
    upstream::{Upstream, WRAPPER, Wrapper},
};

/// The task token's variable; the server does not get it.
const TOKEN: &str = "OUTRIDER_TASK_TOKEN";
/// How long what the server said last may take to reach the client, once the server is gone.
const LAST: Duration = Duration::from_secs(2);

/// Wrap an MCP server that speaks on its standard input: each message is decided
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Write it before the server's command where the MCP client's configuration has that. The service's \
section has `protocol: mcp` and `upstream: stdio`. With --url the sidecar that listens there is used and no \
configuration is read; else the one that runs with the configuration, or one is started. The task's token comes by \
OUTRIDER_TASK_TOKEN; without it a task is opened for the intent, and closed at the end. Standard error is the \
server's. Exit status: the server's, 128 and the signal's number if it was killed; 2 if it was not started."
)]
pub struct Args {
    /// The service that the server is
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Configuration file [default: `outrider.yaml`, where `OUTRIDER_URL` is not set]
    #[arg(short, long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// A reverse listener of a running sidecar: http://HOST:PORT or unix:PATH [default: `OUTRIDER_URL`]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    task: OpenedFor,
    /// The server and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the server to its end.
///
/// # Errors
/// What kept the server from being started.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let service = ServiceName::try_from(args.service.clone())
        .with_context(|| format!("`--service {}`", args.service))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, wrap(args, &service));
    // Somebody may still hold our standard input open: it is not waited for.
    runtime.shutdown_background();
    Ok(ended?.into())
}

/// A server that runs as our child, behind a private socket.
#[derive(Debug)]
pub(super) struct Hosted {
    process: Process,
    server: Rc<Server>,
    path: PathBuf,
    key: String,
}

impl Hosted {
    /// Starts one; it is served as long as the local tasks run.
    ///
    /// # Errors
    /// There can be no socket, or no process.
    pub(super) fn start(command: &[String]) -> anyhow::Result<Self> {
        let socket = Socket::bind()?;
        let (path, key) = (socket.path().to_owned(), socket.key().to_owned());
        let (process, pipes) = Process::start(command, TOKEN)?;
        let server = Server::begin(pipes);
        tokio::task::spawn_local(socket.serve(Rc::clone(&server)));
        Ok(Self {
            process,
            server,
            path,
            key,
        })
    }

    /// Where it is, for whoever asks it without a sidecar.
    ///
    /// # Errors
    /// Its key is no part of a URL.
    pub(super) fn upstream(&self) -> anyhow::Result<Upstream> {
        let wrapper = Wrapper::ours(&self.path, &self.key)?;
        Ok(Upstream::stdio().of_wrapper(&wrapper))
    }
}

/// The sidecar that decides, and by which task.
struct Beside {
    upstream: Upstream,
    token: Option<Token>,
    // In the order of their ends.
    task: Option<TaskOf>,
    sidecar: Option<Sidecar>,
}

async fn wrap(args: &Args, service: &ServiceName) -> anyhow::Result<Ended> {
    let beside = beside(args, service)?;
    let mut hosted = Hosted::start(&args.command)?;
    let agent = Rc::new(Agent::new(
        beside.upstream.clone(),
        headers(&hosted, beside.token())?,
    )?);
    let ended = talk(&agent, &mut hosted).await;
    drop(beside.task);
    drop(beside.sidecar);
    ended
}

/// Until the client has no more to say, the server is gone, or we are told to end.
async fn talk(agent: &Rc<Agent>, hosted: &mut Hosted) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let told = tokio::select! {
        biased;
        ended = hosted.process.wait() => {
            // What it said last, and what is said in its place, is still to reach the client.
            timeout(LAST, agent.settled()).await.ok();
            return ended;
        }
        _ = terminate.recv() => Some(rustix::process::Signal::TERM),
        _ = interrupt.recv() => Some(rustix::process::Signal::INT),
        _ = hang_up.recv() => Some(rustix::process::Signal::HUP),
        () = agent.run(tokio::io::stdin()) => None,
    };
    hosted.server.close();
    hosted.process.end(told).await
}

/// What goes with each message: where the server is, and the task's token.
fn headers(hosted: &Hosted, token: Option<&Token>) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(WRAPPER, Wrapper::told(&hosted.path, &hosted.key)?);
    if let Some(token) = token {
        let mut token = HeaderValue::from_str(token.expose())
            .with_context(|| format!("`{TOKEN}` is no token"))?;
        token.set_sensitive(true);
        headers.insert(HeaderName::from_static("outrider-task-token"), token);
    }
    Ok(headers)
}

impl Beside {
    fn token(&self) -> Option<&Token> {
        self.token
            .as_ref()
            .or(self.task.as_ref().map(|task| &task.token))
    }
}

fn beside(args: &Args, service: &ServiceName) -> anyhow::Result<Beside> {
    let told = |name| std::env::var(name).ok().filter(|told| !told.is_empty());
    let token = told(TOKEN).map(Token::from);
    let url = args.url.clone().or_else(|| told("OUTRIDER_URL"));
    if let (Some(url), None) = (&url, &args.config) {
        return Ok(Beside {
            upstream: at(url, service)?,
            token,
            task: None,
            sidecar: None,
        });
    }
    let file = args.config.as_deref().unwrap_or(Path::new(DEFAULT));
    let loaded = read(file)?;
    let sidecar = Sidecar::find_or_start(file, &loaded, false)?;
    let upstream = match sidecar.reverse() {
        Some(ListenAddress::Tcp(address)) if address.port() == 0 => anyhow::bail!(
            "the running sidecar's reverse listener has no fixed port: give it one in `listeners[].address`, or name it by `--url`"
        ),
        Some(ListenAddress::Tcp(address)) => at(&format!("http://{address}"), service)?,
        Some(ListenAddress::Unix(path)) => at(&format!("unix:{}", path.display()), service)?,
        None => anyhow::bail!(
            "{}: no `reverse` listener: add `{{mode: reverse, address: 127.0.0.1:15001}}` to `listeners`",
            file.display()
        ),
    };
    let open = || {
        let intent = args.task.intent(&loaded)?;
        args.task.open(sidecar.control(), intent)
    };
    let task = token.is_none().then(open).transpose()?;
    Ok(Beside {
        upstream,
        token,
        task,
        sidecar: Some(sidecar),
    })
}

/// The service behind a listener.
fn at(listener: &str, service: &ServiceName) -> anyhow::Result<Upstream> {
    if let Some(path) = listener.strip_prefix("unix:") {
        let target: Uri = format!("/{service}").parse()?;
        return Ok(Upstream::of_socket(path.as_ref(), target));
    }
    let url = format!("{}/{service}", listener.trim_end_matches('/'));
    Upstream::parse(&url).with_context(|| format!("`{listener}`"))
}
