//! Into K3s's containerd, where kubelet finds it, and pinned, or kubelet removes it when disk runs short.
//!
//! Not by K3s's directory of images: there an archive of the same size counts as unchanged, and
//! errors show in the journal only.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Image, archive};
use settings::names::IMAGE;
use tasks::{
    command::{Command, Failure, is_on_path},
    ctx::{Ctx, State},
};

const PINNED: &str = "io.cri-containerd.pinned=pinned";

#[derive(Default, Deserialize)]
struct Inspected {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    id: String,
}

pub(super) fn into_k3s(ctx: &Ctx, Image { reference, archive }: &Image) -> Result<()> {
    let act = commands(reference, archive);
    if ctx.dry_run {
        return ctx.converge("image in K3s", || Ok(State::Unmet("not built yet".to_owned())), &act);
    }
    let digest = archive::config_digest(archive)?;
    ctx.converge("image in K3s", || look(reference, &digest), &act)
}

fn commands(reference: &str, archive: &Path) -> [Command; 2] {
    let images = || Command::new("k3s ctr -n k8s.io images").with_root();
    [
        images().words("import --platform linux/amd64").path(archive),
        images().words("label").arg(reference).arg(PINNED),
    ]
}

/// Removes every image of the sidecar, pinned or not: each content has left one.
pub(crate) fn remove_all(ctx: &Ctx) -> Result<()> {
    let prefix = format!("{IMAGE}:");
    let list = || {
        ensure!(is_on_path("k3s"), "`k3s` is not on PATH");
        let list = Command::new("k3s ctr -n k8s.io images ls -q").with_root().read()?;
        let images = list.lines().filter(|image| image.starts_with(&prefix)).map(str::to_owned);
        anyhow::Ok(images.collect::<Vec<_>>())
    };
    let found = match list() {
        Err(_) if ctx.dry_run => vec![format!("{prefix}TAG")],
        found => found?,
    };
    let look = || {
        let there = list()?;
        Ok(match &there[..] {
            [] => State::Met("not there".to_owned()),
            images => State::Unmet(format!("there: {}", images.join(", "))),
        })
    };
    let remove = Command::new("k3s ctr -n k8s.io images rm").args(found).with_root();
    ctx.converge("image in K3s", look, &[remove])
}

fn look(reference: &str, digest: &str) -> Result<State> {
    let inspect = Command::new("k3s crictl inspecti -o json").arg(reference).with_root();
    let json = match inspect.read() {
        Ok(json) => json,
        Err(error) => {
            let said = error.downcast_ref::<Failure>().map(Failure::said).unwrap_or_default();
            if said.contains("no such image") || said.contains("not found") {
                return Ok(State::Unmet(format!("{reference} is not there")));
            }
            return Err(error);
        }
    };
    let Inspected { status } =
        serde_json::from_str(&json).context("cannot read what crictl answers")?;
    if status.id != digest {
        return Ok(State::Unmet(format!("it has {}, not {digest}", status.id)));
    }
    let list = Command::new("k3s ctr -n k8s.io images ls").arg(format!("name=={reference}"));
    if !list.with_root().read()?.contains(PINNED) {
        return Ok(State::Unmet("not pinned: kubelet may remove it".to_owned()));
    }
    Ok(State::Met(format!("{digest}, pinned")))
}
