//! Outrider with every check on.

mod files;

use std::{
    cell::Cell,
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use outrider_integration::{Address, Setup, Sidecar};
use serde_json::{Value, json};

use crate::{shape::Shape, tls::Certificates};

/// How it is set up.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) binary: PathBuf,
    pub(crate) durability: String,
    /// What the upstream is told: `full`, `decision_id`.
    pub(crate) identity: &'static str,
    pub(crate) shape: Shape,
}

/// A running one, and the token of its task.
#[derive(Debug)]
pub(crate) struct Outrider {
    pub(crate) sidecar: Sidecar,
    /// Its listeners: two, since each takes so many connections only.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Its forward listener, where it has one.
    pub(crate) forward: Option<SocketAddr>,
    pub(crate) token: String,
    /// Calls that were made through it.
    pub(crate) calls: Cell<usize>,
    /// How long it took from the start of the process until it listened.
    pub(crate) start: Duration,
}

/// Their names.
const LISTENERS: [&str; 2] = ["reverse", "second"];
const FORWARD: &str = "forward";

impl Outrider {
    /// Starts it; `None` when it cannot serve TLS and is to.
    pub(crate) fn start(
        settings: &Settings,
        upstream: SocketAddr,
        certificates: Option<&Certificates>,
    ) -> Result<Option<Self>> {
        let binary = settings.binary.canonicalize().with_context(|| {
            let binary = settings.binary.display();
            format!("no {binary}: build it with `cargo build --release`")
        })?;
        let mut setup = Setup::bare(&binary.to_string_lossy());
        files::write(&mut setup, settings, upstream, certificates);
        if certificates.is_some() {
            setup.write();
            if setup.run(&["check", "-c", "outrider.yaml"]).status != 0 {
                return Ok(None);
            }
        }
        let begin = Instant::now();
        let sidecar = setup.start();
        let forward = match certificates.map(|_| sidecar.listener(FORWARD)) {
            Some(Address::Tcp(address)) => Some(address),
            Some(Address::Unix(_)) | None => None,
        };
        let outrider = Self::listening(sidecar, begin.elapsed())?;
        Ok(Some(Self {
            forward,
            ..outrider
        }))
    }

    fn listening(sidecar: Sidecar, start: Duration) -> Result<Self> {
        let addresses = LISTENERS.map(|name| match sidecar.listener(name) {
            Address::Tcp(address) => Ok(address),
            Address::Unix(_) => bail!("a TCP listener was configured"),
        });
        let outrider = Self {
            addresses: addresses.into_iter().collect::<Result<_>>()?,
            forward: None,
            token: String::new(),
            sidecar,
            calls: Cell::new(0),
            start,
        };
        let token = outrider.open_task()?;
        Ok(Self { token, ..outrider })
    }

    /// Ends it and starts it again over the same files.
    pub(crate) fn restarted(mut self) -> Result<Self> {
        self.sidecar.signal("TERM");
        self.sidecar.wait();
        let begin = Instant::now();
        Self::listening(self.sidecar.start_again(), begin.elapsed())
    }

    /// Opens another task and returns its token.
    pub(crate) fn open_task(&self) -> Result<String> {
        let mut socket = UnixStream::connect(self.sidecar.path("control.sock"))?;
        let task = json!({"intent": "work", "ttl_s": 86_400});
        writeln!(socket, "{}", json!({"task_open": task}))?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line)?;
        let reply: Value = serde_json::from_str(&line)?;
        let token = reply.pointer("/opened/token").and_then(Value::as_str);
        Ok(token
            .with_context(|| format!("no task: {line}"))?
            .to_owned())
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.sidecar.path("decisions.jsonl")
    }

    /// A call that was made and is not in the log was not the call that is promised.
    pub(crate) fn check_log(&self) -> Result<()> {
        let (made, recorded) = (self.calls.get(), decisions(&self.log())?);
        if recorded < made {
            bail!("{made} calls were made, {recorded} are in the decision log");
        }
        Ok(())
    }
}

/// The decision lines of a log.
fn decisions(log: &Path) -> Result<usize> {
    const BEGIN: usize = 64;
    let mut lines = 0;
    let mut log = BufReader::with_capacity(1 << 20, fs::File::open(log)?);
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line)? > 0 {
        let begin = line.get(..BEGIN).unwrap_or(&line);
        lines += usize::from(contains(begin, br#""type":"decision""#));
        line.clear();
    }
    Ok(lines)
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}
