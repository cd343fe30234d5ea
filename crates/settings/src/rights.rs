//! What the tracer needs of a kernel: its version, and capabilities with what each is for.

use rustix::thread::CapabilitySet;

/// The first kernel with attach cookies for uprobes, by which one program tells functions apart.
pub const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// The first kernel that attaches probes by `uprobe_multi` links, which ask for no more than BPF and
/// PERFMON. The perf events of older kernels ask for `SYS_ADMIN`, by the fix of CVE-2025-38466; Ubuntu's
/// always did.
pub const LINKS_KERNEL: (u32, u32) = (6, 6);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    pub set: CapabilitySet,
    pub name: &'static str,
    /// Behind "needed to".
    pub purpose: &'static str,
}

impl Capability {
    /// Without `CAP_`, as Kubernetes and container engines write it.
    pub fn short_name(self) -> &'static str {
        self.name.strip_prefix("CAP_").unwrap_or(self.name)
    }
}

/// On every kernel.
pub const ALWAYS: [Capability; 3] = [
    Capability {
        set: CapabilitySet::BPF,
        name: "CAP_BPF",
        purpose: "create eBPF maps, load programs and attach them",
    },
    Capability {
        set: CapabilitySet::PERFMON,
        name: "CAP_PERFMON",
        purpose: "load tracing programs and watch process events",
    },
    Capability {
        set: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        purpose: "open libraries of other processes through /proc/PID/root",
    },
];

/// Before [`LINKS_KERNEL`], or where `kernel.perf_event_paranoid` is above 2.
pub const SYS_ADMIN: Capability = Capability {
    set: CapabilitySet::SYS_ADMIN,
    name: "CAP_SYS_ADMIN",
    purpose: "attach uprobes through perf events",
};
