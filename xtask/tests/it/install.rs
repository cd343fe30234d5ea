//! `install` against scripts: a machine without a GPU becomes a node, as far as commands go.

use std::{fs, net::TcpListener};

use serde_json::json;

use crate::scripted::{Machine, gpu_node};

/// As what the machine that runs the tests may lack anything.
const INSTALL: [&str; 4] = ["install", "--force", "--timeout", "0"];

/// A driver, and nothing else.
fn fresh() -> Machine {
    let machine = Machine::node();
    machine.remove_tool("k3s");
    let k3s = include_str!("scripted/k3s.sh");
    // Put in place by what stands in for `install`.
    machine.tool("k3s", k3s);
    fs::rename(machine.path("bin").join("k3s"), machine.path("state").join("k3s")).unwrap();
    for tool in [
        "nvidia-smi",
        "dpkg-query",
        "apt-get",
        "curl",
        "gpg",
        "sed",
        "mv",
        "mkdir",
        "install",
        "sh",
        "systemctl",
        "grep",
        "journalctl",
    ] {
        machine.tool(tool, &format!("TOOL={tool}\n{}", include_str!("scripted/node.sh")));
    }
    machine
}

fn installed() -> Machine {
    let machine = fresh();
    machine.run(&INSTALL).succeeds();
    machine.forget_calls();
    machine
}

/// Calls that change something.
fn changes(machine: &Machine) -> Vec<String> {
    let looks = [
        "dpkg-query",
        "nvidia-smi",
        "systemctl is-active",
        "systemctl cat",
        "grep ",
        "journalctl",
        "k3s --version",
        "sha256sum",
        " get ",
        " diff ",
        "cargo ",
    ];
    let directory = machine.path("").display().to_string();
    let calls = machine.calls().into_iter();
    let changes = calls.filter(|call| {
        !looks.iter().any(|look| {
            call.starts_with(look.trim_start()) || look.starts_with(' ') && call.contains(look)
        })
    });
    changes.map(|call| call.replace(&directory, "MACHINE/")).collect()
}

#[test]
fn a_machine_with_a_driver_becomes_a_node_and_then_is_left_alone() {
    let machine = fresh();
    let run = machine.run(&INSTALL);
    run.succeeds();
    insta::assert_snapshot!(changes(&machine).join("\n"), @r#"
    curl --fail --silent --show-error --location --retry 3 --create-dirs --output MACHINE/target/xtask/install/nvidia.gpgkey https://nvidia.github.io/libnvidia-container/gpgkey
    gpg --batch --yes --dearmor --output /usr/share/keyrings/nvidia-container-toolkit-keyring.gpg MACHINE/target/xtask/install/nvidia.gpgkey
    curl --fail --silent --show-error --location --retry 3 --create-dirs --output MACHINE/target/xtask/install/nvidia-container-toolkit.list https://nvidia.github.io/libnvidia-container/stable/deb/nvidia-container-toolkit.list
    sed --in-place s#deb https://#deb [signed-by=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg] https://# MACHINE/target/xtask/install/nvidia-container-toolkit.list
    install --mode=0644 MACHINE/target/xtask/install/nvidia-container-toolkit.list /etc/apt/sources.list.d/nvidia-container-toolkit.list
    apt-get update
    apt-get install --yes --no-install-recommends --allow-downgrades nvidia-container-toolkit=1.20.0-1 nvidia-container-toolkit-base=1.20.0-1 libnvidia-container-tools=1.20.0-1 libnvidia-container1=1.20.0-1
    curl --fail --silent --show-error --location --retry 3 --create-dirs --output MACHINE/target/xtask/install/k3s https://github.com/k3s-io/k3s/releases/download/v1.36.2%2Bk3s1/k3s
    curl --fail --silent --show-error --location --retry 3 --create-dirs --output MACHINE/target/xtask/install/sha256sum-amd64.txt https://github.com/k3s-io/k3s/releases/download/v1.36.2%2Bk3s1/sha256sum-amd64.txt
    curl --fail --silent --show-error --location --retry 3 --create-dirs --output MACHINE/target/xtask/install/install.sh https://raw.githubusercontent.com/k3s-io/k3s/v1.36.2%2Bk3s1/install.sh
    curl --fail --silent --show-error --location --retry 3 --create-dirs --output MACHINE/target/xtask/install/install.sh.sha256sum https://raw.githubusercontent.com/k3s-io/k3s/v1.36.2%2Bk3s1/install.sh.sha256sum
    sh -c cd "$1" && grep " k3s$" sha256sum-amd64.txt | sha256sum --check --strict sh MACHINE/target/xtask/install
    sh -c cd "$1" && grep " install.sh$" install.sh.sha256sum | sha256sum --check --strict sh MACHINE/target/xtask/install
    install --mode=0755 MACHINE/target/xtask/install/k3s /usr/local/bin/k3s
    sh MACHINE/target/xtask/install/install.sh
    systemctl start --no-block k3s
    k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml apply --server-side --force-conflicts --field-manager=vllm-tracing-xtask -f -
    "#);
    for line in [
        "ok      driver: 580.95.05",
        "done    container toolkit: 1.20.0-1",
        "done    K3s: v1.36.2+k3s1",
        "done    service k3s: active",
        "done    gpu-node is Ready, v1.36.2+k3s1",
        "ok      NVIDIA's runtime: configured",
        "done    gpu-node: 1 GPUs",
        "install: the node is ready; next: cargo xtask secrets, cargo xtask all",
    ] {
        assert!(run.stderr.contains(line), "no {line:?} in:\n{}", run.stderr);
    }
    machine.forget_calls();
    let again = machine.run(&INSTALL);
    again.succeeds();
    assert_eq!(changes(&machine), [""; 0], "{}", again.stderr);
}

/// Whatever KUBECONFIG says: it may be that of another cluster.
#[test]
fn only_the_cluster_of_this_machine_is_touched() {
    let machine = fresh();
    machine.run(&INSTALL).succeeds();
    let calls = machine.calls();
    let kubectl: Vec<&String> = calls.iter().filter(|call| call.contains("kubectl")).collect();
    assert!(kubectl.len() >= 3);
    for call in kubectl {
        assert!(call.starts_with("k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml "), "{call}");
    }
}

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
        let script = include_str!("scripted/node.sh")
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
        let script = include_str!("scripted/node.sh");
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
fn a_toolkit_that_comes_after_k3s_asks_for_one_restart() {
    let machine = installed();
    for file in ["packages", "runtime"] {
        fs::remove_file(machine.path("state").join(file)).unwrap();
    }
    let run = machine.run(&INSTALL);
    run.succeeds();
    assert!(run.stderr.contains("done    NVIDIA's runtime: configured"), "{}", run.stderr);
    let calls = machine.calls();
    let restarts = calls.iter().filter(|call| *call == "systemctl restart --no-block k3s");
    assert_eq!(restarts.count(), 1);
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

#[test]
fn an_old_k3s_is_not_touched() {
    let machine = installed();
    machine.tool("k3s", "echo 'k3s version v1.28.15+k3s1 (0123abcd)'");
    machine.run(&INSTALL).fails_with(&["native sidecars need Kubernetes 1.29", "uninstall"]);
    assert_eq!(changes(&machine), [""; 0]);
}

#[test]
fn without_a_network_everything_comes_from_the_directory() {
    let machine = fresh();
    machine.tool("curl", "exit 6");
    let directory = machine.path("state").join("airgap");
    fs::create_dir(&directory).unwrap();
    let arguments = ["install", "--airgap", directory.to_str().unwrap()];
    let run = machine.run(&arguments);
    run.fails_with(&["--airgap"]);
    assert!(run.stderr.contains("missing --airgap: DIR lacks k3s, sha256sum-amd64.txt"));
    let write = |name: &str, content: &str| fs::write(directory.join(name), content).unwrap();
    for name in ["k3s", "install.sh", "k3s-airgap-images-amd64.tar.zst", "vllm.tar"] {
        write(name, "content\n");
    }
    let sum = "434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53";
    write("install.sh.sha256sum", &format!("{sum}  install.sh\n"));
    write("sha256sum-amd64.txt", &format!("{sum}  k3s-airgap-images-amd64.tar.zst\n{sum}  k3s\n"));
    for package in [
        "nvidia-container-toolkit",
        "nvidia-container-toolkit-base",
        "libnvidia-container-tools",
        "libnvidia-container1",
    ] {
        write(&format!("{package}_1.20.0-1_amd64.deb"), "");
    }
    machine.forget_calls();
    let run = machine.run(&[&arguments[..], &INSTALL[1..]].concat());
    run.succeeds();
    assert!(!machine.has_called("curl") && !machine.has_called("apt-get update"));
    for archive in ["k3s-airgap-images-amd64.tar.zst", "vllm.tar"] {
        let to = format!("/var/lib/rancher/k3s/agent/images/{archive}");
        assert!(machine.has_called(&format!("mv {to}.partial {to}")), "{:?}", machine.calls());
    }
}
