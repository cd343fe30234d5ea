//! `--airgap DIR`: what must lie there, and what may.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{k3s, toolkit};

/// K3s imports archives that appear here, also while it runs.
const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";

const ARCHIVES: [&str; 3] = [".tar", ".tar.gz", ".tar.zst"];

/// Names of files that are needed and not there.
pub(super) fn missing(directory: &Path) -> Vec<String> {
    let needed = k3s::FILES.map(str::to_owned).into_iter().chain(toolkit::files());
    needed.filter(|name| !directory.join(name).is_file()).collect()
}

/// K3s's own images, and others that somebody has put beside them.
pub(super) fn archives(directory: &Path) -> Vec<PathBuf> {
    let own = directory.join(k3s::AIRGAP_IMAGES);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_archive = |path: &PathBuf| {
        let name = path.to_string_lossy();
        ARCHIVES.iter().any(|ending| name.ends_with(ending)) && *path != own
    };
    let mut others: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_archive).collect();
    others.sort();
    [vec![own], others].concat()
}

/// Where K3s finds an archive.
pub(super) fn destination(archive: &Path) -> String {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    format!("{IMAGES}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_archives_of_images_are_taken_along() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(missing(path).len(), k3s::FILES.len() + 4);
        for name in k3s::FILES.map(str::to_owned).into_iter().chain(toolkit::files()) {
            fs::write(path.join(name), "").unwrap();
        }
        assert_eq!(missing(path), [""; 0]);
        for name in ["vllm.tar", "device-plugin.tar.zst", "notes.txt"] {
            fs::write(path.join(name), "").unwrap();
        }
        let expected = [k3s::AIRGAP_IMAGES, "device-plugin.tar.zst", "vllm.tar"];
        assert_eq!(archives(path), expected.map(|name| path.join(name)));
        assert_eq!(
            destination(&path.join("vllm.tar")),
            "/var/lib/rancher/k3s/agent/images/vllm.tar"
        );
    }
}
