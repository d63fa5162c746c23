//! What is compared: the tool server alone, nginx before it, Outrider before it. Each is a process
//! that ends with its value.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use outrider_integration::{Address, Setup, Sidecar, lock_file};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::message;

/// A child that is asked to stop and then killed when the value goes.
#[derive(Debug)]
pub(crate) struct Owned(Child);

impl Owned {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let stopped = Command::new("kill").arg(self.0.id().to_string()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while stopped.is_ok() && Instant::now() < end {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts the tool server as a process of this same program.
pub(crate) fn tool_server() -> Result<(Owned, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg("tool-server").stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let out = child.stdout.take().context("a pipe")?;
    let owned = Owned(child);
    BufReader::new(out).read_line(&mut line)?;
    let port: u16 = line
        .trim()
        .parse()
        .context("the tool server names its port")?;
    Ok((owned, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// nginx as a plain proxy with two workers and a pool of upstream connections.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) process: Owned,
    pub(crate) address: SocketAddr,
    _directory: TempDir,
}

impl Nginx {
    /// Starts it; `None` when this machine has no nginx.
    pub(crate) fn start(upstream: SocketAddr) -> Result<Option<Self>> {
        if Command::new("nginx")
            .arg("-v")
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            return Ok(None);
        }
        let directory = tempfile::tempdir()?;
        let address = free_address()?;
        fs::write(
            directory.path().join("nginx.conf"),
            nginx_conf(address, upstream),
        )?;
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(directory.path())
            .args(["-e", "error.log", "-c", "nginx.conf"]);
        let process = Owned(command.spawn()?);
        await_listener(address)?;
        Ok(Some(Self {
            process,
            address,
            _directory: directory,
        }))
    }
}

fn nginx_conf(address: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "daemon off;\nworker_processes 2;\npid nginx.pid;\nerror_log error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n\
         \x20 client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         \x20 uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         \x20 upstream tools {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen {address};\n    location / {{\n\
         \x20     proxy_pass http://tools; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         \x20   }}\n  }}\n}}\n"
    )
}

/// An address that was free a moment ago: nginx cannot be given port 0.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn await_listener(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > end {
            bail!("nobody listens on {address}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// How many tools the catalogue has and how many agents are granted each: 1,000 grants.
const TOOLS: usize = 50;
const AGENTS: usize = 20;

/// Outrider with every check on, and the token of its task.
#[derive(Debug)]
pub(crate) struct Outrider {
    pub(crate) sidecar: Sidecar,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Outrider {
    /// Starts it with a schema per tool, two limits, the shipped policy with 1,000 grants, the
    /// decision log of that durability and identity headers of that level.
    pub(crate) fn start(
        binary: &Path,
        upstream: SocketAddr,
        durability: &str,
        identity: &str,
    ) -> Result<Self> {
        let binary = binary.canonicalize().with_context(|| {
            format!(
                "no {}: build it with `cargo build --release`",
                binary.display()
            )
        })?;
        let mut setup = Setup::bare(&binary.to_string_lossy());
        setup.file("tools.json", &lock_file(&catalogue()).to_string());
        configure(&mut setup.config, upstream, durability, identity);
        grant(&mut setup.data);
        let sidecar = setup.start();
        let Address::Tcp(address) = sidecar.listener("reverse") else {
            bail!("a TCP listener was configured");
        };
        let token = sidecar.open_task(&[]).token;
        Ok(Self {
            sidecar,
            address,
            token,
        })
    }

    /// The decision lines of calls in the log.
    pub(crate) fn recorded(&self) -> Result<usize> {
        let mut lines = 0;
        let mut log = BufReader::new(fs::File::open(self.sidecar.path("decisions.jsonl"))?);
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line)? > 0 {
            lines += usize::from(contains(&line, br#""type":"decision""#));
            line.clear();
        }
        Ok(lines)
    }
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}

fn tool(number: usize) -> String {
    if number == 0 {
        message::TOOL.to_owned()
    } else {
        format!("tool_{number}")
    }
}

fn catalogue() -> BTreeMap<String, Value> {
    let tools = 0..TOOLS;
    tools
        .map(|number| (tool(number), json!({"inputSchema": message::schema()})))
        .collect()
}

fn configure(config: &mut Value, upstream: SocketAddr, durability: &str, identity: &str) {
    let rate = "1000000/s";
    for (key, value) in [
        (
            "services",
            json!([{
                "name": "mcp",
                "protocol": "mcp",
                "upstream": format!("http://{upstream}/mcp"),
                "schemas": "tools.json",
                "classification": "internal",
                "identity": identity,
            }]),
        ),
        (
            "limits",
            json!([
                {"name": "per-agent", "key": ["agent"], "rate": rate},
                {"name": "per-tool", "key": ["agent", "tool"], "rate": rate},
            ]),
        ),
        (
            "decision_log",
            json!({"path": "decisions.jsonl", "durability": durability}),
        ),
        ("workers", json!(2)),
    ] {
        if let Some(config) = config.as_object_mut() {
            config.insert(key.to_owned(), value);
        }
    }
}

/// Gives each of the agents a grant of each tool, one by one.
fn grant(data: &mut Value) {
    let agents: Vec<String> = (0..AGENTS).map(agent).collect();
    let inventory = agents.iter().map(|agent| {
        json!({
            "id": agent, "owner": "owner@example.org", "purpose": "Is measured",
            "roles": ["support"], "expires": "2100-01-01T00:00:00Z", "state": "active",
        })
    });
    let grants = agents.iter().flat_map(|agent| {
        (0..TOOLS).map(move |number| {
            json!({
                "agent": agent, "tools": [format!("mcp/{}", tool(number))],
                "intents": ["work"], "max_classification": "internal",
            })
        })
    });
    let (inventory, grants): (Vec<_>, Vec<_>) = (inventory.collect(), grants.collect());
    if let Some(data) = data.as_object_mut() {
        data.insert("agents".to_owned(), json!(inventory));
        data.insert("grants".to_owned(), json!(grants));
    }
}

fn agent(number: usize) -> String {
    let name = if number == 0 {
        "test".to_owned()
    } else {
        format!("other-{number}")
    };
    format!("spiffe://example.org/agent/{name}")
}
