//! What the kernel says of processes: processor time and memory (proc(5)).

use std::{collections::HashMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result};

/// The processor time of each thread of some processes and their descendants, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Cpu(HashMap<u32, u64>);

impl Cpu {
    /// As it stands.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut threads = HashMap::new();
        for pid in family(pids)? {
            for thread in numbers(&format!("/proc/{pid}/task"))? {
                // A thread may end while its neighbours are looked at.
                if let Some(time) = run_time(pid, thread) {
                    threads.insert(thread, time);
                }
            }
        }
        Ok(Self(threads))
    }

    /// What the threads have run since then, those that were not there yet included.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let ran = self.0.iter().map(|(thread, time)| {
            let then = before.0.get(thread).copied().unwrap_or_default();
            time.saturating_sub(then)
        });
        Duration::from_nanos(ran.sum())
    }
}

/// Time on a processor, to the nanosecond, unlike the ticks of `stat`.
fn run_time(pid: u32, thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// The processor time of the calling thread.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let whole = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(whole, rest)
}

/// Resident memory of some processes and their descendants, summed, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What they have now; pages that several share count for each.
    pub(crate) resident: u64,
    /// The most each has had.
    pub(crate) peak: u64,
    /// What they have now, shared pages divided among those who share them.
    pub(crate) proportional: u64,
}

impl Memory {
    /// As it stands.
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for pid in family(pids)? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            sum.resident += kib(&status, "VmRSS:");
            sum.peak += kib(&status, "VmHWM:");
            sum.proportional += kib(&rollup, "Pss:");
        }
        Ok(sum)
    }
}

fn kib(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Processes and their living descendants.
fn family(pids: &[u32]) -> Result<Vec<u32>> {
    let parents: Vec<_> = numbers("/proc")?
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut family = pids.to_vec();
    let mut at = 0;
    while let Some(&pid) = family.get(at) {
        let children = parents.iter().filter(|(_, parent)| *parent == pid);
        family.extend(children.map(|(child, _)| child));
        at += 1;
    }
    Ok(family)
}

fn numbers(directory: &str) -> Result<Vec<u32>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {directory}"))?;
    let number = |path: &Path| path.file_name()?.to_str()?.parse().ok();
    Ok(entries
        .filter_map(|entry| number(&entry.ok()?.path()))
        .collect())
}

/// The second field of `stat` after the name, which may hold spaces.
fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}
