//! What is found on this machine, without a judgement on it.

use std::{env, fs, net::TcpListener, path::Path};

use tasks::command::{Command, is_on_path};

use crate::node::install::{
    airgap::missing,
    preflight::role::{Role, other_data_dir, unit_text},
    toolkit,
};
use settings::names::NODE_PORT;

/// Of the API server, K3s's supervisor, containerd's streaming and kubelet.
const PORTS: [u16; 4] = [6443, 6444, 10010, 10250];

#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states")]
pub(super) struct Facts {
    pub(super) machine: String,
    pub(super) os: String,
    pub(super) kernel: String,
    pub(super) btf: bool,
    pub(super) systemd: bool,
    pub(super) missing_tools: Vec<&'static str>,
    /// A line per GPU: driver, name, memory, compute capability; or what went wrong.
    pub(super) nvidia_smi: Result<String, String>,
    /// Of the kernel module that is loaded.
    pub(super) module_version: Option<String>,
    pub(super) vllm_image: Option<String>,
    /// None: the default one.
    pub(super) model: Option<String>,
    /// Those that must be free, the node port of vLLM among them.
    pub(super) ports: Vec<u16>,
    pub(super) ports_in_use: Vec<u16>,
    /// Of those that must lie in the directory of `--airgap`.
    pub(super) missing_files: Vec<String>,
    pub(super) k3s_runs: bool,
    pub(super) default_route: bool,
    pub(super) free_disk_gb: Option<u64>,
    pub(super) memory_gb: Option<u64>,
    /// One that is active.
    pub(super) firewall: Option<&'static str>,
    pub(super) role: Role,
    /// Other than the usual one.
    pub(super) data_dir: Option<String>,
    /// Of those that would have to change.
    pub(super) held_packages: Vec<String>,
    pub(super) lacks_apparmor_parser: bool,
    /// Version and mode, as it says them.
    pub(super) iptables: Option<String>,
    pub(super) old_toolkit: bool,
}

impl Facts {
    pub(super) fn gather(airgap: Option<&Path>) -> Self {
        let root = Path::new("/");
        let system = rustix::system::uname();
        let node_port = variable("NODE_PORT").and_then(|port| port.parse().ok());
        let ports = [&PORTS[..], &[node_port.unwrap_or(NODE_PORT)]].concat();
        let downloaders: &[_] = if airgap.is_none() { &["curl", "gpg"] } else { &[] };
        Self {
            machine: system.machine().to_string_lossy().into_owned(),
            os: read("/etc/os-release").and_then(|text| os(&text)).unwrap_or("Linux".to_owned()),
            kernel: system.release().to_string_lossy().into_owned(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            systemd: Path::new("/run/systemd/system").exists(),
            missing_tools: [&["apt-get", "systemctl"], downloaders]
                .concat()
                .into_iter()
                .filter(|tool| !is_on_path(tool))
                .collect(),
            nvidia_smi: nvidia_smi(),
            module_version: read("/sys/module/nvidia/version"),
            vllm_image: variable("VLLM_IMAGE"),
            model: variable("MODEL"),
            ports_in_use: ports.iter().copied().filter(|&port| is_in_use(port)).collect(),
            ports,
            missing_files: airgap.map(missing).unwrap_or_default(),
            k3s_runs: answers("systemctl is-active k3s", "active"),
            default_route: has_default_route(),
            free_disk_gb: free_disk_gb(),
            memory_gb: read("/proc/meminfo").and_then(|text| memory_gb(&text)),
            firewall: firewall(root),
            role: Role::find(),
            data_dir: other_data_dir(root, &unit_text("k3s").unwrap_or_default()),
            held_packages: held_packages(),
            lacks_apparmor_parser: lacks_apparmor_parser(root) && !is_on_path("apparmor_parser"),
            iptables: iptables(),
            old_toolkit: Path::new("/usr/local/nvidia/toolkit").exists(),
        }
    }
}

fn firewall(root: &Path) -> Option<&'static str> {
    ["ufw", "firewalld", "nftables"].into_iter().find(|name| {
        answers(&format!("systemctl is-active {name}"), "active")
            && (*name != "ufw" || is_ufw_enabled(root))
    })
}

/// Its service is active also where it lets everything through.
fn is_ufw_enabled(root: &Path) -> bool {
    let settings = read(root.join("etc/ufw/ufw.conf")).unwrap_or_default();
    settings.lines().any(|line| line.trim() == "ENABLED=yes")
}

/// The kernel confines containers, and what loads their profiles is not in its usual places.
fn lacks_apparmor_parser(root: &Path) -> bool {
    let is_enabled = read(root.join("sys/module/apparmor/parameters/enabled"));
    let places = ["usr/sbin/apparmor_parser", "sbin/apparmor_parser"];
    is_enabled.as_deref() == Some("Y") && !places.iter().any(|place| root.join(place).exists())
}

fn held_packages() -> Vec<String> {
    let held = Command::new("apt-mark showhold").output().map(|output| output.stdout);
    let held = held.unwrap_or_default();
    let ours = held.lines().map(str::trim).filter(|name| toolkit::PACKAGES.contains(name));
    let ours: Vec<String> = ours.map(str::to_owned).collect();
    if ours.is_empty() || toolkit::is_met() { Vec::new() } else { ours }
}

fn iptables() -> Option<String> {
    let output = Command::new("iptables --version").output().ok()?;
    let line = output.stdout.lines().next().unwrap_or_default().trim().to_owned();
    (output.is_success() && !line.is_empty()).then_some(line)
}

fn nvidia_smi() -> Result<String, String> {
    let query = "nvidia-smi --query-gpu=driver_version,name,memory.total,compute_cap";
    let output = Command::new(query).words("--format=csv,noheader").output();
    match output {
        Ok(output) if output.is_success() => Ok(output.stdout),
        // It complains on stdout.
        Ok(output) => {
            let said = format!("{}{}", output.stdout, output.stderr);
            let line = said.lines().next().unwrap_or("it says nothing").trim();
            Err(format!("nvidia-smi fails: {line}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn answers(command: &str, expected: &str) -> bool {
    Command::new(command).output().is_ok_and(|output| output.stdout.trim() == expected)
}

/// Also those on one address only.
fn is_in_use(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_err()
}

fn has_default_route() -> bool {
    let of_ipv4 = read("/proc/net/route").unwrap_or_default();
    let of_ipv6 = read("/proc/net/ipv6_route").unwrap_or_default();
    of_ipv4.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
        || of_ipv6.lines().any(|line| {
            let mut words = line.split_whitespace();
            let is_default = words.next() == Some(&"0".repeat(32)) && words.next() == Some("00");
            is_default && words.next_back() != Some("lo")
        })
}

/// Of the file system that will hold /var/lib/rancher, of which parts may not exist yet.
fn free_disk_gb() -> Option<u64> {
    let existing =
        ["/var/lib/rancher", "/var/lib", "/"].into_iter().find(|path| Path::new(path).exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    Some(found.f_bavail * found.f_frsize / 1_000_000_000)
}

fn memory_gb(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024 / 1_000_000_000)
}

fn os(release: &str) -> Option<String> {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches('"').to_owned())
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn a_missing_parser_matters_only_where_the_kernel_has_apparmor_on() {
        const ENABLED: &str = "sys/module/apparmor/parameters/enabled";
        let lacks = |files: &[(&str, &str)]| lacks_apparmor_parser(root(files).path());
        assert!(lacks(&[(ENABLED, "Y\n")]));
        assert!(!lacks(&[(ENABLED, "N\n")]));
        assert!(!lacks(&[]), "a kernel without it");
        for place in ["usr/sbin/apparmor_parser", "sbin/apparmor_parser"] {
            assert!(!lacks(&[(ENABLED, "Y\n"), (place, "")]), "{place}");
        }
    }

    #[test]
    fn ufw_counts_only_where_its_settings_enable_it() {
        const SETTINGS: &str = "etc/ufw/ufw.conf";
        let is_enabled = |files: &[(&str, &str)]| is_ufw_enabled(root(files).path());
        assert!(is_enabled(&[(SETTINGS, "# of ufw\nENABLED=yes\nLOGLEVEL=low\n")]));
        assert!(!is_enabled(&[(SETTINGS, "# ENABLED=yes would start it\nENABLED=no\n")]));
        assert!(!is_enabled(&[]));
    }
}
