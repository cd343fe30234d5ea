//! Which files a process has mapped.

use std::{fs, path::PathBuf};

/// Paths of executable file mappings, as the process sees them.
pub fn mapped_files(pid: u32) -> Vec<PathBuf> {
    let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) else { return Vec::new() };
    executable_files(&maps)
}

/// The same of the content of `/proc/PID/maps`.
pub fn executable_files(maps: &str) -> Vec<PathBuf> {
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
