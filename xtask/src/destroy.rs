//! `cargo xtask destroy`: the deployment first, so that the tracer can upload, and then the rest.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    build,
    cluster::{
        Cluster,
        kubectl::Kubectl,
        names::{DEPLOYMENT, NAMESPACE, SERVICE},
        objects::Namespace,
    },
    command::{Command, is_on_path},
    ctx::{Ctx, State},
    deploy::namespace::stuck,
};

/// Remove the deployment: first the pod, which lets the tracer upload what it has, then the rest
///
/// Storage (models, traces that were not uploaded), secrets and the namespace stay, unless --purge
/// is given. K3s and what `install` brought stay in any case: see `uninstall`.
#[derive(Debug, Args)]
pub(crate) struct Destroy {
    #[command(flatten)]
    cluster: Cluster,

    /// Also delete storage with models and traces, secrets, the namespace and the sidecar's image
    #[arg(long)]
    purge: bool,

    /// Do not ask before deleting data
    #[arg(long)]
    yes: bool,

    /// Longest wait for the pod to close and upload its trace, and for the namespace to go
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

pub(crate) fn run(ctx: &Ctx, task: &Destroy) -> Result<()> {
    let Destroy { cluster, purge, yes, timeout } = task;
    let kubectl = Kubectl::find(ctx, cluster)?;
    if *purge {
        confirm(
            ctx,
            *yes,
            "This deletes the model cache, traces that were not uploaded, and the secrets in the \
             namespace vllm-tracing.",
        )?;
    }
    let limit = Duration::from_secs(*timeout);
    ctx.step("remove the deployment", || remove_deployment(ctx, &kubectl, limit))?;
    ctx.step("remove service, settings and account", || rest(ctx, &kubectl))?;
    if *purge {
        ctx.step("delete storage, secrets and namespace", || namespace(ctx, &kubectl, limit))?;
        ctx.step("remove the image from K3s", || image(ctx))?;
    }
    Ok(())
}

/// In the foreground: it returns when the pod is gone, and the tracer has uploaded.
pub(crate) fn remove_deployment(ctx: &Ctx, kubectl: &Kubectl, limit: Duration) -> Result<()> {
    let name = format!("deployment/{DEPLOYMENT}");
    let delete = kubectl
        .namespaced("delete")
        .arg(&name)
        .words("--ignore-not-found --cascade=foreground --wait")
        .arg(format!("--timeout={}s", limit.as_secs()));
    gone(ctx, kubectl, &[&name], delete).context(
        "the pod is not gone, so its last traces may not be uploaded: cargo xtask logs tracer",
    )
}

fn rest(ctx: &Ctx, kubectl: &Kubectl) -> Result<()> {
    let service = format!("service/{SERVICE}");
    let names = [
        &service[..],
        "configmap/ebpf-tracer",
        "rolebinding/vllm",
        "role/vllm",
        "serviceaccount/vllm",
    ];
    let delete = kubectl.namespaced("delete").args(names).words("--ignore-not-found");
    gone(ctx, kubectl, &names, delete)
}

fn gone(ctx: &Ctx, kubectl: &Kubectl, names: &[&str], delete: Command) -> Result<()> {
    let look = || {
        let get = kubectl.namespaced("get").args(names.iter().copied());
        Ok(state(&get.words("--ignore-not-found -o name").read()?))
    };
    ctx.converge(names[0], look, &[delete])
}

fn state(present: &str) -> State {
    let present: Vec<&str> = present.split_whitespace().collect();
    if present.is_empty() {
        return State::Met("not there".to_owned());
    }
    State::Unmet(format!("there: {}", present.join(", ")))
}

fn namespace(ctx: &Ctx, kubectl: &Kubectl, limit: Duration) -> Result<()> {
    let get = || -> Result<Option<Namespace>> {
        Kubectl::get(&kubectl.command("get namespace").arg(NAMESPACE))
    };
    let look = || {
        Ok(match get()? {
            None => State::Met("not there".to_owned()),
            Some(_) => State::Unmet("there".to_owned()),
        })
    };
    let delete = kubectl
        .command("delete namespace")
        .arg(NAMESPACE)
        .words("--ignore-not-found --wait")
        .arg(format!("--timeout={}s", limit.as_secs()));
    ctx.converge(NAMESPACE, look, &[delete]).or_else(|error| match get() {
        Ok(Some(namespace)) if namespace.status.phase == "Terminating" => {
            bail!("{}", stuck(&namespace, limit))
        }
        _ => Err(error),
    })
}

fn image(ctx: &Ctx) -> Result<()> {
    let Some(reference) = build::last() else {
        eprintln!("ok      image: none was built here");
        return Ok(());
    };
    if !is_on_path("k3s") && !ctx.dry_run {
        eprintln!("note    K3s is not on this machine: {reference} stays where it is");
        return Ok(());
    }
    let list = || Command::new("k3s ctr -n k8s.io images ls -q").with_root();
    let look = || {
        let is_there = list().read()?.lines().any(|image| image == reference);
        Ok(state(if is_there { &reference } else { "" }))
    };
    ctx.converge(&reference, look, &[build::removal(&reference)])
}

/// Asks on the terminal; without one, only a `--yes` counts.
pub(crate) fn confirm(ctx: &Ctx, yes: bool, warning: &str) -> Result<()> {
    if yes || ctx.dry_run {
        eprintln!("note    {warning}");
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("{warning} Nobody can be asked, as stdin is no terminal: repeat with --yes");
    }
    eprint!("{warning}\nGo on? [y/N] ");
    io::stderr().flush().context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        bail!("nothing was deleted");
    }
    Ok(())
}
