//! What one call costs in instructions of user space and in allocations, counted under Valgrind's callgrind: the same
//! binary gives the same figure, whatever else the machine does.
//!
//! Cryptography is counted apart: Valgrind's processor lacks the instructions that make it fast on a real one.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::{
    compare::Common,
    load::Pace,
    outrider::Settings,
    peers,
    shape::Shape,
    world::{Case, World},
};

/// What is counted.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
}

/// Parts of the names of functions that compute digests and signatures.
const CRYPTOGRAPHY: [&str; 5] = ["sha256", "sha512", "ed25519", "25519", "SHA"];

/// The function that every allocation goes through.
const ALLOCATES: &str = "mi_malloc_aligned";

/// Counts and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    for program in ["valgrind", "callgrind_control"] {
        ensure!(
            peers::find(program).is_some(),
            "`{program}` is not on the PATH: install Valgrind"
        );
    }
    let directory = tempfile::tempdir()?;
    let profile = directory.path().join("profile");
    let settings = options.common.settings(Shape::default())?;
    let settings = Settings {
        binary: watched(&settings.binary, &profile, directory.path())?,
        ..settings
    };
    let calls = calls(&settings)?;
    let counted = Counted::read(&fs::read_to_string(&profile)?);
    let per_call = |number: u64| number / calls.max(1);
    let report = json!({
        "calls": calls,
        "instructions": per_call(counted.instructions - counted.cryptography),
        "cryptography": per_call(counted.cryptography),
        "allocations": per_call(counted.allocations),
    });
    println!("{report}");
    if let Some(output) = &options.common.output {
        fs::create_dir_all(output)?;
        fs::write(output.join("instructions.json"), report.to_string())?;
    }
    Ok(())
}

/// A program that is the binary under callgrind, which counts nothing yet.
fn watched(binary: &Path, profile: &Path, directory: &Path) -> Result<PathBuf> {
    let binary = binary
        .canonicalize()
        .with_context(|| format!("no {}", binary.display()))?;
    let wrapper = directory.join("outrider");
    let script = format!(
        "#!/bin/sh\nexec valgrind --tool=callgrind --instr-atstart=no --callgrind-out-file='{}' '{}' \"$@\"\n",
        profile.display(),
        binary.display()
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    Ok(wrapper)
}

/// Makes calls over one connection while callgrind counts; says how many.
fn calls(settings: &Settings) -> Result<u64> {
    let world = World::bare(Case::default())?;
    let outrider = world.start_outrider(settings)?.context("a sidecar")?;
    let pid = outrider.sidecar.pid().to_string();
    let token = outrider.token.clone();
    let target = world.outrider_target(outrider, &[token])?;
    let control = |order: &[&str]| -> Result<()> {
        let done = Command::new("callgrind_control")
            .args(order)
            .arg(&pid)
            .output()?;
        ensure!(done.status.success(), "callgrind_control {order:?} failed");
        Ok(())
    };
    target.measure(1, Pace::Closed, Duration::from_secs(1))?;
    control(&["-i", "on"])?;
    let before = target.calls();
    target.measure(1, Pace::Closed, Duration::from_secs(4))?;
    let calls = target.calls() - before;
    control(&["-i", "off"])?;
    let mut outrider = target.into_outrider().context("the sidecar")?;
    outrider.sidecar.signal("TERM");
    outrider.sidecar.wait();
    Ok(calls as u64)
}

/// What a profile says in sum.
#[derive(Debug, Default)]
struct Counted {
    instructions: u64,
    cryptography: u64,
    allocations: u64,
}

impl Counted {
    /// Reads callgrind's format: positions with costs under the function they belong to; a `calls=` line says how often,
    /// and the cost behind it is the callee's.
    fn read(profile: &str) -> Self {
        let (mut counted, mut names) = (Self::default(), HashMap::new());
        let (mut function, mut callee, mut is_call) = ("", "", false);
        for line in profile.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = named(&mut names, name);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = named(&mut names, name);
            } else if let Some(calls) = line.strip_prefix("calls=") {
                is_call = true;
                if callee == ALLOCATES {
                    counted.allocations += first(calls);
                }
            } else if line
                .starts_with(|begin: char| begin.is_ascii_digit() || "+-*".contains(begin))
            {
                let cost = line.split_once(' ').map_or(0, |(_, costs)| first(costs));
                if !std::mem::take(&mut is_call) {
                    counted.instructions += cost;
                    if CRYPTOGRAPHY.iter().any(|part| function.contains(part)) {
                        counted.cryptography += cost;
                    }
                }
            }
        }
        counted
    }
}

/// A function's name; `(NUMBER) NAME` the first time, `(NUMBER)` from then on.
fn named<'a>(names: &mut HashMap<&'a str, &'a str>, text: &'a str) -> &'a str {
    match text.split_once(") ") {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names
            .get(text.trim_end_matches(')'))
            .copied()
            .unwrap_or_default(),
    }
}

fn first(numbers: &str) -> u64 {
    let number = numbers.split(' ').next();
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callees_cost_is_counted_once_and_where_it_belongs() {
        let profile = "fn=(1) a\n10 5\ncfn=(2) mi_malloc_aligned\ncalls=3 0\n11 30\n\nfn=(2)\n+1 30\n\nfn=(3) aws_sha256_block\n* 7\n";
        let counted = Counted::read(profile);
        assert_eq!(counted.instructions, 42);
        assert_eq!((counted.cryptography, counted.allocations), (7, 3));
    }
}
