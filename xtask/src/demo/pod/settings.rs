//! The deployment of the demo's pod, as `manifests` renders it for podman.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{S3, S3_PORT, images::Images, kubelet::Duties};
use tasks::command::Command;

use crate::demo::{
    files::Files,
    store::{ACCESS_KEY, BUCKET, SECRET_KEY},
};
use settings::names::AWS_SECRET;

/// Where the called libraries leave their counts: in the volume for models, which outlives vLLM.
const COUNTS: &str = "/root/.cache";

pub(super) struct Rendered {
    /// What podman plays.
    pub(super) manifest: PathBuf,
    /// What it leaves to others.
    pub(super) duties: Duties,
}

/// Everything is as by default but what the demo needs: images, a store, and short intervals.
pub(super) fn render(
    files: &Files,
    images: &Images,
    profile: &str,
    trace_format: &str,
) -> Result<Rendered> {
    let settings = [
        format!("--profile={profile}"),
        format!("--tracer-image={}", images.sidecar),
        format!("--vllm-image={}", images.standins),
        format!("--vllm-env={}={COUNTS}", crate::demo::callees::DIRECTORY_VARIABLE),
        format!("--s3-bucket={BUCKET}"),
        format!("--s3-endpoint=http://{S3}:{S3_PORT}"),
        // Else the tracer asks the cloud for its region, if this machine is in one.
        "--aws-ec2-metadata-disabled=true".to_owned(),
        format!("--trace-format={trace_format}"),
        "--trace-interval=2".to_owned(),
        "--upload-interval=3".to_owned(),
        // An hour is for a model.
        "--startup-timeout=60".to_owned(),
    ];
    // Nothing of it from the variables of whoever runs the demo.
    let manifests =
        || Command::new("env -i").path(&files.program("manifests")).args(settings.clone());
    let objects = manifests().arg("--for-podman").read().context("cannot render the pod")?;
    let manifest = files.root().join("pod.yaml");
    write(&manifest, &format!("{objects}\n---\n{}\n", secret()))?;
    let duties = manifests().arg("--kubelet").read().context("cannot render the probes")?;
    let duties = serde_json::from_str(&duties).context("cannot understand the probes")?;
    Ok(Rendered { manifest, duties })
}

/// What `cargo xtask secrets --aws` would store.
fn secret() -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": AWS_SECRET },
        "stringData": { "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY },
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
