//! `outrider top`: a running sidecar as it is now, from its admin address alone.

mod rates;
mod screen;
mod terminal;

use std::{
    io::{self, IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{DEFAULT, ask::ask, read};
use crate::units::Period;
use rates::{Looked, Now};
use screen::Size;
use terminal::{Event, Terminal};

/// How wide and how long it is where there is no terminal.
const PLAIN: Size = Size {
    columns: 100,
    rows: 40,
};

/// Show calls, refusals, slowest tools and tasks of a running sidecar, live
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads /metrics and /readyz of the admin address, and nothing else. `q` or Ctrl-C ends it. Where \
there is no terminal, or with --json, each interval is one block or one line."
)]
pub struct Args {
    /// Configuration file that names the admin address
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// The admin address, instead of the configuration's
    #[arg(long, value_name = "IP:PORT", conflicts_with = "config")]
    admin: Option<SocketAddr>,
    /// Between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = period)]
    interval: Duration,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// An object a line
    #[arg(long)]
    json: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    let period = Period::try_from(text.to_owned());
    period.map(|period| period.0).map_err(|bad| bad.to_string())
}

/// Shows it until somebody has seen enough.
///
/// # Errors
/// There is no admin address, or nothing can be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let admin = if let Some(admin) = args.admin {
        admin
    } else {
        let admin = read(&args.config)?.config.admin;
        let missing = "`admin.address` is missing: there is nothing to ask";
        admin.context(missing)?.address
    };
    let live = io::stdout().is_terminal() && !args.json;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shown = runtime.block_on(async {
        if live {
            watch(args, admin).await
        } else {
            tell(args, admin).await
        }
    });
    match shown {
        // Whoever reads it may stop: that is no error of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        shown => shown.map(|()| ExitCode::SUCCESS).map_err(Into::into),
    }
}

/// One look; none where nobody answers.
fn look(admin: SocketAddr) -> io::Result<Looked> {
    let (_, ready) = ask(admin, "/readyz")?;
    let (_, page) = ask(admin, "/metrics")?;
    Ok(Looked::new(Instant::now(), &page, &ready))
}

/// What there is between the last look and this one.
struct Looks {
    admin: SocketAddr,
    last: Option<Looked>,
}

impl Looks {
    fn new(admin: SocketAddr) -> Self {
        Self { admin, last: None }
    }

    fn next(&mut self) -> io::Result<Now> {
        let looked = look(self.admin).inspect_err(|_| self.last = None)?;
        let now = Now::between(self.last.as_ref(), &looked);
        self.last = Some(looked);
        Ok(now)
    }
}

/// A block or a line each interval.
async fn tell(args: &Args, admin: SocketAddr) -> io::Result<()> {
    let mut looks = Looks::new(admin);
    // The first look is what the next is compared with.
    looks.next().ok();
    let mut told = 0;
    while args.count.is_none_or(|count| told < count) {
        tokio::time::sleep(args.interval).await;
        let now = looks.next();
        let mut out = io::stdout().lock();
        if args.json {
            writeln!(out, "{}", screen::json(admin, &now))?;
        } else {
            writeln!(out, "{}", screen::page(admin, &now, PLAIN).join("\n"))?;
        }
        out.flush()?;
        told += 1;
    }
    Ok(())
}

/// The terminal, drawn anew each interval and when its size changes.
async fn watch(args: &Args, admin: SocketAddr) -> io::Result<()> {
    let mut terminal = Terminal::take(args.interval)?;
    let mut looks = Looks::new(admin);
    let mut now = looks.next();
    let mut told = 0;
    loop {
        terminal.draw(&screen::page(admin, &now, terminal.size()))?;
        match terminal.event().await {
            Event::Resized => {}
            Event::End => return Ok(()),
            Event::Tick => {
                told += 1;
                if args.count.is_some_and(|count| told >= count) {
                    return Ok(());
                }
                now = looks.next();
            }
        }
    }
}
