//! `cargo xtask verify` on the cluster: the four checks, and whether what lies in S3 is whole.

mod stored;

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::Check;
use tasks::ctx::Ctx;

use crate::cluster::{
    Cluster,
    bucket::Bucket,
    diagnosis::{Finding, GracePeriods, diagnose, of_tracer, of_uploads},
    kubectl::Kubectl,
    observe::Snapshot,
    tracer::{Status, Uploads},
};
use settings::names::{DEPLOYMENT, TRACER_CONTAINER};

const PAUSE: Duration = Duration::from_secs(5);

/// Returns whether all checks have passed; asks again until then, or until the timeout has passed:
/// the first upload takes a rotation and an upload interval.
pub(crate) fn verify(ctx: &Ctx, cluster: &Cluster, json: bool, timeout: Duration) -> Result<bool> {
    let kubectl = Kubectl::find(ctx, cluster)?;
    if ctx.dry_run {
        show_commands(&kubectl);
        return Ok(true);
    }
    let deadline = Instant::now() + timeout;
    let (mut said, mut grace_periods) = (String::new(), GracePeriods::default());
    let (checks, status, report) = loop {
        let snapshot = Snapshot::take(&kubectl)?;
        let (mut checks, asked) = four_checks(&kubectl, &snapshot);
        let findings = [diagnose(&snapshot), asked.iter().flat_map(of_tracer).collect()].concat();
        let lost = grace_periods.over(&findings, |finding| eprintln!("note    {finding}"));
        if let Some(finding) = &lost {
            eprintln!("note    {finding}");
        }
        // What waiting does not heal ends it, as `status` would say it.
        let is_over = lost.is_some() || Instant::now() >= deadline;
        let status = asked.and_then(Result::ok);
        let is_early = checks.iter().any(|check| !check.passed);
        let stored = stored::check(&kubectl, status.as_ref().filter(|_| !is_early));
        // A run that has just begun has nothing there yet, whatever runs before it have.
        let is_early = is_early || stored.is_none();
        let (whole, report) =
            stored.unwrap_or_else(|| (stored::nothing_yet(status.as_ref()), None));
        checks.push(whole);
        if !is_early || is_over {
            break (checks, status, report);
        }
        let failed: Vec<&str> =
            checks.iter().filter(|check| !check.passed).map(|check| check.name).collect();
        let line = format!("wait    not yet: {}", failed.join("; "));
        if line != said {
            eprintln!("{line}");
            said = line;
        }
        thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
    };
    let passed = checks.iter().all(|check| check.passed);
    if json {
        let result = serde_json::json!({
            "passed": passed, "checks": checks, "tracer": status, "trace": report,
        });
        println!("{}", serde_json::to_string_pretty(&result).context("cannot print the result")?);
    } else {
        super::print(&checks);
    }
    Ok(passed)
}

/// Where `verify` has left what it downloaded.
pub(crate) fn downloaded(kubectl: &Kubectl) -> Result<PathBuf> {
    Ok(stored::directory(&Bucket::find(Ok(kubectl))?))
}

/// Nothing of it changes anything; said for those who want to know.
fn show_commands(kubectl: &Kubectl) {
    let status = Status::command(kubectl, &format!("deployment/{DEPLOYMENT}"));
    eprintln!("would run: {}\nwould run: {}", Snapshot::command(kubectl).shown(), status.shown());
    eprintln!(
        "would download the traces of the run from S3, as `cargo xtask fetch` does, and check that they \
         are whole, as `cargo xtask verify --traces DIR` does"
    );
}

/// And what the tracer says, if it runs.
fn four_checks(
    kubectl: &Kubectl,
    snapshot: &Snapshot,
) -> (Vec<Check>, Option<Result<Status, String>>) {
    let asked = snapshot.ask_tracer(kubectl);
    let of_status = match &asked {
        Some(asked) => of_status(asked),
        None => of_status(&Err("the sidecar does not run".to_owned())),
    };
    ([vec![sidecar_is_running(snapshot)], of_status].concat(), asked)
}

/// What the tracer says, or why it says nothing, as three of the four checks.
pub(crate) fn of_status(asked: &Result<Status, String>) -> Vec<Check> {
    let names = ["vLLM process is discovered", "trace files are created", "S3 uploads work"];
    match asked {
        Ok(status) => {
            let judged =
                [vllm_is_discovered(status), files_are_created(status), uploads_work(status)];
            names.into_iter().zip(judged).map(|(name, judged)| Check::new(name, judged)).collect()
        }
        Err(error) => names.map(|name| Check::new(name, Err(error.clone()))).to_vec(),
    }
}

type Judged = Result<String, String>;

fn sidecar_is_running(snapshot: &Snapshot) -> Check {
    let container = snapshot.pod().and_then(|pod| Some((pod, pod.container(TRACER_CONTAINER)?)));
    let judged = match container {
        None => Err("there is no pod with it: cargo xtask deploy".to_owned()),
        Some((pod, container)) => {
            let detail = format!("{}: {}", pod.metadata.name, container.describe());
            if container.state.running.is_some() { Ok(detail) } else { Err(detail) }
        }
    };
    Check::new("sidecar is running", judged)
}

fn vllm_is_discovered(status: &Status) -> Judged {
    if let Some(process) = status.traced().find(|process| process.has_called) {
        let (pid, title, part) = (process.pid, process.title(), process.part());
        return Ok(format!("pid {pid}, {title:?}{part}: {}", process.reason));
    }
    if let Some(process) = status.traced().next() {
        return Err(format!("pid {} is a target, but has not called CUDA yet", process.pid));
    }
    let seen = status.visible_processes;
    let foreign = status.processes.iter().find(|process| process.is_running);
    Err(match foreign {
        Some(process) => format!(
            "pid {}, {:?} uses CUDA, but {}: set TARGET_PROCESS",
            process.pid,
            process.title(),
            process.reason
        ),
        None if seen <= 1 => format!(
            "the sidecar sees {seen} processes: the pod needs shareProcessNamespace, or hostPID"
        ),
        None => format!(
            "none of the {seen} processes that the sidecar sees uses CUDA; it looks for {:?}",
            status.target_process
        ),
    })
}

fn files_are_created(status: &Status) -> Judged {
    let segments = &status.segments;
    let detail = format!(
        "{} closed, {} bytes, {} waiting; {} calls, {} dropped",
        segments.closed,
        segments.written_bytes,
        segments.waiting,
        status.calls.recorded,
        status.dropped()
    );
    if segments.written_bytes > 0 { Ok(detail) } else { Err(detail) }
}

fn uploads_work(status: &Status) -> Judged {
    let Some(uploads) = &status.uploads else {
        return Err("uploads are switched off: UPLOAD_ENABLED is false".to_owned());
    };
    if let Some(Finding { what, cause, next, .. }) = of_uploads(uploads) {
        return Err(format!("{what}; cause: {cause}; next: {next}"));
    }
    let Uploads { destination, stored, .. } = uploads;
    match stored {
        0 => Err(format!("nothing was uploaded to {destination} yet")),
        stored => Ok(format!("{stored} objects in {destination}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: serde_json::Value) -> Status {
        let mut all = serde_json::json!({
            "phase": "recording", "run": "node_x", "target_process": "python",
            "visible_processes": 5, "processes": [], "segments":
            { "closed": 0, "written_bytes": 0, "waiting": 0 },
            "calls": { "recorded": 0, "dropped_at_ring": 0, "dropped_at_disk": 0 },
        });
        for (key, value) in json.as_object().unwrap() {
            all[key] = value.clone();
        }
        serde_json::from_value(all).unwrap()
    }

    fn process(matched_by: Option<&str>, has_called: bool) -> serde_json::Value {
        serde_json::json!({ "processes": [{
            "pid": 17, "command": "VLLM_CONTAINER::EngineCore", "comm": "VLLM_CONTAINER::EngineCor",
            "matched_by": matched_by, "has_called": has_called, "is_running": true,
            "reason": "a target started it",
        }]})
    }

    #[test]
    fn a_target_counts_when_it_has_called() {
        let found = vllm_is_discovered(&status(process(Some("ancestor"), true)));
        assert_eq!(found.unwrap(), "pid 17, \"VLLM_CONTAINER::EngineCore\": a target started it");
        let mut engine = process(Some("ancestor"), true);
        engine["processes"][0]["role"] = "engine_core".into();
        let found = vllm_is_discovered(&status(engine)).unwrap();
        assert!(
            found.contains("\"VLLM_CONTAINER::EngineCore\" (engine_core): a target"),
            "{found}"
        );
        assert!(vllm_is_discovered(&status(process(Some("ancestor"), false))).is_err());
        let foreign = vllm_is_discovered(&status(process(None, true))).unwrap_err();
        assert!(foreign.contains("TARGET_PROCESS"), "{foreign}");
    }

    #[test]
    fn a_namespace_that_is_not_shared_is_named() {
        let alone = status(serde_json::json!({ "visible_processes": 1 }));
        assert!(vllm_is_discovered(&alone).unwrap_err().contains("shareProcessNamespace"));
    }

    /// In the words of the sidecar.
    #[test]
    fn a_store_that_refuses_is_explained() {
        for (error, expected) in [
            (
                "cannot put s3://b/k: S3 in us-east-1 answers 403 AccessDenied (the credentials need s3:PutObject on b)",
                "cargo xtask secrets --aws",
            ),
            (
                "cannot use s3://b/k: S3 in us-east-1 answers 404 NoSuchBucket (check S3_BUCKET, and whether S3 in us-east-1 is the right place)",
                "correct S3_BUCKET",
            ),
            (
                "cannot put s3://b/k: S3 in us-east-1 answers 301 PermanentRedirect (set AWS_REGION to eu-west-1)",
                "AWS_REGION",
            ),
        ] {
            let failing = serde_json::json!({ "since": "2026-11-24T00:00:00Z", "error": error });
            let uploads = serde_json::json!({ "uploads": {
                "destination": "s3://b/", "stored": 3, "failing": failing,
            }});
            let judged = uploads_work(&status(uploads)).unwrap_err();
            assert!(judged.contains("next:") && judged.contains(expected), "{judged}");
        }
    }
}
