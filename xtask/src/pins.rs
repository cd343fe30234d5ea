//! Versions of what is not in `Cargo.lock`. Moving one is a change of its own, with the tests that
//! passed on it.

/// The toolchain that builds the eBPF program, as rustup names it. Its date is the day after that of its
/// last commit; `EBPF_TOOLCHAIN` names another.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// What `rustc --version` says of the nightly that built the committed object.
///
/// Its LLVM must be one that the pinned bpf-linker reads, and the standard library beside it must
/// be the same source, or another object comes out.
pub(crate) const NIGHTLY_RUSTC: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)";

/// Links through the nightly's own LLVM 22; 0.11 and later want LLVM 23.
pub(crate) const BPF_LINKER: &str = "0.10.4";

/// The first podman that heeds `hostPID`; the demo of the pod is tried with 5.4.2.
pub(crate) const OLDEST_PODMAN: &str = "4.5";

/// K3s, with Kubernetes 1.36; native sidecars need 1.29.
///
/// Checksums are not pinned here: those that the project publishes beside the binary, and beside the
/// installer in the sources of the same tag, are downloaded and compared.
pub(crate) const K3S: &str = "v1.36.2+k3s1";
pub(crate) const K3S_RELEASES: &str = "https://github.com/k3s-io/k3s/releases/download";
pub(crate) const K3S_SOURCES: &str = "https://raw.githubusercontent.com/k3s-io/k3s";

/// NVIDIA's container toolkit; its four packages must have the same version. apt checks them by the
/// key of the repository, which is trusted by where it comes from.
pub(crate) const TOOLKIT: &str = "1.20.0";
pub(crate) const TOOLKIT_REPOSITORY: &str = "https://nvidia.github.io/libnvidia-container";

/// Kernels that `cargo xtask test-kernels` boots: one of Debian's suites has each.
///
/// Not by version: a mirror keeps the newest of a suite alone.
pub(crate) const KERNELS: [Kernel; 3] = [
    // Attaches probes by perf events.
    Kernel { name: "6.1", suite: "bookworm" },
    // By links; the oldest that returns from probes by a system call.
    Kernel { name: "6.12", suite: "trixie" },
    Kernel { name: "unstable", suite: "sid" },
];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    pub(crate) suite: &'static str,
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tasks::ctx::workspace_root;

    #[test]
    fn build_script_uses_the_same_nightly() {
        let script = fs::read_to_string(workspace_root().join("sidecar/build.rs")).unwrap();
        let line = format!("const NIGHTLY: &str = {NIGHTLY:?};");
        assert!(script.contains(&line), "sidecar/build.rs does not say `{line}`");
    }
}
