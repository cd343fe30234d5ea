//! Waiting for vLLM: says what the pod does, and ends when waiting makes no sense.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    cluster::{
        diagnosis::{Finding, diagnose},
        kubectl::Kubectl,
        names::{DEPLOYMENT, VLLM},
        objects::ContainerStatus,
        observe::Snapshot,
    },
    ctx::Ctx,
};

const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A sign of life while nothing changes.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

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
    let mut pause = SHORTEST_PAUSE;
    loop {
        let snapshot = Snapshot::take(kubectl)?;
        if snapshot.is_complete() {
            eprintln!("done    vLLM is ready after {} s", started.elapsed().as_secs());
            return Ok(());
        }
        let findings = diagnose(&snapshot);
        if let Some(hopeless) = progress.see(&snapshot, &findings) {
            bail!("vLLM will not become ready: {hopeless}");
        }
        if Instant::now() >= deadline {
            bail!("{}", late(&snapshot, &findings, wait.timeout()));
        }
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// What was said already, and since when something is wrong.
#[derive(Default)]
struct Progress {
    said: String,
    said_at: Option<Instant>,
    /// By cause: what Kubernetes says of it may contain changing numbers.
    wrong_since: BTreeMap<String, Instant>,
}

impl Progress {
    /// Returns a finding that waiting will not heal.
    fn see(&mut self, snapshot: &Snapshot, findings: &[Finding]) -> Option<Finding> {
        let now = Instant::now();
        self.wrong_since.retain(|cause, _| findings.iter().any(|finding| finding.cause == *cause));
        for finding in findings {
            if !self.wrong_since.contains_key(&finding.cause) {
                self.wrong_since.insert(finding.cause.clone(), now);
                eprintln!("note    {finding}");
            }
        }
        let line = describe(snapshot);
        let is_silent = self.said_at.is_none_or(|at| now - at >= SIGN_OF_LIFE);
        if line != self.said || is_silent {
            let log = last_line(snapshot).map(|line| format!("\n        vllm says: {line}"));
            eprintln!("wait    {line}{}", log.filter(|_| is_silent).unwrap_or_default());
            self.said = line;
            self.said_at = Some(now);
        }
        let is_over = |finding: &&Finding| {
            let since = self.wrong_since.get(&finding.cause).copied().unwrap_or(now);
            finding.patience.is_some_and(|patience| now - since >= patience)
        };
        findings.iter().find(is_over).cloned()
    }
}

fn describe(snapshot: &Snapshot) -> String {
    let Some(pod) = snapshot.pod() else {
        return "the pod is not created yet".to_owned();
    };
    let containers: Vec<String> = pod.containers().map(ContainerStatus::describe).collect();
    let name = &pod.metadata.name;
    if containers.is_empty() {
        return format!("{name}: not on a node yet");
    }
    format!("{name}: {}", containers.join("; "))
}

fn last_line(snapshot: &Snapshot) -> Option<&str> {
    let log = snapshot.logs.get(VLLM)?;
    log.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

fn late(snapshot: &Snapshot, findings: &[Finding], waited: Duration) -> String {
    let mut text =
        format!("vLLM is not ready after {} s: {}", waited.as_secs(), describe(snapshot));
    for finding in findings {
        let _: std::fmt::Result = write!(text, "\n{finding}");
    }
    if findings.is_empty() {
        if let Some(line) = last_line(snapshot) {
            let _: std::fmt::Result = write!(text, "\nvllm says: {line}");
        }
        text.push_str(
            "\ncause: it still downloads or loads, as far as can be told\n\
             next:  cargo xtask logs -f vllm; wait longer with `cargo xtask deploy --timeout SECONDS`",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(patience: Option<Duration>) -> Finding {
        Finding {
            what: "it is so".to_owned(),
            cause: "because".to_owned(),
            next: "do this".to_owned(),
            patience,
        }
    }

    #[test]
    fn patience_is_counted_from_when_it_was_first_seen() {
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
    fn what_takes_long_for_no_known_reason_shows_how_to_look_on() {
        let text = late(&Snapshot::default(), &[], Duration::from_secs(5));
        insta::assert_snapshot!(text, @"
        vLLM is not ready after 5 s: the pod is not created yet
        cause: it still downloads or loads, as far as can be told
        next:  cargo xtask logs -f vllm; wait longer with `cargo xtask deploy --timeout SECONDS`
        ");
    }
}
