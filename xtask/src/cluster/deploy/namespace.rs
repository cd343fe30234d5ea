//! The namespace before anything is put into it: absent, there, or still being deleted.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, Result};
use tasks::{advice::explained, ctx::Ctx};

use crate::cluster::{kubectl::Kubectl, objects::Namespace};
use settings::names::NAMESPACE;

/// An earlier deployment takes its pod's grace period to go.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn get(kubectl: &Kubectl) -> Result<Option<Namespace>> {
    Kubectl::get(&kubectl.command("get namespace").arg(NAMESPACE))
}

/// Nothing can be created in one that is being deleted. Returns the one that is there.
pub(super) fn wait_until_usable(
    ctx: &Ctx,
    kubectl: &Kubectl,
    timeout: Duration,
) -> Result<Option<Namespace>> {
    if ctx.dry_run {
        return Ok(None);
    }
    let limit = timeout.min(LIMIT);
    let deadline = Instant::now() + limit;
    let mut said = false;
    loop {
        let Some(namespace) = get(kubectl)? else { return Ok(None) };
        if namespace.status.phase != "Terminating" {
            return Ok(Some(namespace));
        }
        if !said {
            eprintln!("wait    the namespace {NAMESPACE} is being deleted");
            said = true;
        }
        if Instant::now() >= deadline {
            return Err(stuck(&namespace, limit));
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// What holds it is told by its conditions.
pub(crate) fn stuck(namespace: &Namespace, waited: Duration) -> Error {
    let mut holds: Vec<String> = namespace
        .status
        .conditions
        .iter()
        .filter(|condition| condition.status == "True")
        .map(|condition| format!("\n  {}: {}", condition.reason, condition.message))
        .collect();
    let is_discovery = holds.iter().any(|text| text.contains("DiscoveryFailed"));
    holds.dedup();
    let (cause, next) = if is_discovery {
        (
            "an aggregated API does not answer, so Kubernetes cannot tell what is left in it",
            "kubectl get apiservices | grep False, and repair or delete what it names",
        )
    } else {
        (
            "something in it is not gone yet, or has a finalizer that nobody removes",
            "kubectl get all,pvc -n vllm-tracing, then repeat",
        )
    };
    let waited = waited.as_secs();
    let what = format!("the namespace {NAMESPACE} is still being deleted after {waited} s");
    explained(format!("{what}{}", holds.concat()), cause, next)
}
