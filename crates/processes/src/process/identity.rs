//! What `/proc` says of a process.

use std::{
    fs::{self, File},
    io::Read as _,
    path::PathBuf,
    time::Duration,
};

use trace::secrets::mask_arguments;

use crate::time_limit;

/// Bytes that are read of a command line, and in which TARGET_PROCESS is looked for. A process may
/// say that its arguments are a gigabyte of its memory.
const MAX_COMMAND_BYTES: u64 = 64 << 10;

/// Bytes of a command line that are kept of each process, and stand in its line of the trace.
const MAX_KEPT_BYTES: usize = 4 << 10;

/// Stands for what was cut off a command line.
const CUT: &str = "...";

/// How long a process's memory may take to be read, which lies where the process has put it.
pub(super) const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// What a process calls itself. Any part may be unreadable or gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub executable: Option<PathBuf>,
    /// Arguments joined by spaces. Missing while a program is being started, in a zombie, and in a
    /// kernel thread.
    pub command: Option<String>,
    pub comm: Option<String>,
    /// The command line did not come in time: nobody knows what it says.
    pub is_command_unread: bool,
}

impl Identity {
    /// `None` if the process is gone; of a zombie the name is left.
    pub(super) fn read(pid: u32, limit: Duration) -> Option<Self> {
        let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
        let arguments = time_limit::run(pid, "look at arguments", limit, move || arguments(pid));
        let is_command_unread = arguments.is_none();
        let command = arguments.filter(|line| !line.is_empty());
        Some(Self {
            executable: fs::read_link(format!("/proc/{pid}/exe")).ok(),
            command: command.map(|line| join_arguments(&line)),
            comm: Some(String::from_utf8_lossy(&comm).trim_end().to_owned()),
            is_command_unread,
        })
    }

    /// Keeps the beginning of a long command line, and marks it as cut.
    pub(super) fn shorten(&mut self) {
        if let Some(command) = &mut self.command
            && command.len() > MAX_KEPT_BYTES
        {
            let mut end = MAX_KEPT_BYTES - CUT.len();
            while !command.is_char_boundary(end) {
                end -= 1;
            }
            command.truncate(end);
            command.push_str(CUT);
            command.shrink_to_fit();
        }
    }

    /// It has no memory any more, which program and arguments are read from.
    pub(super) fn is_of_ended(&self) -> bool {
        self.executable.is_none() && self.command.is_none() && !self.is_command_unread
    }
}

/// The beginning of `/proc/PID/cmdline`; nothing if it cannot be read. It lies in the memory of the
/// process, which may not answer.
pub fn arguments(pid: u32) -> Vec<u8> {
    let mut line = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline"));
    let read = file.and_then(|file| file.take(MAX_COMMAND_BYTES).read_to_end(&mut line));
    read.map(|_| line).unwrap_or_default()
}

/// Without their secrets: they go into traces and into `/status`. A title set over the arguments is
/// padded with NULs or spaces.
fn join_arguments(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    mask_arguments(line.trim_end_matches([' ', '\0']).split('\0')).join(" ")
}

/// The fourth field of `stat`, behind a name that may itself hold spaces and parentheses.
pub fn read_parent(pid: u32) -> Option<u32> {
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
    fn a_long_command_line_is_kept_to_its_beginning_and_marked() {
        let shortened = |command: &str| {
            let mut identity =
                Identity { command: Some(command.to_owned()), ..Identity::default() };
            identity.shorten();
            identity.command.unwrap()
        };
        let whole = "x".repeat(MAX_KEPT_BYTES);
        assert_eq!(shortened(&whole), whole);
        let cut = shortened(&format!("{whole}y"));
        assert_eq!((cut.len(), cut.ends_with("xx...")), (MAX_KEPT_BYTES, true));
        // Between characters.
        let cut = shortened(&"\u{e4}".repeat(MAX_KEPT_BYTES));
        assert!(cut.len() <= MAX_KEPT_BYTES && cut.ends_with("\u{e4}..."), "{}", cut.len());
    }

    #[test]
    fn only_the_beginning_of_a_command_line_is_read() {
        let mut command = std::process::Command::new("sleep");
        let most = usize::try_from(MAX_COMMAND_BYTES).unwrap();
        // One argument has at most 128 KiB.
        command.args(["60", &"0".repeat(most)]);
        let mut child = command.spawn().unwrap();
        let mut read = Vec::new();
        while !read.starts_with(b"sleep\x0060\0") {
            read = arguments(child.id());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(read.len(), most);
    }

    #[test]
    fn a_command_line_has_no_secrets() {
        let line = b"vllm\0serve\0m\0--api-key\0planted one\0--port\x008000\0";
        assert_eq!(join_arguments(line), "vllm serve m --api-key *** --port 8000");
        let line = b"p\0--ssl-keyfile-password=correct PLANTED staple\0--jwt\0-PLANTED\0q\0";
        assert_eq!(join_arguments(line), "p --ssl-keyfile-password=*** --jwt *** q");
        let title = b"p --password=correct PLANTED staple --port 1\0\0\0";
        assert_eq!(join_arguments(title), "p --password=*** --port 1");
    }

    #[test]
    fn the_parent_of_this_test_is_the_one_that_libc_names() {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_eq!(read_parent(std::process::id()), u32::try_from(parent).ok());
    }
}
