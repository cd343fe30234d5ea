//! A pod on its way out: since when, for how long at most, and what its tracer still uploads.

use std::{fmt, time::Duration};

use super::{kubectl::Kubectl, objects::Pod, time::Time, tracer::Status};
use settings::names::{TRACER_CONTAINER, VLLM_CONTAINER};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopping {
    pub(crate) pod: String,
    pub(crate) since: Duration,
    /// Until the kubelet kills what still runs; zero if that time is over.
    pub(crate) left: Duration,
    pub(crate) does: Does,
}

/// What holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Does {
    /// The tracer is stopped only when vLLM has ended.
    Vllm,
    /// The tracer closes and uploads, where it says how much.
    Tracer(Option<Upload>),
    /// All containers have ended, or nobody says so: a node that does not answer.
    Nothing,
}

/// Trace files that are not in the bucket yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Why they do not get there.
    pub(crate) error: Option<String>,
}

impl Stopping {
    pub(super) fn of_all(kubectl: &Kubectl, pods: &[Pod]) -> Vec<Self> {
        let ask = |pod: &str| Status::ask(kubectl, pod).ok();
        pods.iter().filter_map(|pod| Self::of(pod, Time::now(), ask)).collect()
    }

    fn of(pod: &Pod, now: Time, ask: impl Fn(&str) -> Option<Status>) -> Option<Self> {
        let until = pod.metadata.deletion_timestamp?;
        let begun = until.minus(pod.metadata.deletion_grace_period_seconds);
        let runs = |name| pod.container(name).is_some_and(|one| one.state.running.is_some());
        let does = if runs(TRACER_CONTAINER) {
            let status = ask(&pod.metadata.name);
            // Asked in any case: a file that does not get away now will not get away later.
            match (runs(VLLM_CONTAINER), status.as_ref().and_then(Upload::of)) {
                (true, None) => Does::Vllm,
                (true, Some(upload)) if upload.error.is_none() => Does::Vllm,
                (_, upload) => Does::Tracer(upload),
            }
        } else if runs(VLLM_CONTAINER) {
            Does::Vllm
        } else {
            Does::Nothing
        };
        let name = pod.metadata.name.clone();
        Some(Self { pod: name, since: now.since(begun), left: until.since(now), does })
    }
}

impl Stopping {
    /// What it still does.
    pub(crate) fn what(&self) -> String {
        match &self.does {
            Does::Vllm => "vLLM ends".to_owned(),
            Does::Tracer(None) => "the tracer closes its trace".to_owned(),
            Does::Tracer(Some(upload)) => upload.to_string(),
            Does::Nothing => "no container of it runs".to_owned(),
        }
    }
}

impl Upload {
    /// None where uploads are switched off.
    pub(crate) fn of(status: &Status) -> Option<Self> {
        let uploads = status.uploads.as_ref()?;
        Some(Self {
            files: status.segments.waiting,
            bytes: status.segments.waiting_bytes,
            error: uploads.failing.as_ref().map(|failing| failing.error.clone()),
        })
    }
}

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pod, since, left, .. } = self;
        write!(f, "{pod}: stopping since {} s, ", since.as_secs())?;
        match left.as_secs() {
            0 => write!(f, "past its grace period")?,
            left => write!(f, "for {left} s more at most")?,
        }
        write!(f, ": {}", self.what())
    }
}

impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, bytes, error } = self;
        write!(f, "{files} trace files ({:.1} MB) wait for upload", *bytes as f64 / 1e6)?;
        error.as_ref().map_or(Ok(()), |error| write!(f, ", which fails: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(tracer: &Value, vllm: &Value, status: Option<&Value>, now: &str) -> String {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "vllm-1-a", "deletionTimestamp": "2026-11-24T04:30:00Z",
                "deletionGracePeriodSeconds": 100,
            },
            "status": {
                "initContainerStatuses": [{ "name": "ebpf-tracer", "state": tracer }],
                "containerStatuses": [{ "name": "vllm", "state": vllm }],
            },
        }))
        .unwrap();
        let now: Time = serde_json::from_value(json!(now)).unwrap();
        let ask = |_: &str| status.map(|status| serde_json::from_value(status.clone()).unwrap());
        Stopping::of(&pod, now, ask).unwrap().to_string()
    }

    fn status(error: &Value) -> Value {
        json!({
            "phase": "stopping", "run": "r", "target_process": "p", "visible_processes": 1,
            "processes": [], "calls": { "recorded": 1, "dropped_at_ring": 0, "dropped_at_disk": 0 },
            "segments": { "closed": 3, "written_bytes": 9, "waiting": 3, "waiting_bytes": 34_000_000 },
            "uploads": { "destination": "s3://b/p", "stored": 0, "failing": error },
        })
    }

    #[test]
    fn what_a_pod_does_on_its_way_out_is_said() {
        let (runs, ended) = (json!({ "running": {} }), json!({ "terminated": {} }));
        let works = status(&Value::Null);
        let fails = status(&json!({ "since": "x", "error": "cannot reach it" }));
        let early = "2026-11-24T04:28:30Z";
        for (tracer, vllm, status, now, expected) in [
            (&runs, &runs, Some(&works), early, "since 10 s, for 90 s more at most: vLLM ends"),
            (&runs, &ended, Some(&works), early, ": 3 trace files (34.0 MB) wait for upload"),
            (&runs, &runs, Some(&fails), early, "wait for upload, which fails: cannot reach it"),
            (&runs, &ended, None, early, ": the tracer closes its trace"),
            (&ended, &ended, None, "2026-11-24T04:31:00Z", "past its grace period: no container"),
        ] {
            let said = said(tracer, vllm, status, now);
            assert!(said.contains(expected), "{said}");
        }
    }
}
