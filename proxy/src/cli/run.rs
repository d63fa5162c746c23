//! `outrider run`: the sidecar, until it is told to stop.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use rustix::process::set_parent_process_death_signal;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

use super::DEFAULT;
use crate::{
    config::{self, Compiler, Loaded},
    serve::{self, Options, Running},
};

/// Start the sidecar
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGHUP and file changes reload: a bad file keeps the old configuration. \
SIGTERM and SIGINT drain: running calls finish, nothing new is accepted. \
OUTRIDER_LOG sets what is logged on standard error, such as `info` or `outrider=debug`."
)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// Open a task of the only intent, bound to the only listener, for 24 h; off in production
    #[arg(long)]
    open_task: bool,
    /// Take over from the sidecar that runs with this configuration: its sockets, log and tasks; no
    /// connection is lost
    #[arg(long, conflicts_with = "open_task")]
    take_over: bool,
    /// End with whoever started it
    #[arg(long, hide = true)]
    leashed: bool,
    /// Every agent runs under `exec --isolate`
    #[arg(long, hide = true)]
    exec_isolated: bool,
    /// Print where it listens as one line of JSON on standard output; log as JSON
    #[arg(long)]
    json: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When nothing could be started.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    log_to_stderr(args.json);
    if args.leashed {
        set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    }
    let loaded = match config::load(&args.config) {
        Ok(loaded) => Loaded {
            exec: args.exec_isolated,
            ..loaded
        },
        Err(failure) => {
            failure
                .problems
                .iter()
                .for_each(|problem| eprintln!("error: {problem}"));
            return Ok(ExitCode::from(2));
        }
    };
    let options = Options {
        compiler: Compiler::of_this_program(),
        open_task: args.open_task,
        take_over: args.take_over,
    };
    let signals = Signals::listen()?;
    let running = serve::start(loaded, &options)?;
    if args.json {
        println!("{}", running.banner().to_json());
    } else {
        eprintln!("{}", running.banner());
    }
    until_told(&running, signals)?;
    running.stop();
    Ok(ExitCode::SUCCESS)
}

/// The signals that tell a sidecar something, from before it can be told: none ends it unheard.
struct Signals {
    runtime: Runtime,
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listen = |kind| {
            let _entered = runtime.enter();
            signal(kind)
        };
        Ok(Self {
            hang_up: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            runtime,
        })
    }
}

/// Waits for a signal to stop, or until a successor has taken over; reloads on SIGHUP.
fn until_told(running: &Running, signals: Signals) -> anyhow::Result<()> {
    let Signals {
        runtime,
        mut hang_up,
        mut terminate,
        mut interrupt,
    } = signals;
    loop {
        let stop = runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                () = running.stopped() => true,
                _ = hang_up.recv() => false,
            }
        });
        if stop {
            return Ok(());
        }
        // The result is logged and counted where it happens.
        running.reload().ok();
    }
}

/// Structured logs on standard error: for people on a terminal, as JSON elsewhere if asked.
pub(super) fn log_to_stderr(json: bool) {
    let filter = EnvFilter::try_from_env("OUTRIDER_LOG")
        .unwrap_or_else(|_| EnvFilter::new("outrider=info,warn"));
    let colours = std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    // A second subscriber in one process is refused, which changes nothing.
    if json {
        logs.json().flatten_event(true).try_init().ok();
    } else {
        logs.try_init().ok();
    }
}
