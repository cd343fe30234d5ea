//! Processes of the machine: which of them are vLLM's engine, and what processor time they took.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::usage::cpu_seconds;

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

/// Seconds that the threads of processes have run so far, in user and kernel mode.
pub(super) fn processor_seconds(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|&pid| cpu_seconds(pid)).sum()
}

/// A mapped file whose name begins so, by a path that leads to it from outside of its container
/// too.
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
        .map(|path| PathBuf::from(format!("/proc/{pid}/root{}", path.display())))
        .with_context(|| format!("process {pid} has mapped no {name}*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_run_and_has_mapped_its_libraries() {
        let pid = std::process::id();
        let once = processor_seconds(&[pid]).unwrap();
        assert!(processor_seconds(&[pid, pid]).unwrap() >= 2.0 * once);
        assert!(mapped(pid, "libc.so").unwrap().exists());
        let error = mapped(pid, "libcuda.so").unwrap_err().to_string();
        assert!(error.ends_with("has mapped no libcuda.so*"), "{error}");
    }
}
