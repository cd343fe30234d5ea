//! A second checkout at another path, to prove that the path does not reach the eBPF object.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tasks::ctx::{as_from_shell, workspace_root};
use xshell::{Shell, cmd};

/// Where the copy lies: always the same place, so that the next check finds most of it compiled.
const COPY: &str = "target/xtask/elsewhere/checkout";

/// Copies what cargo needs of the workspace, and returns where to.
pub(super) fn copy_workspace(sh: &Shell) -> Result<PathBuf> {
    let root = workspace_root();
    let copy = root.join(COPY);
    sh.remove_path(&copy).context("cannot remove the copy of an earlier check")?;
    let metadata =
        as_from_shell(cmd!(sh, "cargo metadata --locked --no-deps --format-version 1")).read()?;
    let packages = packages(&metadata)?;
    let files = ["Cargo.toml", "Cargo.lock", ".cargo"].map(|name| root.join(name));
    for path in files.into_iter().chain(packages) {
        let inside = path
            .strip_prefix(&root)
            .with_context(|| format!("{} lies outside the workspace", path.display()))?;
        copy_tree(&path, &copy.join(inside))?;
    }
    Ok(copy)
}

/// Dependencies are the same from there, so the same target directory spares their compilation.
pub(super) fn target_directory() -> PathBuf {
    workspace_root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
}

/// The directories of all workspace members.
fn packages(metadata: &str) -> Result<Vec<PathBuf>> {
    let Metadata { packages } =
        serde_json::from_str(metadata).context("cannot read the output of cargo metadata")?;
    packages
        .into_iter()
        .map(|Package { manifest_path }| {
            manifest_path.parent().map(Path::to_owned).context("a manifest without a directory")
        })
        .collect()
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let cannot = || format!("cannot copy {} to {}", from.display(), to.display());
    if from.is_file() {
        let parent = to.parent().with_context(cannot)?;
        fs::create_dir_all(parent).with_context(cannot)?;
        fs::copy(from, to).with_context(cannot)?;
        return Ok(());
    }
    // The mark of a cache, such as a target directory that someone put here.
    if from.join("CACHEDIR.TAG").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_stay_behind() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        for file in ["src/main.rs", "src/deep/part.rs", "build/CACHEDIR.TAG", "build/large.o"] {
            let file = from.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, file.to_str().unwrap()).unwrap();
        }
        let to = directory.path().join("to");
        copy_tree(&from, &to).unwrap();
        for file in ["src/main.rs", "src/deep/part.rs"] {
            assert_eq!(fs::read(from.join(file)).unwrap(), fs::read(to.join(file)).unwrap());
        }
        assert!(!to.join("build").exists());
    }

    #[test]
    fn packages_are_the_directories_of_manifests() {
        let metadata =
            r#"{"packages":[{"name":"a","manifest_path":"/w/a/Cargo.toml"}],"version":1}"#;
        assert_eq!(packages(metadata).unwrap(), [PathBuf::from("/w/a")]);
        assert!(packages("{}").is_err());
    }
}
