//! Which CPUs run, and whether one has been offline since the last look.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How often CPUs are looked at: one small file, and one more for each CPU.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

pub(super) struct Cpus {
    /// `/sys/devices/system/cpu`.
    directory: PathBuf,
    looked: Option<Instant>,
    /// CPUs whose failure has been told.
    failed: HashSet<Cpu>,
}

/// A CPU from when it came online until it goes offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cpu {
    pub(super) number: usize,
    /// The kernel makes `cpuN/topology` anew whenever the CPU comes online, so that its inode tells
    /// of a CPU that was away between two looks. `None` where /sys does not show it.
    online: Option<u64>,
}

impl Cpus {
    pub(super) fn of_this_machine() -> Self {
        Self::in_directory("/sys/devices/system/cpu".into())
    }

    fn in_directory(directory: PathBuf) -> Self {
        Self { directory, looked: None, failed: HashSet::new() }
    }

    pub(super) fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL)
    }

    /// The CPUs that run. Look before their events are opened: what happens in between is seen by
    /// the next look.
    pub(super) fn look(&mut self) -> Result<Vec<Cpu>> {
        self.looked = Some(Instant::now());
        let list = self.directory.join("online");
        let text =
            fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let numbers = parse_cpu_list(text.trim())
            .with_context(|| format!("cannot understand {}: {text:?}", list.display()))?;
        let cpu = |number| {
            let topology = self.directory.join(format!("cpu{number}/topology"));
            Cpu { number, online: fs::metadata(topology).ok().map(|metadata| metadata.ino()) }
        };
        Ok(numbers.into_iter().map(cpu).collect())
    }

    /// Whether it is the first failure to watch this CPU since it came online.
    pub(super) fn is_new_failure(&mut self, cpu: Cpu) -> bool {
        self.failed.retain(|failed| failed.number != cpu.number || *failed == cpu);
        self.failed.insert(cpu)
    }
}

/// Numbers from a list such as `0-3,8`.
fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_ranges_and_single_numbers() {
        assert_eq!(parse_cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpu_list("0"), Some(vec![0]));
        assert_eq!(parse_cpu_list(""), None);
    }

    #[test]
    fn a_cpu_that_was_offline_between_two_looks_is_another_one() {
        let sys = tempfile::tempdir().unwrap();
        let topology = sys.path().join("cpu1/topology");
        fs::create_dir_all(&topology).unwrap();
        fs::write(sys.path().join("online"), "0-1\n").unwrap();
        let mut cpus = Cpus::in_directory(sys.path().to_owned());
        assert!(cpus.is_due());
        let before = cpus.look().unwrap();
        assert_eq!(cpus.look().unwrap(), before);

        fs::write(sys.path().join("online"), "0\n").unwrap();
        assert_eq!(cpus.look().unwrap(), before[..1]);

        // The old one is kept, so that its inode number is not used again.
        fs::rename(&topology, sys.path().join("old")).unwrap();
        fs::create_dir(&topology).unwrap();
        fs::write(sys.path().join("online"), "0-1\n").unwrap();
        let after = cpus.look().unwrap();
        assert_eq!(after[0], before[0]);
        assert_eq!(after[1].number, before[1].number);
        assert_ne!(after[1], before[1]);
    }

    #[test]
    fn a_cpu_that_cannot_be_watched_is_told_once_each_time_it_comes_online() {
        let mut cpus = Cpus::in_directory(PathBuf::new());
        let [first, second] = [1, 2].map(|inode| Cpu { number: 7, online: Some(inode) });
        let told = [first, first, second, second, first].map(|cpu| cpus.is_new_failure(cpu));
        assert_eq!(told, [true, false, true, false, true]);
    }
}
