//! `outrider health`: asks the admin address of a running sidecar whether it is ready, so that a
//! container without a shell can check itself.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::{DEFAULT, ask::ask, read};

/// Ask a running sidecar whether it is ready
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration file that names the admin address
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
}

/// Asks `/readyz`: 0 ready, 1 not ready or no answer.
///
/// # Errors
/// When the configuration cannot be read or names no admin address.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let admin = read(&args.config)?
        .config
        .admin
        .context("`admin.address` is missing: there is nothing to ask")?;
    Ok(
        if ask(admin.address, "/readyz").is_ok_and(|(status, _)| status == 200) {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(1)
        },
    )
}
