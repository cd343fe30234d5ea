//! kubectl, K3s's own before any other: a kubectl that does not come from K3s knows nothing of its
//! kubeconfig and asks localhost:8080.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;

use super::{
    Cluster,
    names::{FIELD_MANAGER, NAMESPACE},
};
use crate::{
    command::{Command, Failure, is_on_path},
    ctx::Ctx,
};

const OF_K3S: &str = "/etc/rancher/k3s/k3s.yaml";

#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    program: &'static str,
    kubeconfig: Option<PathBuf>,
}

impl Kubectl {
    /// A dry run takes K3s's for granted where there is none yet.
    pub(crate) fn find(ctx: &Ctx, cluster: &Cluster) -> Result<Self> {
        let program = match (is_on_path("k3s"), is_on_path("kubectl")) {
            (true, _) => "k3s kubectl",
            (false, true) => "kubectl",
            (false, false) if ctx.dry_run => "k3s kubectl",
            (false, false) => bail!(
                "neither `k3s` nor `kubectl` is on PATH\n\
                 cause: K3s is not installed on this machine\n\
                 next:  `cargo xtask install` on the GPU node; elsewhere install kubectl and name \
                 the cluster with --kubeconfig FILE"
            ),
        };
        Ok(Self { program, kubeconfig: kubeconfig(cluster, program)? })
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(self.program);
        if let Some(file) = &self.kubeconfig {
            command = command.arg("--kubeconfig").path(file);
        }
        command.words(words)
    }

    /// In the namespace of the deployment.
    pub(crate) fn namespaced(&self, words: &str) -> Command {
        self.command("-n").arg(NAMESPACE).words(words)
    }

    /// Server-side: without the annotation that repeats the object, and with one owner per field.
    pub(crate) fn apply(&self) -> Command {
        self.command("apply --server-side --force-conflicts")
            .arg(format!("--field-manager={FIELD_MANAGER}"))
            .words("-f -")
    }

    /// An object, or a list; none if the server has no such object.
    pub(crate) fn get<T: DeserializeOwned>(get: &Command) -> Result<Option<T>> {
        let get = get.clone().words("-o json");
        match get.read() {
            Ok(json) => {
                let shown = get.shown();
                let object = serde_json::from_str(&json);
                object.map(Some).with_context(|| format!("cannot read what `{shown}` answers"))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Failure>()
        .is_some_and(|failure| failure.output.stderr.contains("(NotFound)"))
}

/// What kubectl must be told; none where it finds the right file by itself.
fn kubeconfig(cluster: &Cluster, program: &str) -> Result<Option<PathBuf>> {
    if let Some(file) = &cluster.kubeconfig {
        fs::File::open(file).with_context(|| {
            format!("cannot read the kubeconfig {}: name another with --kubeconfig", file.display())
        })?;
        return Ok(Some(file.clone()));
    }
    if env::var_os("KUBECONFIG").is_some_and(|files| !files.is_empty()) {
        return Ok(None);
    }
    let of_user = env::home_dir().map(|home| home.join(".kube/config"));
    Ok(match (program, fs::File::open(OF_K3S)) {
        // Its own default, and it says so if it cannot read it.
        ("k3s kubectl", Ok(_)) => None,
        // A copy that was made because the file is root's.
        ("k3s kubectl", Err(_)) => of_user.filter(|file| file.exists()),
        (_, Ok(_)) => Some(Path::new(OF_K3S).to_owned()),
        (_, Err(_)) => None,
    })
}
