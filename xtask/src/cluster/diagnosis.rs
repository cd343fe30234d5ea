//! Why vLLM is not ready: from the states that Kubernetes tells, and from logs, to causes and commands.

mod containers;
#[cfg(test)]
mod documentation;
mod grace;
mod pods;
mod tracer;

use std::{fmt, time::Duration};

use serde::Serialize;

use super::observe::Snapshot;
pub(crate) use grace::GracePeriods;
use settings::names::SECRETS_ANNOTATION;
use tasks::advice::Advice;
pub(crate) use tracer::{of_tracer, of_uploads};

/// One reason why the deployment is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What Kubernetes or a log says.
    pub(crate) what: String,
    pub(crate) cause: String,
    pub(crate) next: String,
    /// How long it may stay so before waiting on makes no sense; none: until the time is up.
    #[serde(skip)]
    pub(crate) grace: Option<Duration>,
}

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
const SHORT: Option<Duration> = Some(Duration::from_secs(20));
/// What others may still bring about: a device plugin that registers, a pod that goes, a disk.
const LONG: Option<Duration> = Some(Duration::from_secs(120));

/// Everything that is wrong now; empty where it only takes its time.
pub(crate) fn diagnose(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    if snapshot.deployment.is_none() {
        findings.push(match snapshot.stopping.first() {
            Some(stopping) => Finding::new(
                format!("there is no deployment, and the last pod goes: {stopping}"),
                "the deployment was removed, and its pod ends in order",
                "`cargo xtask destroy` waits for it, and says what is left",
                AT_ONCE,
            ),
            None => Finding::new(
                "there is no deployment",
                "nothing is deployed",
                "cargo xtask deploy",
                AT_ONCE,
            ),
        });
    }
    findings.extend(pods::claims(snapshot));
    match snapshot.current_pod() {
        Some(pod) => {
            findings.extend(pods::scheduling(pod));
            findings.extend(pods::sandbox(pod, snapshot));
            findings.extend(pod.containers().filter_map(|container| {
                let log = snapshot.logs.get(&container.name).map_or("", String::as_str);
                containers::finding(container, log, &snapshot.events_of(&pod.metadata))
            }));
        }
        None => findings.extend(pods::creation(snapshot)),
    }
    findings
}

/// Whether the pod has the secrets that the cluster has now, of which this is the digest.
pub(crate) fn of_secrets(snapshot: &Snapshot, digest: Option<&str>) -> Option<Finding> {
    let started_with = snapshot.current_pod()?.metadata.annotations.get(SECRETS_ANNOTATION)?;
    (started_with != digest?).then(|| {
        Finding::new(
            "the secrets have changed since the pod was made",
            "a pod takes secrets only when it starts",
            "cargo xtask deploy, which starts it anew",
            None,
        )
    })
}

impl Finding {
    fn new(
        what: impl Into<String>,
        cause: &str,
        next: impl Into<String>,
        grace: Option<Duration>,
    ) -> Self {
        Self { what: what.into(), cause: cause.to_owned(), next: next.into(), grace }
    }

    fn advised(what: String, Advice { cause, next }: Advice, grace: Option<Duration>) -> Self {
        Self::new(what, cause, next, grace)
    }
}

/// As one of several.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, cause, next, grace: _ } = self;
        write!(f, "{what}\n  cause: {cause}\n  next:  {next}")
    }
}

#[cfg(test)]
mod tests;
