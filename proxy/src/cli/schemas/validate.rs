//! `outrider schemas validate`: are these arguments what the tool's team published?

use std::{
    io::{self, Read as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, bail};
use outrider_schemas::{json, json_schema::MOST_VIOLATIONS};
use serde::Serialize;

use crate::{call::ToolId, cli, config::Loaded};

/// `outrider schemas validate`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Configuration that names the lock files
    #[arg(short, long, value_name = "FILE", default_value = cli::DEFAULT)]
    config: PathBuf,
    /// Tool, such as `tickets/read_ticket`
    #[arg(long, value_name = "ID", value_parser = tool)]
    tool: ToolId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn tool(text: &str) -> Result<ToolId, String> {
    ToolId::try_from(text.to_owned()).map_err(|bad| bad.to_string())
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Violation {
    pointer: String,
    message: String,
}

impl Violation {
    /// A line for people; the whole has no pointer.
    fn line(&self) -> String {
        let place = if self.pointer.is_empty() {
            "arguments"
        } else {
            &self.pointer
        };
        format!("{place}: {}", self.message)
    }
}

/// Runs `outrider schemas validate`. An error means wrong use or an unreadable configuration:
/// exit status 2.
///
/// # Errors
/// When configuration, tool or standard input cannot be read.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = cli::read(&args.config)?;
    let mut arguments = Vec::new();
    let most = loaded.config.body.max_request.0;
    io::stdin()
        .take(most as u64 + 1)
        .read_to_end(&mut arguments)
        .context("cannot read standard input")?;
    if arguments.len() > most {
        bail!("the arguments are larger than `body.max_request`, {most} bytes");
    }
    let violations = violations(&loaded, &args.tool, &arguments)?;
    let text = if args.json {
        json(&violations)
    } else {
        human(&violations)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot print")?;
    Ok(ExitCode::from(u8::from(!violations.is_empty())))
}

fn violations(loaded: &Loaded, id: &ToolId, arguments: &[u8]) -> anyhow::Result<Vec<Violation>> {
    let spoken = loaded
        .spoken
        .iter()
        .find(|(service, _)| service.as_str() == id.service());
    let (_, spoken) = spoken.with_context(|| {
        format!(
            "there is no service `{}` in the configuration, or its schemas could not be read: \
             `outrider check` says why",
            id.service()
        )
    })?;
    let tool = spoken.contract.tool(id.operation()).with_context(|| {
        format!(
            "the schemas of `{}` have no tool `{}`",
            id.service(),
            id.operation()
        )
    })?;
    Ok(match json::parse(arguments) {
        Err(malformed) => vec![Violation {
            pointer: String::new(),
            message: malformed.to_string(),
        }],
        Ok(arguments) => {
            let found = tool
                .input
                .violations(&arguments, MOST_VIOLATIONS)
                .into_iter();
            found
                .map(|found| Violation {
                    pointer: found.pointer,
                    message: found.message,
                })
                .collect()
        }
    })
}

fn human(violations: &[Violation]) -> String {
    let lines: Vec<String> = violations.iter().map(Violation::line).collect();
    if lines.is_empty() {
        "valid\n".into()
    } else {
        lines.join("\n") + "\n"
    }
}

fn json(violations: &[Violation]) -> String {
    format!(
        "{}\n",
        serde_json::json!({"valid": violations.is_empty(), "violations": violations})
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tool: &str, arguments: &str) -> anyhow::Result<Vec<Violation>> {
        let directory = tempfile::tempdir().unwrap();
        let written = cli::init::write(directory.path()).unwrap();
        let loaded = cli::read(&written[0]).unwrap();
        violations(
            &loaded,
            &ToolId::try_from(tool.to_owned()).unwrap(),
            arguments.as_bytes(),
        )
    }

    #[test]
    fn arguments_within_the_contract_are_valid() {
        let found = check(
            "tickets/search_tickets",
            r#"{"query": "printer", "limit": 50}"#,
        )
        .unwrap();
        assert_eq!(human(&found), "valid\n");
        assert_eq!(json(&found), "{\"valid\":true,\"violations\":[]}\n");
    }

    #[test]
    fn each_violation_is_told_with_its_place() {
        let found = check("tickets/search_tickets", r#"{"query": "", "limit": 51}"#).unwrap();
        let places: Vec<&str> = found.iter().map(|found| found.pointer.as_str()).collect();
        assert_eq!(places.len(), 2, "{found:?}");
        assert!(
            places.contains(&"/query") && places.contains(&"/limit"),
            "{found:?}"
        );
        assert!(
            human(&found)
                .lines()
                .all(|line| line.starts_with("/query: ") || line.starts_with("/limit: "))
        );
        assert!(json(&found).starts_with("{\"valid\":false,"));
    }

    #[test]
    fn arguments_that_two_readers_could_read_differently_are_not_valid() {
        for arguments in [
            "",
            "{",
            r#"{"query": "a", "query": "b"}"#,
            "{\"query\": \"a\"} x",
        ] {
            let found = check("tickets/search_tickets", arguments).unwrap();
            assert!(
                human(&found).starts_with("arguments: "),
                "{arguments}: {found:?}"
            );
        }
    }

    #[test]
    fn a_tool_that_is_not_in_the_catalogue_is_wrong_use() {
        for tool in ["tickets/nothing", "nobody/search_tickets"] {
            assert!(check(tool, "{}").is_err(), "{tool}");
        }
    }
}
