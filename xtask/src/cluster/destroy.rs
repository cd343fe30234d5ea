//! `cargo xtask destroy`: the deployment first, so that the tracer can upload, and then the rest.

mod stop;

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tasks::{
    advice::explained,
    command::{Command, is_on_path},
    ctx::{Ctx, State},
};

use crate::{
    cluster::{Cluster, deploy::namespace, kubectl::Kubectl, observe::Snapshot, tracer::Status},
    node::build,
};
use settings::names::{ACCOUNT, DEPLOYMENT, NAMESPACE, SERVICE, SETTINGS};

/// Remove the deployment; storage and secrets stay
///
/// First the pod, which lets the tracer upload what it has, and then the rest. Storage (models,
/// traces that were not uploaded), secrets and the namespace go only with --purge. K3s and what
/// `install` has brought stay in any case: see `uninstall`.
#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// Also delete storage with models and traces, secrets, the namespace and the sidecar's images
    #[arg(long)]
    purge: bool,

    /// Do not ask before deleting data
    #[arg(long)]
    yes: bool,

    /// Longest wait for the pod to close and upload its trace, and for the namespace to go
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,

    #[command(flatten)]
    cluster: Cluster,
}

pub(crate) fn run(ctx: &Ctx, task: &Destroy) -> Result<()> {
    let Destroy { purge, yes, timeout, cluster } = task;
    let kubectl = Kubectl::find(ctx, cluster)?;
    if *purge {
        let warning = format!(
            "This deletes the model cache, traces that were not uploaded{}, and the secrets in the \
             namespace {NAMESPACE}.",
            not_uploaded(ctx, &kubectl)
        );
        confirm(ctx, *yes, &warning)?;
    }
    let limit = Duration::from_secs(*timeout);
    ctx.step("remove the deployment", || remove_deployment(ctx, &kubectl, limit))?;
    ctx.step("remove service, settings and account", || rest(ctx, &kubectl))?;
    if *purge {
        ctx.step("delete storage, secrets and namespace", || {
            delete_namespace(ctx, &kubectl, limit)
        })?;
        ctx.step("remove the sidecar's images from K3s", || images(ctx))?;
    }
    Ok(())
}

/// What the tracer says of it, if it can be asked.
fn not_uploaded(ctx: &Ctx, kubectl: &Kubectl) -> String {
    let ask = || {
        let snapshot = Snapshot::take(kubectl).ok().filter(|_| !ctx.dry_run)?;
        Status::ask(kubectl, &snapshot.pod()?.metadata.name).ok()
    };
    let Some(status) = ask() else { return String::new() };
    let failing = status.uploads.and_then(|uploads| uploads.failing);
    let failing = failing.map(|failing| format!(", and uploads fail: {}", failing.error));
    format!(" ({} files now{})", status.segments.waiting, failing.unwrap_or_default())
}

/// Returns when the pod is gone, and the tracer has uploaded; says what it does until then, and what it
/// leaves.
pub(crate) fn remove_deployment(ctx: &Ctx, kubectl: &Kubectl, limit: Duration) -> Result<()> {
    let name = format!("deployment/{DEPLOYMENT}");
    let delete = kubectl
        .namespaced("delete")
        .arg(&name)
        .words("--ignore-not-found --cascade=foreground --wait=false");
    let look = || {
        let get = kubectl.namespaced("get").arg(&name).words("--ignore-not-found -o name");
        Ok(state(&get.read()?))
    };
    if ctx.dry_run {
        return ctx.converge(&name, look, &[delete]);
    }
    match look()? {
        // Its pod may still go since an earlier `destroy`.
        State::Met(found) => eprintln!("ok      {name}: {found}"),
        State::Unmet(why) => {
            eprintln!("change  {name}: {why}");
            ctx.change(&delete)?;
        }
    }
    let stopped = stop::wait(kubectl, limit)?;
    if let State::Unmet(why) = look()? {
        bail!("{name}: still {why}, and its pod is gone");
    }
    eprintln!("done    {name}: not there");
    if let Some(left) = stopped {
        eprintln!("note    {left}");
    }
    Ok(())
}

fn rest(ctx: &Ctx, kubectl: &Kubectl) -> Result<()> {
    let names = [
        format!("service/{SERVICE}"),
        format!("configmap/{SETTINGS}"),
        format!("rolebinding/{ACCOUNT}"),
        format!("role/{ACCOUNT}"),
        format!("serviceaccount/{ACCOUNT}"),
    ];
    let delete = kubectl.namespaced("delete").args(names.clone()).words("--ignore-not-found");
    gone(ctx, kubectl, &names.each_ref().map(String::as_str), delete)
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

fn delete_namespace(ctx: &Ctx, kubectl: &Kubectl, limit: Duration) -> Result<()> {
    let look = || {
        Ok(match namespace::get(kubectl)? {
            None => State::Met("not there".to_owned()),
            Some(_) => State::Unmet("there".to_owned()),
        })
    };
    let delete = kubectl
        .command("delete namespace")
        .arg(NAMESPACE)
        .words("--ignore-not-found --wait")
        .arg(format!("--timeout={}s", limit.as_secs()));
    ctx.converge(NAMESPACE, look, &[delete]).map_err(|error| match namespace::get(kubectl) {
        Ok(Some(namespace)) if namespace.status.phase == "Terminating" => {
            namespace::stuck(&namespace, limit)
        }
        _ => error,
    })
}

fn images(ctx: &Ctx) -> Result<()> {
    if !is_on_path("k3s") && !ctx.dry_run {
        eprintln!("note    K3s is not on this machine, so there is no image to remove");
        return Ok(());
    }
    build::remove_all(ctx)
}

/// Asks on the terminal; without one, only a `--yes` counts.
pub(crate) fn confirm(ctx: &Ctx, yes: bool, warning: &str) -> Result<()> {
    if yes || ctx.dry_run {
        eprintln!("note    {warning}");
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(explained(
            "nothing was deleted",
            format!("nobody can be asked, as stdin is no terminal. {warning}"),
            "if that is what you want, repeat with --yes",
        ));
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
