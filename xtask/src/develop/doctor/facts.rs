//! What is found on this machine, without a judgement on it.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};
use rustix::thread::{CapabilitySet, capabilities};
use xshell::{Cmd, Shell, cmd};

use crate::demo::pod_can_run;

/// What tracing and the build of the workspace depend on.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states")]
pub(super) struct Machine {
    /// Release, as `uname -r` prints it.
    pub(super) kernel: String,
    /// Machine, as `uname -m` prints it.
    pub(super) architecture: String,
    pub(super) uprobes: bool,
    pub(super) btf: bool,
    pub(super) user: u32,
    pub(super) effective: CapabilitySet,
    /// Capabilities count only in the user namespace of the kernel itself.
    pub(super) initial_user_namespace: bool,
    pub(super) seccomp_filter: bool,
    /// The lockdown mode; none where the kernel has no such thing.
    pub(super) lockdown: Option<String>,
    pub(super) perf_event_paranoid: Option<i32>,
    pub(super) unprivileged_bpf_disabled: Option<i32>,
    /// First line of its `--version`, as for all tools below.
    pub(super) c_compiler: Tool,
    pub(super) rustc: Tool,
    pub(super) cargo: Tool,
}

/// A program's own words on its version; none if it cannot be run.
pub(super) type Tool = Option<String>;

pub(super) fn machine(sh: &Shell) -> Result<Machine> {
    let system = rustix::system::uname();
    // As the build scripts have it: a launcher such as `ccache gcc` is allowed.
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut compiler = compiler.split_whitespace();
    let program = compiler.next().unwrap_or("cc");
    Ok(Machine {
        kernel: system.release().to_string_lossy().into_owned(),
        architecture: system.machine().to_string_lossy().into_owned(),
        uprobes: Path::new("/sys/bus/event_source/devices/uprobe/type").exists(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        user: rustix::process::geteuid().as_raw(),
        effective: capabilities(None).context("cannot read the capabilities")?.effective,
        initial_user_namespace: read("/proc/self/uid_map").is_none_or(|map| is_identity(&map)),
        seccomp_filter: read("/proc/self/status").is_some_and(|status| has_filter(&status)),
        lockdown: read("/sys/kernel/security/lockdown").and_then(|modes| chosen(&modes)),
        perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        c_compiler: first_line(cmd!(sh, "{program} {compiler...} --version")),
        rustc: first_line(cmd!(sh, "rustc --version")),
        cargo: first_line(cmd!(sh, "cargo --version")),
    })
}

/// What `cargo xtask ci` runs besides the compiler.
#[derive(Debug, Clone)]
pub(super) struct Checking {
    pub(super) rustfmt: Tool,
    pub(super) clippy: Tool,
    pub(super) jq: Tool,
    /// Which podman plays the pod, or why none does and what helps.
    pub(super) pod: Result<String, String>,
}

pub(super) fn checking(sh: &Shell) -> Checking {
    Checking {
        rustfmt: first_line(cmd!(sh, "cargo fmt --version")),
        clippy: first_line(cmd!(sh, "cargo clippy --version")),
        jq: first_line(cmd!(sh, "jq --version")),
        pod: pod_can_run(env::var("CONTAINER_ENGINE").ok().as_deref())
            .map_err(|error| format!("{error:#}")),
    }
}

#[derive(Debug, Clone)]
pub(super) struct Deploying {
    pub(super) podman: Tool,
    pub(super) docker: Tool,
    pub(super) buildah: Tool,
    pub(super) kubectl: Tool,
    pub(super) k3s: Tool,
    pub(super) nvidia_driver: Option<String>,
}

pub(super) fn deploying(sh: &Shell) -> Deploying {
    Deploying {
        podman: first_line(cmd!(sh, "podman --version")),
        docker: first_line(cmd!(sh, "docker --version")),
        buildah: first_line(cmd!(sh, "buildah --version")),
        kubectl: first_line(cmd!(sh, "kubectl version --client")),
        k3s: first_line(cmd!(sh, "k3s --version")),
        nvidia_driver: read("/proc/driver/nvidia/version")
            .and_then(|text| text.lines().next().map(str::to_owned)),
    }
}

#[derive(Debug, Clone)]
pub(super) struct Measuring {
    pub(super) bpftrace: Tool,
}

pub(super) fn measuring(sh: &Shell) -> Measuring {
    Measuring { bpftrace: first_line(cmd!(sh, "bpftrace --version")) }
}

fn first_line(version: Cmd<'_>) -> Tool {
    let output = version.quiet().ignore_stderr().read().ok()?;
    output.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(path: &str) -> Option<i32> {
    read(path)?.trim().parse().ok()
}

/// Whether every user id stands for itself, which no user namespace but the first is given.
fn is_identity(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn has_filter(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp:"))
        .is_some_and(|mode| mode.trim() == "2")
}

/// Takes `integrity` out of `none [integrity] confidentiality`.
fn chosen(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lockdown_mode_stands_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn user_namespaces_are_told_apart() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity(
            "         0       1000          1\n         1     100000      65536\n"
        ));
    }

    #[test]
    fn seccomp_filter_is_mode_two() {
        assert!(has_filter("NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_filter("Seccomp:\t0\nSeccomp_filters:\t2\n"));
    }

    #[test]
    fn absent_tool_is_no_error() {
        let sh = Shell::new().unwrap();
        assert_eq!(first_line(cmd!(sh, "no-such-program-anywhere --version")), None);
        assert!(first_line(cmd!(sh, "cargo --version")).unwrap().starts_with("cargo 1."));
    }
}
