//! What goes into the image: the static program and the certificates, in a directory of their own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cluster::names::IMAGE,
    command::Command,
    ctx::{target_directory, workspace_root},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAM: &str = "ebpf-cuda-tracer";

/// Where the sidecar's TLS looks first, in the image.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Where distributions keep them; the first is that of Debian and Ubuntu.
const ON_THIS_MACHINE: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

pub(super) struct Context {
    /// Holds the Dockerfile and `root/`.
    directory: PathBuf,
    /// Of cargo, apart from the others: other flags of rustc would build everything again by turns.
    target: PathBuf,
}

impl Context {
    pub(super) fn new() -> Self {
        Self {
            directory: super::scratch().join("context"),
            target: target_directory().join("static"),
        }
    }

    /// `--target` keeps build scripts and procedural macros dynamic, which they must be.
    pub(super) fn build_program(&self) -> Command {
        Command::new("cargo build --locked --release --package sidecar --bin")
            .arg(PROGRAM)
            .words("--target")
            .arg(TARGET)
            .words("--target-dir")
            .path(&self.target)
            .variable("RUSTFLAGS", "-C target-feature=+crt-static")
    }

    pub(super) fn root(&self) -> &Path {
        &self.directory
    }

    /// Puts everything in place, and returns the image's name, which its content decides.
    pub(super) fn fill(&self, ca_file: Option<&Path>) -> Result<String> {
        let root = self.directory.join("root");
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory).context("cannot empty the build context")?;
        }
        let certificates = root.join(CERTIFICATES);
        fs::create_dir_all(certificates.parent().expect("the path has directories"))
            .context("cannot create the build context")?;
        let program = self.target.join(TARGET).join("release").join(PROGRAM);
        copy(&program, &root.join(PROGRAM))?;
        copy(&workspace_root().join("sidecar/Dockerfile"), &self.directory.join("Dockerfile"))?;
        match authorities(ca_file)? {
            Some(file) => {
                copy(&file, &certificates)?;
                eprintln!("roots   {}", file.display());
            }
            None => eprintln!(
                "roots   none: this machine has no CA certificates, so TLS to S3 will fail\n        \
                 install ca-certificates, or name a file with --ca-file"
            ),
        }
        Ok(format!("{IMAGE}:{}", self.tag()?))
    }

    fn tag(&self) -> Result<String> {
        let sum = |file: &Path| Command::new("sha256sum").path(file);
        let directory = &self.directory;
        let files =
            ["Dockerfile", "root/ebpf-cuda-tracer", "root/etc/ssl/certs/ca-certificates.crt"];
        let mut digests = String::new();
        for file in files.map(|file| directory.join(file)).iter().filter(|file| file.exists()) {
            let line = sum(file).read().context("cannot compute the tag of the image")?;
            digests.push_str(line.split(' ').next().unwrap_or_default());
            digests.push('\n');
        }
        let all = Command::new("sha256sum").text(digests).read()?;
        Ok(all.chars().take(12).collect())
    }
}

fn authorities(ca_file: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(file) = ca_file else {
        return Ok(ON_THIS_MACHINE.map(PathBuf::from).into_iter().find(|file| file.is_file()));
    };
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the certificates in {}", file.display()))?;
    if !text.contains("-----BEGIN CERTIFICATE-----") {
        bail!("{} holds no certificate in PEM form", file.display());
    }
    Ok(Some(file.to_owned()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
