//! `outrider check`: configuration, policy, data and schemas; all problems at once.

use std::{path::PathBuf, process::ExitCode};

use outrider_policy::Problem;

use super::DEFAULT;
use crate::config::{self, Compiler};

/// Check configuration, policy and schemas; show all problems
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 nothing wrong, 1 problems were found, 2 a file could not be opened."
)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unopened: bool,
}

/// Checks, and prints what it found.
///
/// # Errors
/// None of its own: what is wrong is what it prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let found = look(args);
    if args.json {
        println!(
            "{}",
            serde_json::json!({"problems": found.problems, "warnings": found.warnings})
        );
    } else {
        tell(&found);
    }
    Ok(match (found.unopened, found.problems.is_empty()) {
        (true, _) => ExitCode::from(2),
        (false, false) => ExitCode::from(1),
        (false, true) => ExitCode::SUCCESS,
    })
}

fn look(args: &Args) -> Found {
    let none = Vec::new;
    match config::load(&args.config) {
        Err(failure) => Found {
            problems: failure.problems,
            warnings: none(),
            unopened: failure.unopened,
        },
        Ok(loaded) => {
            let unread = loaded.issuers().err().unwrap_or_default();
            let mut found = match loaded.build(&Compiler::of_this_program(), None) {
                Ok(built) => Found {
                    problems: none(),
                    warnings: built.warnings,
                    unopened: false,
                },
                Err(problems) => Found {
                    problems,
                    warnings: none(),
                    unopened: loaded.found.unopened,
                },
            };
            found.problems.extend(unread.problems);
            found.unopened |= unread.unopened;
            found
        }
    }
}

fn tell(found: &Found) {
    for problem in &found.problems {
        println!("error: {problem}");
    }
    for warning in &found.warnings {
        println!("warning: {warning}");
    }
    match found.problems.len() {
        0 => println!("ok"),
        1 => println!("1 problem"),
        more => println!("{more} problems"),
    }
}
