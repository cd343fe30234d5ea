//! What a process takes, as the kernel keeps it.

use std::fs;

use anyhow::{Context as _, Result};

use crate::usage::cpu_seconds;

pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    /// The largest so far.
    pub(super) resident_mib: f64,
}

impl Usage {
    pub(super) fn of(pid: u32) -> Result<Self> {
        Ok(Self { cpu_seconds: cpu_seconds(pid)?, resident_mib: resident_mib(pid)? })
    }
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .context("the measured process is gone")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("odd VmHWM")?.parse()?;
    Ok(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_shows() {
        let memory = std::hint::black_box(vec![1_u8; 32 << 20]);
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_mib > 32.0 && !memory.is_empty());
    }
}
