//! Machines that lack one thing, and what is said about each.

use super::*;

use crate::develop::doctor::Mark;

/// A machine that lacks nothing.
fn capable() -> Machine {
    Machine {
        kernel: "6.18.44".to_owned(),
        architecture: "x86_64".to_owned(),
        uprobes: true,
        btf: true,
        user: 0,
        effective: CapabilitySet::all(),
        initial_user_namespace: true,
        seccomp_filter: false,
        lockdown: None,
        perf_event_paranoid: Some(2),
        unprivileged_bpf_disabled: Some(2),
        c_compiler: Some("cc 12.2.0".to_owned()),
        rustc: Some("rustc 1.95.0 (59807616e 2026-04-14)".to_owned()),
        cargo: Some("cargo 1.95.0 (f2d3ce0bd 2026-03-21)".to_owned()),
    }
}

fn marked(machine: &Machine, mark: Mark) -> Vec<&'static str> {
    findings(machine)
        .into_iter()
        .filter(|finding| finding.mark == mark)
        .map(|finding| finding.topic)
        .collect()
}

fn finding(machine: &Machine, topic: &str) -> Finding {
    findings(machine).into_iter().find(|finding| finding.topic == topic).unwrap()
}

#[test]
fn capable_machine_has_only_good_findings() {
    let text: String = findings(&capable()).iter().map(Finding::to_line).collect();
    insta::assert_snapshot!(text, @r"
      ok       architecture               x86_64
      ok       kernel                     6.18.44
      ok       uprobes                    the kernel offers them as perf events
      ok       root                       yes
      ok       CAP_SYS_ADMIN              held, to attach uprobes through perf events
      ok       CAP_BPF                    held, to create eBPF maps, load programs and attach them
      ok       CAP_PERFMON                held, to load tracing programs and watch process events
      ok       CAP_SYS_PTRACE             held, to open libraries of other processes through /proc/PID/root
      ok       bpf()                      kernel.unprivileged_bpf_disabled is 2, which does not bind this user
      ok       perf events                kernel.perf_event_paranoid is 2, which does not bind this user
      ok       BTF                        there, but not needed
      ok       C compiler                 cc 12.2.0
      ok       rustc                      rustc 1.95.0 (59807616e 2026-04-14)
      ok       cargo                      cargo 1.95.0 (f2d3ce0bd 2026-03-21)
    ");
}

#[test]
fn each_lack_is_named_alone_and_with_a_remedy() {
    let without = |change: fn(&mut Machine)| {
        let mut machine = capable();
        change(&mut machine);
        machine
    };
    for (machine, topic) in [
        (without(|m| m.kernel = "5.10.0-30-amd64".to_owned()), "kernel"),
        (without(|m| m.architecture = "aarch64".to_owned()), "architecture"),
        (without(|m| m.uprobes = false), "uprobes"),
        (without(|m| m.initial_user_namespace = false), "root"),
        (without(|m| m.effective.remove(CapabilitySet::SYS_PTRACE)), "CAP_SYS_PTRACE"),
        (without(|m| m.c_compiler = None), "C compiler"),
        (without(|m| m.rustc = None), "rustc"),
        (without(|m| m.cargo = Some("cargo 1.94.1 (f2d3ce0bd)".to_owned())), "cargo"),
    ] {
        assert_eq!(marked(&machine, Mark::Missing), [topic]);
        assert!(finding(&machine, topic).remedy.is_some(), "no remedy for {topic}");
    }
}

#[test]
fn ordinary_user_is_sent_to_sudo_once() {
    let machine = Machine { user: 1000, effective: CapabilitySet::empty(), ..capable() };
    assert_eq!(
        marked(&machine, Mark::Missing),
        ["root", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]
    );
    assert!(finding(&machine, "root").remedy.unwrap().contains("sudo"));
    assert_eq!(finding(&machine, "CAP_BPF").remedy, None);
}

#[test]
fn root_of_a_container_is_told_which_capability_to_add() {
    let mut machine = capable();
    machine.effective.remove(CapabilitySet::SYS_PTRACE);
    assert_eq!(
        finding(&machine, "CAP_SYS_PTRACE").remedy.unwrap(),
        "start the container with --cap-add SYS_PTRACE, or use the host's root"
    );
}

#[test]
fn sys_admin_stands_in_for_what_was_split_from_it() {
    let both = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
    let machine = Machine { effective: both, ..capable() };
    assert!(marked(&machine, Mark::Missing).is_empty());
    let machine = Machine { seccomp_filter: true, ..machine };
    assert_eq!(marked(&machine, Mark::Note), ["CAP_BPF", "CAP_PERFMON", "seccomp"]);
    let machine = Machine { effective: both, user: 1000, ..capable() };
    assert!(marked(&machine, Mark::Missing).is_empty());
}

#[test]
fn what_may_matter_is_a_note() {
    let machine = Machine {
        btf: false,
        seccomp_filter: true,
        lockdown: Some("confidentiality".to_owned()),
        perf_event_paranoid: None,
        ..capable()
    };
    assert_eq!(marked(&machine, Mark::Note), ["perf events", "seccomp", "lockdown", "BTF"]);
    let machine = Machine { lockdown: Some("none".to_owned()), ..capable() };
    assert!(marked(&machine, Mark::Note).is_empty());
}

#[test]
fn releases_compare_by_number() {
    assert_eq!(release("6.18.44-fc-v769"), Some((6, 18)));
    assert!(release("5.4.0") < Some(OLDEST_KERNEL));
    assert_eq!(release("unknown"), None);
}

#[test]
fn only_kernels_without_links_need_sys_admin() {
    let mut machine = capable();
    machine.effective.remove(CapabilitySet::SYS_ADMIN);
    assert!(marked(&machine, Mark::Missing).is_empty());
    let machine = Machine { kernel: "6.5.0-44-generic".to_owned(), ..machine };
    assert_eq!(marked(&machine, Mark::Missing), ["CAP_SYS_ADMIN"]);
    let machine = Machine { user: 1000, ..machine };
    assert_eq!(marked(&machine, Mark::Missing), ["root", "CAP_SYS_ADMIN"]);
}
