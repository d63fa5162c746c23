//! `outrider schemas lock`: from a running server to a lock file that an operator can review.

mod server;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use http::HeaderMap;
use outrider_schemas::lock::{Listed, Lock, Note};

use super::client::Client;
use crate::{cli::stdio::Hosted, credentials};

/// What stands for the team when nobody was named.
const NOBODY: &str = "unassigned";

/// `outrider schemas lock`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The server's MCP endpoint
    #[arg(
        long,
        value_name = "URL",
        required_unless_present = "command",
        conflicts_with = "command"
    )]
    from: Option<String>,
    /// Where to write the lock file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The team that answers for what is locked
    #[arg(long, value_name = "NAME", default_value = NOBODY, value_parser = owner)]
    owner: String,
    /// A header for the server, such as `'Authorization: Bearer ${env:TOKEN}'`; `${file:PATH}`
    /// also stands for a secret
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<credentials::Config>,
    /// Overwrite the file
    #[arg(long, requires = "output")]
    force: bool,
    /// Print the notes as JSON, an object a line
    #[arg(long)]
    json: bool,
    /// A server that speaks on its standard input, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn owner(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() {
        Err("expected a name such as `support@example.org`")
    } else {
        Ok(text.to_owned())
    }
}

fn header(text: &str) -> Result<credentials::Config, String> {
    let (name, value) = text.split_once(':').ok_or("expected `Name: value`")?;
    let name =
        credentials::Name::try_from(name.trim().to_owned()).map_err(|bad| bad.to_string())?;
    let value =
        credentials::Template::try_from(value.trim().to_owned()).map_err(|bad| bad.to_string())?;
    Ok(credentials::Config {
        header: name,
        value,
        source: None,
    })
}

/// Runs `outrider schemas lock`. An error means that no lock file was written: exit status 2.
///
/// # Errors
/// When the server cannot be asked, speaks no revision that we speak or breaks a bound, or the
/// file cannot be written.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = args
        .output
        .as_deref()
        .filter(|file| !args.force && file.symlink_metadata().is_ok())
    {
        bail!(
            "`{}` is there already: `--force` overwrites it",
            file.display()
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let (listed, mut notes) = local.block_on(&runtime, listed(args)).with_context(|| {
        format!(
            "`{}`",
            args.from.as_deref().unwrap_or(&args.command.join(" "))
        )
    })?;
    let (lock, decided) = Lock::from_server(&listed, &args.owner);
    notes.extend(decided);
    tell(args, &lock, notes)?;
    let text = lock.to_json();
    match &args.output {
        Some(file) => {
            write(file, &text).with_context(|| format!("cannot write `{}`", file.display()))?;
        }
        None => io::stdout()
            .write_all(text.as_bytes())
            .context("cannot print")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the server lists, wherever it is.
async fn listed(args: &Args) -> anyhow::Result<(Listed, Vec<Note>)> {
    let headers = headers(&args.headers)?;
    if let Some(url) = &args.from {
        return server::listed(&Client::new(url, headers)?).await;
    }
    let hosted = Hosted::start(&args.command)?;
    server::listed(&Client::of(hosted.upstream()?, headers)?).await
}

fn headers(given: &[credentials::Config]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for header in given {
        let places = credentials::Places {
            base: Path::new(""),
            env: &|name| std::env::var(name).ok(),
            token: None,
        };
        header.put(&places, &mut headers)?;
    }
    Ok(headers)
}

/// Says on standard error what was decided for the operator.
fn tell(args: &Args, lock: &Lock, mut notes: Vec<Note>) -> anyhow::Result<()> {
    if *lock == Lock::default() {
        notes.push(Note::whole(
            "the lock file is empty: the server lists nothing that could be enforced",
        ));
    } else if args.owner == NOBODY {
        notes.push(Note::whole(
            "owner `unassigned` was written: name the team with `--owner`",
        ));
    }
    let mut out = io::stderr().lock();
    for note in &notes {
        if args.json {
            writeln!(out, "{}", json(note))?;
        } else {
            writeln!(out, "note: {note}")?;
        }
    }
    Ok(())
}

/// A note as JSON: `{tool, text}`, where `tool` is null for the whole file and may be `resource`,
/// `prompt` or `method`.
fn json(note: &Note) -> serde_json::Value {
    match &note.about {
        Some((section, name)) => serde_json::json!({section.to_string(): name, "text": note.text}),
        None => serde_json::json!({"tool": null, "text": note.text}),
    }
}

/// Writes the whole file or leaves the old one: a running sidecar may read it at any moment.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = file.with_file_name(name);
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&fresh)?
        .write_all(text.as_bytes())?;
    fs::rename(&fresh, file).inspect_err(|_| drop(fs::remove_file(&fresh)))
}

#[cfg(test)]
mod tests;
