//! Machines as they can be, and what is said about them.

use super::{role::Role, *};

fn good() -> Facts {
    Facts {
        machine: "x86_64".to_owned(),
        os: "Ubuntu 22.04.5 LTS".to_owned(),
        kernel: "6.8.0-45-generic".to_owned(),
        btf: true,
        systemd: true,
        missing_tools: Vec::new(),
        nvidia_smi: Ok("580.95.05, NVIDIA A10, 23028 MiB, 8.6".to_owned()),
        module_version: Some("580.95.05".to_owned()),
        vllm_image: None,
        model: None,
        ports: vec![6443, 30800],
        ports_in_use: Vec::new(),
        missing_files: Vec::new(),
        k3s_runs: false,
        default_route: true,
        free_disk_gb: Some(200),
        memory_gb: Some(64),
        firewall: None,
        role: Role::None,
        data_dir: None,
        held_packages: Vec::new(),
        lacks_apparmor_parser: false,
        iptables: Some("iptables v1.8.7 (nf_tables)".to_owned()),
        old_toolkit: false,
    }
}

fn wrong(facts: &Facts) -> Vec<(&'static str, Mark)> {
    let findings = judge(facts, None).into_iter();
    findings.filter(|one| one.mark != Mark::Ok).map(|one| (one.topic, one.mark)).collect()
}

#[test]
fn a_gpu_node_passes() {
    assert_eq!(wrong(&good()), []);
    let again = Facts { k3s_runs: true, ports_in_use: vec![6443, 10250], ..good() };
    assert_eq!(wrong(&again), [], "the ports are its own");
}

#[test]
fn each_lack_is_found() {
    let facts = Facts {
        machine: "aarch64".to_owned(),
        kernel: "5.4.0-150-generic".to_owned(),
        missing_tools: vec!["apt-get"],
        nvidia_smi: Ok("580.95.05, NVIDIA GeForce GTX 1070, 8192 MiB, 6.1".to_owned()),
        ports_in_use: vec![6443, 30800],
        missing_files: vec!["k3s".to_owned()],
        default_route: false,
        free_disk_gb: Some(20),
        memory_gb: Some(8),
        firewall: Some("ufw"),
        old_toolkit: true,
        ..good()
    };
    assert_eq!(
        wrong(&facts),
        [
            ("machine", Mark::Missing),
            ("tools", Mark::Missing),
            ("kernel", Mark::Missing),
            ("GPU memory", Mark::Note),
            ("ports", Mark::Missing),
            ("network", Mark::Missing),
            ("disk", Mark::Missing),
            ("memory", Mark::Note),
            ("--airgap", Mark::Missing),
            ("firewall", Mark::Note),
            ("old toolkit", Mark::Note),
        ]
    );
}

#[test]
fn drivers_are_compared_with_what_the_image_needs() {
    let with = |driver: &str, image: Option<&str>| Facts {
        nvidia_smi: Ok(format!("{driver}, NVIDIA T4, 15360 MiB, 7.5")),
        module_version: Some(driver.to_owned()),
        vllm_image: image.map(str::to_owned),
        ..good()
    };
    assert_eq!(wrong(&with("535.183.01", None)), [("driver", Mark::Missing)]);
    assert_eq!(wrong(&with("535.183.01", Some("vllm/vllm-openai:v0.20.2-cu129"))), []);
    assert_eq!(
        wrong(&with("515.65.01", Some("vllm/vllm-openai:v0.20.2-cu129"))),
        [("driver", Mark::Missing)]
    );
    let overridden = judge(&with("535.183.01", None), Some(535));
    assert!(overridden.iter().all(|finding| finding.mark == Mark::Ok), "{overridden:?}");
}

#[test]
fn a_driver_that_is_absent_or_half_upgraded_is_explained() {
    let absent = Facts {
        nvidia_smi: Err("`nvidia-smi` is not on PATH".to_owned()),
        module_version: None,
        ..good()
    };
    let findings = judge(&absent, None);
    let driver = findings.iter().find(|finding| finding.topic == "driver").unwrap();
    assert!(driver.next.contains("ubuntu-drivers"), "{driver:?}");
    let half = Facts {
        nvidia_smi: Err("Failed to initialize NVML: Driver/library version mismatch".to_owned()),
        ..good()
    };
    let findings = judge(&half, None);
    let driver = findings.iter().find(|finding| finding.topic == "driver").unwrap();
    assert!(driver.next.contains("sudo reboot"), "{driver:?}");
}

#[test]
fn what_would_be_harmed_is_refused_and_named() {
    let url = "https://server:6443".to_owned();
    let agent = Role::Agent { unit: "k3s-agent".to_owned(), url: Some(url.clone()) };
    for (role, named) in [
        (agent, "a K3s agent of https://server:6443 (k3s-agent.service)"),
        (Role::Member { url }, "joined https://server:6443"),
        (Role::Other("an RKE2 server"), "an RKE2 server"),
    ] {
        let facts = Facts { role, ..good() };
        assert_eq!(wrong(&facts), [("role", Mark::Refused)]);
        let findings = judge(&facts, None);
        assert!(findings[0].found.contains(named) && !findings[0].next.is_empty(), "{findings:?}");
    }
    assert_eq!(wrong(&Facts { role: Role::Server, k3s_runs: true, ..good() }), []);
}

#[test]
fn what_keeps_k3s_from_working_is_named_before_anything_changes() {
    let facts = Facts {
        data_dir: Some("/srv/k3s".to_owned()),
        held_packages: vec!["libnvidia-container1".to_owned()],
        lacks_apparmor_parser: true,
        iptables: Some("iptables v1.8.4 (nf_tables)".to_owned()),
        firewall: Some("firewalld"),
        ..good()
    };
    assert_eq!(
        wrong(&facts),
        [
            ("data-dir", Mark::Missing),
            ("packages", Mark::Missing),
            ("AppArmor", Mark::Missing),
            ("iptables", Mark::Missing),
            ("firewall", Mark::Note),
        ]
    );
    let findings = judge(&facts, None);
    let text: Vec<String> =
        findings.iter().map(|one| format!("{}: {}", one.found, one.next)).collect();
    for part in [
        "/srv/k3s",
        "apt-mark unhold libnvidia-container1",
        "apt-get install apparmor",
        "firewall-cmd",
    ] {
        assert!(text.iter().any(|line| line.contains(part)), "no {part} in {text:?}");
    }
    let legacy = Facts { iptables: Some("iptables v1.8.4 (legacy)".to_owned()), ..good() };
    assert_eq!(wrong(&legacy), []);
}
