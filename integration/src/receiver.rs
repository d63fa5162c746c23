//! The receiver of security events as a process: its files in a directory of its own, killed at the
//! end.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Agent, Answer, BEARER, PATIENCE, Request, Run, Transmitter,
    sidecar::{first_line, lines, read, sample, to_its_end},
    until,
};

/// A receiver, running or not.
#[derive(Debug)]
pub struct Receiver {
    binary: String,
    directory: TempDir,
    child: Option<Child>,
    said: Value,
    /// The configuration, written as `receiver.yaml`.
    pub config: Value,
}

impl Receiver {
    /// One that is not running, to which this transmitter delivers; who obeys is still to be said.
    ///
    /// # Panics
    /// When there is no directory for it.
    pub fn new(binary: &str, transmitter: &Transmitter) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("receiver-")
            .tempdir()
            .unwrap();
        let receiver = Self {
            binary: binary.to_owned(),
            directory,
            child: None,
            said: Value::Null,
            config: json!({
                "transmitters": [{
                    "issuer": transmitter.issuer,
                    "jwks": "file:keys.json",
                    "audience": "https://receiver.example.org",
                    "push": {"bearer": "${file:bearer}"},
                }],
                "listen": {"address": "127.0.0.1:0"},
                "admin": {"address": "127.0.0.1:0"},
                "security_log": {"path": "security.jsonl"},
            }),
        };
        receiver.file("keys.json", &transmitter.keys().to_string());
        receiver.file("bearer", &format!("{BEARER}\n"));
        receiver
    }

    /// Changes the configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Lets these control sockets obey.
    #[must_use]
    pub fn obeyed_by(self, sockets: &[std::path::PathBuf]) -> Self {
        self.config(|config| {
            config["sidecars"] = json!(sockets);
            config["seen"] = json!("seen.jsonl");
        })
    }

    /// Fetches from there, and is delivered to by nobody.
    #[must_use]
    pub fn polling(self, url: &str) -> Self {
        self.config(|config| {
            config.as_object_mut().unwrap().remove("listen");
            let transmitter = config["transmitters"][0].as_object_mut().unwrap();
            transmitter.remove("push");
            transmitter.insert(
                "poll".into(),
                json!({"url": url, "bearer": "${file:bearer}", "max_events": 2}),
            );
        })
    }

    /// Writes a file into the directory.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.file("receiver.yaml", &format!("{:#}\n", self.config));
        let mut command = Command::new(&self.binary);
        command.arg("receiver").args(arguments);
        command.current_dir(self.directory.path());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Run {
        to_its_end(&mut self.command(arguments))
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(mut self) -> Self {
        let errors = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.directory.path().join("stderr.txt"));
        let mut child = self
            .command(&["--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.unwrap())
            .spawn()
            .expect("the binary starts");
        let first = first_line(&mut child);
        self.child = Some(child);
        self.said = serde_json::from_str(&first).unwrap_or_else(|error| {
            let errors = read(&self.directory.path().join("stderr.txt"));
            panic!("the receiver did not come up: {first:?} {error}\n{errors}")
        });
        self
    }

    /// Where deliveries go.
    ///
    /// # Panics
    /// When it listens nowhere.
    pub fn address(&self) -> SocketAddr {
        self.said["listening"].as_str().unwrap().parse().unwrap()
    }

    /// GET from the admin address.
    ///
    /// # Panics
    /// When it has none.
    pub fn get(&self, path: &str) -> Answer {
        let admin: SocketAddr = self.said["admin"].as_str().unwrap().parse().unwrap();
        Agent::new(admin.into(), path).send(&Request::raw("GET", "", Vec::new()))
    }

    /// Waits until it could deal with a token.
    pub fn ready(&self) {
        until("the receiver to be ready", || {
            (self.get("/readyz").status == 200).then_some(())
        });
    }

    /// The sum of a metric's samples that carry all of those labels.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| line.contains(label))
        });
        samples.filter_map(sample).sum()
    }

    /// The whole lines of its security log.
    pub fn log(&self) -> Vec<Value> {
        lines(&read(&self.directory.path().join("security.jsonl")))
    }

    /// Those lines of it that are of this type.
    pub fn logged(&self, kind: &str) -> Vec<Value> {
        let mut log = self.log();
        log.retain(|line| line["type"] == kind);
        log
    }

    /// What it said on standard error.
    pub fn errors(&self) -> String {
        read(&self.directory.path().join("stderr.txt"))
    }

    /// Asks it to stop, and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running receiver");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -TERM");
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(std::time::Instant::now() < end, "it does not stop");
            std::thread::sleep(crate::wait::PAUSE);
        }
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}
