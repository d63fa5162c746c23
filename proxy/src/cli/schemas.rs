//! `outrider schemas`: locks a server's tools, reads descriptions, and checks arguments.

mod client;
mod import;
mod lock;
mod validate;

use std::process::ExitCode;

pub(super) use client::{Client, Reply};

/// Lock a server's tools, read descriptions, check arguments
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Write the lock file of a running MCP server
    Lock(lock::Args),
    /// Show what is understood of an OpenAPI description, and what is not
    Import(import::Args),
    /// Check the arguments on standard input against a tool's schema
    Validate(validate::Args),
}

/// Runs `outrider schemas …`. An error means wrong use or an unreadable source: exit status 2.
///
/// # Errors
/// When the server or the configuration cannot be read, or the result cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Lock(args) => lock::run(args),
        Command::Import(args) => import::run(args),
        Command::Validate(args) => validate::run(args),
    }
}
