//! Processes of the machine: which of them are vLLM's engine, and what processor time they took.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use rustix::param::clock_ticks_per_second;

/// Titles that vLLM gives to the processes that do the GPU's work.
const TITLES: [&str; 2] = ["VLLM::EngineCore", "VLLM::Worker"];

/// Processes by their titles.
pub(super) fn engine() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let name = entry.context("cannot list /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may have ended.
        let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if TITLES.iter().any(|known| title.starts_with(known.as_bytes())) {
            found.push(pid);
        }
    }
    ensure!(
        !found.is_empty(),
        "no process is titled {}: is it vLLM 0.9 or later?",
        TITLES.join(" or ")
    );
    Ok(found)
}

/// Seconds that processes have run so far, in user and kernel mode.
pub(super) fn processor_seconds(pids: &[u32]) -> Result<f64> {
    let ticks: u64 = pids
        .iter()
        .map(|pid| {
            let path = format!("/proc/{pid}/stat");
            let stat =
                fs::read_to_string(&path).with_context(|| format!("process {pid} has ended"))?;
            ticks(&stat).with_context(|| format!("{path} reads {stat:?}"))
        })
        .sum::<Result<u64>>()?;
    Ok(ticks as f64 / clock_ticks_per_second() as f64)
}

/// `utime` and `stime` of proc_pid_stat(5). The name of the program, in parentheses, may hold
/// anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

/// A mapped file whose name begins so.
pub(super) fn mapped(pid: u32, name: &str) -> Result<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
        .with_context(|| format!("cannot read what process {pid} has mapped"))?;
    maps.lines()
        .filter_map(|line| line.split_once('/'))
        .map(|(_, path)| Path::new("/").join(path))
        .find(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.starts_with(name)
        })
        .with_context(|| format!("process {pid} has mapped no {name}*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) R b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 1 0 5";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (short) S 1"), None);
    }

    #[test]
    fn this_process_has_run_and_has_mapped_its_libraries() {
        let pid = std::process::id();
        assert!(processor_seconds(&[pid]).unwrap() < 3600.0);
        assert!(mapped(pid, "libc.so").unwrap().starts_with("/"));
        let error = mapped(pid, "libcuda.so").unwrap_err().to_string();
        assert!(error.ends_with("has mapped no libcuda.so*"), "{error}");
    }
}
