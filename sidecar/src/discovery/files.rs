//! Files as processes see them: what they have mapped, and what their loader would find.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{
    loader::{in_root, is_cuda_library},
    process::mapped_files,
};

/// One file in one state: a file that replaces it, even under its inode number, is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FileKey {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Where the file that process `pid` sees as `path` is for the sidecar.
pub(super) fn from_outside(pid: u32, path: &Path) -> PathBuf {
    in_root(&root_of(pid), path)
}

fn root_of(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// Whether a process has a file mapped, under whatever name.
pub(super) fn maps(pid: u32, file: FileKey) -> bool {
    mapped_files(pid).iter().any(|path| {
        fs::metadata(from_outside(pid, path)).is_ok_and(|metadata| FileKey::of(&metadata) == file)
    })
}

/// What one of CUDA_LIBRARY_DIRS holds.
pub(super) fn cuda_libraries_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        warn!(directory = %directory.display(), "cannot list a directory of CUDA_LIBRARY_DIRS");
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| is_cuda_library(name)).map(|name| directory.join(name)).collect()
}
