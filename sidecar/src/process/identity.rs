//! What `/proc` says of a process.

use std::{fs, path::PathBuf};

use trace::secrets::mask_arguments;

/// What a process calls itself. Any part may be unreadable or gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub executable: Option<PathBuf>,
    /// Arguments joined by spaces. Missing while a program is being started, in a zombie, and in a
    /// kernel thread.
    pub command: Option<String>,
    pub comm: Option<String>,
}

impl Identity {
    /// `None` if the process is gone; of a zombie the name is left.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty());
        Some(Self {
            executable: fs::read_link(format!("/proc/{pid}/exe")).ok(),
            command: command.map(|line| join_arguments(&line)),
            comm: Some(String::from_utf8_lossy(&comm).trim_end().to_owned()),
        })
    }

    /// It has no memory any more, which program and arguments are read from.
    pub(super) fn is_of_ended(&self) -> bool {
        self.executable.is_none() && self.command.is_none()
    }
}

/// Without their secrets: they go into traces and into `/status`. A title set over the arguments is
/// padded with NULs or spaces.
fn join_arguments(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    mask_arguments(line.trim_end_matches([' ', '\0']).split('\0')).join(" ")
}

/// The fourth field of `stat`, behind a name that may itself hold spaces and parentheses.
pub(super) fn read_parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

pub fn exists(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// All processes of the sidecar's pid namespace except itself.
pub fn all_pids() -> Vec<u32> {
    let own = std::process::id();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| pid != own)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_title_is_one_word() {
        assert_eq!(join_arguments(b"VLLM::EngineCore\0\0\0   \0"), "VLLM::EngineCore");
        assert_eq!(join_arguments(b"python3\0-m\0vllm\0"), "python3 -m vllm");
    }

    #[test]
    fn a_command_line_has_no_secrets() {
        let line = b"vllm\0serve\0m\0--api-key\0planted one\0--port\x008000\0";
        assert_eq!(join_arguments(line), "vllm serve m --api-key *** --port 8000");
    }

    #[test]
    fn the_parent_of_this_test_is_the_one_that_libc_names() {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_eq!(read_parent(std::process::id()), u32::try_from(parent).ok());
    }
}
