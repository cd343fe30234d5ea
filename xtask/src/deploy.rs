//! `cargo xtask deploy`: applies the manifests and waits until vLLM is ready.

pub(crate) mod namespace;
mod wait;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    build,
    cluster::{
        Cluster,
        kubectl::Kubectl,
        names::{FIELD_MANAGER, HF_SECRET, IMAGE},
    },
    command::Command,
    ctx::{Ctx, State},
    manifests::{self, Settings},
};
pub(crate) use wait::{Wait, until_ready};

/// Apply the manifests and wait until vLLM has its model and is ready
///
/// Applying again what is there changes nothing. While it waits it says what the pod does, and ends
/// early when waiting makes no sense, with the cause and the command that helps.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    cluster: Cluster,

    #[command(flatten)]
    wait: Wait,

    /// Only apply
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(ctx: &Ctx, task: &Deploy) -> Result<()> {
    let Deploy { cluster, wait, no_wait, settings } = task;
    let kubectl = Kubectl::find(ctx, cluster)?;
    let patience = wait.timeout();
    ctx.step("apply the manifests", || apply(ctx, &kubectl, settings, patience))?;
    if *no_wait {
        return Ok(());
    }
    ctx.step("wait until vLLM is ready", || until_ready(ctx, &kubectl, *wait))
}

/// The settings' own, or the one that was built last.
fn image(ctx: &Ctx, settings: &Settings) -> Result<Option<String>> {
    if settings.says("tracer-image") {
        return Ok(None);
    }
    match build::last() {
        Some(image) => Ok(Some(image)),
        None if ctx.dry_run => Ok(Some(format!("{IMAGE}:TAG"))),
        None => bail!(
            "no image of the sidecar was built here\n\
             next:  `cargo xtask build`, or name one: `cargo xtask deploy --tracer-image IMAGE`"
        ),
    }
}

/// `patience`: with a namespace that is still being deleted.
pub(crate) fn apply(
    ctx: &Ctx,
    kubectl: &Kubectl,
    settings: &Settings,
    patience: Duration,
) -> Result<()> {
    let mut render = manifests::program().words("--only app");
    if let Some(image) = image(ctx, settings)? {
        render = render.words("--tracer-image").arg(image);
    }
    let render = render.args(settings.settings.iter().cloned());
    namespace::wait_until_usable(ctx, kubectl, patience)?;
    apply_rendered(ctx, kubectl, &render)?;
    if ctx.dry_run { Ok(()) } else { note_missing_secret(kubectl) }
}

/// Applies what a command prints, unless the cluster has it already.
pub(crate) fn apply_rendered(ctx: &Ctx, kubectl: &Kubectl, render: &Command) -> Result<()> {
    let text = if ctx.dry_run { String::new() } else { render.read_in_view()? };
    let apply = kubectl.apply().text_from(render, &text);
    if ctx.dry_run {
        return ctx.change(&apply);
    }
    match look(kubectl, render, &text)? {
        State::Met(found) => eprintln!("ok      manifests: {found}"),
        State::Unmet(why) => {
            eprintln!("change  manifests: {why}");
            apply.run()?;
        }
    }
    Ok(())
}

/// Compares by what the server would make of it, so that defaults are no difference.
fn look(kubectl: &Kubectl, render: &Command, text: &str) -> Result<State> {
    let diff = kubectl
        .command("diff --server-side --force-conflicts")
        .arg(format!("--field-manager={FIELD_MANAGER}"))
        .words("-f -")
        .text_from(render, text)
        .limit(Duration::from_secs(60))
        .output()?;
    Ok(match diff.code {
        Some(0) => State::Met("the cluster has them as rendered".to_owned()),
        Some(1) => {
            // Lines of the form `diff -u -N /tmp/LIVE-1/KIND.NAMESPACE.NAME /tmp/MERGED-2/...`.
            let changed = diff.stdout.lines().filter(|line| line.starts_with("diff ")).count();
            State::Unmet(format!("{changed} objects differ"))
        }
        // In a namespace that is not there yet; what else is wrong shows when they are applied.
        _ => State::Unmet("not there to be compared with".to_owned()),
    })
}

fn note_missing_secret(kubectl: &Kubectl) -> Result<()> {
    let get = kubectl.namespaced("get secret").arg(HF_SECRET);
    if Kubectl::get::<serde_json::Value>(&get)?.is_none() {
        eprintln!(
            "note    there is no secret {HF_SECRET}: a gated model needs it, see `cargo xtask secrets`"
        );
    }
    Ok(())
}
