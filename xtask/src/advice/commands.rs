//! What kubectl, K3s, containerd, container engines and apt complain about.

use super::{Advice, Rules};

pub(super) const RULES: Rules = &[
    (&["k3s.yaml", "permission denied"], KUBECONFIG_IS_ROOTS),
    (&["unable to read /etc/rancher/k3s/k3s.yaml"], KUBECONFIG_IS_ROOTS),
    (
        &["permission denied", "/etc/rancher/k3s/config.yaml"],
        Advice {
            cause: "the directory /etc/rancher/k3s cannot be searched by this user",
            next: "sudo chmod 755 /etc/rancher/k3s",
        },
    ),
    (
        &["error loading config file"],
        Advice {
            cause: "the kubeconfig cannot be read",
            next: "name a readable one with --kubeconfig FILE",
        },
    ),
    (
        &["localhost:8080"],
        Advice {
            cause: "kubectl has no kubeconfig and asked localhost:8080",
            next: "--kubeconfig /etc/rancher/k3s/k3s.yaml, or `cargo xtask install` where K3s is not \
                   installed",
        },
    ),
    (&["connection refused"], API_SERVER_IS_DOWN),
    (&["was refused - did you specify the right host or port"], API_SERVER_IS_DOWN),
    (&["you must be logged in to the server"], KUBECONFIG_IS_STALE),
    (&["certificate signed by unknown authority"], KUBECONFIG_IS_STALE),
    (
        &["because it is being terminated"],
        Advice {
            cause: "the namespace is being deleted",
            next: "wait, then repeat; what holds it: kubectl get namespace vllm-tracing -o \
                   jsonpath='{.status.conditions}'",
        },
    ),
    (
        &["provided port is already allocated"],
        Advice {
            cause: "another service has the node port",
            next: "kubectl get services -A | grep NodePort, then deploy with another NODE_PORT",
        },
    ),
    (
        &["spec is immutable after creation"],
        Advice {
            cause: "the spec of a claim cannot change, except that its size can grow",
            next: "keep the size, or `cargo xtask destroy --purge` (deletes the data) and deploy again",
        },
    ),
    (
        &["field is immutable"],
        Advice {
            cause: "Kubernetes does not change this field of an existing object",
            next: "`cargo xtask destroy`, then deploy again: storage and secrets stay",
        },
    ),
    (
        &["violates podsecurity"],
        Advice {
            cause: "the namespace enforces a pod security level below `privileged`",
            next: "kubectl label namespace vllm-tracing --overwrite \
                   pod-security.kubernetes.io/enforce=privileged",
        },
    ),
    (
        &["no matches for kind"],
        Advice {
            cause: "this Kubernetes does not know the kind: it is too old",
            next: "kubectl version; Kubernetes 1.29 or later is needed",
        },
    ),
    (
        &["server gave http response to https client"],
        Advice {
            cause: "the address in the kubeconfig is no API server",
            next: "kubectl config view --minify; name another with --kubeconfig FILE",
        },
    ),
    (
        &["(forbidden)"],
        Advice {
            cause: "the user of this kubeconfig may not do this",
            next: "use K3s's own: --kubeconfig /etc/rancher/k3s/k3s.yaml",
        },
    ),
    (
        &["content digest sha256", "not found"],
        Advice {
            cause: "the archive names layers it does not hold, as those with attestations of buildx do",
            next: "`cargo xtask build`, which builds without attestations",
        },
    ),
    (
        &["containerd.sock", "no such file"],
        Advice {
            cause: "K3s's containerd does not run on this machine",
            next: "sudo systemctl status k3s; `cargo xtask build --no-import` only builds",
        },
    ),
    (
        &["cannot connect to the docker daemon"],
        Advice {
            cause: "Docker is installed, but its daemon does not run",
            next: "sudo systemctl start docker, or `--engine podman`",
        },
    ),
    (
        &["permission denied", "docker.sock"],
        Advice {
            cause: "this user may not use Docker",
            next: "sudo usermod -aG docker $USER and log in again, or `--engine podman`",
        },
    ),
    (
        &["no space left on device"],
        Advice { cause: "a disk is full", next: "df -h / /var/lib/rancher" },
    ),
    (
        &["conflicting values set for option signed-by"],
        Advice {
            cause: "an older list of the same NVIDIA repository is there",
            next: "grep -l nvidia.github.io /etc/apt/sources.list.d/* | grep -v \
                   nvidia-container-toolkit.list, and remove what it names",
        },
    ),
    (
        &["could not get lock /var/lib/dpkg"],
        Advice { cause: "another apt runs", next: "wait for it, then repeat" },
    ),
    (
        &["unable to locate package nvidia-container-toolkit"],
        Advice {
            cause: "the repository of NVIDIA's container toolkit was not read",
            next: "sudo apt-get update, and read what it says of nvidia.github.io",
        },
    ),
    (
        &["failed to find memory cgroup"],
        Advice {
            cause: "the kernel has the memory controller switched off",
            next: "add cgroup_memory=1 cgroup_enable=memory to the kernel's command line, and reboot",
        },
    ),
];

const KUBECONFIG_IS_ROOTS: Advice = Advice {
    cause: "K3s's kubeconfig is readable by root only",
    next: "mkdir -p ~/.kube && sudo install -m 600 -o $(id -u) -g $(id -g) \
           /etc/rancher/k3s/k3s.yaml ~/.kube/config",
};

const KUBECONFIG_IS_STALE: Advice = Advice {
    cause: "the kubeconfig belongs to another cluster, or to an earlier installation",
    next: "copy it again: sudo install -m 600 -o $(id -u) -g $(id -g) /etc/rancher/k3s/k3s.yaml \
           ~/.kube/config",
};

const API_SERVER_IS_DOWN: Advice = Advice {
    cause: "the API server of the kubeconfig does not run",
    next: "sudo systemctl status k3s; sudo journalctl -u k3s -n 50",
};
