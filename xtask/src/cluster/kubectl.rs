//! kubectl, K3s's own before any other: a kubectl that does not come from K3s knows nothing of its
//! kubeconfig and asks localhost:8080.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;

use super::Cluster;
use settings::names::{FIELD_MANAGER, NAMESPACE};
use tasks::{
    advice::explained,
    command::{Command, Failure, is_on_path},
    ctx::Ctx,
};

/// Readable by root only, unless K3s was told otherwise.
pub(crate) const OF_K3S: &str = "/etc/rancher/k3s/k3s.yaml";

const K3S: &str = "k3s kubectl";

#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    program: &'static str,
    kubeconfig: Option<PathBuf>,
    needs_root: bool,
}

impl Kubectl {
    /// A dry run takes K3s's for granted where there is none yet.
    pub(crate) fn find(ctx: &Ctx, cluster: &Cluster) -> Result<Self> {
        let program = match (is_on_path("k3s"), is_on_path("kubectl")) {
            (true, _) => K3S,
            (false, true) => "kubectl",
            (false, false) if ctx.dry_run => K3S,
            (false, false) => {
                return Err(explained(
                    "neither `k3s` nor `kubectl` is on PATH",
                    "K3s is not installed on this machine",
                    "`cargo xtask install` on the GPU node; elsewhere install kubectl and name the \
                     cluster with --kubeconfig FILE",
                ));
            }
        };
        let kubeconfig = match &cluster.kubeconfig {
            Some(file) => Some(readable(file)?),
            None => Files::found().choose(program),
        };
        Ok(Self { program, kubeconfig, needs_root: false })
    }

    /// The cluster of this machine, whatever the environment points to.
    pub(crate) fn of_this_node() -> Self {
        Self { program: K3S, kubeconfig: Some(OF_K3S.into()), needs_root: true }
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(self.program);
        if let Some(file) = &self.kubeconfig {
            command = command.arg("--kubeconfig").path(file);
        }
        if self.needs_root {
            command = command.with_root();
        }
        command.words(words)
    }

    /// In the namespace of the deployment.
    pub(crate) fn namespaced(&self, words: &str) -> Command {
        self.command("-n").arg(NAMESPACE).words(words)
    }

    /// Server-side: without the annotation that repeats the object, and with one owner per field.
    pub(crate) fn apply(&self) -> Command {
        self.server_side("apply")
    }

    /// The same, and nothing is kept: the server answers with what would be there.
    pub(crate) fn apply_dry(&self) -> Command {
        self.apply().words("--dry-run=server -o json")
    }

    /// What [`Self::apply`] would change.
    pub(crate) fn diff(&self) -> Command {
        self.server_side("diff")
    }

    fn server_side(&self, verb: &str) -> Command {
        self.command(verb)
            .words("--server-side --force-conflicts")
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

/// The user of the kubeconfig may not do it.
pub(crate) fn is_forbidden(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<Failure>()
        .is_some_and(|failure| failure.output.stderr.contains("(Forbidden)"))
}

fn readable(file: &Path) -> Result<PathBuf> {
    fs::File::open(file).map_err(|error| {
        let what = format!("cannot read the kubeconfig {}", file.display());
        explained(what, error, "name another with --kubeconfig FILE")
    })?;
    Ok(file.to_owned())
}

/// Kubeconfigs that could serve.
#[derive(Debug, Clone, Default)]
struct Files {
    /// KUBECONFIG names some.
    are_named: bool,
    of_k3s_is_readable: bool,
    /// ~/.kube/config, if it is there.
    of_user: Option<PathBuf>,
}

impl Files {
    fn found() -> Self {
        Self {
            are_named: env::var_os("KUBECONFIG").is_some_and(|files| !files.is_empty()),
            of_k3s_is_readable: fs::File::open(OF_K3S).is_ok(),
            of_user: env::home_dir()
                .map(|home| home.join(".kube/config"))
                .filter(|file| file.exists()),
        }
    }

    /// What kubectl must be told; none where it finds the right one by itself, and complains about it.
    fn choose(self, program: &str) -> Option<PathBuf> {
        let Self { are_named, of_k3s_is_readable, of_user } = self;
        match program {
            _ if are_named => None,
            // A copy that was made because the file is root's.
            K3S if !of_k3s_is_readable => of_user,
            K3S => None,
            _ => of_k3s_is_readable.then(|| OF_K3S.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_of_k3s_comes_after_the_named_one_and_before_that_of_the_user() {
        let copy = PathBuf::from("/home/me/.kube/config");
        let all = Files { are_named: true, of_k3s_is_readable: true, of_user: Some(copy.clone()) };
        let unnamed = Files { are_named: false, ..all.clone() };
        let unreadable = Files { of_k3s_is_readable: false, ..unnamed.clone() };
        for (files, program, expected) in [
            (all.clone(), K3S, None),
            (all, "kubectl", None),
            (unnamed.clone(), K3S, None),
            (unnamed, "kubectl", Some(OF_K3S.into())),
            (unreadable.clone(), K3S, Some(copy)),
            // Its own default.
            (unreadable, "kubectl", None),
            // K3s's kubectl says who may read the file.
            (Files::default(), K3S, None),
        ] {
            assert_eq!(files.clone().choose(program), expected, "{program}, {files:?}");
        }
    }

    #[test]
    fn the_node_is_asked_as_root_with_its_own_kubeconfig() {
        let shown = Kubectl::of_this_node().command("get nodes").shown();
        let shown = shown.strip_prefix("sudo ").unwrap_or(&shown);
        assert_eq!(shown, "k3s kubectl --kubeconfig /etc/rancher/k3s/k3s.yaml get nodes");
    }
}
