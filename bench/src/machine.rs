//! The machine, as far as it explains figures.

use std::{fs, process::Command};

use anyhow::Result;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::peers;

/// How to ask each program for its version.
const VERSIONS: [(&str, &str); 5] = [
    ("nginx", "-v"),
    ("haproxy", "-v"),
    ("envoy", "--version"),
    ("opa-envoy-plugin", "version"),
    ("opa-ext-authz", "version"),
];

/// Lets this process and its children open as many files as the system allows: each connection is one.
pub(crate) fn open_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Processors, kernel, how busy it is, and the versions of the peers.
pub(crate) fn description() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let versions: serde_json::Map<_, _> = VERSIONS
        .into_iter()
        .filter_map(|(program, option)| Some((program.to_owned(), version(program, option)?)))
        .collect();
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "model": model.map(|model| model.trim_start_matches([' ', '\t', ':'])),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").trim(),
        "peers": versions,
    })
}

/// The first line of what it says.
fn version(program: &str, option: &str) -> Option<Value> {
    let output = Command::new(peers::find(program)?)
        .arg(option)
        .output()
        .ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    said.lines()
        .find(|line| !line.is_empty())
        .map(|line| json!(line.trim()))
}
