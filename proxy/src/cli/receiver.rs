//! `outrider receiver`: security events of identity providers, for all sidecars, until it is told to
//! stop.

use std::{path::PathBuf, process::ExitCode};

use super::run::log_to_stderr;
use crate::receiver::{Receiver, config};

/// Take security events of an identity provider in, for all sidecars
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One process of a trust domain: it takes security event tokens (SSF, CAEP) by push or \
poll, and every sidecar obeys the revocations that follow. SIGTERM and SIGINT drain. \
OUTRIDER_LOG sets what is logged on standard error, such as `info` or `outrider=debug`. \
Exit status with --check: 0 nothing wrong, 1 problems were found."
)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "receiver.yaml")]
    config: PathBuf,
    /// Only check the configuration; show all problems
    #[arg(long)]
    check: bool,
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
    let settings = match config::load(&args.config, |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                eprintln!("error: {problem}");
            }
            let status = if args.check && args.config.exists() {
                1
            } else {
                2
            };
            return Ok(ExitCode::from(status));
        }
    };
    if args.check {
        eprintln!("{}: nothing wrong", args.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    let receiver = Receiver::open(settings)?;
    let told = receiver.told_to_stop()?;
    let at = |address: Option<std::net::SocketAddr>| address.map(|address| address.to_string());
    let (listening, admin) = (at(receiver.address()), at(receiver.admin()));
    if args.json {
        println!(
            "{}",
            serde_json::json!({"listening": listening, "admin": admin})
        );
    } else {
        let none = "nobody delivers";
        eprintln!("outrider receiver");
        eprintln!("  deliveries  {}", listening.as_deref().unwrap_or(none));
        eprintln!("  admin       {}", admin.as_deref().unwrap_or("none"));
    }
    receiver.run(told);
    Ok(ExitCode::SUCCESS)
}
