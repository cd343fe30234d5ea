//! Podman with a state of its own: storage, network and containers lie below one directory, and are
//! gone when the demo ends, however it ends.

mod remains;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use tasks::command::Command;

use crate::node::build::engine::Engine;
use settings::names::DEPLOYMENT;

pub(super) const NETWORK: &str = "vllm-tracing-demo";

/// Nothing of it runs, is mounted or stored any more when it is dropped.
pub(super) struct Podman {
    engine: Engine,
    directory: PathBuf,
}

impl Podman {
    pub(super) fn create(engine: &Engine, root: &Path) -> Result<Self> {
        let directory = root.join("podman");
        let cannot = || format!("cannot create {}", directory.display());
        fs::create_dir(&directory).with_context(cannot)?;
        let script = directory.join("podman");
        fs::write(&script, wrapper(engine, &directory)?).with_context(cannot)?;
        fs::set_permissions(&script, Permissions::from_mode(0o755)).with_context(cannot)?;
        let podman = Self { engine: Engine::named(&script.display().to_string())?, directory };
        podman.command("network create").arg(NETWORK).read().context("cannot create a network")?;
        Ok(podman)
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn command(&self, words: &str) -> Command {
        self.engine.command(words)
    }

    pub(super) fn program(&self) -> PathBuf {
        self.engine.program().into()
    }

    /// Creates the pod; its containers are started one by one.
    pub(super) fn play(&self, manifest: &Path) -> Result<()> {
        let play = self.command("kube play --start=false --log-driver k8s-file --network");
        play.arg(NETWORK).path(manifest).run()
    }

    /// Removes the pod, its volumes and its secret.
    pub(super) fn down(&self, manifest: &Path) -> Result<()> {
        self.command("kube down --force").path(manifest).read().map(drop)
    }

    pub(super) fn inspect(&self, name: &str, template: &str) -> Result<String> {
        self.command("container inspect --format").arg(template).arg(name).read()
    }

    /// Both streams of a container of the pod.
    pub(super) fn logs(&self, container: &str) -> Result<String> {
        let output = self.command("logs").arg(name_of(container)).output()?;
        ensure!(output.is_success(), "{}", output.stderr.trim());
        Ok(output.stdout + &output.stderr)
    }

    /// Where this machine reaches a port of a container.
    pub(super) fn published(&self, name: &str, port: u16) -> Result<String> {
        self.command("port").arg(name).arg(port.to_string()).read()
    }

    /// Where a volume lies on this machine.
    pub(super) fn volume(&self, name: &str) -> Result<PathBuf> {
        let inspect = self.command("volume inspect --format").arg("{{.Mountpoint}}").arg(name);
        Ok(inspect.read()?.into())
    }

    /// The pid of a container's process as the container sees it, and so the tracer.
    pub(super) fn pid_inside(&self, container: &str) -> Result<u32> {
        let pid = self.inspect(&name_of(container), "{{.State.Pid}}")?;
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inside = pids.and_then(|pids| pids.split_whitespace().last()?.parse().ok());
        inside.with_context(|| format!("{path} has no NSpid"))
    }

    /// Stops and removes all of it; what hangs is killed.
    pub(super) fn remove(&self) -> Result<()> {
        if !self.directory.exists() {
            return Ok(());
        }
        for remove in ["pod rm --all --force --time 3", "rm --all --force --time 3"] {
            self.command(remove).read()?;
        }
        let directory = self.directory.canonicalize().context("cannot find podman's state")?;
        remains::wait_for_helpers(&directory)?;
        for mount in remains::mounts_below(&directory)? {
            Command::new("umount").arg(mount).read()?;
        }
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("podman's state in {} stays: {error:#}", self.directory.display());
        }
    }
}

/// Of the pod; podman puts the pod's name in front.
pub(super) fn name_of(container: &str) -> String {
    format!("{DEPLOYMENT}-pod-{container}")
}

/// What a demo that was killed has left in its directory.
pub(in crate::demo) fn remove_leftovers(root: &Path) -> Result<()> {
    let directory = root.join("podman");
    let script = directory.join("podman");
    if !script.exists() {
        return Ok(());
    }
    let podman = Podman { engine: Engine::named(&script.display().to_string())?, directory };
    podman.remove().with_context(|| {
        format!("cannot remove the pod that an earlier demo has left in {}", root.display())
    })
}

/// A script that is podman with its state in the directory: short to show, and to be typed.
fn wrapper(engine: &Engine, directory: &Path) -> Result<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let policies =
        [home.join(".config"), "/etc".into()].map(|at| at.join("containers/policy.json"));
    let mut podman = Command::new("exec");
    if !policies.iter().any(|policy| policy.exists()) {
        // Without one podman handles no image, not even one of its own making.
        let policy = directory.join("home/.config/containers/policy.json");
        fs::create_dir_all(policy.parent().expect("the path has directories"))
            .and_then(|()| fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#))
            .with_context(|| format!("cannot create {}", policy.display()))?;
        podman = podman.words("env").arg(format!("HOME={}", directory.join("home").display()));
    }
    podman = podman.arg(engine.program());
    for (option, name) in [
        ("--root", "storage"),
        ("--runroot", "run"),
        ("--tmpdir", "tmp"),
        ("--network-config-dir", "networks"),
    ] {
        podman = podman.words(option).path(&directory.join(name));
    }
    Ok(format!("#!/bin/sh\n{} \"$@\"\n", podman.shown()))
}
