//! `install` against scripts: a machine without a GPU becomes a node, as far as commands go.

mod facts;
mod failures;

use std::fs;

use crate::scripted::Machine;

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
    let (of_user, of_node): (Vec<String>, Vec<String>) =
        changes(&machine).into_iter().partition(|call| call.contains("/.kube"));
    insta::assert_snapshot!(of_node.join("\n"), @r#"
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
    // Root reads K3s's own kubeconfig; others get a copy.
    assert_eq!(of_user.is_empty(), !machine.path("home/.kube/config").exists(), "{of_user:?}");
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
