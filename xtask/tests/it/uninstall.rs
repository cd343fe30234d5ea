//! `uninstall`: asks, says what goes, and lets the tracer upload first.

use crate::scripted::Machine;

fn installed() -> Machine {
    let machine = Machine::deployed();
    machine.tool("k3s-uninstall.sh", "rm \"$BIN/k3s\" \"$BIN/k3s-uninstall.sh\"");
    machine.tool("dpkg-query", "cat \"$STATE/packages\" 2>/dev/null");
    machine.state("packages", "installed nvidia-container-toolkit 1.20.0-1\n");
    machine.tool("apt-get", "rm \"$STATE/packages\"");
    // The real one never sees its arguments.
    machine.tool("rm", "");
    machine
}

#[test]
fn nothing_goes_unless_somebody_says_so() {
    let machine = installed();
    machine.run(&["uninstall"]).fails_with(&["nothing was deleted", "every volume", "--yes"]);
    assert_eq!(machine.calls(), [""; 0]);
}

#[test]
fn the_pod_goes_before_k3s_and_the_toolkit_only_on_request() {
    let machine = installed();
    machine.run(&["uninstall", "--yes"]).succeeds();
    let calls = machine.calls();
    let position = |part: &str| calls.iter().position(|call| call.contains(part)).unwrap();
    // Of this machine's cluster, whatever KUBECONFIG says.
    let delete =
        "k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml -n vllm-tracing delete deployment";
    assert!(position(delete) < position("k3s-uninstall.sh"), "{calls:?}");
    assert!(!machine.has_called("apt-get"));
    machine.run(&["uninstall", "--yes", "--toolkit"]).succeeds();
    assert!(machine.has_called("apt-get purge --yes nvidia-container-toolkit"));
    assert!(machine.has_called("rm -f /etc/apt/sources.list.d/nvidia-container-toolkit.list"));
    machine.forget_calls();
    machine.run(&["uninstall", "--yes", "--toolkit"]).succeeds();
    let calls = machine.calls();
    assert!(calls.iter().all(|call| call.starts_with("dpkg-query")), "{calls:?}");
}

#[test]
fn a_cluster_that_does_not_answer_is_removed_all_the_same() {
    let machine = installed();
    machine.state("kubectl_error", "The connection to the server 127.0.0.1:6443 was refused\n");
    let run = machine.run(&["uninstall", "--yes"]);
    run.succeeds();
    assert!(run.stderr.contains("the deployment is not removed first: "), "{}", run.stderr);
    assert!(machine.has_called("k3s-uninstall.sh"));
}
