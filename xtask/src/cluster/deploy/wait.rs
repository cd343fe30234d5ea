//! Waiting for vLLM: says what the pod does, and ends when waiting makes no sense.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result, anyhow};
use clap::Args;
use tasks::{
    advice::{explained, log_lines},
    command::in_short,
    ctx::Ctx,
};

use crate::cluster::{
    diagnosis::{Finding, GracePeriods, diagnose, of_tracer},
    kubectl::Kubectl,
    objects::ContainerStatus,
    observe::Snapshot,
};
use settings::names::{DEPLOYMENT, VLLM_CONTAINER};

const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A sign of life while nothing changes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// Before what is wrong with a tracer that has just started is believed.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// How long a cluster that has answered may be silent.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Wait {
    /// Longest wait for vLLM, image and model download included
    #[arg(long, value_name = "SECONDS", default_value_t = 4500)]
    timeout: u64,
}

impl Wait {
    pub(crate) fn timeout(self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// Until the pod of the last applied deployment is ready. An error has everything that is wrong.
pub(crate) fn until_ready(ctx: &Ctx, kubectl: &Kubectl, wait: Wait) -> Result<()> {
    if ctx.dry_run {
        eprintln!("would wait until deployment/{DEPLOYMENT} is ready, {} s at most", wait.timeout);
        return Ok(());
    }
    let (started, deadline) = (Instant::now(), Instant::now() + wait.timeout());
    let mut progress = Progress::default();
    let mut pause = MIN_PAUSE;
    loop {
        let looked = Snapshot::take(kubectl);
        let is_late = Instant::now() >= deadline;
        match looked {
            Ok(snapshot) if snapshot.is_complete() => {
                eprintln!("done    vLLM is ready after {} s", started.elapsed().as_secs());
                return is_traced(kubectl, &snapshot);
            }
            Ok(snapshot) => {
                let findings = diagnose(&snapshot);
                if let Some(Finding { what, cause, next, .. }) = progress.see(&snapshot, &findings)
                {
                    let what = if snapshot.vllm_is_ready() {
                        format!("vLLM is ready, and its tracer is not: {what}")
                    } else {
                        format!("vLLM will not become ready: {what}")
                    };
                    return Err(explained(what, cause, next));
                }
                if is_late {
                    return Err(late(&snapshot, &findings, wait.timeout()));
                }
            }
            Err(error) => progress.miss(error, is_late)?,
        }
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 3 / 2).min(MAX_PAUSE);
    }
}

/// Fails with all that keeps calls from being recorded and stored.
fn is_traced(kubectl: &Kubectl, snapshot: &Snapshot) -> Result<()> {
    let ask = || snapshot.ask_tracer(kubectl).iter().flat_map(of_tracer).collect::<Vec<_>>();
    let mut findings = ask();
    if !findings.is_empty() {
        // Its first upload may have come before a store that starts with it.
        thread::sleep(SECOND_LOOK);
        findings = ask();
    }
    let [Finding { what, cause, next, .. }, others @ ..] = &findings[..] else { return Ok(()) };
    let what = format!("vLLM is ready, and its calls are not traced as they should be: {what}");
    let others: Vec<String> = others.iter().map(|other| format!("\nand {other}")).collect();
    Err(anyhow!("{}{}", explained(what, cause, next), others.concat()))
}

/// What was said already, and since when something is wrong.
#[derive(Default)]
struct Progress {
    said: String,
    said_at: Option<Instant>,
    /// When the cluster has answered last.
    answered_at: Option<Instant>,
    grace_periods: GracePeriods,
}

impl Progress {
    /// Returns a finding that waiting will not heal.
    fn see(&mut self, snapshot: &Snapshot, findings: &[Finding]) -> Option<Finding> {
        let now = Instant::now();
        self.answered_at = Some(now);
        let lost = self.grace_periods.over(findings, |finding| eprintln!("note    {finding}"));
        if lost.is_some() {
            return lost;
        }
        let line = describe(snapshot);
        let is_silent = self.said_at.is_none_or(|at| now - at >= SIGN_OF_LIFE);
        if line != self.said || is_silent {
            let log = last_line(snapshot).map(|line| format!("\n        vllm says: {line}"));
            eprintln!("wait    {line}{}", log.filter(|_| is_silent).unwrap_or_default());
            self.said = line;
            self.said_at = Some(now);
        }
        None
    }

    /// What is wrong with the first look is wrong for good; later the API server may be restarting.
    fn miss(&mut self, error: Error, is_late: bool) -> Result<()> {
        if is_late || self.answered_at.is_none_or(|at| at.elapsed() >= SILENCE) {
            return Err(error);
        }
        let line = format!("the cluster does not answer: {}", in_short(&error));
        if line != self.said {
            eprintln!("wait    {line}");
            self.said = line;
        }
        Ok(())
    }
}

fn describe(snapshot: &Snapshot) -> String {
    let Some(pod) = snapshot.current_pod() else {
        return match snapshot.stopping.first() {
            Some(stopping) => format!("the pod before has to go first: {stopping}"),
            None => "the pod is not created yet".to_owned(),
        };
    };
    let containers: Vec<String> = pod.containers().map(ContainerStatus::describe).collect();
    let name = &pod.metadata.name;
    if containers.is_empty() {
        return format!("{name}: not on a node yet");
    }
    format!("{name}: {}", containers.join("; "))
}

fn last_line(snapshot: &Snapshot) -> Option<&str> {
    log_lines::news(snapshot.logs.get(VLLM_CONTAINER)?)
}

fn late(snapshot: &Snapshot, findings: &[Finding], waited: Duration) -> Error {
    let mut what =
        format!("vLLM is not ready after {} s: {}", waited.as_secs(), describe(snapshot));
    if let [finding, others @ ..] = findings {
        let _: std::fmt::Result = write!(what, "\n{}", finding.what);
        let error = explained(what, &finding.cause, &finding.next);
        let others: Vec<String> = others.iter().map(|other| format!("\nand {other}")).collect();
        return anyhow!("{error}{}", others.concat());
    }
    if snapshot.current_pod().is_none() {
        let (cause, next) = if snapshot.stopping.is_empty() {
            (
                "Kubernetes has not made the pod, and does not say why",
                "kubectl describe deployment -n vllm-tracing; sudo journalctl -u k3s -n 50",
            )
        } else {
            (
                "the pod before it is given its time to end and to upload, and the GPU is not free \
                 before",
                "cargo xtask deploy --timeout SECONDS, to wait longer; cargo xtask status",
            )
        };
        return explained(what, cause, next);
    }
    if let Some(line) = last_line(snapshot) {
        let _: std::fmt::Result = write!(what, "\nvllm says: {line}");
    }
    explained(
        what,
        "it still downloads or loads, as far as can be told",
        "cargo xtask logs -f vllm; wait longer with `cargo xtask deploy --timeout SECONDS`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(grace: Option<Duration>) -> Finding {
        Finding {
            what: "it is so".to_owned(),
            cause: "because".to_owned(),
            next: "do this".to_owned(),
            grace,
        }
    }

    #[test]
    fn grace_periods_are_counted_from_when_it_was_first_seen() {
        let mut progress = Progress::default();
        let snapshot = Snapshot::default();
        let later = [finding(Some(Duration::from_millis(20)))];
        assert_eq!(progress.see(&snapshot, &later), None);
        thread::sleep(Duration::from_millis(30));
        assert_eq!(progress.see(&snapshot, &later), Some(later[0].clone()));
        // It healed in between: the time starts anew.
        assert_eq!(progress.see(&snapshot, &[]), None);
        assert_eq!(progress.see(&snapshot, &later), None);
        assert_eq!(progress.see(&snapshot, &[finding(None)]), None);
    }

    #[test]
    fn a_cluster_that_has_answered_may_be_silent_for_a_moment() {
        let refused = || anyhow!("connection refused");
        let mut progress = Progress::default();
        assert!(progress.miss(refused(), false).is_err());
        progress.see(&Snapshot::default(), &[]);
        progress.miss(refused(), false).unwrap();
        assert!(progress.miss(refused(), true).is_err());
        progress.answered_at = Instant::now().checked_sub(SILENCE);
        assert!(progress.miss(refused(), false).is_err());
    }

    #[test]
    fn what_takes_long_for_no_known_reason_shows_how_to_look_on() {
        let pod = serde_json::json!({ "metadata": { "name": "vllm-1-a" } });
        let mut snapshot =
            Snapshot { pods: vec![serde_json::from_value(pod).unwrap()], ..Snapshot::default() };
        let error = late(&snapshot, &[], Duration::from_secs(5));
        insta::assert_snapshot!(error.to_string(), @"
        vLLM is not ready after 5 s: vllm-1-a: not on a node yet
        cause: it still downloads or loads, as far as can be told
        next:  cargo xtask logs -f vllm; wait longer with `cargo xtask deploy --timeout SECONDS`
        ");
        // A pod that does not exist does not download.
        snapshot.pods.clear();
        let error = late(&snapshot, &[], Duration::from_secs(5)).to_string();
        assert!(error.contains("has not made the pod") && !error.contains("downloads"), "{error}");
    }
}
