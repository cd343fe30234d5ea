//! What kubectl, K3s, containerd, container engines and apt complain about.

use super::{Advice, Rules};

pub const RULES: Rules = &[
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
            next: "name one with --kubeconfig FILE; on the GPU node, `cargo xtask install`",
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
            next: "repeat when it is gone; what holds it: kubectl get namespace vllm-tracing -o \
                   jsonpath='{.status.conditions}'",
        },
    ),
    (
        &["timed out waiting for the condition"],
        Advice {
            cause: "what was deleted is not gone yet: a pod that uploads its last traces takes its time, \
                    and one whose node does not answer stays",
            next: "cargo xtask logs tracer; then repeat, with a longer --timeout",
        },
    ),
    (
        &["provided port is already allocated"],
        Advice {
            cause: "another service has the node port",
            next: "kubectl get services -A | grep NodePort; deploy again with another NODE_PORT",
        },
    ),
    (
        &["spec is immutable after creation"],
        Advice {
            cause: "the spec of a claim cannot change, except that its size can grow",
            next: "deploy again with the old size and class; or first `cargo xtask destroy --purge`, \
                   which deletes the data",
        },
    ),
    (
        &["field is immutable"],
        Advice {
            cause: "Kubernetes does not change this field of an existing object",
            next: "`cargo xtask destroy` (storage and secrets stay), then `cargo xtask deploy`",
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
            next: "kubectl config view --minify; name another file with --kubeconfig FILE",
        },
    ),
    (
        &["(forbidden)"],
        Advice {
            cause: "the user of this kubeconfig may not do this",
            next: "repeat with K3s's own: --kubeconfig /etc/rancher/k3s/k3s.yaml",
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
        Advice {
            cause: "another apt runs",
            next: "repeat when it has ended: ps -C apt,apt-get,unattended-upgr",
        },
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
    (
        &["bind: address already in use"],
        Advice {
            cause: "another program has a port that K3s needs",
            next: "sudo ss -ltnp | grep -E ':(6443|6444|10010|10250) ', and stop it",
        },
    ),
    (&["no default routes found"], DEFAULT_ROUTE),
    (&["unable to select an ip from default routes"], DEFAULT_ROUTE),
    (
        &["no policy.json file found"],
        Advice {
            cause: "the container engine's package of common files is missing",
            next: "sudo apt-get install golang-github-containers-common",
        },
    ),
    (
        &["a password is required"],
        Advice {
            cause: "sudo asks for a password, and there is no terminal to type it into",
            next: "run it from a terminal, or as root: sudo env \"PATH=$PATH\" \"HOME=$HOME\" cargo xtask ...",
        },
    ),
    (&["could not resolve host"], NO_NETWORK),
    (&["failed to connect to", "curl:"], NO_NETWORK),
    (&["curl: (28)"], NO_NETWORK),
    (
        &["curl: (22)"],
        Advice {
            cause: "the server does not have the file, or a proxy refuses it",
            next: "curl -I of the address; another version is named in xtask/src/pins.rs",
        },
    ),
    (
        &["computed checksum", "did not match"],
        Advice {
            cause: "a file is not what was published: half downloaded, or of another version",
            next: "repeat; with --airgap, copy the file anew from the release that it belongs to",
        },
    ),
];

const DEFAULT_ROUTE: Advice = Advice {
    cause: "there is no default route, by which K3s finds the node's address",
    next: "sudo ip route add default via ADDRESS; without a network, to a dummy interface",
};

const NO_NETWORK: Advice = Advice {
    cause: "the server cannot be reached from here",
    next: "look at the network, or set HTTPS_PROXY; without a network `cargo xtask install --airgap DIR`",
};

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
