//! What the guests run: busybox, the sidecar, the tests with real probes, and what they load.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::CHECKS;
use tasks::{
    command::find_on_path,
    ctx::{as_from_shell, program_directory},
};

const FILE: u32 = 0o100_755;
const DIRECTORY: u32 = 0o040_755;

/// Where distributions keep the certificates of authorities; Debian's place is first.
const AUTHORITIES: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Builds all of it, and returns the archive, in `directory`.
pub(super) fn build(sh: &Shell, directory: &Path) -> Result<PathBuf> {
    let tests = build_tests(sh)?;
    let busybox = find_on_path("busybox").context("busybox has gone from PATH")?;
    ensure!(
        loaded_by(sh, &busybox)?.is_empty(),
        "{} is not static: apt-get install busybox-static",
        busybox.display()
    );
    let setpriv = find_on_path("setpriv").context("setpriv has gone from PATH")?;
    let path = directory.join("initramfs.cpio");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut archive =
        Archive { out: BufWriter::new(file), directories: BTreeSet::new(), length: 0 };
    for mount_point in ["proc", "sys", "dev", "tmp", "scratch"] {
        archive.directory(Path::new(mount_point))?;
    }
    archive.file("/init", include_bytes!("init.sh"))?;
    let checks = CHECKS.map(|check| check.test).join("\n") + "\n";
    archive.file("/checks", checks.as_bytes())?;
    archive.file("/bin/busybox", &read(&busybox)?)?;
    archive.file("/bin/setpriv", &read(&setpriv)?)?;
    // Without any the S3 client does not start, although the store of the tests has no TLS.
    if let Some(authorities) = AUTHORITIES.iter().find(|path| Path::new(path).is_file()) {
        archive.file(AUTHORITIES[0], &read(Path::new(authorities))?)?;
    }
    // The tests know the sidecar by the path that it was built at, and find the caller beside.
    let sidecar = program_directory("debug").join("ebpf-cuda-tracer");
    let caller = program_directory("debug").join("standin-caller");
    let mut loaded = loaded_by(sh, &setpriv)?;
    for program in [&tests, &sidecar, &caller] {
        loaded.extend(loaded_by(sh, program)?);
        archive.file(&program.display().to_string(), &stripped(sh, program, directory)?)?;
    }
    let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", tests.display());
    archive.file("/privileged", script.as_bytes())?;
    for library in loaded {
        archive.file(&library.display().to_string(), &read(&library)?)?;
    }
    archive.finish().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Returns the path of the tests' program.
fn build_tests(sh: &Shell) -> Result<PathBuf> {
    // As `cargo xtask demo` and `ci` build them, so that nothing is compiled twice.
    let programs = "build --locked --package sidecar --package testbed --package loadtest --bins";
    let tests = "test --locked --package sidecar --test privileged --no-run --message-format json";
    let cargo = |words: &str| {
        let words = words.split(' ');
        as_from_shell(cmd!(sh, "cargo {words...}"))
    };
    cargo(programs).run().context("cannot build the stand-ins")?;
    let messages = cargo(tests).read().context("cannot build the tests with real probes")?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "privileged")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo does not say where it has put the tests")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Without the tables for debuggers, which are most of it.
fn stripped(sh: &Shell, program: &Path, directory: &Path) -> Result<Vec<u8>> {
    let small = directory.join("stripped");
    cmd!(sh, "strip -o {small} {program}").quiet().run()?;
    let bytes = read(&small)?;
    fs::remove_file(&small).with_context(|| format!("cannot remove {}", small.display()))?;
    Ok(bytes)
}

/// The dynamic loader and the libraries, by the paths at which the loader looks for them.
fn loaded_by(sh: &Shell, program: &Path) -> Result<BTreeSet<PathBuf>> {
    // It fails for static programs.
    let output = cmd!(sh, "ldd {program}").quiet().ignore_status().ignore_stderr().read()?;
    Ok(paths(&output))
}

fn paths(ldd: &str) -> BTreeSet<PathBuf> {
    ldd.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// A cpio archive of the form `newc`, as the kernel unpacks it.
struct Archive<W> {
    out: W,
    /// Already there.
    directories: BTreeSet<PathBuf>,
    length: usize,
}

impl<W: Write> Archive<W> {
    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let path = Path::new(path.trim_start_matches('/'));
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.entry(&path.display().to_string(), FILE, content)
    }

    /// And those that it lies in.
    fn directory(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.directories.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.directories.insert(path.to_owned());
        self.entry(&path.display().to_string(), DIRECTORY, &[])
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len()).context("a file of 4 GiB")?;
        let name_size = u32::try_from(name.len() + 1).context("a very long name")?;
        // Number, mode, owner, group, links, time, size, four numbers of devices, and a checksum
        // that this form has not.
        let fields = [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.write(b"070701")?;
        for field in fields {
            self.write(format!("{field:08X}").as_bytes())?;
        }
        self.write(name.as_bytes())?;
        self.write(&[0])?;
        self.pad()?;
        self.write(content)?;
        self.pad()
    }

    fn finish(mut self) -> Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.out.flush()?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len();
        Ok(self.out.write_all(bytes)?)
    }

    /// Everything begins at a multiple of four.
    fn pad(&mut self) -> Result<()> {
        let zeros = self.length.next_multiple_of(4) - self.length;
        self.write(&[0; 3][..zeros])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_directories_before_what_lies_in_them() {
        let mut bytes = Vec::new();
        let mut archive = Archive { out: &mut bytes, directories: BTreeSet::new(), length: 0 };
        archive.file("/a/b/one", b"@@@@@").unwrap();
        archive.file("/a/two", b"").unwrap();
        archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap())
            .collect();
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/two", "TRAILER!!!"]);
        assert!(text.contains("one\0\0\0@@@@@\0\0\0"), "{text:?}");
    }

    #[test]
    fn libraries_and_the_loader_are_taken_and_the_kernels_own_is_not() {
        let ldd = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7f)\n";
        let found: Vec<_> = paths(ldd).into_iter().collect();
        assert_eq!(found, [Path::new("/lib/x/libc.so.6"), Path::new("/lib64/ld.so")]);
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }
}
