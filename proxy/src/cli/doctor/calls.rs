//! `outrider doctor --runtimes`: each runtime makes one call with what `exec` gives an agent, and one to
//! a loopback address; what is seen of them is judged.
//!
//! The sidecar, its authority, its log and the server are of this run alone.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tokio::{process::Command, task::JoinSet, time::timeout};

use super::{
    runtime::{GO, Runtime, version},
    target::{Target, Way},
    verdict::{Ended, Report, Seen, Verdict},
};
use crate::{cli::exec::Lent, config};

/// The host that only the sidecar knows.
const HOST: &str = "doctor.outrider.test";
/// How long a call may take, and a program of Go to be built.
const CALL: Duration = Duration::from_secs(15);
const BUILD: Duration = Duration::from_mins(2);
/// Characters of what a runtime said last.
const LAST_WORDS: usize = 160;

/// A directory of this run; gone when dropped.
struct Room(PathBuf);

impl Room {
    fn make() -> anyhow::Result<Self> {
        let name = format!("outrider-doctor-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// What every call needs.
struct Stand {
    // In this order: the sidecar ends before its files are gone.
    lent: Lent,
    room: Room,
    target: Rc<Target>,
}

/// Tests these runtimes, all at a time.
///
/// # Errors
/// There can be no sidecar for them.
pub(super) async fn test(runtimes: &[Runtime]) -> anyhow::Result<Vec<Report>> {
    let room = Room::make()?;
    let target = Target::start().await?;
    let file = configured(&room, &target)?;
    let loaded = config::load(&file).map_err(|failure| {
        let problems: Vec<_> = failure.problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", problems.join("\n"))
    })?;
    let lent = Lent::of(&file, &loaded, "doctor")?;
    let stand = Rc::new(Stand { lent, room, target });
    let mut tests = JoinSet::new();
    for runtime in runtimes.iter().copied() {
        let stand = Rc::clone(&stand);
        tests.spawn_local(async move { (runtime, stand.test(runtime).await) });
    }
    let mut reports = Vec::new();
    while let Some(done) = tests.join_next().await {
        let (runtime, report) = done?;
        let failed = |why: anyhow::Error| {
            Report::without_a_call(runtime, Verdict::NotTested, Some(format!("{why:#}")))
        };
        reports.push(report.unwrap_or_else(failed));
    }
    let place = |report: &Report| runtimes.iter().position(|one| one.name() == report.runtime);
    reports.sort_by_key(place);
    Ok(reports)
}

/// The configuration of a sidecar before that server.
fn configured(room: &Room, target: &Target) -> anyhow::Result<PathBuf> {
    let agent = "spiffe://outrider.test/doctor";
    let owner = "doctor@outrider.test";
    let data = json!({
        "agents": [{"id": agent, "owner": owner, "purpose": "Tests runtimes", "state": "active"}],
        "intents": [{"id": "doctor", "owner": owner, "tools": ["target/GET"], "max_classification": "public"}],
        "grants": [{"agent": agent, "tools": ["target/GET"], "intents": ["doctor"]}],
    });
    room.write("data.yaml", &data.to_string())?;
    let config = json!({
        "agent": {"id": agent},
        "listeners": [{"mode": "forward", "address": "127.0.0.1:0", "tls": "intercept"}],
        "admin": {"address": "127.0.0.1:0"},
        "control": {"socket": "control.sock"},
        "services": [{
            "name": "target", "protocol": "http", "classification": "public",
            "upstream": format!("http://{}", target.address), "hosts": [HOST],
        }],
        "policy": {"data": ["data.yaml"]},
        "decision_log": {"path": "decisions.jsonl"},
        "security_log": {"path": "security.jsonl"},
    });
    // JSON is YAML.
    room.write("outrider.yaml", &config.to_string())
}

impl Stand {
    async fn test(&self, runtime: Runtime) -> anyhow::Result<Report> {
        let found = runtime.find(std::env::var_os("PATH").as_ref());
        let Some(mut program) = found else {
            return Ok(Report::without_a_call(runtime, Verdict::NotFound, None));
        };
        let asked = run(
            Command::new(&program).args(runtime.asked_for_version()),
            CALL,
        )
        .await?;
        let Ended::Itself { well: true, .. } = asked.ended else {
            return Ok(Report::without_a_call(runtime, Verdict::NotFound, None));
        };
        let version = version(&asked.said);
        let shown = program.display().to_string();
        if runtime == Runtime::Go {
            match self.built(&program).await? {
                Ok(made) => program = made,
                Err(why) => {
                    return Ok(Report {
                        program: Some(shown),
                        version,
                        ..Report::without_a_call(runtime, Verdict::NotTested, Some(why))
                    });
                }
            }
        }
        let https = format!("https://{HOST}");
        let called = self.call(runtime, &program, runtime.name(), &https).await?;
        let loopback = format!("http://{}", self.target.address);
        let name = format!("{}-loopback", runtime.name());
        let went = self.call(runtime, &program, &name, &loopback).await?;
        Ok(Report {
            program: Some(shown),
            version,
            ..Report::of(runtime, &called, &went)
        })
    }

    /// One call, and what was seen of it.
    async fn call(
        &self,
        runtime: Runtime,
        program: &Path,
        name: &str,
        base: &str,
    ) -> anyhow::Result<Seen> {
        let proxy = self.lent.proxy().context("the sidecar has no proxy")?;
        let way = Way::to(proxy).await?;
        let scratch = self.room.0.join(name);
        std::fs::create_dir(&scratch)?;
        let url = format!("{base}/{name}/{}", runtime.asks().below());
        let mut command = Command::new(program);
        command
            .args(runtime.call(&url, &scratch))
            .current_dir(&scratch);
        self.lent.dress(&mut command, way.address)?;
        command.envs(runtime.besides().iter().copied());
        let told = run(&mut command, CALL).await?;
        let (decisions, direct) = self.target.seen(name);
        Ok(Seen {
            came: way.came(),
            decided: !decisions.is_empty() && decisions.iter().all(|id| self.permitted(id)),
            answered: told.said.contains(&self.target.marker),
            direct,
            ended: told.ended,
        })
    }

    /// Whether the log has that decision as a permission.
    fn permitted(&self, id: &str) -> bool {
        let log = std::fs::read_to_string(self.room.0.join("decisions.jsonl"));
        let permits = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let says = |name: &str, word: &str| line.get(name).is_some_and(|told| told == word);
            says("type", "decision") && says("decision_id", id) && says("outcome", "allow")
        };
        log.is_ok_and(|log| log.lines().any(permits))
    }

    /// A program of Go that makes one call, or why there is none.
    async fn built(&self, go: &Path) -> anyhow::Result<Result<PathBuf, String>> {
        let source = self.room.write("call.go", GO)?;
        let made = self.room.0.join("call");
        let mut command = Command::new(go);
        command.args(["build", "-o"]).arg(&made).arg(source);
        command.envs(Runtime::Go.besides().iter().copied());
        command.env("GO111MODULE", "off").current_dir(&self.room.0);
        Ok(match run(&mut command, BUILD).await?.ended {
            Ended::Itself { well: true, .. } => Ok(made),
            Ended::Itself { said, .. } => Err(format!("its program cannot be built: `{said}`")),
            Ended::Killed => Err("its program was not built in time".to_owned()),
        })
    }
}

/// How a program ended, and all that it said.
struct Told {
    said: String,
    ended: Ended,
}

/// Runs a program in a group of its own, which ends in time.
async fn run(command: &mut Command, within: Duration) -> anyhow::Result<Told> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let output = timeout(within, child.wait_with_output()).await;
    if let Some(group) = group {
        // What it left behind ends with it.
        kill_process_group(group, Signal::KILL).ok();
    }
    let Ok(output) = output else {
        return Ok(Told {
            said: String::new(),
            ended: Ended::Killed,
        });
    };
    let output = output?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let telling = errors.lines().map(str::trim).find(|line| speaks(line));
    let last = errors.lines().map(str::trim).rfind(|line| !line.is_empty());
    let words = telling.or(last).unwrap_or_default();
    Ok(Told {
        said,
        ended: Ended::Itself {
            well: output.status.success(),
            said: words.chars().take(LAST_WORDS).collect(),
        },
    })
}

/// Whether a line tells more than that something failed.
fn speaks(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["certificate", "x509", "self-signed", "cert_"]
        .iter()
        .any(|word| line.contains(word))
}
