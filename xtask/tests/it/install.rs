//! `install` against scripts, as far as a machine without a GPU goes.

use serde_json::json;

use crate::scripted::{Machine, gpu_node};

/// Everything is installed; `--force`, as the machine that runs the tests may lack anything.
fn installed() -> Machine {
    let machine = Machine::node();
    machine.tool(
        "dpkg-query",
        "for name in nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1; do echo \"$name 1.20.0-1\"; done",
    );
    machine.tool("systemctl", "case \"$*\" in 'is-active k3s') echo active ;; esac");
    machine.tool("nvidia-smi", "echo '580.95.05, NVIDIA A10, 23028 MiB, 8.6'");
    machine.tool("grep", "exit 0");
    machine.tool("journalctl", "echo 'level=fatal msg=\"disk full\"'");
    machine
}

const INSTALL: [&str; 4] = ["install", "--force", "--timeout", "1"];

#[test]
fn what_is_there_is_left_alone() {
    let machine = installed();
    let run = machine.run(&INSTALL);
    run.succeeds();
    for line in [
        "ok      driver: 580.95.05",
        "ok      container toolkit: 1.20.0-1",
        "ok      K3s: v1.36.2+k3s1",
        "ok      NVIDIA's runtime: configured",
        "done    gpu-node is Ready, v1.36.2+k3s1",
        "done    gpu-node: 1 GPUs",
    ] {
        assert!(run.stderr.contains(line), "no {line:?} in:\n{}", run.stderr);
    }
    let calls = machine.calls();
    assert!(
        !calls.iter().any(|call| call.contains("restart") || call.starts_with("curl")),
        "{calls:?}"
    );
}

#[test]
fn a_driver_that_is_missing_or_too_old_stops_it() {
    let machine = installed();
    machine.remove_tool("nvidia-smi");
    let run = machine.run(&["install"]);
    run.fails_with(&["this machine lacks"]);
    assert!(run.stderr.contains("missing driver: nvidia-smi does not work"), "{}", run.stderr);
    assert!(run.stderr.contains("ubuntu-drivers install"), "{}", run.stderr);
    machine.tool("nvidia-smi", "echo '535.183.01, Tesla T4, 15360 MiB, 7.5'");
    let run = machine.run(&["install"]);
    run.fails_with(&["this machine lacks"]);
    let line = "missing driver: 535.183.01, older than the 580 that CUDA 13 in vLLM's image needs";
    assert!(run.stderr.contains(line), "{}", run.stderr);
    let older = machine.run_with(&INSTALL, &[("VLLM_IMAGE", "vllm/vllm-openai:v0.20.2-cu129")]);
    assert!(older.stderr.contains("ok      driver: 535.183.01"), "{}", older.stderr);
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
fn a_node_that_does_not_become_ready_shows_conditions_and_journal() {
    let machine = installed();
    let mut node = gpu_node("1");
    node["status"]["conditions"] = json!([
        { "type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized" },
        { "type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure", "message": "kubelet has disk pressure" },
    ]);
    machine.state("nodes.json", &json!({ "items": [node] }).to_string());
    machine.run(&INSTALL).fails_with(&[
        "KubeletNotReady: cni plugin not initialized",
        "KubeletHasDiskPressure",
        "level=fatal",
        "df -h /var/lib/rancher",
    ]);
}

#[test]
fn a_toolkit_that_came_after_k3s_asks_for_a_restart() {
    let machine = installed();
    // Not configured until K3s is restarted.
    machine.tool("grep", "[ -f \"$STATE/restarted\" ]");
    machine.tool(
        "systemctl",
        "case \"$*\" in 'is-active k3s') echo active ;; 'restart k3s') touch \"$STATE/restarted\" ;; esac",
    );
    let run = machine.run(&INSTALL);
    run.succeeds();
    assert!(run.stderr.contains("done    NVIDIA's runtime: configured"), "{}", run.stderr);
}

#[test]
fn an_old_k3s_is_not_touched() {
    let machine = installed();
    machine.tool("k3s", "echo 'k3s version v1.28.15+k3s1 (0123abcd)'");
    machine.run(&INSTALL).fails_with(&["native sidecars need 1.29", "uninstall"]);
}
