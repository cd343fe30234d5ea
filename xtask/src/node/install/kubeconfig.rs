//! A copy of K3s's kubeconfig for the user who goes on from here: K3s's own is for root only.

use std::{env, fs};

use anyhow::{Context as _, Result};
use tasks::{
    command::{Command, is_root},
    ctx::{Ctx, State},
};

use crate::cluster::kubectl::OF_K3S;

/// One that is there already, perhaps of another cluster, is left alone.
pub(super) fn copy(ctx: &Ctx) -> Result<()> {
    let home = env::home_dir().context("there is no home directory for a kubeconfig")?;
    let (directory, copy) = (home.join(".kube"), home.join(".kube/config"));
    let look = || {
        Ok(if is_root() || fs::File::open(OF_K3S).is_ok() {
            State::Met(format!("{OF_K3S} can be read"))
        } else if copy.exists() {
            State::Met(format!("{} is used, and left as it is", copy.display()))
        } else {
            State::Unmet("only root can read that of K3s".to_owned())
        })
    };
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    let act = [
        Command::new("mkdir --parents").path(&directory),
        Command::new("install --mode=0600")
            .arg(format!("--owner={}", user.as_raw()))
            .arg(format!("--group={}", group.as_raw()))
            .arg(OF_K3S)
            .path(&copy)
            .with_root(),
    ];
    ctx.converge("kubeconfig", look, &act)
}
