//! `outrider log`: reads, finds and verifies what was recorded.

mod human;
pub(super) mod read;
mod stats;
mod verify;

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use human::Style;

/// `outrider log …`
#[derive(Debug, Args)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Show the last lines of a decision log
    Tail(TailArgs),
    /// Show everything recorded under one decision ID
    Show(ShowArgs),
    /// Check the chain and the signatures of a decision log
    Verify(VerifyArgs),
    /// Count calls, refusals and how long they took
    Stats(stats::StatsArgs),
}

/// Which log is meant.
#[derive(Debug, Args)]
struct Source {
    /// The decision log; without it, the one of the configuration
    file: Option<PathBuf>,
    /// The configuration that names the decision log
    #[arg(
        short,
        long,
        value_name = "CONFIG",
        default_value = "outrider.yaml",
        conflicts_with = "file"
    )]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct TailArgs {
    #[command(flatten)]
    source: Source,
    /// Go on as lines are added
    #[arg(short, long)]
    follow: bool,
    /// How many lines to show at first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// The recorded lines as they are
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The decision ID, from an answer, a record or `log tail`
    decision_id: String,
    #[command(flatten)]
    source: Source,
    /// The recorded lines as they are
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// The log; several files of one log in their order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A file with the public keys: a JWK, a JWK set, or one JWK a line; default `FILE.jwks`
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file with one checkpoint line that was kept elsewhere and must be in the log
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// What a command found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// All is as asked.
    So,
    /// The thing asked about is not so.
    NotSo,
}

/// Finds the decision log that a configuration names.
pub type Locate<'a> = &'a dyn Fn(&Path) -> anyhow::Result<PathBuf>;

/// Runs the command on standard output: 0 done, 1 a broken log or nothing found, 2 unreadable input.
pub fn run(args: &LogArgs, locate: Locate<'_>) -> ExitCode {
    let stdout = io::stdout();
    let style = Style::of(
        stdout.is_terminal(),
        std::env::var_os("NO_COLOR").as_deref(),
    );
    match execute(args, locate, &mut stdout.lock(), style) {
        Ok(Finding::So) => ExitCode::SUCCESS,
        Ok(Finding::NotSo) => ExitCode::from(1),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing more can be done when even standard error is gone.
            drop(writeln!(io::stderr(), "error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn execute(
    args: &LogArgs,
    locate: Locate<'_>,
    out: &mut dyn Write,
    style: Style,
) -> anyhow::Result<Finding> {
    match &args.command {
        LogCommand::Tail(args) => tail(args, locate, out, style),
        LogCommand::Show(args) => show(args, locate, out, style),
        LogCommand::Verify(args) => verify::verify(args, out),
        LogCommand::Stats(args) => {
            stats::stats(args, locate, out, style)?;
            Ok(Finding::So)
        }
    }
}

impl Source {
    fn path(&self, locate: Locate<'_>) -> anyhow::Result<PathBuf> {
        self.file.clone().map_or_else(|| locate(&self.config), Ok)
    }
}

fn tail(
    args: &TailArgs,
    locate: Locate<'_>,
    out: &mut dyn Write,
    style: Style,
) -> anyhow::Result<Finding> {
    let path = args.source.path(locate)?;
    let mut reader = read::Follow::open(&path, args.lines).with_context(|| unreadable(&path))?;
    loop {
        for line in reader.lines().with_context(|| unreadable(&path))? {
            if args.json {
                out.write_all(&line)?;
                out.write_all(b"\n")?;
            } else {
                writeln!(out, "{}", human::line(&line, style))?;
            }
        }
        out.flush()?;
        if !args.follow {
            return Ok(Finding::So);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn show(
    args: &ShowArgs,
    locate: Locate<'_>,
    out: &mut dyn Write,
    style: Style,
) -> anyhow::Result<Finding> {
    let path = args.source.path(locate)?;
    let found = read::find(&path, &args.decision_id).with_context(|| unreadable(&path))?;
    for line in &found {
        if args.json {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        } else {
            writeln!(out, "{}\n{}", human::line(line, style), human::whole(line))?;
        }
    }
    if found.is_empty() {
        drop(writeln!(
            io::stderr(),
            "`{}` is not in `{}`",
            human::plain(&args.decision_id),
            path.display()
        ));
        return Ok(Finding::NotSo);
    }
    Ok(Finding::So)
}

fn unreadable(path: &Path) -> String {
    format!("cannot read `{}`", path.display())
}

#[cfg(test)]
mod tests;
