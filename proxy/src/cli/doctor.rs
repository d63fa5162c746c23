//! `outrider doctor`: asks a running sidecar how it stands, or tests which runtimes are caught.

mod calls;
mod runtime;
mod target;
mod verdict;

use std::{fmt::Write as _, io::Write, process::ExitCode};

use anyhow::Context;

use self::{
    runtime::Runtime,
    verdict::{Loopback, Report, Verdict, sound},
};
use super::task::{At, FindSocket};
use crate::{
    control::wire::{Reply, Request},
    doctor::{Finding, Health},
};

/// Ask a running sidecar how it stands, or test which runtimes here are caught
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Asks the running sidecar: identity, policy, logs, credentials. With --runtimes each runtime that is found \
makes a call with the variables that `outrider exec` sets, through a sidecar of this run alone; `caught` is what was decided \
and answered. Exit status: 1 when something is wrong, or a runtime that was found is not caught; 2 no sidecar."
)]
pub struct Args {
    #[command(flatten)]
    at: At,
    /// Test whether the calls of curl, Python, Node, Go, git, pip, npm are caught; needs no sidecar
    #[arg(long)]
    runtimes: bool,
    /// These runtimes only
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        requires = "runtimes"
    )]
    only: Vec<Runtime>,
}

/// Runs `outrider doctor`: exit status 1 when something is wrong. An error means no sidecar: exit
/// status 2.
///
/// # Errors
/// When the sidecar cannot be found or asked, or the answer cannot be printed.
pub fn run(args: &Args, find: FindSocket) -> anyhow::Result<ExitCode> {
    if args.runtimes {
        return runtimes(args);
    }
    let reply = match args.at.ask(find, &Request::Doctor {})? {
        Ok(reply) => reply,
        Err(status) => return Ok(status),
    };
    let Reply::Findings(findings) = reply else {
        anyhow::bail!("the sidecar's answer is not understood: are both of one version?");
    };
    let sound = findings.iter().all(|found| found.state != Health::Fail);
    let text = if args.at.json {
        let whole = serde_json::json!({"ok": sound, "findings": findings});
        format!("{whole}\n")
    } else {
        human(&findings)
    };
    told(&text, sound)
}

/// Tests runtimes, and says of each whether it is caught.
fn runtimes(args: &Args) -> anyhow::Result<ExitCode> {
    let wanted = if args.only.is_empty() {
        Runtime::ALL.to_vec()
    } else {
        args.only.clone()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let reports = local.block_on(&runtime, calls::test(&wanted))?;
    let sound = sound(&reports);
    let text = if args.at.json {
        let whole = serde_json::json!({"ok": sound, "runtimes": reports});
        format!("{whole}\n")
    } else {
        table(&reports)
    };
    told(&text, sound)
}

/// Prints what was found; the status says whether all is well.
fn told(text: &str, sound: bool) -> anyhow::Result<ExitCode> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot print")?;
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// A line for each runtime, and below it why, and what to do.
fn table(reports: &[Report]) -> String {
    reports.iter().fold(String::new(), |mut text, one| {
        let version = one.version.as_deref().unwrap_or("-");
        let round = match one.loopback {
            Some(Loopback::Round) if one.verdict == Verdict::Caught => "; loopback goes round",
            _ => "",
        };
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{:<16} {version:<10} {}{round}",
            one.runtime,
            one.verdict.as_str()
        );
        for more in [&one.why, &one.advice].into_iter().flatten() {
            let _infallible = writeln!(text, "    {more}");
        }
        text
    })
}

/// A table with a line for each finding.
pub(super) fn human(findings: &[Finding]) -> String {
    let width = |of: fn(&Finding) -> &str| {
        let widths = findings.iter().map(|found| of(found).chars().count());
        widths.max().unwrap_or_default()
    };
    let (topic, name) = (width(|found| &found.topic), width(|found| &found.name));
    findings.iter().fold(String::new(), |mut text, found| {
        let state = found.state.as_str();
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{state:<4}  {:<topic$}  {:<name$}  {}",
            found.topic, found.name, found.detail
        );
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_whose_columns_stand_in_line() {
        let findings = [
            Finding::new("log", "decisions", Health::Ok, "written before each act"),
            Finding::new("credential", "crm", Health::Fail, "client; 0 held"),
        ];
        insta::assert_snapshot!(human(&findings), @r"
        ok    log         decisions  written before each act
        fail  credential  crm        client; 0 held
        ");
    }
}
