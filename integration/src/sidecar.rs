//! The sidecar as a process: its files in a directory of its own, its ports found from its first
//! line, killed at the end.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Address, Agent, Answer, PATIENCE, Request, ToolServer, lock_file, until, wait::PAUSE};

/// What a finished command said.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A local task that was opened.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its ID.
    pub id: String,
    /// Its token.
    pub token: String,
}

/// The files of a sidecar that is not yet running, in a directory that lives as long as it.
#[derive(Debug)]
pub struct Setup {
    binary: PathBuf,
    directory: TempDir,
    environment: Vec<(String, String)>,
    /// The configuration, written as `outrider.yaml` (JSON is YAML).
    pub config: Value,
    /// The policy data, written as `data.yaml`.
    pub data: Value,
}

/// The agent every setup has.
const AGENT: &str = "spiffe://example.org/agent/test";

/// The configuration of an MCP service at that server, under a lock file of that name.
pub fn service(name: &str, server: &ToolServer) -> Value {
    json!({
        "name": name,
        "protocol": "mcp",
        "upstream": server.url(),
        "schemas": format!("{name}.json"),
        "classification": "internal",
    })
}

impl Setup {
    /// One reverse listener, one agent, one intent `work` that covers everything, one grant of
    /// everything, and the service `tools` at that server.
    pub fn new(binary: &str, server: &ToolServer) -> Self {
        let mut setup = Self::bare(binary);
        setup.add_service("tools", server);
        setup
    }

    /// The same without a service.
    pub fn bare(binary: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("outrider-")
            .tempdir()
            .unwrap();
        fs::create_dir(directory.path().join("policy")).unwrap();
        Self {
            binary: binary.into(),
            directory,
            environment: Vec::new(),
            config: config(),
            data: data(),
        }
    }

    /// Adds a service at that server, with a lock file of its definitions.
    pub fn add_service(&mut self, name: &str, server: &ToolServer) {
        self.file(
            &format!("{name}.json"),
            &lock_file(&server.definitions()).to_string(),
        );
        self.config["services"]
            .as_array_mut()
            .unwrap()
            .push(service(name, server));
    }

    /// Adds a service by its section, `classification: internal` unless it says otherwise.
    ///
    /// # Panics
    /// When the section is no object.
    #[must_use]
    pub fn serving(mut self, section: &Value) -> Self {
        let mut whole = json!({"classification": "internal"});
        for (key, value) in section.as_object().unwrap() {
            whole[key] = value.clone();
        }
        self.config["services"].as_array_mut().unwrap().push(whole);
        self
    }

    /// Sets a variable of the environment for every command.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Changes the configuration.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// Changes the policy data.
    #[must_use]
    pub fn data(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.data);
        self
    }

    /// Adds a rule file to the policy.
    #[must_use]
    pub fn rules(self, rego: &str) -> Self {
        self.file("policy/rules.rego", rego);
        self
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file into the directory.
    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes configuration and data as they now are.
    pub fn write(&self) {
        self.file("outrider.yaml", &format!("{:#}\n", self.config));
        self.file("data.yaml", &format!("{:#}\n", self.data));
    }

    /// Runs a command of `outrider` in the directory to its end.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`]; it is killed before.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_in(self.directory.path(), arguments)
    }

    /// The same in another directory.
    pub fn run_in(&self, directory: &Path, arguments: &[&str]) -> Run {
        to_its_end(self.command().args(arguments).current_dir(directory))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        let environment = self.environment.iter();
        command.envs(environment.map(|(name, value)| (name, value)));
        command
    }

    /// Starts the sidecar.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(self) -> Sidecar {
        self.write();
        let process = Process::spawn(&self, &[]);
        Sidecar {
            setup: self,
            process,
        }
    }
}

fn config() -> Value {
    json!({
        "agent": {"id": AGENT},
        "environment": "test",
        "listeners": [{"mode": "reverse", "address": "127.0.0.1:0"}],
        "admin": {"address": "127.0.0.1:0"},
        "control": {"socket": "control.sock"},
        "services": [],
        "tasks": {"required": true, "local": true},
        // A debug build on a machine that runs all tests at once is slower than the default bound.
        "policy": {"path": "policy", "data": ["data.yaml"], "timeout": "10s"},
        "decision_log": {"path": "decisions.jsonl", "durability": "written"},
        "security_log": {"path": "security.jsonl"},
    })
}

fn data() -> Value {
    json!({
        "agents": [{
            "id": AGENT,
            "owner": "owner@example.org",
            "purpose": "Is a test",
            "roles": ["tester"],
            "expires": "2100-01-01T00:00:00Z",
            "state": "active",
        }],
        "intents": [{
            "id": "work",
            "owner": "owner@example.org",
            "tools": ["*/*"],
            "max_classification": "restricted",
        }],
        "grants": [{"agent": AGENT, "tools": ["*/*"]}],
    })
}

/// Runs a command to its end, killed when that does not come within [`PATIENCE`].
pub(crate) fn to_its_end(command: &mut Command) -> Run {
    let command = command.stdin(Stdio::null());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the binary starts");
    let stdout = drained(child.stdout.take().expect("a pipe"));
    let stderr = drained(child.stderr.take().expect("a pipe"));
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > end {
            child.kill().ok();
            child.wait().ok();
            break None;
        }
        thread::sleep(PAUSE);
    };
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    let status = status.unwrap_or_else(|| panic!("{command:?} did not end: {stdout}{stderr}"));
    Run {
        status: status.code().unwrap_or(-1),
        stdout,
        stderr,
    }
}

fn drained(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[derive(Debug)]
struct Process {
    child: Child,
    listening: Value,
}

impl Process {
    fn spawn(setup: &Setup, options: &[&str]) -> Self {
        let errors = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(setup.path("stderr.txt"));
        let mut child = setup
            .command()
            .args(["run", "--json", "-c", "outrider.yaml"])
            .args(options)
            .current_dir(setup.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.unwrap())
            .spawn()
            .expect("the binary starts");
        let first = first_line(&mut child);
        let listening = serde_json::from_str(&first).unwrap_or_else(|error| {
            child.kill().ok();
            child.wait().ok();
            let errors = fs::read_to_string(setup.path("stderr.txt")).unwrap_or_default();
            panic!("the sidecar did not come up: {first:?} {error}\n{errors}")
        });
        Self { child, listening }
    }
}

/// Reads the child's first line and lets a thread drain what follows.
pub(crate) fn first_line(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        lines.read_line(&mut line).ok();
        send.send(line).ok();
        std::io::copy(&mut lines, &mut std::io::sink()).ok();
    });
    receive.recv_timeout(PATIENCE).unwrap_or_default()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A process from which another one took over.
#[derive(Debug)]
pub struct Predecessor(Process);

impl Predecessor {
    /// Waits for it to end by itself.
    pub fn wait(mut self) -> ExitStatus {
        let child = &mut self.0.child;
        until("the predecessor to end", || child.try_wait().unwrap())
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.0.child.try_wait().unwrap().is_none()
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    setup: Setup,
    process: Process,
}

impl Sidecar {
    /// Its files.
    pub fn setup(&mut self) -> &mut Setup {
        &mut self.setup
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// Where the listener of that name listens.
    pub fn listener(&self, name: &str) -> Address {
        let listeners = self.process.listening["listening"]
            .as_array()
            .expect("listeners");
        let listener = listeners.iter().find(|listener| listener["name"] == name);
        let address = listener.expect("a listener of that name")["address"]
            .as_str()
            .unwrap();
        match address.strip_prefix("unix:").unwrap_or(address).parse() {
            Ok(address) => Address::Tcp(address),
            Err(_) => Address::Unix(self.path(address.strip_prefix("unix:").unwrap_or(address))),
        }
    }

    /// The admin address.
    pub fn admin(&self) -> SocketAddr {
        let admin = self.process.listening["admin"]
            .as_str()
            .expect("an admin address");
        admin.parse().expect("an admin address")
    }

    /// An agent of the service `tools` without a task.
    pub fn stranger(&self) -> Agent {
        Agent::new(self.listener("reverse"), "/tools")
    }

    /// An agent of the service `tools` with a task of the intent `work`.
    pub fn agent(&self) -> Agent {
        self.stranger().with_token(&self.open_task(&[]).token)
    }

    /// An agent of the service of that name with a task of the intent `work`.
    pub fn agent_of(&self, service: &str) -> Agent {
        Agent::new(self.listener("reverse"), &format!("/{service}"))
            .with_token(&self.open_task(&[]).token)
    }

    /// Opens a task of the intent `work`, with further options.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open_task(&self, options: &[&str]) -> Task {
        self.open_task_for("work", options)
    }

    /// Opens a task of that intent, with further options.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open_task_for(&self, intent: &str, options: &[&str]) -> Task {
        let run =
            self.command(&[&["task", "open", "--intent", intent, "--json"], options].concat());
        assert_eq!(run.status, 0, "task open: {run:?}");
        let task: Value = serde_json::from_str(&run.stdout).expect("a task as JSON");
        let text = |key: &str| task[key].as_str().expect(key).to_owned();
        Task {
            id: text("id"),
            token: text("token"),
        }
    }

    /// Runs a command that talks to this sidecar.
    pub fn command(&self, arguments: &[&str]) -> Run {
        let control = self.process.listening["control"]
            .as_str()
            .expect("a control socket");
        self.setup
            .run(&[arguments, &["--control", control]].concat())
    }

    /// Sends a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let target = self.pid().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &target])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Writes configuration and data as they now are, and asks for a reload.
    pub fn reload(&self) {
        self.setup.write();
        self.signal("HUP");
    }

    /// The process's ID.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.process.child;
        until("the sidecar to end", || child.try_wait().unwrap())
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.child.try_wait().unwrap().is_none()
    }

    /// Asks it to stop, waits for its end, and starts it again over the same files.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.signal("TERM");
        self.wait();
        self.start_again()
    }

    /// Kills it without warning and starts it again over the same files.
    #[must_use]
    pub fn crash(mut self) -> Self {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
        self.start_again()
    }

    /// Starts it again over the same files, after it has ended.
    #[must_use]
    pub fn start_again(mut self) -> Self {
        self.process = Process::spawn(&self.setup, &[]);
        self
    }

    /// Lets a new process take over, and returns the one before it.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn take_over(&mut self) -> Predecessor {
        let successor = Process::spawn(&self.setup, &["--take-over"]);
        Predecessor(std::mem::replace(&mut self.process, successor))
    }

    /// The configuration's and the policy data's files, read by [`reload`](Self::reload).
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Value, &mut Value)) {
        change(&mut self.setup.config, &mut self.setup.data);
        self.reload();
    }

    /// GET from the admin address.
    pub fn get(&self, path: &str) -> Answer {
        Agent::new(self.admin().into(), path).send(&Request::raw("GET", "", Vec::new()))
    }

    /// The sum of a metric's samples that carry all of those labels, as `name="value"`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.get("/metrics").text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| line.contains(label))
        });
        samples.filter_map(sample).sum()
    }

    /// The decision log as it is.
    pub fn log_text(&self) -> String {
        read(&self.path("decisions.jsonl"))
    }

    /// The decision log's whole lines.
    pub fn log(&self) -> Vec<Value> {
        lines(&self.log_text())
    }

    /// The security log's whole lines.
    pub fn security_log(&self) -> Vec<Value> {
        lines(&read(&self.path("security.jsonl")))
    }

    /// The only decision line of that ID, which must be there already.
    pub fn decision(&self, id: &str) -> Value {
        let mut found = of(&self.log(), "decision", id);
        assert_eq!(found.len(), 1, "decision lines of {id:?}: {found:?}");
        found.remove(0)
    }

    /// The only outcome line of that decision, waited for.
    pub fn outcome(&self, id: &str) -> Value {
        let mut found = until("an outcome line", || {
            let found = of(&self.log(), "outcome", id);
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found.len(), 1, "outcome lines of {id}: {found:?}");
        found.remove(0)
    }

    /// The outcome lines of that decision that are there now.
    pub fn outcomes(&self, id: &str) -> Vec<Value> {
        of(&self.log(), "outcome", id)
    }

    /// The decision lines of calls (of a tool) that are there now.
    pub fn decisions(&self) -> Vec<Value> {
        let mut log = self.log();
        log.retain(|line| line["type"] == "decision");
        log
    }
}

fn of(log: &[Value], kind: &str, id: &str) -> Vec<Value> {
    let wanted = |line: &&Value| line["type"] == kind && line["decision_id"] == id;
    log.iter().filter(wanted).cloned().collect()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

pub(crate) fn lines(text: &str) -> Vec<Value> {
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

/// The value of a Prometheus sample line, its exemplar cut off.
pub(crate) fn sample(line: &str) -> Option<f64> {
    let value = line
        .split(" # ")
        .next()?
        .rsplit_once("} ")
        .or_else(|| line.split_once(' '))?
        .1;
    value.split(' ').next()?.parse().ok()
}
