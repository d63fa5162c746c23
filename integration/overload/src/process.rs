//! What a process holds in memory, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};

/// The memory of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory(pub(crate) u32);

impl Memory {
    /// Bytes now.
    pub(crate) fn now(self) -> Result<u64> {
        self.field("VmRSS:")
    }

    /// The most bytes since [`forget`](Self::forget).
    pub(crate) fn peak(self) -> Result<u64> {
        self.field("VmHWM:")
    }

    /// Forgets the peak.
    pub(crate) fn forget(self) -> Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.0), "5").context("clear_refs")
    }

    fn field(self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name));
        let value = value.and_then(|value| value.trim().strip_suffix(" kB"));
        Ok(value.context("a size in kB")?.trim().parse::<u64>()? * 1024)
    }
}

/// Bytes as people read them.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
