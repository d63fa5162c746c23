//! `outrider demo`: tool server, sidecar and agent in one terminal.

mod agent;
mod report;
mod script;
mod sidecar;
pub(crate) mod tool_server;

use std::{
    io::{self, IsTerminal as _, Write},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;

use agent::{Agent, Answered};
use report::Line;
use script::{Revoked, Step};
use sidecar::Sidecar;
use tool_server::ToolServer;

/// Start everything at once, in one terminal
///
/// Starts a tool server, the sidecar before it with the configuration that `outrider init`
/// writes, and an agent that makes nine calls, six of which are refused for different reasons.
/// Prints a line per call: TOOL OUTCOME CODE DECISION_ID ADDED; then the paths of the record and
/// of the metrics.
///
/// ADDED is the time from the arrival of a call until its decision stands in the record
/// (`metrics.timer_server_handler_ns` of its line). The tool's own time is not in it.
///
/// Exit status 1: a call was not decided as it should be.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print JSON: an object a line, the last one with the paths
    #[arg(long)]
    json: bool,
    /// Only serve the tools there, such as 127.0.0.1:3001, for a sidecar of your own
    #[arg(long, value_name = "ADDRESS", conflicts_with = "json")]
    tools_only: Option<SocketAddr>,
}

/// Runs `outrider demo`. An error means that something could not be started: exit status 2.
///
/// # Errors
/// When a part does not start, or does not answer at all.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let address = args.tools_only.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
    let server = ToolServer::start(address).with_context(|| format!("cannot listen on `{address}`"))?;
    if args.tools_only.is_some() {
        writeln!(io::stdout(), "tools at {}", server.url()).context("cannot print")?;
        server.wait();
        return Ok(ExitCode::SUCCESS);
    }
    let sidecar = Sidecar::start(&server.url())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let played = runtime.block_on(play(args, &sidecar, &server));
    sidecar.stop();
    played
}

async fn play(args: &Args, sidecar: &Sidecar, server: &ToolServer) -> anyhow::Result<ExitCode> {
    let (task, token) = sidecar.open_task()?;
    let agent = Agent::new(&sidecar.url()?, token.expose())?;
    let record = sidecar.record();
    let teller = Teller::new(args);
    teller.begin()?;
    let steps = script::steps();
    let mut wrong = Vec::new();
    for step in &steps {
        if step.revoked == Revoked::Before {
            sidecar.revoke(&task)?;
        }
        let line = call(&agent, step, &record).await?;
        teller.line(&line, step)?;
        wrong.extend(flaw(&line, step));
    }
    let metrics = sidecar.save_metrics().await?;
    teller.end(&record, &metrics, (server.calls(), steps.len()))?;
    for flaw in &wrong {
        writeln!(io::stderr(), "error: {flaw}")?;
    }
    Ok(ExitCode::from(u8::from(!wrong.is_empty())))
}

async fn call(agent: &Agent, step: &Step, record: &Path) -> anyhow::Result<Line> {
    let answered = agent.call(step.operation, &step.arguments).await?;
    let (outcome, added) = report::recorded(record, &answered.decision_id)?;
    let Answered { code, decision_id, progress } = answered;
    Ok(Line { tool: format!("tickets/{}", step.operation), code, decision_id, outcome, added, progress })
}

/// What is wrong with how a call was decided.
fn flaw(line: &Line, step: &Step) -> Option<String> {
    if line.progress != step.progress {
        return Some(format!("`{}` gave {} events before its result, expected {}", line.tool, line.progress, step.progress));
    }
    let outcome = if step.expected == script::OK { "allow" } else { "deny" };
    let Line { tool, code, outcome: recorded, decision_id, .. } = line;
    (code != step.expected || recorded != outcome)
        .then(|| format!("`{tool}` was decided {recorded} {code}, expected {outcome} {}: see decision {decision_id}", step.expected))
}

/// Who is told, and in which form.
#[derive(Debug, Clone, Copy)]
enum Teller {
    /// A person who watches: columns, and between them what to look at.
    Terminal,
    /// A person who reads later: columns alone.
    Text,
    /// A program.
    Json,
}

impl Teller {
    fn new(args: &Args) -> Self {
        match (args.json, io::stdout().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Text,
        }
    }

    fn begin(self) -> io::Result<()> {
        match self {
            Self::Terminal => writeln!(io::stdout(), "{}", report::header()),
            Self::Text | Self::Json => Ok(()),
        }
    }

    fn line(self, line: &Line, step: &Step) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Self::Terminal => writeln!(out, "{}  {}", line.human(), step.why),
            Self::Text => writeln!(out, "{}", line.human()),
            Self::Json => writeln!(out, "{}", line.json()),
        }
    }

    fn end(self, record: &Path, metrics: &Path, (reached, of): (usize, usize)) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if matches!(self, Self::Json) {
            return writeln!(out, "{}", serde_json::json!({"record": record, "metrics": metrics}));
        }
        writeln!(out, "record   {}", record.display())?;
        writeln!(out, "metrics  {}", metrics.display())?;
        let config = sidecar::config_of(record);
        writeln!(
            out,
            "{reached} of {of} calls reached the tool server, under {}. To go on: outrider init",
            config.display()
        )
    }
}
