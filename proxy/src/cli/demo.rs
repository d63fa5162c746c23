//! `outrider demo`: tool server, sidecar and agent in one terminal.

mod agent;
mod report;
mod script;
mod sidecar;
pub(crate) mod tool_server;

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;

use agent::{Agent, Answered};
use report::{Files, Form, Line};
use script::{Revoked, Step};
use sidecar::Sidecar;
use tool_server::ToolServer;

use crate::config::Compiler;

/// Start everything at once, in one terminal
///
/// Starts a tool server, the sidecar before it with the configuration that `outrider init`
/// writes, and an agent that makes twelve calls over MCP and REST, seven of which are refused for
/// different reasons.
/// Prints a line per call, `TOOL OUTCOME CODE DECISION_ID ADDED`, then the paths of the record and
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
    let address = args
        .tools_only
        .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
    let server =
        ToolServer::start(address).with_context(|| format!("cannot listen on `{address}`"))?;
    if args.tools_only.is_some() {
        writeln!(io::stdout(), "tools at {}", server.url()).context("cannot print")?;
        server.wait();
        return Ok(ExitCode::SUCCESS);
    }
    let sidecar = Sidecar::start(&server.origin(), Compiler::of_this_program())?;
    let form = Form::asked(args.json, &io::stdout());
    let flaws = play(&sidecar, &server, form, &mut io::stdout())?;
    sidecar.stop();
    for flaw in &flaws {
        writeln!(io::stderr(), "error: {flaw}")?;
    }
    Ok(ExitCode::from(u8::from(!flaws.is_empty())))
}

/// Plays the script and tells of it; gives what went otherwise than it should.
fn play(
    sidecar: &Sidecar,
    server: &ToolServer,
    form: Form,
    out: &mut dyn Write,
) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (task, token) = sidecar.open_task()?;
    let mut agent = Agent::new(&sidecar.url()?, token.expose())?;
    let record = sidecar.record();
    let mut flaws = Vec::new();
    let steps = script::steps();
    form.begin(out)?;
    for step in &steps {
        if step.revoked == Revoked::Before {
            sidecar.revoke(&task)?;
        }
        let line = runtime.block_on(call(&mut agent, step, &record))?;
        form.line(&line, step.why, out)?;
        flaws.extend(flaw(&line, step));
    }
    let metrics = runtime.block_on(sidecar.save_metrics())?;
    form.end(
        &Files { record, metrics },
        &reached(server, steps.len()),
        out,
    )?;
    Ok(flaws)
}

fn reached(server: &ToolServer, of: usize) -> String {
    format!("{} of {of} calls reached the tool server", server.calls())
}

async fn call(agent: &mut Agent, step: &Step, record: &Path) -> anyhow::Result<Line> {
    let answered = agent.call(step.tool, &step.how).await?;
    let (outcome, added) = report::recorded(record, &answered.decision_id)?;
    let Answered {
        code,
        decision_id,
        progress,
    } = answered;
    Ok(Line {
        tool: step.tool.to_owned(),
        code,
        decision_id,
        outcome,
        added,
        progress,
    })
}

/// What is wrong with how a call was decided.
fn flaw(line: &Line, step: &Step) -> Option<String> {
    if line.progress != step.progress {
        return Some(format!(
            "`{}` gave {} events before its result, expected {}",
            line.tool, line.progress, step.progress
        ));
    }
    let outcome = if step.expected == script::OK {
        "allow"
    } else {
        "deny"
    };
    let Line {
        tool,
        code,
        outcome: recorded,
        decision_id,
        ..
    } = line;
    (code != step.expected || recorded != outcome)
        .then(|| format!("`{tool}` was decided {recorded} {code}, expected {outcome} {}: see decision {decision_id}", step.expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the script before a sidecar of its own and gives what was printed.
    fn played(form: Form) -> String {
        let server = ToolServer::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let sidecar = Sidecar::start(&server.origin(), Compiler::Here).unwrap();
        let mut out = Vec::new();
        let flaws = play(&sidecar, &server, form, &mut out).unwrap();
        let directory = sidecar.record().parent().unwrap().to_owned();
        sidecar.stop();
        assert!(directory.join("metrics.txt").exists());
        std::fs::remove_dir_all(directory).unwrap();
        assert_eq!(flaws, [""; 0]);
        assert_eq!(server.calls(), 5);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_call_is_decided_as_the_script_says_and_told_in_five_columns() {
        let text = played(Form::Text);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let told: Vec<&str> = lines[..12].iter().map(|columns| columns[2]).collect();
        let expected = script::steps();
        assert_eq!(
            told,
            expected
                .iter()
                .map(|step| step.expected)
                .collect::<Vec<_>>()
        );
        assert!(
            lines[..12]
                .iter()
                .all(|columns| columns.len() == 5 && columns[4].ends_with("ms")),
            "{text}"
        );
        assert_eq!((lines[12][0], lines[13][0]), ("record", "metrics"));
    }

    #[test]
    fn a_program_reads_an_object_a_line_and_the_paths_last() {
        let text = played(Form::Json);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 13, "{text}");
        assert!(
            lines[..12]
                .iter()
                .all(|line| line["decision_id"].is_string() && line["added_us"].is_u64())
        );
        assert!(lines[12]["record"].is_string() && lines[12]["metrics"].is_string());
    }

    #[test]
    fn a_call_that_is_decided_otherwise_is_a_flaw() {
        let step = &script::steps()[0];
        let line = |code: &str, outcome: &str, progress| Line {
            tool: "tickets/search_tickets".into(),
            code: code.into(),
            decision_id: String::new(),
            outcome: outcome.into(),
            added: std::time::Duration::ZERO,
            progress,
        };
        assert_eq!(flaw(&line("ok", "allow", 0), step), None);
        for wrong in [
            line("policy_denied", "deny", 0),
            line("ok", "deny", 0),
            line("ok", "allow", 1),
        ] {
            assert!(flaw(&wrong, step).is_some(), "{wrong:?}");
        }
    }
}
