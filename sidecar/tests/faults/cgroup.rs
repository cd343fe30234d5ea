//! A cgroup with a limit of memory, of whichever version this machine lets one make.

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) struct Cgroup {
    directory: PathBuf,
    version: u8,
}

impl Cgroup {
    /// `Err`: why there is none.
    pub(crate) fn with_memory(bytes: u64) -> Result<Self, String> {
        let name = format!("test-faults-{}", std::process::id());
        let mut reasons = Vec::new();
        let candidates = [
            (2, Path::new("/sys/fs/cgroup"), "memory.max"),
            (2, Path::new("/sys/fs/cgroup/unified"), "memory.max"),
            (1, Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        ];
        for (version, parent, limit) in candidates {
            if version == 2 {
                // Where it is on already, or cannot be, the limit tells.
                let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
            }
            let directory = parent.join(&name);
            let made = fs::create_dir(&directory)
                .and_then(|()| fs::metadata(directory.join(limit)))
                .and_then(|_| fs::write(directory.join(limit), bytes.to_string()));
            match made {
                Ok(()) => return Ok(Self { directory, version }),
                Err(error) => {
                    let _ = fs::remove_dir(&directory);
                    reasons.push(format!("{}: {error}", directory.join(limit).display()));
                }
            }
        }
        Err(reasons.join("; "))
    }

    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    /// To be written to by who moves in.
    pub(crate) fn procs(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// The kernel has killed something in it so often.
    pub(crate) fn kills(&self) -> u64 {
        let file = if self.version == 2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }

    /// With the page cache, which gives way.
    pub(crate) fn peak_bytes(&self) -> u64 {
        let file = if self.version == 2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        let text = fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What was in it has ended by now; a leftover harms nobody.
        let _ = fs::remove_dir(&self.directory);
    }
}
