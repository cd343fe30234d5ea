//! What keeps a container from running or from becoming ready.

use super::{AT_ONCE, Finding, LONG, SHORT};
use tasks::advice::{Advice, log_lines, of_tracer_log, of_vllm_log};

use crate::cluster::objects::{ContainerStatus, Event, Waiting};
use settings::names::{TRACER_CONTAINER, VLLM_CONTAINER};

/// Ends of one container in a row after which another start will not help.
const TOO_MANY_RESTARTS: u32 = 3;

/// `events`: of its pod.
pub(super) fn finding(
    container: &ContainerStatus,
    log: &str,
    events: &[&Event],
) -> Option<Finding> {
    if container.ready {
        return None;
    }
    if let Some(waiting) = &container.state.waiting
        && let Some(finding) = image_or_configuration(container, waiting)
    {
        return Some(finding);
    }
    let last = &container.last_state.terminated;
    let ended = container.state.terminated.as_ref().or(last.as_ref());
    let Some(ended) = ended else {
        // It runs for the first time: what its log says may still pass.
        let (advice, line) = of_log(&container.name, log)?;
        return Some(Finding::advised(format!("{} says: {line}", container.name), advice, None));
    };
    // Between two lives; one that runs again may fare better.
    let grace = container.state.waiting.as_ref().and(AT_ONCE);
    let name = &container.name;
    let mut what = format!("{name} ended ({}, exit code {})", ended.reason, ended.exit_code);
    if ended.reason == "OOMKilled" {
        return Some(Finding::new(
            what,
            "it used more memory than its limit; shared memory and eBPF maps count too",
            "deploy again with a higher TRACER_MEMORY_LIMIT or VLLM_MEMORY_LIMIT",
            grace,
        ));
    }
    if let Some((advice, line)) = of_log(name, log) {
        what = format!("{what}: {line}");
        return Some(Finding::advised(what, advice, grace));
    }
    let probe = events.iter().rev().find(|event| {
        event.reason == "Unhealthy" && event.message.contains("Startup probe failed")
    });
    if probe.is_some() && ended.exit_code != 0 && name == VLLM_CONTAINER {
        return Some(Finding::new(
            what,
            "the startup probe gave up before vLLM had loaded its model",
            "deploy again with a longer STARTUP_TIMEOUT (seconds)",
            grace,
        ));
    }
    let grace = grace.filter(|_| container.restart_count >= TOO_MANY_RESTARTS);
    let short = if name == TRACER_CONTAINER { "tracer" } else { "vllm" };
    let logs = format!("cargo xtask logs {short} --previous");
    if let Some((signal, killer)) = signal_of(ended.exit_code) {
        let is_probe = |event: &&&Event| {
            event.reason == "Killing"
                && event.message.contains("liveness probe")
                && event.message.contains(&format!("Container {name} "))
        };
        let by_probe = events
            .iter()
            .find(is_probe)
            .map(|_| "it did not answer its liveness probe any more, so the kubelet ended it");
        let what = format!("{what}, by signal {signal}");
        return Some(Finding::new(what, by_probe.unwrap_or(killer), logs, grace));
    }
    if let Some(line) = log_lines::reason(log) {
        what = format!("{what}: {line}");
        return Some(Finding::new(
            what,
            "the program ends by itself; its log says why",
            logs,
            grace,
        ));
    }
    Some(Finding::new(
        what,
        "the program ends by itself, and no line of its log tells why",
        logs,
        grace,
    ))
}

/// The signal of an exit code, as shells and containerd give it, and who sends it.
fn signal_of(exit_code: i32) -> Option<(&'static str, &'static str)> {
    Some(match exit_code {
        132 => ("SIGILL", "it executed an instruction that this processor does not have"),
        134 => ("SIGABRT", "it gave itself up: an assertion or a native library failed"),
        135 => {
            ("SIGBUS", "it used memory that is not there: mostly /dev/shm is too small (SHM_SIZE)")
        }
        137 => (
            "SIGKILL",
            "something outside killed it: the node's memory was used up, or a person did",
        ),
        139 => ("SIGSEGV", "it crashed in native code"),
        143 => ("SIGTERM", "something outside asked it to end"),
        _ => return None,
    })
}

fn image_or_configuration(
    ContainerStatus { name, image, .. }: &ContainerStatus,
    Waiting { reason, message }: &Waiting,
) -> Option<Finding> {
    let what = match &message[..] {
        "" => format!("{name} waits ({reason}) for {image}"),
        message => format!("{name} waits ({reason}): {message}"),
    };
    let is_tracer = name == TRACER_CONTAINER;
    let build = || "cargo xtask build, then cargo xtask deploy".to_owned();
    let (cause, next, grace) = match reason.as_str() {
        "ErrImageNeverPull" => (
            "the image is not in K3s's containerd, and may not be pulled",
            if is_tracer { build() } else { format!("sudo k3s crictl pull {image}") },
            AT_ONCE,
        ),
        "InvalidImageName" => (
            "the image's name is no valid one",
            "deploy again with another TRACER_IMAGE or VLLM_IMAGE".to_owned(),
            AT_ONCE,
        ),
        "ErrImagePull" | "ImagePullBackOff" => {
            let is_final = ["not found", "denied", "unauthorized", "manifest unknown"]
                .iter()
                .any(|sign| message.contains(sign));
            let pull = format!(
                "deploy again with another VLLM_IMAGE; sudo k3s crictl pull {image} shows the whole \
                 message"
            );
            (
                "the image cannot be pulled",
                if is_tracer { build() } else { pull },
                if is_final { AT_ONCE } else { LONG },
            )
        }
        "CreateContainerConfigError" => {
            let task = if message.contains("secret") { "secrets" } else { "deploy" };
            (
                "a secret or a setting that the container refers to is missing",
                format!("cargo xtask {task}"),
                SHORT,
            )
        }
        "CreateContainerError" | "RunContainerError" | "StartError" => {
            if let Some((advice, _)) = of_log(name, message) {
                return Some(Finding::advised(what, advice, SHORT));
            }
            (
                "the container runtime cannot start it",
                "nvidia-smi on the node; sudo journalctl -u k3s -n 50".to_owned(),
                SHORT,
            )
        }
        _ => return None,
    };
    Some(Finding::new(what, cause, next, grace))
}

fn of_log(name: &str, log: &str) -> Option<(Advice, String)> {
    if name == TRACER_CONTAINER { of_tracer_log(log) } else { of_vllm_log(log) }
}
