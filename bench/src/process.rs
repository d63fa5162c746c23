//! What the kernel says of a process and its descendants: CPU time and memory (proc(5)).

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};

/// The kernel's unit of CPU time towards user space, on every Linux architecture in use.
const TICK: Duration = Duration::from_millis(10);

/// CPU time, user and system, that a process and its descendants have used.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let mut ticks = 0;
    for pid in family(pid)? {
        let fields = stat(pid)?;
        let of = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok());
        ticks += of(11)
            .zip(of(12))
            .map(|(user, system)| user + system)
            .context("proc stat")?;
    }
    Ok(TICK * ticks)
}

/// The most resident memory that a process and its descendants have had, in KiB.
pub(crate) fn peak_memory(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for pid in family(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let value = line.and_then(|line| line.split_whitespace().next());
        sum += value
            .and_then(|value| value.parse::<u64>().ok())
            .unwrap_or_default();
    }
    Ok(sum)
}

/// A process and its living descendants.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut family = vec![pid];
    for child in children(pid)? {
        family.extend(self::family(child)?);
    }
    Ok(family)
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let parent = |other: u32| {
        stat(other)
            .ok()
            .and_then(|fields| fields.get(1)?.parse().ok())
    };
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        children.extend(number(&entry?.path()).filter(|other| parent(*other) == Some(pid)));
    }
    Ok(children)
}

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}

/// The fields of `/proc/PID/stat` after the name, which may hold spaces: state, parent, …
fn stat(pid: u32) -> Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").context("proc stat")?;
    Ok(fields.split(' ').map(str::to_owned).collect())
}
