//! Files as processes see them: what they have mapped, and what their loader would find.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::loader::{self, Found, in_root, is_cuda_library};

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

/// What the loader of a process would find, in the file system that the process sees.
pub(super) fn search(pid: u32) -> Vec<Found> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let link = |file: &str| fs::read_link(format!("/proc/{pid}/{file}")).unwrap_or_default();
    loader::find(&loader::Process {
        root: &root_of(pid),
        executable: &link("exe"),
        working_directory: &link("cwd"),
        arguments: &read("cmdline"),
        environment: &read("environ"),
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

/// Paths of executable file mappings, as the process sees them.
pub(super) fn mapped_files(pid: u32) -> Vec<PathBuf> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        maps.lines().filter_map(executable_file).map(PathBuf::from).collect();
    paths.dedup();
    paths
}

/// The path is all that follows the inode: it may hold spaces.
fn executable_file(line: &str) -> Option<&str> {
    let mut rest = line;
    let mut permissions = "";
    for field in 0..5 {
        let (value, after) = rest.split_once(' ')?;
        if field == 1 {
            permissions = value;
        }
        rest = after.trim_start_matches(' ');
    }
    let path = rest.strip_suffix(" (deleted)").unwrap_or(rest);
    (permissions.contains('x') && path.starts_with('/')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maps_line_gives_the_path_of_an_executable_file() {
        let line =
            "7f00-7f01 r-xp 00001000 fe:00 1234                       /opt/my libs/libcuda.so.1";
        assert_eq!(executable_file(line), Some("/opt/my libs/libcuda.so.1"));
        assert_eq!(executable_file(&line.replace("r-xp", "rw-p")), None);
        assert_eq!(executable_file("7ffe-7fff r-xp 00000000 00:00 0   [vdso]"), None);
        let deleted = format!("{line} (deleted)");
        assert_eq!(executable_file(&deleted), Some("/opt/my libs/libcuda.so.1"));
    }

    #[test]
    fn this_test_has_its_own_executable_mapped() {
        let executable = std::env::current_exe().unwrap();
        assert!(mapped_files(std::process::id()).contains(&executable));
    }
}
