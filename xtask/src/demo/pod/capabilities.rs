//! The sidecar without a capability that it needs: it must say which and for what, and end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::podman::Podman;
use tasks::background::Interrupt;

/// What the default profile gives; `manifests/src/tracer.rs` has the same.
const GIVEN: [&str; 4] = ["BPF", "PERFMON", "SYS_PTRACE", "SYS_ADMIN"];

/// Taken away, and which of them must be named. The kernel takes SYS_ADMIN for the two that were
/// split from it, so each of these goes together with it.
const NEEDED: [(&[&str], &str); 3] = [
    (&["SYS_PTRACE"], "SYS_PTRACE"),
    (&["BPF", "SYS_ADMIN"], "BPF"),
    (&["PERFMON", "SYS_ADMIN"], "PERFMON"),
];

/// Needed or not, by what the kernel and the engine's seccomp profile ask for.
const PERHAPS_NEEDED: [&str; 3] = ["BPF", "PERFMON", "SYS_ADMIN"];

const CONTAINER: &str = "tracer-without-capability";
const TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn check(podman: &Podman, image: &str, interrupt: &Interrupt) -> Result<()> {
    for (taken, named) in NEEDED {
        let outcome = without(podman, image, taken, interrupt)?;
        ensure!(outcome != Outcome::Traces, "without {} it traces all the same", taken.join(", "));
        judge(taken, named, outcome)?;
    }
    for taken in PERHAPS_NEEDED {
        judge(&[taken], taken, without(podman, image, &[taken], interrupt)?)?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Traces,
    Ended { code: i32, log: String },
}

fn judge(taken: &[&str], expected: &str, outcome: Outcome) -> Result<()> {
    let without = format!("without {}", taken.join(" and "));
    let Outcome::Ended { code, log } = outcome else {
        eprintln!("ok      {without}: traces, so neither kernel nor podman asks for it");
        return Ok(());
    };
    let missing: Vec<(&str, &str)> = missing(&log).collect();
    let has_expected = missing.iter().any(|(name, _)| *name == expected);
    let names_held = missing.iter().any(|(name, _)| !taken.contains(name));
    ensure!(
        code != 0 && has_expected && !names_held,
        "{without} the sidecar must end with an error that names {expected} and nothing that it has; \
         it ended with exit code {code} and said\n  {}",
        log.trim_end()
    );
    for (name, purpose) in missing {
        eprintln!("ok      {without}: exit code {code}, {name} is missing, needed to {purpose}");
    }
    Ok(())
}

/// The capabilities that a log names, each with what it is for.
fn missing(log: &str) -> impl Iterator<Item = (&str, &str)> {
    log.split("CAP_").skip(1).filter_map(|text| {
        let (name, rest) = text.split_once(" is missing, needed to ")?;
        Some((name, rest.split_once(':')?.0))
    })
}

/// Starts the sidecar as the pod does, with what is left.
fn without(podman: &Podman, image: &str, taken: &[&str], interrupt: &Interrupt) -> Result<Outcome> {
    let mut run = podman
        .command("run --detach --network none --log-driver k8s-file --name")
        .arg(CONTAINER)
        .words("--user 0 --read-only --tmpfs /traces --security-opt no-new-privileges")
        .words("--env UPLOAD_ENABLED=false --cap-drop ALL");
    for left in GIVEN.iter().filter(|capability| !taken.contains(capability)) {
        run = run.words("--cap-add").arg(*left);
    }
    run.arg(image).read()?;
    let outcome = outcome(podman, interrupt);
    podman.command("rm --force --time 5").arg(CONTAINER).read()?;
    outcome
}

fn outcome(podman: &Podman, interrupt: &Interrupt) -> Result<Outcome> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        // Asked first: after its end the log grows no more.
        let state = podman.inspect(CONTAINER, "{{.State.Status}} {{.State.ExitCode}}")?;
        let logs = podman.command("logs").arg(CONTAINER).output()?;
        let log = logs.stdout + &logs.stderr;
        if log.contains("ready: tracing") {
            return Ok(Outcome::Traces);
        }
        if let Some(code) = state.strip_prefix("exited ") {
            return Ok(Outcome::Ended { code: code.parse()?, log });
        }
        if Instant::now() > deadline {
            bail!("the sidecar is {state} after {TIMEOUT:?} and neither traces nor ends:\n{log}");
        }
        interrupt.sleep(Duration::from_millis(100))?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use tasks::ctx::workspace_root;

    const LOG: &str = "ERROR this machine cannot trace yet:
  CAP_BPF is missing, needed to create eBPF maps, load programs and attach them: run as root, or
  CAP_SYS_ADMIN is missing, needed to attach uprobes through perf events: run as root, or add";

    fn ended(code: i32, log: &str) -> Outcome {
        Outcome::Ended { code, log: log.to_owned() }
    }

    #[test]
    fn what_is_missing_is_read_with_its_purpose() {
        let found: Vec<_> = missing(LOG).collect();
        let expected = [
            ("BPF", "create eBPF maps, load programs and attach them"),
            ("SYS_ADMIN", "attach uprobes through perf events"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn silence_success_and_a_wrong_name_fail() {
        judge(&["BPF", "SYS_ADMIN"], "BPF", ended(1, LOG)).unwrap();
        judge(&["BPF"], "BPF", Outcome::Traces).unwrap();
        for (taken, expected, outcome) in [
            (["BPF", "SYS_ADMIN"], "BPF", ended(0, LOG)),
            (["BPF", "SYS_ADMIN"], "BPF", ended(1, "ERROR Operation not permitted")),
            (["PERFMON", "SYS_ADMIN"], "PERFMON", ended(1, LOG)),
            // It names SYS_ADMIN, which it has.
            (["BPF", "PERFMON"], "BPF", ended(1, LOG)),
        ] {
            assert!(judge(&taken, expected, outcome).is_err());
        }
    }

    #[test]
    fn the_pod_is_given_the_same() {
        let path = workspace_root().join("manifests/src/tracer.rs");
        let source = fs::read_to_string(path).unwrap();
        let line = format!("assert_eq!(capabilities(true), {GIVEN:?});");
        assert!(source.contains(&line), "manifests/src/tracer.rs does not say `{line}`");
    }
}
