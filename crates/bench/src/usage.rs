//! The processor time of a process, as the kernel's scheduler keeps it.

use std::fs;

use anyhow::{Context as _, Result};

/// Of all threads that it has now, in seconds. Not from the ticks in `stat`: those are 10 ms each,
/// and a tracer takes few of them in the seconds of a load.
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .with_context(|| format!("process {pid} has ended"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows() {
        let before = cpu_seconds(std::process::id()).unwrap();
        let worked = (0..20_000_000_u64).fold(0, |sum, number| std::hint::black_box(sum ^ number));
        assert!(cpu_seconds(std::process::id()).unwrap() > before, "{worked}");
    }
}
