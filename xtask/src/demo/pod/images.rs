//! The images of the demo's pod: the sidecar's own, and one of the stand-ins for vLLM and for S3.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use super::podman::Podman;
use tasks::{
    command::Command,
    ctx::{Ctx, program_directory, workspace_root},
};

use crate::node::build;

const STANDINS: &str = "localhost/standins:demo";

/// Where the stand-ins lie in their image. vLLM is started by its script, which Python runs: so the
/// process is Python's, as that of the real one.
const PYTHON: &str = "usr/bin/python3";
const SCRIPT: &str = "usr/local/bin/vllm";
const STORE: &str = "usr/bin/standin-s3";
/// Where NVIDIA's runtime mounts the driver's libraries.
const LIBRARIES: &str = "usr/local/nvidia/lib64";

/// As podman names them.
pub(super) struct Images {
    pub(super) sidecar: String,
    pub(super) standins: String,
}

impl Images {
    pub(super) fn build(ctx: &Ctx, podman: &Podman, root: &Path, driver: &str) -> Result<Self> {
        let sidecar = build::image(ctx, podman.engine(), None)?.reference;
        let context = root.join("standins");
        fill(&context, driver).context("cannot prepare the image of the stand-ins")?;
        podman.engine().build(&context, STANDINS).run()?;
        fs::remove_dir_all(&context).context("cannot remove the context of the stand-ins")?;
        Ok(Self { sidecar, standins: STANDINS.to_owned() })
    }
}

fn fill(context: &Path, driver: &str) -> Result<()> {
    let programs = program_directory("debug");
    let root = context.join("root");
    copy(&workspace_root().join("crates/testbed/Dockerfile"), &context.join("Dockerfile"))?;
    copy(&programs.join("standin-vllm"), &root.join(PYTHON))?;
    copy(&programs.join("standin-s3"), &root.join(STORE))?;
    let script = root.join(SCRIPT);
    make_parent(&script)?;
    symlink(Path::new("/").join(PYTHON), &script)
        .with_context(|| format!("cannot create {}", script.display()))?;
    let libraries = root.join(LIBRARIES);
    let install = Command::new("").path(&programs.join("standin-libraries")).path(&libraries);
    install.words("--driver").arg(driver).read()?;
    let mut linked = vec![root.join(PYTHON), root.join(STORE)];
    let installed = fs::read_dir(&libraries).context("cannot list the stand-in libraries")?;
    linked.extend(installed.flatten().map(|entry| entry.path()));
    for needed in needed_by(&linked)? {
        let inside = needed.strip_prefix("/").unwrap_or(&needed);
        copy(&needed, &root.join(inside))?;
    }
    Ok(())
}

/// The C library and its like, where the loader finds them.
fn needed_by(files: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut needed = BTreeSet::new();
    for file in files {
        needed.extend(paths_in(&Command::new("ldd").path(file).read()?));
    }
    ensure!(!needed.is_empty(), "ldd names nothing that the stand-ins need");
    Ok(needed)
}

/// Of `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)` and `/lib64/ld-linux-x86-64.so.2 (0x...)`.
fn paths_in(said: &str) -> impl Iterator<Item = PathBuf> {
    said.lines().filter_map(|line| {
        let line = line.split_once("=>").map_or(line, |(_, path)| path).trim();
        let (path, _) = line.rsplit_once(" (0x")?;
        path.starts_with('/').then(|| path.into())
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().expect("every path here lies in the context");
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_read_from_ldd_and_the_kernels_own_is_not() {
        let said = "\tlinux-vdso.so.1 (0x00007f38c3871000)
\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f38c3320000)
\tlibnone.so.1 => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f38c3873000)\n";
        let paths: Vec<PathBuf> = paths_in(said).collect();
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(paths, expected.map(PathBuf::from));
    }
}
