//! Waiting for the pod of a deleted deployment: what is awaited, how long, and what is left in the end.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use tasks::advice::explained;

use crate::cluster::{
    kubectl::Kubectl,
    observe::Snapshot,
    stopping::{Does, Stopping, Upload},
};
use settings::names::TRACES;

const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A sign of life while the pod does the same.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Returns what the pod could not upload, in words.
pub(super) fn wait(kubectl: &Kubectl, limit: Duration) -> Result<Option<String>> {
    let deadline = Instant::now() + limit;
    let (mut pause, mut said): (Duration, Option<(String, Instant)>) = (MIN_PAUSE, None);
    let mut last: Option<Upload> = None;
    loop {
        let snapshot = Snapshot::take(kubectl)?;
        let is_gone = snapshot.deployment.is_none() && snapshot.stopping.is_empty();
        if is_gone {
            return Ok(last.and_then(|upload| left(&upload)));
        }
        let stopping = snapshot.stopping.first();
        if let Some(Stopping { does: Does::Tracer(Some(upload)), .. }) = stopping {
            last = Some(upload.clone());
        }
        let does = stopping.map_or("the deployment is being deleted".to_owned(), |stopping| {
            format!("{}, {}", stopping.pod, stopping.what())
        });
        let is_news =
            said.as_ref().is_none_or(|(text, at)| *text != does || at.elapsed() >= SIGN_OF_LIFE);
        if is_news {
            let line = stopping.map_or_else(|| does.clone(), ToString::to_string);
            eprintln!("wait    {line}");
            said = Some((does.clone(), Instant::now()));
        }
        if Instant::now() >= deadline {
            return Err(explained(
                format!("the pod is not gone after {} s: {does}", limit.as_secs()),
                "a pod that uploads its last traces takes its time, and one whose node does not answer stays",
                "cargo xtask logs tracer; then repeat, with a longer --timeout",
            ));
        }
        thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
        pause = (pause * 3 / 2).min(MAX_PAUSE);
    }
}

fn left(upload: &Upload) -> Option<String> {
    (upload.files > 0).then(|| {
        format!(
            "when it was asked last, {upload}\n        what did not get away lies in the claim {TRACES}: the \
             next deployment uploads it; --purge deletes it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_with_its_place() {
        let upload = |files| Upload { files, bytes: 34_000_000, error: Some("no way".to_owned()) };
        assert_eq!(left(&upload(0)), None);
        let left = left(&upload(3)).unwrap();
        assert!(left.contains("3 trace files (34.0 MB)") && left.contains("vllm-traces"), "{left}");
    }
}
