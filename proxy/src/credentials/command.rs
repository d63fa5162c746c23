//! A secret that a program of the operator brings: a vault's client, a cloud's command line.
//!
//! It gets nothing of ours: no input, no environment but what is named, no error stream. It is
//! bounded in time and output, and ends with everything it started.

use std::{path::Path, process::Stdio, time::Duration};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString, zeroize::Zeroize as _};
use serde::Deserialize;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    time::timeout,
};

use super::{Fault, Got, LONGEST};
use crate::units::Period;

/// Bytes of a command's output.
const LARGEST_OUTPUT: usize = 64 * 1024;

/// Where programs without a path are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `credentials.command`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The program and its arguments.
    pub run: Words,
    /// How long it may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Period,
    /// How long an answer is good for that does not say.
    #[serde(default = "five_minutes")]
    pub ttl: Period,
    /// Variables of our environment that it gets, besides a usual `PATH`.
    #[serde(default)]
    pub environment: Vec<String>,
}

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Words {
    program: String,
    arguments: Vec<String>,
}

impl TryFrom<Vec<String>> for Words {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, &'static str> {
        let mut words = words.into_iter();
        match words.next() {
            Some(program) if !program.is_empty() => Ok(Self {
                program,
                arguments: words.collect(),
            }),
            _ => Err(
                "expected a program and its arguments, such as `[vault, read, -field=token, …]`",
            ),
        }
    }
}

fn ten_seconds() -> Period {
    Period(Duration::from_secs(10))
}

fn five_minutes() -> Period {
    Period(Duration::from_mins(5))
}

/// What a command may say besides the bare secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    value: SecretString,
    expires: Option<Timestamp>,
    expires_in: Option<u64>,
}

impl Config {
    /// Runs the command in `directory` and reads what it says.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn fetch(&self, directory: &Path) -> Result<Got, Fault> {
        let output = timeout(self.timeout.0, self.output(directory)).await;
        let output = output.unwrap_or(Err(Fault::Timeout))?;
        self.read(output.expose_secret(), Timestamp::now())
    }

    async fn output(&self, directory: &Path) -> Result<SecretSlice<u8>, Fault> {
        let program = Path::new(&self.run.program);
        // As a shell does: a name is looked for, a path is a path.
        let program = if self.run.program.contains('/') {
            directory.join(program)
        } else {
            program.to_owned()
        };
        let named = |name: &String| Some((name.clone(), std::env::var_os(name)?));
        let child = Command::new(program)
            .args(&self.run.arguments)
            .current_dir(directory)
            .env_clear()
            .env("PATH", PATH)
            .envs(self.environment.iter().filter_map(named))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut group = Group(child.map_err(|error| Fault::NotStarted(error.kind()))?);
        // Of one piece, so that growing leaves no copy behind.
        let mut bytes = Vec::with_capacity(LARGEST_OUTPUT + 1);
        if let Some(stdout) = group.0.stdout.take() {
            let failed = |_| Fault::Unusable("the command's output broke off");
            let mut stdout = stdout.take(LARGEST_OUTPUT as u64 + 1);
            stdout.read_to_end(&mut bytes).await.map_err(failed)?;
        }
        let bytes = SecretSlice::from(bytes);
        if bytes.expose_secret().len() > LARGEST_OUTPUT {
            return Err(Fault::Unusable("the command said too much"));
        }
        let status = group.0.wait().await;
        match status.map_err(|_| Fault::Failed(None))? {
            status if status.success() => Ok(bytes),
            status => Err(Fault::Failed(status.code())),
        }
    }

    fn read(&self, output: &[u8], now: Timestamp) -> Result<Got, Fault> {
        let text = std::str::from_utf8(output)
            .map_err(|_| Fault::Unusable("the command's output is not text"))?
            .trim_ascii();
        if text.is_empty() {
            return Err(Fault::Unusable("the command said nothing"));
        }
        let (secret, lifetime) = if text.starts_with('{') {
            said(text, now)?
        } else {
            (text.into(), None)
        };
        Ok(Got {
            secret,
            lifetime: lifetime.unwrap_or(self.ttl.0).min(LONGEST),
        })
    }
}

fn said(text: &str, now: Timestamp) -> Result<(SecretString, Option<Duration>), Fault> {
    let form = Fault::Unusable(
        "expected `{\"value\": …}` with `expires` (RFC 3339) or `expires_in` (seconds)",
    );
    let mut copy = text.to_owned();
    let said: Result<Said, _> = serde_json::from_str(&copy);
    copy.zeroize();
    let said = said.map_err(|_| form.clone())?;
    let lifetime = match (said.expires, said.expires_in) {
        (None, None) => None,
        (Some(expires), None) => {
            let left = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
            Some(left)
        }
        (None, Some(seconds)) => Some(Duration::from_secs(seconds)),
        (Some(_), Some(_)) => return Err(form),
    };
    if said.value.expose_secret().is_empty() {
        return Err(Fault::Unusable("the command said nothing"));
    }
    if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
        return Err(Fault::Unusable("it has expired already"));
    }
    Ok((said.value, lifetime))
}

/// A child and everything it started, ended when this is dropped before the child has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // A child that was waited for has no ID any more: nobody else is ended in its place.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // One that has just ended by itself is as good.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(script: &str, timeout: &str) -> Config {
        serde_json::from_value(serde_json::json!({
            "run": ["sh", "-c", script], "timeout": timeout, "environment": ["CARGO_PKG_NAME"],
        }))
        .unwrap()
    }

    async fn run(script: &str) -> Result<(String, Duration), Fault> {
        let got = config(script, "10s").fetch(Path::new("/tmp")).await?;
        Ok((got.secret.expose_secret().to_owned(), got.lifetime))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_says_the_bare_secret_or_json_with_an_expiry() {
        let five = Duration::from_mins(5);
        assert_eq!(run("echo s3cret").await, Ok(("s3cret".into(), five)));
        let json = r#"echo '{"value": "s", "expires_in": 60}'"#;
        assert_eq!(run(json).await, Ok(("s".into(), Duration::from_mins(1))));
        let at = Timestamp::now() + Duration::from_secs(90);
        let json = format!(r#"echo '{{"value": "s", "expires": "{at}"}}'"#);
        let (_, lifetime) = run(&json).await.unwrap();
        assert!(lifetime <= Duration::from_secs(90) && lifetime > Duration::from_secs(30));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_command_should_not_say_is_no_secret() {
        for script in [
            "true",
            "echo",
            r#"echo '{"value": ""}'"#,
            r#"echo '{"token": "s"}'"#,
            r#"echo '{"value": "s", "expires_in": 0}'"#,
            r#"echo '{"value": "s", "expires": "2020-01-01T00:00:00Z"}'"#,
            r#"echo '{"value": "s", "expires_in": 9, "expires": "2100-01-01T00:00:00Z"}'"#,
            r"printf '\377\376'",
            "head -c 70000 /dev/zero",
        ] {
            let said = run(script).await;
            assert!(
                matches!(said, Err(Fault::Unusable(_))),
                "{script}: {said:?}"
            );
        }
        assert_eq!(run("echo s; exit 3").await, Err(Fault::Failed(Some(3))));
        assert_eq!(run("kill -9 $$").await, Err(Fault::Failed(None)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_gets_nothing_but_what_is_named() {
        let (environment, _) = run("env | sort | tr '\n' ' '; cat").await.unwrap();
        let names = environment
            .split(' ')
            .filter_map(|pair| pair.split_once('='));
        let names: Vec<&str> = names.map(|(name, _)| name).collect();
        let beside = |name: &&&str| !matches!(**name, "PWD" | "SHLVL" | "_" | "OLDPWD");
        let names: Vec<&&str> = names.iter().filter(beside).collect();
        assert_eq!(names, [&"CARGO_PKG_NAME", &"PATH"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_that_takes_too_long_ends_with_everything_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        // The grandchild holds the pipe open.
        let script = format!("sleep 1000 & echo $$ $! > {}; wait", file.display());
        let config = config(&script, "1s");
        let fetched = config.fetch(dir.path()).await;
        assert_eq!(fetched.err(), Some(Fault::Timeout));
        let pids = std::fs::read_to_string(&file).unwrap();
        for pid in pids.split_whitespace() {
            let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) => stat.contains(") Z "),
                Err(_) => true,
            };
            while !gone() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_program_that_is_not_there_says_so() {
        let config: Config =
            serde_json::from_value(serde_json::json!({"run": ["./no-such-program"]})).unwrap();
        let fetched = config.fetch(Path::new("/tmp")).await;
        let expected = Fault::NotStarted(std::io::ErrorKind::NotFound);
        assert_eq!(fetched.err(), Some(expected));
        assert!(serde_json::from_value::<Words>(serde_json::json!([])).is_err());
    }
}
