//! From what programs say to why they say it, and to the command that helps.

pub mod commands;
pub mod log_lines;
pub mod logs;

use std::fmt;

use anyhow::anyhow;

/// A cause, and what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    pub cause: &'static str,
    pub next: &'static str,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cause: {}\nnext:  {}", self.cause, self.next)
    }
}

/// An error in the form of all that people can do something about.
pub fn explained(
    what: impl fmt::Display,
    cause: impl fmt::Display,
    next: impl fmt::Display,
) -> anyhow::Error {
    anyhow!("{what}\ncause: {cause}\nnext:  {next}")
}

/// What a line holds if the rule applies: all of these, in lower case.
type Needles = &'static [&'static str];

/// The first that applies decides.
pub type Rules = &'static [(Needles, Advice)];

/// On a command of Kubernetes, of K3s or of a container engine that failed.
pub fn of_output(said: &str) -> Option<Advice> {
    find(commands::RULES, said).map(|(advice, _)| advice)
}

/// On the log of vLLM, with the line that gave it away. What stands later explains better.
pub fn of_vllm_log(log: &str) -> Option<(Advice, String)> {
    find(logs::VLLM, log)
}

/// On the log of the tracer, likewise.
pub fn of_tracer_log(log: &str) -> Option<(Advice, String)> {
    find(logs::TRACER, log)
}

fn find(rules: Rules, text: &str) -> Option<(Advice, String)> {
    let lines: Vec<(&str, String)> =
        text.lines().rev().map(|line| (line.trim(), line.to_lowercase())).collect();
    rules.iter().find_map(|(needles, advice)| {
        let fits = |lower: &str| needles.iter().all(|needle| lower.contains(needle));
        lines.iter().find(|(_, lower)| fits(lower)).map(|(line, _)| (*advice, (*line).to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needles_are_in_lower_case_or_would_never_be_found() {
        for (needles, _) in [commands::RULES, logs::VLLM, logs::TRACER].concat() {
            assert!(!needles.is_empty());
            for needle in needles {
                assert_eq!(*needle, needle.to_lowercase());
            }
        }
    }

    /// What the programs really print.
    #[test]
    fn failures_of_commands_have_a_cause_and_a_next_command() {
        for (said, cause, next) in [
            (
                "error: error loading config file \"/etc/rancher/k3s/k3s.yaml\": open /etc/rancher/k3s/k3s.yaml: permission denied",
                "root only",
                "~/.kube/config",
            ),
            (
                "time=\"2026-01-01T00:00:00Z\" level=warning msg=\"Unable to read /etc/rancher/k3s/k3s.yaml, please start server with --write-kubeconfig-mode or --write-kubeconfig-group to modify kube config permissions\"",
                "root only",
                "~/.kube/config",
            ),
            (
                "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
                "no kubeconfig",
                "--kubeconfig",
            ),
            (
                "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?",
                "does not run",
                "systemctl status k3s",
            ),
            (
                "error: You must be logged in to the server (Unauthorized)",
                "another cluster",
                "k3s.yaml",
            ),
            (
                "Error from server (Forbidden): deployments.apps \"vllm\" is forbidden: unable to create new content in namespace vllm-tracing because it is being terminated",
                "being deleted",
                "get namespace vllm-tracing",
            ),
            (
                "The Service \"vllm-api\" is invalid: spec.ports[0].nodePort: Invalid value: 30800: provided port is already allocated",
                "another service",
                "get services -A",
            ),
            (
                "The PersistentVolumeClaim \"traces\" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
                "claim",
                "destroy --purge",
            ),
            ("ctr: content digest sha256:1234: not found", "attestations", "cargo xtask build"),
            (
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
                "Docker",
                "systemctl start docker",
            ),
            (
                "E: Conflicting values set for option Signed-By regarding source https://nvidia.github.io/libnvidia-container/stable/deb/amd64/ /",
                "older list",
                "grep -l nvidia.github.io",
            ),
            (
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 (unattended-upgr)",
                "another apt",
                "repeat",
            ),
            ("curl: (6) Could not resolve host: github.com", "cannot be reached", "--airgap DIR"),
            (
                "curl: (7) Failed to connect to github.com port 443 after 5 ms: Couldn't connect to server",
                "cannot be reached",
                "HTTPS_PROXY",
            ),
            ("curl: (22) The requested URL returned error: 404", "does not have", "pins.rs"),
            (
                "k3s: FAILED\nsha256sum: WARNING: 1 computed checksum did NOT match",
                "not what was published",
                "repeat",
            ),
            (
                "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper\nsudo: a password is required",
                "sudo asks for a password",
                "from a terminal",
            ),
            (
                "Error: obtaining default signature policy: no policy.json file found at any of the following: \"/root/.config/containers/policy.json\"",
                "common files",
                "golang-github-containers-common",
            ),
            (
                "level=fatal msg=\"Failed to start supervisor: listen tcp 0.0.0.0:6443: bind: address already in use\"",
                "another program has a port",
                "ss -ltnp",
            ),
            (
                "level=fatal msg=\"no default routes found in \\\"/proc/net/route\\\" or \\\"/proc/net/ipv6_route\\\"\"",
                "no default route",
                "ip route add default",
            ),
            (
                "error: timed out waiting for the condition on deployments/vllm",
                "not gone yet",
                "--timeout",
            ),
        ] {
            let advice = of_output(said).unwrap_or_else(|| panic!("no advice on {said}"));
            assert!(advice.cause.contains(cause), "{said}: {}", advice.cause);
            assert!(advice.next.contains(next), "{said}: {}", advice.next);
        }
        assert_eq!(of_output("Error from server (NotFound): pods \"x\" not found"), None);
    }

    #[test]
    fn logs_give_the_cause_away_with_the_line() {
        let log = "INFO starting\nOSError: You are trying to access a gated repo.\n401 Client Error. (Request ID: x)\n";
        let (advice, line) = of_vllm_log(log).unwrap();
        assert!(advice.next.contains("cargo xtask secrets"), "{advice:?}");
        assert_eq!(line, "401 Client Error. (Request ID: x)");
        let log = "WARN uploads fail: segments are kept, and retried error=\"cannot use s3://b/p: S3 in us-east-1 answers 404 NoSuchBucket (check S3_BUCKET)\"";
        assert!(of_tracer_log(log).unwrap().0.cause.contains("bucket does not exist"));
        assert_eq!(of_vllm_log("INFO: Application startup complete."), None);
    }
}
