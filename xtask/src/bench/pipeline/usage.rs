//! What a process takes, as the kernel keeps it.

use std::fs;

use anyhow::{Context as _, Result};

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

/// Processor time of all threads, as the scheduler keeps it: the ticks in `stat` can be off by a
/// multiple for a thread that sleeps and wakes in step with them.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let threads =
        fs::read_dir(format!("/proc/{pid}/task")).context("the measured process is gone")?;
    let mut nanoseconds = 0;
    for thread in threads {
        let path = thread?.path().join("schedstat");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let on_cpu = text.split_whitespace().next().context("an empty schedstat")?;
        nanoseconds += on_cpu.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
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
    fn work_and_memory_show() {
        let before = Usage::of(std::process::id()).unwrap();
        let memory = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = Usage::of(std::process::id()).unwrap();
        assert!(after.cpu_seconds > before.cpu_seconds);
        assert!(after.resident_mib > 32.0 && !memory.is_empty());
    }
}
