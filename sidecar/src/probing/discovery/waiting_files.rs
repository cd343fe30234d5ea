//! Mapped files that wait to be examined, as many as there is memory for: each process has its turn, so
//! that no file waits for all those of another process.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
};

use processes::process::MappedFile;

/// Each path has up to 4 KiB, and most have 100 bytes.
const MAX_BYTES: usize = 8 << 20;

/// Of one process: the rest is for all others.
const MAX_BYTES_OF_ONE: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct WaitingFiles {
    by_process: HashMap<u32, Files>,
    /// Processes with such files, in the order of their turns.
    turns: VecDeque<u32>,
    /// So that each waits once.
    known: HashSet<(u32, MappedFile)>,
    bytes: usize,
}

/// Those of one process, never none.
#[derive(Debug, Default)]
struct Files {
    queue: VecDeque<(MappedFile, PathBuf)>,
    bytes: usize,
}

impl WaitingFiles {
    /// An urgent one comes before the others of its process. False if there is no room; one that waits
    /// already keeps its place.
    pub(super) fn push(
        &mut self,
        pid: u32,
        file: MappedFile,
        path: PathBuf,
        is_urgent: bool,
    ) -> bool {
        if self.known.contains(&(pid, file)) {
            return true;
        }
        let bytes = bytes_of(&path);
        let of_process = self.by_process.get(&pid).map_or(0, |files| files.bytes);
        if self.bytes + bytes > MAX_BYTES || of_process + bytes > MAX_BYTES_OF_ONE {
            return false;
        }
        let files = self.by_process.entry(pid).or_insert_with(|| {
            self.turns.push_back(pid);
            Files::default()
        });
        if is_urgent {
            files.queue.push_front((file, path));
        } else {
            files.queue.push_back((file, path));
        }
        files.bytes += bytes;
        self.bytes += bytes;
        self.known.insert((pid, file));
        true
    }

    /// The next file of the process whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(u32, MappedFile, PathBuf)> {
        let pid = self.turns.pop_front()?;
        let files = self.by_process.get_mut(&pid)?;
        let (file, path) = files.queue.pop_front()?;
        let bytes = bytes_of(&path);
        files.bytes -= bytes;
        self.bytes -= bytes;
        if files.queue.is_empty() {
            self.by_process.remove(&pid);
        } else {
            self.turns.push_back(pid);
        }
        self.known.remove(&(pid, file));
        Some((pid, file, path))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

/// With its places in the queue and in the set.
fn bytes_of(path: &PathBuf) -> usize {
    path.as_os_str().len() + size_of_val(path) + 3 * size_of::<(u32, MappedFile)>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> MappedFile {
        MappedFile { device: 1, inode }
    }

    fn inodes(waiting: &mut WaitingFiles) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| waiting.pop()).map(|(pid, file, _)| (pid, file.inode)).collect()
    }

    #[test]
    fn processes_have_their_turns_and_urgent_files_come_before_others_of_their_process() {
        let mut waiting = WaitingFiles::default();
        for inode in 0..4 {
            assert!(waiting.push(1, file(inode), "/x".into(), false));
        }
        assert!(waiting.push(2, file(0), "/x".into(), false));
        assert!(waiting.push(2, file(7), "/libcuda.so.1".into(), true));
        assert!(waiting.push(1, file(3), "/x".into(), false), "it waits already");
        assert_eq!(waiting.known.len(), 6);
        assert_eq!(inodes(&mut waiting), [(1, 0), (2, 7), (1, 1), (2, 0), (1, 2), (1, 3)]);
        assert!(waiting.is_empty() && waiting.known.is_empty() && waiting.bytes == 0);
        assert!(waiting.by_process.is_empty());
    }

    #[test]
    fn one_process_does_not_fill_the_room_of_all() {
        let mut waiting = WaitingFiles::default();
        let fill = |waiting: &mut WaitingFiles, pid| {
            let mut inodes = 0..1 << 20;
            inodes.find(|&inode| !waiting.push(pid, file(inode), "/x".into(), false)).unwrap()
        };
        let of_one = fill(&mut waiting, 1);
        assert!(of_one > 5000, "{of_one}");
        for pid in 2..=8 {
            assert_eq!(fill(&mut waiting, pid), of_one);
        }
        assert!(fill(&mut waiting, 9) < of_one, "all together are bounded too");
        assert!(waiting.pop().is_some() && waiting.push(9, file(u64::MAX), "/x".into(), false));
    }
}
