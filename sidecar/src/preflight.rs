//! What tracing needs of this machine and container, asked before anything is loaded.

use std::fs;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CapabilitySet, capabilities};

/// The first kernel with attach cookies for uprobes.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// Each capability, its number, and what fails without it.
const CAPABILITIES: [(CapabilitySet, &str, &str); 4] = [
    (CapabilitySet::SYS_ADMIN, "SYS_ADMIN", "attach uprobes through perf events"),
    (
        CapabilitySet::SYS_PTRACE,
        "SYS_PTRACE",
        "open libraries of other processes through /proc/PID/root",
    ),
    (CapabilitySet::BPF, "BPF", "create eBPF maps and load programs"),
    (CapabilitySet::PERFMON, "PERFMON", "load tracing programs and watch process events"),
];

/// Fails with everything that is missing, each with what it is for and the way out.
pub fn check() -> Result<()> {
    let mut missing = missing_capabilities()?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if parse_release(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        missing.push(format!("kernel {release}: 5.15 or later is needed to tell functions apart"));
    }
    if !fs::exists("/sys/bus/event_source/devices/uprobe/type").unwrap_or(false) {
        missing.push(
            "uprobes: the kernel is built without CONFIG_UPROBE_EVENTS, or /sys is not \
                      mounted"
                .to_owned(),
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot trace yet:\n  {}", missing.join("\n  "))
}

fn missing_capabilities() -> Result<Vec<String>> {
    let effective = capabilities(None).context("cannot read the capabilities")?.effective;
    Ok(CAPABILITIES
        .iter()
        .filter(|(capability, ..)| !effective.contains(*capability))
        // SYS_ADMIN stands in for the two that were split from it.
        .filter(|(_, name, _)| {
            !(matches!(*name, "BPF" | "PERFMON") && effective.contains(CapabilitySet::SYS_ADMIN))
        })
        .map(|(_, name, purpose)| {
            format!(
                "CAP_{name} is missing, needed to {purpose}: run as root, or add {name} to the \
                     container's securityContext.capabilities"
            )
        })
        .collect())
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(parse_release("6.18.44-fc-v769"), Some((6, 18)));
        assert!(parse_release("5.4.0").unwrap() < OLDEST_KERNEL);
        assert!(parse_release("5.15.0").unwrap() >= OLDEST_KERNEL);
    }
}
