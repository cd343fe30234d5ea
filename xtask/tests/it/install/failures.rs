//! What keeps `install` from making a node, and what is said about it.

use std::{fs, net::TcpListener};

use serde_json::json;

use super::{INSTALL, changes, fresh, installed};
use crate::objects::gpu_node;

#[test]
fn a_driver_that_is_missing_or_too_old_stops_it() {
    let machine = fresh();
    machine.remove_tool("nvidia-smi");
    let run = machine.run(&["install"]);
    run.fails_with(&["this machine lacks what a GPU node needs", "cause: missing: ", "driver"]);
    assert!(run.stderr.contains("missing driver: `nvidia-smi` is not on PATH"), "{}", run.stderr);
    assert!(run.stderr.contains("next:  ubuntu-drivers install"), "{}", run.stderr);
    machine.tool("nvidia-smi", "echo '535.183.01, Tesla T4, 15360 MiB, 7.5'");
    let run = machine.run(&["install"]);
    run.fails_with(&["this machine lacks what a GPU node needs"]);
    let line = "missing driver: 535.183.01, older than the 580 that CUDA 13 in vLLM's image needs";
    assert!(run.stderr.contains(line), "{}", run.stderr);
    let older = machine.run_with(&INSTALL, &[("VLLM_IMAGE", "vllm/vllm-openai:v0.20.2-cu129")]);
    assert!(older.stderr.contains("ok      driver: 535.183.01"), "{}", older.stderr);
    machine.tool(
        "nvidia-smi",
        "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
    );
    let run = machine.run(&["install"]);
    assert!(run.stderr.contains("next:  reboot") || run.stderr.contains("reboot: the driver was"));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let machine = fresh();
    let run = machine.run_with(&["install"], &[("NODE_PORT", &port)]);
    run.fails_with(&["ports"]);
    let line = run.stderr.lines().find(|line| line.starts_with("missing ports: ")).unwrap();
    assert!(line.contains(&port), "{line}");
}

#[test]
fn a_download_that_fails_says_why_and_installs_nothing() {
    let machine = fresh();
    machine.state("packages", "");
    for (error, cause) in [
        ("curl: (6) Could not resolve host: nvidia.github.io", "cannot be reached from here"),
        ("curl: (22) The requested URL returned error: 404", "does not have the file"),
    ] {
        machine.state("curl_error", error);
        machine.run(&INSTALL).fails_with(&[error, cause]);
    }
    assert!(!machine.has_called("apt-get install"));
}

#[test]
fn a_file_that_is_not_what_was_published_is_not_installed() {
    for (file, sums) in [("k3s", "sha256sum-amd64.txt"), ("install.sh", "install.sh.sha256sum")] {
        let machine = fresh();
        let wrong = format!("*/{sums}) echo \"{:064}  {file}\" >\"$2\" ;;", 1);
        let script = include_str!("../scripted/node.sh")
            .replace("    case \"$3\" in\n", &format!("    case \"$3\" in\n    {wrong}\n"));
        machine.tool("curl", &format!("TOOL=curl\n{script}"));
        machine
            .run(&INSTALL)
            .fails_with(&["computed checksum did NOT match", "cause: a file is not"]);
        let made = changes(&machine).join("\n");
        assert!(!made.contains("/usr/local/bin/k3s") && !made.contains("\nsh MACHINE"), "{made}");
    }
}

#[test]
fn a_k3s_that_does_not_start_is_explained_by_its_journal() {
    for (journal, cause, next) in [
        (
            "level=fatal msg=\"starting kubernetes: preparing server: bind: address already in use\"",
            "another program has a port that K3s needs",
            "ss -ltnp",
        ),
        (
            "level=fatal msg=\"failed to find memory cgroup (v2)\"",
            "memory controller switched off",
            "cgroup_enable=memory",
        ),
        ("level=fatal msg=odd", "K3s does not start", "journalctl -u k3s"),
    ] {
        let machine = fresh();
        let script = include_str!("../scripted/node.sh");
        machine.tool("systemctl", &format!("TOOL=systemctl AFTER_START=activating\n{script}"));
        machine.state("journal", journal);
        machine.run(&INSTALL).fails_with(&[
            "service k3s: still activating, 0 s after the change",
            journal,
            cause,
            next,
        ]);
        // Once it can, the same task goes on from there.
        machine.tool("systemctl", &format!("TOOL=systemctl\n{script}"));
        machine.forget_calls();
        fs::remove_file(machine.path("state").join("active")).unwrap();
        machine.run(&INSTALL).succeeds();
        assert!(!machine.has_called("curl") && machine.has_called("systemctl start"));
    }
}

#[test]
fn a_node_that_offers_no_gpu_is_explained_by_the_plugin() {
    let machine = installed();
    machine.state("nodes.json", &json!({ "items": [gpu_node("0")] }).to_string());
    let pod = json!({ "metadata": { "name": "nvidia-device-plugin-x" }, "status": {
        "containerStatuses": [{ "name": "plugin", "restartCount": 4,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } } }],
    }});
    machine.state("plugin.json", &json!({ "items": [pod] }).to_string());
    machine.state(
        "log-plugin",
        "If this is a GPU node, did you configure the NVIDIA Container Toolkit?\n",
    );
    machine.run(&INSTALL).fails_with(&[
        "no node offers nvidia.com/gpu",
        "plugin waiting (CrashLoopBackOff), 4 restarts",
        "sees no driver",
        "systemctl restart k3s",
    ]);
}

#[test]
fn a_node_that_does_not_become_ready_shows_conditions_events_and_journal() {
    let machine = installed();
    let mut node = gpu_node("1");
    node["status"]["conditions"] = json!([
        { "type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized" },
    ]);
    let pressure = json!({ "type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure", "message": "kubelet has disk pressure" });
    machine.state("nodes.json", &json!({ "items": [node] }).to_string());
    machine.state("journal", "level=error msg=odd");
    machine.state(
        "warnings",
        "kube-system 1m Warning FailedCreatePodSandBox pod/coredns cni config uninitialized",
    );
    machine.run(&INSTALL).fails_with(&[
        "KubeletNotReady: cni plugin not initialized",
        "event: kube-system 1m Warning",
        "level=error msg=odd",
        "mostly ufw",
    ]);
    node["status"]["conditions"].as_array_mut().unwrap().push(pressure);
    machine.state("nodes.json", &json!({ "items": [node] }).to_string());
    machine.run(&INSTALL).fails_with(&["KubeletHasDiskPressure", "df -h /var/lib/rancher"]);
}

#[test]
fn a_runtime_that_k3s_does_not_find_is_explained() {
    let machine = installed();
    fs::remove_file(machine.path("state").join("runtime")).unwrap();
    machine.tool("grep", "exit 1");
    machine.run(&INSTALL).fails_with(&[
        "still not in containerd's configuration",
        "K3s finds no nvidia-container-runtime",
        "/usr/local/nvidia/toolkit",
    ]);
}

/// The installer would make a server of it, and its cluster would lose it.
#[test]
fn a_machine_of_another_cluster_is_refused_whatever_is_forced() {
    let agent = "[Service]\nEnvironment=K3S_URL=https://server:6443\nExecStart=/usr/local/bin/k3s \\\n    agent\n";
    for (unit, text, named) in [
        ("k3s-agent", agent, "a K3s agent of https://server:6443 (k3s-agent.service)"),
        ("rke2-agent", "[Service]\n", "an RKE2 agent"),
        ("kubelet", "[Service]\n", "kubelet.service"),
    ] {
        let machine = fresh();
        machine.state(&format!("unit-{unit}"), text);
        machine.run(&INSTALL).fails_with(&["nothing was changed on this machine", named, "next:"]);
        assert_eq!(changes(&machine), [""; 0], "{unit}");
        machine.run(&["--dry-run", "install"]).fails_with(&[named]);
    }
}

#[test]
fn a_node_whose_plugin_renames_gpus_is_left_alone() {
    let machine = installed();
    let mut node = gpu_node("0");
    node["status"]["capacity"]["nvidia.com/gpu.shared"] = json!("4");
    machine.state("nodes.json", &json!({ "items": [node] }).to_string());
    machine.run(&INSTALL).fails_with(&["nvidia.com/gpu.shared", "renameByDefault"]);
    assert_eq!(changes(&machine), [""; 0]);
}

/// As the device plugin names parts of GPUs with `migStrategy: mixed`.
#[test]
fn a_node_that_offers_parts_of_gpus_is_left_alone_and_each_of_their_names_is_told() {
    let machine = installed();
    for whole_gpus in [Some("0"), None] {
        let mut node = gpu_node("0");
        let capacity = node["status"]["capacity"].as_object_mut().unwrap();
        if whole_gpus.is_none() {
            capacity.remove("nvidia.com/gpu");
        }
        capacity.insert("nvidia.com/mig-1g.5gb".to_owned(), json!("5"));
        capacity.insert("nvidia.com/mig-2g.10gb".to_owned(), json!("1"));
        // Of a profile that is configured, and nowhere on this GPU.
        capacity.insert("nvidia.com/mig-7g.40gb".to_owned(), json!("0"));
        machine.state("nodes.json", &json!({ "items": [node] }).to_string());
        let run = machine.run(&INSTALL);
        run.fails_with(&["nvidia.com/mig-1g.5gb, nvidia.com/mig-2g.10gb", "migStrategy: single"]);
        assert!(!run.stderr.contains("mig-7g"), "{}", run.stderr);
        assert_eq!(changes(&machine), [""; 0]);
    }
    // Beside whole ones they are no reason to refuse.
    let mut node = gpu_node("1");
    node["status"]["capacity"]["nvidia.com/mig-1g.5gb"] = json!("7");
    machine.state("nodes.json", &json!({ "items": [node] }).to_string());
    machine.run(&INSTALL).succeeds();
}
