//! What goes into the image: the static program, its bill of materials and the certificates, in a directory of
//! their own. The same sources, compiler and certificates give the same bytes, wherever they are built.

use std::{
    fmt::Write as _,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{bom, paths};
use settings::names::IMAGE;
use tasks::{
    command::Command,
    ctx::workspace_root,
    static_build::{PROGRAM, static_path},
};

/// Where the sidecar's TLS looks first, in the image.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// What the program is made of.
const BOM: &str = "usr/share/sbom/ebpf-cuda-tracer.cdx.json";

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
}

impl Context {
    pub(super) fn new() -> Self {
        Self { directory: super::scratch().join("context") }
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
        let program = root.join(PROGRAM);
        copy(&static_path(), &program)?;
        let content = fs::read(&program).context("cannot read the program")?;
        paths::check(&content)?;
        let materials = bom::of(&content).context("cannot tell what the program is made of")?;
        let bom = root.join(BOM);
        fs::create_dir_all(bom.parent().expect("the path has directories"))
            .and_then(|()| fs::write(&bom, &materials))
            .with_context(|| format!("cannot write {}", bom.display()))?;
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
        for path in [PROGRAM, BOM, CERTIFICATES] {
            settle(&root, Path::new(path)).context("cannot settle the build context")?;
        }
        Ok(format!("{IMAGE}:{}", self.tag()?))
    }

    /// Of names and contents, so that the same content has the same tag wherever it is built.
    fn tag(&self) -> Result<String> {
        let root = Path::new("root");
        let files =
            ["Dockerfile".into(), root.join(PROGRAM), root.join(BOM), root.join(CERTIFICATES)];
        let mut sums = String::new();
        for file in files {
            let path = self.directory.join(&file);
            if path.exists() {
                let sum = sha256(&Command::new("sha256sum").path(&path))?;
                let _: std::fmt::Result = writeln!(sums, "{sum}  {}", file.display());
            }
        }
        Ok(sha256(&Command::new("sha256sum").text(sums))?[..12].to_owned())
    }
}

fn sha256(sum: &Command) -> Result<String> {
    let line = sum.read().context("cannot compute the tag of the image")?;
    let digest = line.split(' ').next().unwrap_or_default();
    ensure!(digest.len() == 64, "sha256sum says {line:?}");
    Ok(digest.to_owned())
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

/// Gives a file and the directories above it, as far as they are in the image, the same mode and time everywhere:
/// a umask and a clock are of the machine that builds.
fn settle(root: &Path, file: &Path) -> std::io::Result<()> {
    for path in file.ancestors().map(|part| root.join(part)).filter(|path| path.exists()) {
        let mode = if path.is_dir() || file == Path::new(PROGRAM) { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        File::open(&path)?.set_modified(SystemTime::UNIX_EPOCH)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
