//! Files as processes see them: what they have mapped, and what their loader would find.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use libraries::{
    library::is_overlay,
    loader::{in_root, is_cuda_library},
    untrusted_file,
};
use processes::{
    process::{MappedFile, Mapping, Mappings, exists},
    time_limit,
};
use tracing::warn;

use super::file_aliases::{self, is_same_number};
use crate::probing::preflight::missing_right_for;

/// One file in one state: a file that replaces it, even under its inode number, is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// The number of an inode is used again, and images of containers have equal times: this tells
    /// the next file from it, to a tick of the kernel. Not every file system has it.
    created: Option<SystemTime>,
}

impl FileKey {
    /// Without the time of the last change of the inode: a file that is unlinked stays what it is.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            created: metadata.created().ok(),
        }
    }

    /// Whether mappings of it have this number, where they number files as `stat` does.
    pub(super) fn has_number(&self, file: MappedFile) -> bool {
        self.device == file.device && self.inode == file.inode
    }
}

/// Why a mapped file cannot be opened.
#[derive(Debug)]
pub(super) enum Unopened {
    /// The process has ended, or unmapped it.
    Gone,
    /// It is not where the mapping says, and opening the mapping itself is not allowed.
    Replaced,
    /// A capability is missing: which, and the way out.
    NoRight(String),
    Io(io::Error),
}

impl fmt::Display for Unopened {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => formatter.write_str("the process ended before its file could be opened"),
            Self::Replaced => formatter.write_str(
                "the file was deleted, replaced, hidden by a mount, or lies outside the root of the \
                 process; opening it through the mapping takes the capability CHECKPOINT_RESTORE \
                 or SYS_ADMIN",
            ),
            Self::NoRight(reason) => write!(formatter, "the mapped file cannot be opened: {reason}"),
            Self::Io(error) => write!(formatter, "the mapped file cannot be opened: {error}"),
        }
    }
}

/// How long a list of mappings may take: a process that waits amid `mmap` keeps it locked.
const LIST_TIMEOUT: Duration = Duration::from_millis(500);

/// [`Mappings::of`] for the thread of discovery.
pub(super) fn mappings_of(pid: u32) -> io::Result<Mappings> {
    let list = move || Mappings::of(pid);
    time_limit::run_in_turn(pid, "list of mappings", LIST_TIMEOUT, list)
        .unwrap_or_else(|| Err(too_slow(LIST_TIMEOUT)))
}

pub(super) fn too_slow(limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it takes longer than {limit:?}"))
}

/// A file that is open, and what it is. Its file system has answered for both.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) key: FileKey,
}

impl Opened {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let key = FileKey::of(&file.metadata()?);
        Ok(Self { file, key })
    }
}

/// Opens the file that a process has mapped, whatever has become of its name.
///
/// `path` is what the mapping event said; the process may have ended since. Also gives what the list
/// of mappings calls the file, which may be something else than the event did, see [`file_aliases`].
pub(super) fn open_mapped(
    pid: u32,
    file: MappedFile,
    path: &Path,
) -> Result<(MappedFile, Opened), Unopened> {
    let mappings = match Mappings::of(pid) {
        Err(error) if is_shortage(&error) => return Err(Unopened::Io(error)),
        // It has ended.
        Err(_) => Mappings::default(),
        Ok(mappings) => mappings,
    };
    let Some(mapping) = file_aliases::find(&mappings, file, path) else {
        // Short-lived; what it had mapped may still be where it was.
        let opened = untrusted_file::open(&from_outside(pid, path))
            .or_else(|_| untrusted_file::open(path))
            .map_err(|_| Unopened::Gone)?;
        if !is_certainly(&opened, file) {
            return Err(Unopened::Gone);
        }
        return Ok((file, Opened::new(opened).map_err(Unopened::Io)?));
    };
    let link = through_mapping(pid, mapping);
    let opened = match untrusted_file::open_link(&link) {
        Ok(opened) => opened,
        Err(error) => open_by_path(pid, mapping, error)?,
    };
    Ok((mapping.file, Opened::new(opened).map_err(Unopened::Io)?))
}

/// It may go better later: the sidecar or the machine has used up what it takes, or there was no
/// answer in time.
pub(super) fn may_pass(error: &io::Error) -> bool {
    is_shortage(error) || error.kind() == io::ErrorKind::TimedOut
}

/// The sidecar or the machine has used up what it takes; later there may be more.
fn is_shortage(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// For lack of the right to open mappings.
fn open_by_path(pid: u32, mapping: &Mapping, error: io::Error) -> Result<File, Unopened> {
    if is_shortage(&error) {
        return Err(Unopened::Io(error));
    }
    if !exists(pid) {
        return Err(Unopened::Gone);
    }
    // The list of mappings has paths as the sidecar sees them where it can see them, otherwise as
    // the process does.
    let candidates = [from_outside(pid, &mapping.path), mapping.path.clone()];
    let mut found = Vec::new();
    let mut missing = missing_right_for(&error);
    if !mapping.is_deleted {
        for path in &candidates {
            match untrusted_file::open(path) {
                Ok(opened) => found.push(opened),
                Err(error) => missing = missing.or_else(|| missing_right_for(&error)),
            }
        }
    }
    let certain = found.iter().position(|opened| is_certainly(opened, mapping.file));
    match certain.or_else(|| found.iter().position(|opened| is_likely(opened, mapping.file))) {
        Some(index) => Ok(found.swap_remove(index)),
        None => Err(match missing {
            Some(reason) => Unopened::NoRight(reason),
            None if error.kind() == io::ErrorKind::PermissionDenied => Unopened::Replaced,
            None => Unopened::Io(error),
        }),
    }
}

fn through_mapping(pid: u32, mapping: &Mapping) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end))
}

/// What the file of a mapping is now.
pub(super) fn key_of_mapped(pid: u32, file: MappedFile, path: &Path) -> Option<FileKey> {
    let mappings = Mappings::of(pid).ok()?;
    let mapping = file_aliases::find(&mappings, file, path)?;
    let through = fs::metadata(through_mapping(pid, mapping));
    let metadata = through.or_else(|_| fs::symlink_metadata(from_outside(pid, &mapping.path)));
    metadata.ok().map(|metadata| FileKey::of(&metadata))
}

fn is_certainly(opened: &File, file: MappedFile) -> bool {
    let is = |metadata: &Metadata| metadata.ino() == file.inode && metadata.dev() == file.device;
    opened.metadata().is_ok_and(|metadata| is(&metadata))
}

/// File systems that give their devices in mappings and in `stat` differently: the memory of the
/// process decides later.
fn is_likely(opened: &File, file: MappedFile) -> bool {
    opened.metadata().is_ok_and(|metadata| metadata.ino() == file.inode)
}

/// Whether two open files are one for the kernel, which puts probes on the file below an overlay:
/// containers that share a layer share its probes, whatever the devices of their mounts.
pub(super) fn is_same_inode(one: &File, other: &File) -> io::Result<bool> {
    let (of_one, of_other) = (one.metadata()?, other.metadata()?);
    if of_one.dev() == of_other.dev() {
        return Ok(of_one.ino() == of_other.ino());
    }
    if !(is_overlay(one)? || is_overlay(other)?) {
        return Ok(false);
    }
    // Overlays answer with the times of the file below. Nobody can set that of the last change.
    let times = |found: &Metadata| {
        (found.size(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec())
    };
    Ok(is_same_number(of_one.ino(), of_other.ino()) && times(&of_one) == times(&of_other))
}

/// Where the file that process `pid` sees as `path` is for the sidecar.
pub(super) fn from_outside(pid: u32, path: &Path) -> PathBuf {
    in_root(&root_of(pid), path)
}

fn root_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// What one of CUDA_LIBRARY_DIRS holds.
pub(super) fn cuda_libraries_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        warn!(directory = %directory.display(), "cannot list a directory of CUDA_LIBRARY_DIRS");
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let paths = names.filter(|name| is_cuda_library(name)).map(|name| directory.join(name));
    // Most of these names are links to the one with the version.
    let mut paths: Vec<PathBuf> =
        paths.map(|path| fs::canonicalize(&path).unwrap_or(path)).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number may be used again, and layers of images have equal times.
    #[test]
    fn a_file_that_takes_the_number_of_one_that_is_gone_is_another() {
        let file = tempfile::tempfile().unwrap();
        let key = FileKey::of(&file.metadata().unwrap());
        assert_eq!(key, FileKey::of(&file.metadata().unwrap()));
        let made_at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let made = |seconds| FileKey { created: Some(made_at(seconds)), ..key };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
    }
}
