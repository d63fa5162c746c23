//! `outrider exec`: an agent beside a sidecar, from its task's opening to its end.
//!
//! In: a command. Out: its exit status, and what it called on standard error. Where no sidecar runs
//! one is started; a task is opened for the intent; the agent gets the variables by which its
//! runtime finds proxy, trust and token. With `--isolate` it gets nothing else.

mod agent;
mod bridge;
mod environment;
mod isolate;
mod lent;
mod namespace;
mod plan;
mod sidecar;
mod summary;
mod task;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{DEFAULT, read};
pub(super) use agent::Ended;
pub use agent::Leash;
use environment::Trust;
pub(super) use environment::private_directory;
pub(super) use lent::Lent;
pub use namespace::{Enter, Within};
pub(super) use sidecar::Sidecar;
use summary::Summary;
pub(super) use task::{OpenedFor, TaskOf};

/// Run an agent behind a sidecar: its variables set, its task opened and closed
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Uses the sidecar that runs with this configuration, or starts one. The agent's runtime finds the \
forward listener by HTTP_PROXY and HTTPS_PROXY, which carry the task's token, and the authority behind \
interception by SSL_CERT_FILE and its kin. Without --isolate an agent that ignores them goes round. \
Exit status: the agent's, 128 and the signal's number if it was killed; 2 if it was not started."
)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    #[command(flatten)]
    task: OpenedFor,
    /// Leave the agent no other way out: own user, mount, pid and network namespaces
    #[arg(long)]
    isolate: bool,
    /// With --isolate, as root: the user the agent runs as [default: who owns the working directory, else nobody]
    #[arg(long, value_name = "UID", requires = "isolate")]
    user: Option<u32>,
    /// Print the summary as one line of JSON
    #[arg(long)]
    json: bool,
    /// Print no summary
    #[arg(short, long)]
    quiet: bool,
    /// The agent and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the agent to its end.
///
/// # Errors
/// What kept the agent from being started.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = read(&args.config)?;
    let intent = args.task.intent(&loaded)?;
    let isolated = args
        .isolate
        .then(|| isolate::Prepared::new(&loaded, args.user))
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let sidecar = Sidecar::find_or_start(&args.config, &loaded, args.isolate)?;
        let task = args.task.open(sidecar.control(), intent)?;
        let trust = Trust::of(&loaded)?;
        let variables = environment::variables(&sidecar, &task, &trust)?;
        let log = super::record_of(&loaded);
        let summary = Summary::begin(&log, &task.id, sidecar.is_own());
        let ended = match isolated {
            Some(prepared) => prepared.run(&args.command, &variables, &sidecar).await?,
            None => agent::run(&args.command, &variables).await?,
        };
        task.close();
        sidecar.stop();
        if !args.quiet {
            tell(&summary, args.json, &log);
        }
        Ok(ended.into())
    })
}

fn tell(summary: &Summary, json: bool, log: &Path) {
    let text = match summary.end() {
        Ok(told) if json => told.to_json(),
        Ok(told) => told.to_string(),
        Err(error) => format!("no summary: cannot read `{}`: {error}", log.display()),
    };
    // Nothing more can be done when even standard error is gone.
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// This program, to be started again as something else.
pub(super) fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}
