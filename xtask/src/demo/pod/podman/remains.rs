//! What podman leaves behind for a moment, or if it was killed: helpers that still run, and mounts.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// How long podman's helpers may take to end after their containers.
const TIMEOUT: Duration = Duration::from_secs(10);

/// They would create anew what is removed under them.
pub(super) fn wait_for_helpers(directory: &Path) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while let Some(pid) = helper(directory) {
        ensure!(Instant::now() < deadline, "process {pid} still uses it");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A process that was told of the directory.
fn helper(directory: &Path) -> Option<String> {
    let below = format!("{}/", directory.display());
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let names = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).find(|pid| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).split('\0').any(|argument| argument.starts_with(&below))
    })
}

/// The innermost first.
pub(super) fn mounts_below(directory: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    // The kernel writes a blank so.
    let points = points.map(|point| point.replace(r"\040", " "));
    let mut below: Vec<String> =
        points.filter(|point| Path::new(point).starts_with(directory)).collect();
    below.reverse();
    Ok(below)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_process_that_was_told_of_the_directory_is_a_helper() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(helper(directory.path()), None);
        let root = directory.path().join("storage");
        let mut child = Command::new("sh")
            .args(["-c", "echo started; read line", "sh"])
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A process that was only just executed has no arguments in /proc yet.
        let mut started = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut started).unwrap();
        let found = helper(directory.path());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, Some(child.id().to_string()));
        assert_eq!(helper(directory.path()), None);
    }

    #[test]
    fn only_mounts_below_are_found() {
        assert!(mounts_below(Path::new("/")).unwrap().contains(&"/proc".to_owned()));
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(mounts_below(directory.path()).unwrap(), [""; 0]);
    }
}
