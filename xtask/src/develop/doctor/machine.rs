//! Whether a machine can build and trace: facts in, findings out.

use rustix::thread::CapabilitySet;
use settings::rights::{ALWAYS, Capability, LINKS_KERNEL, OLDEST_KERNEL, SYS_ADMIN};

use super::{
    Finding,
    facts::{Machine, Tool},
};

const AS_ROOT: &str = "run as root: sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask ...";

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let mut findings =
        vec![architecture(machine), kernel(machine), uprobes(machine), user(machine)];
    findings.extend(capabilities().map(|capability| capability_finding(machine, capability)));
    findings.push(bpf(machine));
    findings.push(perf_event_paranoid(machine));
    findings.extend(seccomp(machine));
    findings.extend(lockdown(machine));
    findings.push(btf(machine));
    findings.push(c_compiler(machine));
    findings.push(rust("rustc", &machine.rustc));
    findings.push(rust("cargo", &machine.cargo));
    findings
}

fn capabilities() -> impl Iterator<Item = Capability> {
    [SYS_ADMIN].into_iter().chain(ALWAYS)
}

fn architecture(machine: &Machine) -> Finding {
    let found = &machine.architecture;
    if found == "x86_64" {
        return Finding::ok("architecture", found);
    }
    Finding::missing(
        "architecture",
        format!("{found}, but probes are placed by decoding x86-64 instructions"),
        "use an x86-64 machine".to_owned(),
    )
}

fn kernel(machine: &Machine) -> Finding {
    let found = &machine.kernel;
    let (major, minor) = OLDEST_KERNEL;
    match release(found) {
        Some(version) if version < OLDEST_KERNEL => Finding::missing(
            "kernel",
            format!("{found}, but attach cookies for uprobes came with {major}.{minor}"),
            format!("boot Linux {major}.{minor} or later"),
        ),
        Some(_) => Finding::ok("kernel", found),
        None => Finding::note(
            "kernel",
            format!("{found}, which should be {major}.{minor} or later"),
            None,
        ),
    }
}

fn uprobes(machine: &Machine) -> Finding {
    if machine.uprobes {
        return Finding::ok("uprobes", "the kernel offers them as perf events");
    }
    Finding::missing(
        "uprobes",
        "/sys/bus/event_source/devices/uprobe/type is not there",
        "boot a kernel with CONFIG_UPROBE_EVENTS=y, or if /sys is empty: mount -t sysfs sysfs /sys"
            .to_owned(),
    )
}

fn user(machine: &Machine) -> Finding {
    let Machine { user, initial_user_namespace, .. } = machine;
    if !initial_user_namespace {
        return Finding::missing(
            "root",
            "this is a user namespace (a rootless container), whose capabilities do not count for \
             tracing",
            "run on the host, or in a container started by the host's root".to_owned(),
        );
    }
    if *user == 0 {
        return Finding::ok("root", "yes");
    }
    let found = format!("this is uid {user}");
    let mut needed = capabilities().filter(|needed| is_needed(machine, needed.set));
    if needed.all(|needed| allows(machine, needed.set)) {
        return Finding::note("root", format!("{found}, but with all capabilities needed"), None);
    }
    Finding::missing("root", found, AS_ROOT.to_owned())
}

fn capability_finding(machine: &Machine, needed: Capability) -> Finding {
    let Machine { user, effective, seccomp_filter, .. } = machine;
    let Capability { set: capability, name: topic, purpose } = needed;
    if effective.contains(capability) {
        return Finding::ok(topic, format!("held, to {purpose}"));
    }
    if !is_needed(machine, capability) {
        return Finding::ok(topic, "not held, and this kernel does not ask for it");
    }
    // An ordinary user is told once, under "root".
    let remedy = (*user == 0).then(|| {
        format!(
            "start the container with --cap-add {}, or use the host's root",
            needed.short_name()
        )
    });
    if allows(machine, capability) {
        let found = format!("not held, but CAP_SYS_ADMIN is enough to {purpose}");
        if *seccomp_filter {
            // The filter asks for the very capability and knows nothing of the kernel's rule.
            return Finding::note(topic, format!("{found}, unless seccomp asks for it"), remedy);
        }
        return Finding::ok(topic, found);
    }
    Finding::missing(topic, format!("not held, needed to {purpose}"), remedy)
}

/// Whether this kernel asks for it at all.
fn is_needed(machine: &Machine, capability: CapabilitySet) -> bool {
    capability != CapabilitySet::SYS_ADMIN
        || release(&machine.kernel).is_some_and(|version| version < LINKS_KERNEL)
}

/// Whether the kernel does what it asks this capability for.
fn allows(machine: &Machine, capability: CapabilitySet) -> bool {
    // Both were split from SYS_ADMIN in Linux 5.8, which still stands in for them.
    let split = CapabilitySet::BPF | CapabilitySet::PERFMON;
    machine.effective.contains(capability)
        || split.contains(capability) && machine.effective.contains(CapabilitySet::SYS_ADMIN)
}

/// Judged by its two gates: a real call would need code that the kernel has to trust.
fn bpf(machine: &Machine) -> Finding {
    let Machine { effective, unprivileged_bpf_disabled, .. } = machine;
    let setting = match unprivileged_bpf_disabled {
        Some(setting) => format!("kernel.unprivileged_bpf_disabled is {setting}"),
        None => "kernel.unprivileged_bpf_disabled is not there".to_owned(),
    };
    if effective.intersects(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN) {
        return Finding::ok("bpf()", format!("{setting}, which does not bind this user"));
    }
    Finding::note(
        "bpf()",
        format!("{setting}; whatever it is, tracing programs need CAP_BPF or CAP_SYS_ADMIN"),
        None,
    )
}

fn perf_event_paranoid(machine: &Machine) -> Finding {
    let Machine { effective, perf_event_paranoid, .. } = machine;
    let Some(setting) = perf_event_paranoid else {
        return Finding::note(
            "perf events",
            "kernel.perf_event_paranoid is not there: the kernel has no perf events",
            "boot a kernel with CONFIG_PERF_EVENTS=y".to_owned(),
        );
    };
    let setting = format!("kernel.perf_event_paranoid is {setting}");
    if effective.intersects(CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN) {
        return Finding::ok("perf events", format!("{setting}, which does not bind this user"));
    }
    Finding::note(
        "perf events",
        format!("{setting}; only CAP_PERFMON and CAP_SYS_ADMIN are above it"),
        None,
    )
}

fn seccomp(machine: &Machine) -> Option<Finding> {
    machine.seccomp_filter.then(|| {
        Finding::note(
            "seccomp",
            "a filter is on, and must let bpf and perf_event_open through; the default filters of \
             container runtimes of 2023 and later do, for who holds the capabilities",
            "on `Operation not permitted`: --security-opt seccomp=unconfined".to_owned(),
        )
    })
}

fn lockdown(machine: &Machine) -> Option<Finding> {
    let mode = machine.lockdown.as_deref().filter(|mode| *mode != "none")?;
    Some(Finding::note(
        "lockdown",
        format!("{mode}; it forbids programs that read the kernel's memory, and ours read none"),
        None,
    ))
}

fn btf(machine: &Machine) -> Finding {
    if machine.btf {
        return Finding::ok("BTF", "there, but not needed");
    }
    Finding::note("BTF", "not there, and not needed", None)
}

fn c_compiler(machine: &Machine) -> Finding {
    match &machine.c_compiler {
        Some(found) => Finding::ok("C compiler", found),
        None => Finding::missing(
            "C compiler",
            "not found, needed to link and to build the stand-ins for CUDA",
            "apt-get install gcc libc6-dev, or set CC".to_owned(),
        ),
    }
}

fn rust(topic: &'static str, tool: &Tool) -> Finding {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let Some(found) = tool else {
        return Finding::missing(
            topic,
            format!("not found, {needed} or later is needed"),
            "rustup toolchain install stable".to_owned(),
        );
    };
    let version = found.split_whitespace().nth(1).and_then(release);
    if version.is_none_or(|version| Some(version) >= release(needed)) {
        return Finding::ok(topic, found);
    }
    Finding::missing(
        topic,
        format!("{found}, but {needed} or later is needed"),
        "rustup update stable".to_owned(),
    )
}

/// The first two numbers of a version.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
#[path = "machine/tests.rs"]
mod tests;
