//! What `install` finds out of a machine by its tools, and says before it changes anything.

use super::fresh;
use crate::scripted::{Machine, Run};

/// What is said; nothing is changed.
fn looked(machine: &Machine) -> Run {
    let run = machine.run(&["--dry-run", "install"]);
    run.succeeds();
    run
}

#[track_caller]
fn says(machine: &Machine, lines: &[&str]) {
    let run = looked(machine);
    for line in lines {
        assert!(run.stderr.contains(line), "no {line:?} in:\n{}", run.stderr);
    }
}

#[track_caller]
fn says_nothing_of(machine: &Machine, topic: &str) {
    let run = looked(machine);
    assert!(!run.stderr.contains(&format!(" {topic}: ")), "{topic} in:\n{}", run.stderr);
}

#[test]
fn packages_that_apt_holds_are_named_if_they_would_have_to_change() {
    let machine = fresh();
    machine.tool("apt-mark", "[ \"$*\" = showhold ] && printf 'htop\\nlibnvidia-container1\\n'");
    says(
        &machine,
        &[
            "missing packages: apt holds libnvidia-container1, of which another version is needed",
            "apt-mark unhold libnvidia-container1",
        ],
    );
    assert!(!looked(&machine).stderr.contains("htop"), "it is nobody's concern here");
    // As they have to be: held or not is the same.
    let names = [
        "nvidia-container-toolkit",
        "nvidia-container-toolkit-base",
        "libnvidia-container-tools",
        "libnvidia-container1",
    ];
    machine.state("packages", &names.map(|name| format!("installed {name} 1.20.0-1\n")).concat());
    says_nothing_of(&machine, "packages");
    let machine = fresh();
    machine.tool("apt-mark", "echo htop");
    says_nothing_of(&machine, "packages");
}

#[test]
fn a_faulty_iptables_is_told_from_a_good_one() {
    let machine = fresh();
    for (version, expected) in [
        ("iptables v1.8.4 (nf_tables)", "missing iptables: iptables v1.8.4 (nf_tables): rules of"),
        ("iptables v1.8.10 (nf_tables)", "ok      iptables: iptables v1.8.10 (nf_tables)\n"),
        ("iptables v1.8.4 (legacy)", "ok      iptables: iptables v1.8.4 (legacy)\n"),
    ] {
        machine.tool("iptables", &format!("[ \"$*\" = --version ] && echo '{version}'"));
        says(&machine, &[expected]);
    }
    machine.tool("iptables", "echo 'iptables v1.8.4 (nf_tables)'; exit 1");
    says_nothing_of(&machine, "iptables");
    machine.remove_tool("iptables");
    says_nothing_of(&machine, "iptables");
}

#[test]
fn a_firewall_that_is_active_is_named_with_the_way_through_it() {
    for (active, way) in [
        ("nftables", "10.43.0.0/16 through in /etc/nftables.conf"),
        ("firewalld", "firewall-cmd --permanent --add-port=6443/tcp"),
    ] {
        let machine = fresh();
        let node = include_str!("../scripted/node.sh");
        let only = format!("[ \"$*\" != 'is-active {active}' ] || {{ echo active; exit; }}");
        machine.tool("systemctl", &format!("{only}\nTOOL=systemctl\n{node}"));
        says(&machine, &[&format!("note    firewall: {active} is active"), way]);
    }
    says_nothing_of(&fresh(), "firewall");
}

#[test]
fn a_state_of_k3s_in_another_directory_is_named() {
    let machine = fresh();
    let node = include_str!("../scripted/node.sh");
    let with = |flags: &str| {
        let unit = format!("[Service]\\nExecStart=/usr/local/bin/k3s server {flags}\\n");
        let cat = format!("[ \"$*\" != 'cat k3s' ] || {{ printf \"{unit}\"; exit; }}");
        machine.tool("systemctl", &format!("{cat}\nTOOL=systemctl\n{node}"));
    };
    with("'--data-dir' '/srv/k3s'");
    says(&machine, &["missing data-dir: K3s keeps its state in /srv/k3s, and install knows"]);
    with("--data-dir=/var/lib/rancher/k3s/");
    says_nothing_of(&machine, "data-dir");
}
