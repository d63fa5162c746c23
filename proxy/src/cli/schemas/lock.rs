//! `outrider schemas lock`: from a running server to a lock file that an operator can review.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use http::HeaderMap;
use outrider_schemas::lock::{Lock, Note};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::client::{Client, Reply};
use crate::{credentials, protocol::mcp::MODERN as REVISION};

/// Pages of one list.
const MOST_PAGES: usize = 64;

/// Tools of one server.
const MOST_TOOLS: usize = 10_000;

/// What stands for the team when nobody was named.
const NOBODY: &str = "unassigned";

/// `outrider schemas lock`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The server's MCP endpoint
    #[arg(long, value_name = "URL")]
    from: String,
    /// Where to write the lock file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The team that answers for the tools
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
    })
}

/// Runs `outrider schemas lock`. An error means that no lock file was written: exit status 2.
///
/// # Errors
/// When the server cannot be asked, is not modern or breaks a bound, or the file cannot be
/// written.
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
    let client = Client::new(&args.from, headers(&args.headers)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tools = runtime
        .block_on(listed(&client))
        .with_context(|| format!("`{}`", args.from))?;
    let (lock, notes) = Lock::from_listed(&tools, &args.owner);
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

fn headers(given: &[credentials::Config]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for header in given {
        header
            .load(Path::new(""), |name| std::env::var(name).ok())?
            .inject(&mut headers);
    }
    Ok(headers)
}

/// Every tool that the server lists.
async fn listed(client: &Client) -> anyhow::Result<Vec<Value>> {
    modern(&client.ask("server/discover", Map::new()).await?)?;
    let (mut tools, mut cursors) = (Vec::new(), HashSet::new());
    let mut params = Map::new();
    for _ in 0..MOST_PAGES {
        let mut page = page(&client.ask("tools/list", params.clone()).await?)?;
        tools.append(&mut page.tools);
        ensure!(
            tools.len() <= MOST_TOOLS,
            "the server lists more than {MOST_TOOLS} tools"
        );
        let Some(next) = page.next else {
            return Ok(tools);
        };
        ensure!(
            cursors.insert(next.clone()),
            "the server gave one cursor twice: its list has no end"
        );
        params.insert("cursor".into(), next.into());
    }
    bail!("the server lists its tools on more than {MOST_PAGES} pages")
}

/// Whether the answer to `server/discover` is that of a server of this revision.
fn modern(reply: &Reply) -> anyhow::Result<()> {
    let versions = reply.message.pointer("/result/supportedVersions");
    let versions = versions
        .or_else(|| reply.message.pointer("/error/data/supported"))
        .and_then(Value::as_array);
    let speaks = |version: &Value| version == REVISION;
    match versions {
        Some(versions) if versions.iter().any(speaks) => Ok(()),
        Some(_) => {
            bail!("the server does not speak MCP {REVISION}; older revisions are not built yet")
        }
        None if matches!(reply.status.as_u16(), 401 | 403) => {
            bail!(
                "the server refuses us (HTTP status {}): give it a credential with `--header`",
                reply.status.as_u16()
            )
        }
        None => bail!(
            "this is no MCP server of revision {REVISION}: it did not answer `server/discover` (HTTP status {}{}); \
             older revisions are not built yet",
            reply.status.as_u16(),
            code(reply)
                .map(|code| format!(", code {code}"))
                .unwrap_or_default()
        ),
    }
}

fn code(reply: &Reply) -> Option<i64> {
    reply.message.pointer("/error/code").and_then(Value::as_i64)
}

/// One page of a list.
#[derive(serde::Deserialize)]
struct Page {
    tools: Vec<Value>,
    #[serde(rename = "nextCursor")]
    next: Option<String>,
}

fn page(reply: &Reply) -> anyhow::Result<Page> {
    if let Some(code) = code(reply) {
        bail!(
            "the server refuses `tools/list` (HTTP status {}, code {code})",
            reply.status.as_u16()
        );
    }
    let result = reply
        .message
        .get("result")
        .filter(|_| reply.status.is_success());
    let result = result.with_context(|| {
        format!(
            "no answer to `tools/list` (HTTP status {})",
            reply.status.as_u16()
        )
    })?;
    Page::deserialize(result).context("the answer to `tools/list` is no list of tools")
}

/// Says on standard error what was decided for the operator.
fn tell(args: &Args, lock: &Lock, mut notes: Vec<Note>) -> anyhow::Result<()> {
    let mut note = |text: &str| {
        notes.push(Note {
            tool: None,
            text: text.to_owned(),
        });
    };
    if lock.tools.is_empty() {
        note("the lock file has no tools");
    } else if args.owner == NOBODY {
        note("owner `unassigned` was written: name the team with `--owner`");
    }
    let mut out = io::stderr().lock();
    for note in &notes {
        if args.json {
            writeln!(
                out,
                "{}",
                serde_json::json!({"tool": note.tool, "text": note.text})
            )?;
        } else {
            writeln!(out, "note: {note}")?;
        }
    }
    Ok(())
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
