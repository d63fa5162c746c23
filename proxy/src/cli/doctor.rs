//! `outrider doctor`: asks a running sidecar how it stands.

use std::{fmt::Write as _, io::Write, process::ExitCode};

use anyhow::Context;

use super::task::{At, FindSocket};
use crate::{
    control::wire::{Reply, Request},
    doctor::{Finding, Health},
};

/// Ask a running sidecar how it stands: identity, policy, logs, credentials
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    at: At,
}

/// Runs `outrider doctor`: exit status 1 when something is wrong. An error means no sidecar: exit
/// status 2.
///
/// # Errors
/// When the sidecar cannot be found or asked, or the answer cannot be printed.
pub fn run(args: &Args, find: FindSocket) -> anyhow::Result<ExitCode> {
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
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot print")?;
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
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
