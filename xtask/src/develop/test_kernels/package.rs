//! Kernels from Debian's packages, downloaded once, without touching the machine's own list of sources.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::pins::Kernel;

/// Depends on the newest one of a suite.
const NEWEST: &str = "linux-image-cloud-amd64";

/// Names Debian's mirror where apt's own sources do not.
const MIRROR: &str = "DEBIAN_MIRROR";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Image {
    /// By which the README names it.
    pub(super) name: String,
    pub(super) release: String,
    pub(super) kernel: PathBuf,
}

/// The kernel in `directory`, which is fetched if it is not there.
pub(super) fn image(kernel: &Kernel, directory: &Path) -> Result<Image> {
    let Kernel { name, suite } = kernel;
    let place = directory.join(name);
    let image = || -> Option<Image> {
        // Written last.
        let release = fs::read_to_string(place.join("release")).ok()?.trim().to_owned();
        Some(Image { name: (*name).to_owned(), release, kernel: place.join("vmlinuz") })
    };
    if let Some(image) = image() {
        eprintln!("{name:<8}  {} in {}", image.release, place.display());
        return Ok(image);
    }
    eprintln!("{name:<8}  downloading the newest of Debian {suite}");
    download(suite, &place)
        .with_context(|| format!("cannot get the kernel {name} of Debian {suite}"))?;
    let image = image().context("the kernel is gone again")?;
    eprintln!("{name:<8}  {}", image.release);
    Ok(image)
}

fn download(suite: &str, place: &Path) -> Result<()> {
    let work = place.join("download");
    // What an interrupted one has left.
    let _: std::io::Result<()> = fs::remove_dir_all(&work);
    for directory in ["lists/partial", "cache/archives/partial"] {
        let directory = work.join(directory);
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    ensure!(
        Path::new(KEYRING).is_file(),
        "{KEYRING} is missing, with which Debian's packages are checked: apt-get install \
         debian-archive-keyring"
    );
    let write = |name: &str, text: &str| {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("sources.list", &format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?))?;
    write("status", "")?;
    let apt = Apt { work: &work };
    apt.run("apt-get", &["-qq", "update"])?;
    let depends = apt.run("apt-cache", &["depends", "--recurse", "--important", NEWEST])?;
    let package = package_with_kernel(&depends)
        .with_context(|| format!("{NEWEST} depends on no package with a kernel:\n{depends}"))?;
    apt.run("apt-get", &["-qq", "download", package])?;
    let is_archive = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let archive = files(&work)?.into_iter().find(is_archive).context("apt has left no archive")?;
    duct::cmd("dpkg-deb", ["--fsys-tarfile".as_ref(), archive.as_os_str()])
        .pipe(duct::cmd("tar", ["-x", "--wildcards", "*/vmlinuz*"]).dir(&work))
        .run()
        .with_context(|| format!("cannot unpack {}", archive.display()))?;
    let is_kernel = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    };
    let kernel = files(&work)?.into_iter().find(is_kernel).context("no kernel in the package")?;
    let rename = |from: &Path, name: &str| {
        let to = place.join(name);
        fs::rename(from, &to).with_context(|| format!("cannot create {}", to.display()))
    };
    rename(&kernel, "vmlinuz")?;
    write("release", release_of(package))?;
    rename(&work.join("release"), "release")?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

/// apt with sources, lists and a cache of its own, and the machine's settings for the rest.
struct Apt<'a> {
    work: &'a Path,
}

impl Apt<'_> {
    fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        let at = |name: &str| self.work.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::Etc::PreferencesParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::State::Status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            // Its user may not reach a directory below somebody's home.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ];
        let arguments =
            options.iter().flat_map(|option| ["-o", option]).chain(words.iter().copied());
        duct::cmd(program, arguments)
            .dir(self.work)
            .read()
            .with_context(|| format!("{program} {} failed", words.join(" ")))
    }
}

/// Where this machine gets Debian's packages, if it is one of Debian's.
fn mirror() -> Result<String> {
    if let Some(mirror) = env::var(MIRROR).ok().filter(|mirror| !mirror.is_empty()) {
        return Ok(mirror);
    }
    let format = "$(ORIGIN) $(LABEL) $(REPO_URI)";
    let targets = duct::cmd!("apt-get", "indextargets", "--format", format, "Created-By: Packages")
        .read()
        .context("cannot ask apt for its sources")?;
    match main_archive(&targets) {
        Some(mirror) => Ok(mirror.to_owned()),
        None => bail!(
            "apt knows no mirror of Debian's main archive: run apt-get update, or set {MIRROR} to \
             the address of one"
        ),
    }
}

fn main_archive(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| line.strip_prefix("Debian Debian "))
}

/// The kernel itself; since 7.x it lies apart from what installs it.
fn package_with_kernel(depends: &str) -> Option<&str> {
    let names = || depends.lines().map(|line| line.rsplit(' ').next().unwrap_or(line));
    ["linux-binary-", "linux-image-"].into_iter().find_map(|prefix| {
        names().find(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with("-cloud-amd64")
            })
        })
    })
}

fn release_of(package: &str) -> &str {
    package.trim_start_matches("linux-binary-").trim_start_matches("linux-image-")
}

/// All files below a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.file_type().with_context(cannot)?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_that_holds_the_kernel_is_found_before_and_since_they_are_apart() {
        let old = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-50-cloud-amd64\n";
        assert_eq!(package_with_kernel(old), Some("linux-image-6.1.0-50-cloud-amd64"));
        let new = "linux-image-cloud-amd64\n  Depends: linux-base-cloud-amd64\n  Depends: linux-image-7.2.13+deb14-cloud-amd64\n\
                   linux-image-7.2.13+deb14-cloud-amd64\n  Depends: linux-binary-7.2.13+deb14-cloud-amd64\n";
        let package = package_with_kernel(new).unwrap();
        assert_eq!(package, "linux-binary-7.2.13+deb14-cloud-amd64");
        assert_eq!(release_of(package), "7.2.13+deb14-cloud-amd64");
        assert_eq!(package_with_kernel("linux-image-cloud-amd64"), None);
    }

    #[test]
    fn kernels_come_from_the_main_archive_and_from_no_other() {
        let targets = "Debian Debian-Security http://a/debian-security/\n\
                       Ubuntu Ubuntu http://a/ubuntu/\nDebian Debian http://a/debian/\n";
        assert_eq!(main_archive(targets), Some("http://a/debian/"));
        assert_eq!(main_archive("Ubuntu Ubuntu http://a/ubuntu/"), None);
    }
}
