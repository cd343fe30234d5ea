//! `cargo xtask deploy`: applies the manifests and waits until vLLM is ready.

pub(crate) mod namespace;
mod preflight;
mod rights;
mod wait;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tasks::{
    advice::explained,
    command::Command,
    ctx::{Ctx, State},
};

use crate::{
    cluster::{Cluster, kubectl::Kubectl, secret},
    manifests::Settings,
    node::build,
};
use settings::names::{DEPLOYMENT, HF_SECRET, IMAGE};
pub(crate) use wait::{Wait, until_ready};

/// Apply the manifests and wait until vLLM has its model
///
/// Applying again what is there changes nothing. While it waits it says what the pod does, and ends
/// early when waiting makes no sense, with the cause and the command that helps.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Only apply
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    wait: Wait,

    /// Start the pod anew, even if nothing else changes: it takes secrets only when it starts
    #[arg(long)]
    restart: bool,

    #[command(flatten)]
    cluster: Cluster,

    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(ctx: &Ctx, task: &Deploy) -> Result<()> {
    let Deploy { no_wait, wait, restart, cluster, settings } = task;
    let kubectl = Kubectl::find(ctx, cluster)?;
    ctx.step("apply the manifests", || {
        apply(ctx, &kubectl, settings, &image(ctx, settings)?, wait.timeout())
    })?;
    if *restart {
        let restart = kubectl.namespaced("rollout restart").arg(format!("deployment/{DEPLOYMENT}"));
        ctx.step("start the pod anew", || ctx.change(&restart))?;
    }
    if *no_wait {
        return Ok(());
    }
    ctx.step("wait until vLLM is ready", || until_ready(ctx, &kubectl, *wait))
}

/// Fails if a setting is wrong, or if the cluster does not answer: before minutes go into a build.
pub(crate) fn check(ctx: &Ctx, kubectl: &Kubectl, settings: &Settings) -> Result<()> {
    ctx.change(&settings.render(&["--check"]))?;
    if ctx.dry_run { Ok(()) } else { namespace::get(kubectl).map(drop) }
}

/// With this image of the tracer, unless the settings name one. `timeout`: with a namespace that is
/// still being deleted.
pub(crate) fn apply(
    ctx: &Ctx,
    kubectl: &Kubectl,
    settings: &Settings,
    image: &str,
    timeout: Duration,
) -> Result<()> {
    let namespace = namespace::wait_until_usable(ctx, kubectl, timeout)?;
    let mut flags = rights::flags(ctx, kubectl, settings);
    let digest = if ctx.dry_run { None } else { secret::digest(kubectl) };
    if let Some(digest) = &digest {
        flags.extend(["--secrets-digest", digest]);
    }
    if !settings.name_an_image() {
        flags.extend(["--tracer-image", image]);
    }
    let render = settings.render(&flags);
    apply_checked(ctx, kubectl, &render, |text| {
        let dry = kubectl.apply_dry().text_from(&render, text);
        preflight::check(kubectl, namespace.as_ref(), &dry)
    })?;
    if ctx.dry_run { Ok(()) } else { note_missing_secret(kubectl) }
}

/// The one that was built last.
fn image(ctx: &Ctx, settings: &Settings) -> Result<String> {
    match build::last() {
        Some(image) => Ok(image),
        None if ctx.dry_run || settings.name_an_image() => Ok(format!("{IMAGE}:TAG")),
        None => Err(explained(
            "there is no image of the sidecar to deploy",
            "none was built here, and TRACER_IMAGE names none",
            "`cargo xtask build`, or `cargo xtask deploy --tracer-image IMAGE`",
        )),
    }
}

/// Applies what a command prints, unless the cluster has it already.
pub(crate) fn apply_rendered(ctx: &Ctx, kubectl: &Kubectl, render: &Command) -> Result<()> {
    apply_checked(ctx, kubectl, render, |_| Ok(()))
}

/// The same, if a check of what would be applied passes.
fn apply_checked(
    ctx: &Ctx,
    kubectl: &Kubectl,
    render: &Command,
    check: impl FnOnce(&str) -> Result<()>,
) -> Result<()> {
    if ctx.dry_run {
        return ctx.change(&kubectl.apply().text_from(render, ""));
    }
    let text = render.read_in_view()?;
    match look(&kubectl.diff().text_from(render, &text))? {
        State::Met(found) => eprintln!("ok      manifests: {found}"),
        State::Unmet(why) => {
            check(&text)?;
            eprintln!("change  manifests: {why}");
            kubectl.apply().text_from(render, &text).run()?;
        }
    }
    Ok(())
}

/// Compares by what the server would make of it, so that defaults are no difference.
fn look(diff: &Command) -> Result<State> {
    let diff = diff.output()?;
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
    if secret::read(kubectl, HF_SECRET)?.is_none() {
        eprintln!(
            "note    there is no secret {HF_SECRET}: a gated model needs it, see `cargo xtask secrets`"
        );
    }
    Ok(())
}
