//! The sidecar of a run: the starter directory, this process, ports of its own.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Request;

use crate::{
    cli::{self, init},
    config::Compiler,
    control::{
        client,
        wire::{Kind, Named, OpenTask, Reply, Request as Ask, Token},
    },
    listen::ListenAddress,
    serve::{self, Options},
    upstream::{Pool, PoolConfig, RequestBody, TlsRoots, Upstream, collect},
};

/// Time for the metrics page.
const PATIENCE: Duration = Duration::from_secs(5);

/// A sidecar that serves in this process.
#[derive(Debug)]
pub(super) struct Sidecar {
    running: serve::Running,
    directory: PathBuf,
}

impl Sidecar {
    /// Writes the starter directory to a fresh place and serves it before the tool server at that origin.
    ///
    /// # Errors
    /// When the place cannot be written or the sidecar does not start.
    pub(super) fn start(upstream: &str, compiler: Compiler) -> anyhow::Result<Self> {
        let directory = fresh_directory()?;
        init::write(&directory)?;
        let file = directory.join(init::CONFIG);
        fs::write(&file, placed(&fs::read_to_string(&file)?, upstream))?;
        let loaded = cli::read(&file)?;
        let options = Options {
            compiler,
            open_task: false,
            take_over: false,
        };
        Ok(Self {
            running: serve::start(loaded, &options)?,
            directory,
        })
    }

    /// Where the agent calls; a service's name follows.
    ///
    /// # Errors
    /// When the sidecar listens nowhere.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        let listeners = self.running.listeners();
        match listeners.first() {
            Some((_, ListenAddress::Tcp(address))) => Ok(format!("http://{address}")),
            _ => bail!("the sidecar has no TCP listener"),
        }
    }

    /// The decision log.
    pub(super) fn record(&self) -> PathBuf {
        self.directory.join("decisions.jsonl")
    }

    /// Opens the task of the run over the control socket, as an operator would; its ID and token.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) fn open_task(&self) -> anyhow::Result<(String, Token)> {
        let open = OpenTask {
            intent: Some("ticket.triage".into()),
            subject: Some("user:demo".into()),
            tools: None,
            max_classification: None,
            calls: None,
            ttl_s: None,
            current: None,
            parent: None,
        };
        match self.ask(&Ask::TaskOpen(open))? {
            Reply::Opened { id, token, .. } => Ok((id, token)),
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => bail!("the sidecar opened no task"),
        }
    }

    /// Takes the task back.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) fn revoke(&self, id: &str) -> anyhow::Result<()> {
        let target = Named {
            kind: Kind::Task,
            id: id.to_owned(),
            issuer: None,
        };
        match self.ask(&Ask::Revoke {
            target,
            issued_before: None,
            reason: Some("the demo shows it".into()),
        })? {
            Reply::Refused(refusal) => Err(refusal.into()),
            _ => Ok(()),
        }
    }

    fn ask(&self, request: &Ask) -> anyhow::Result<Reply> {
        Ok(client::ask(&self.directory.join("outrider.sock"), request)?)
    }

    /// Writes the metrics page beside the record and gives its path.
    ///
    /// # Errors
    /// When there is no page, or it cannot be written.
    pub(super) async fn save_metrics(&self) -> anyhow::Result<PathBuf> {
        let admin = self
            .running
            .admin()
            .context("the sidecar has no admin address")?;
        let page = get(&format!("http://{admin}/metrics"))
            .await
            .context("the metrics page cannot be read")?;
        let path = self.directory.join("metrics.txt");
        fs::write(&path, page).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }

    /// Lets calls end, closes the record.
    pub(super) fn stop(self) {
        self.running.stop();
    }
}

/// A directory that nobody else reads or has put anything into.
fn fresh_directory() -> anyhow::Result<PathBuf> {
    let name = uuid::Uuid::new_v4().simple().to_string();
    let path = std::env::temp_dir().join(format!(
        "outrider-demo-{}",
        name.get(..8).unwrap_or_default()
    ));
    DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .with_context(|| format!("cannot make `{}`", path.display()))?;
    Ok(path)
}

/// The starter configuration with free ports, that upstream, and time for policy on a machine
/// that is busy compiling.
fn placed(config: &str, upstream: &str) -> String {
    config
        .replace("http://127.0.0.1:3001", upstream)
        .replace("address: 127.0.0.1:15001", "address: 127.0.0.1:0")
        .replace("address: 127.0.0.1:15000", "address: 127.0.0.1:0")
        .replace("\npolicy:\n", "\npolicy:\n  timeout: 1s\n")
}

async fn get(url: &str) -> anyhow::Result<Bytes> {
    let upstream = Upstream::parse(url)?;
    let request = Request::get(upstream.target()).body(RequestBody::Empty)?;
    let answer = Pool::new(PoolConfig::default(), TlsRoots::none()?)
        .send(&upstream, request, PATIENCE)
        .await?;
    if !answer.status().is_success() {
        bail!("HTTP status {}", answer.status().as_u16());
    }
    Ok(collect(answer.into_body(), 64 << 20, PATIENCE).await?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_run_takes_no_fixed_port() {
        let directory = tempfile::tempdir().unwrap();
        let written = init::write(directory.path()).unwrap();
        let text = placed(
            &fs::read_to_string(&written[0]).unwrap(),
            "http://127.0.0.1:7",
        );
        fs::write(&written[0], text).unwrap();
        let config = cli::read(&written[0]).unwrap().config;
        assert_eq!(config.listeners[0].address, "127.0.0.1:0".parse().unwrap());
        assert_eq!(config.admin.unwrap().address.port(), 0);
        assert_eq!(
            config.services[0].upstream.as_deref(),
            Some("http://127.0.0.1:7/mcp")
        );
        assert_eq!(config.policy.timeout.0, Duration::from_secs(1));
    }

    #[test]
    fn the_directory_of_a_run_is_its_own() {
        let (one, two) = (fresh_directory().unwrap(), fresh_directory().unwrap());
        assert_ne!(one, two);
        assert_eq!(
            fs::metadata(&one).unwrap().permissions().mode() & 0o777,
            0o700
        );
        fs::remove_dir(one).unwrap();
        fs::remove_dir(two).unwrap();
    }
}
