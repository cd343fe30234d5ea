//! `cargo xtask demo --pod`: the pod of the deployment, played by podman, once with each profile.

mod capabilities;
mod found;
mod images;
mod kubelet;
mod podman;
mod probe;
mod settings;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
pub(crate) use found::can_run;
pub(super) use podman::remove_leftovers;

use super::{
    Demo, checks, compare,
    files::{self, Files, State},
    send_batch, send_single, store,
};
use tasks::{
    background::{Background, Interrupt},
    command::Command,
    ctx::Ctx,
    static_build::static_path,
};

use crate::cluster::verify;
use ::settings::names::NODE_PORT;
use images::Images;
use kubelet::Kubelet;
use podman::Podman;
use settings::Rendered;

const USUAL: &str = "target/demo-pod";
const PROFILES: [&str; 2] = ["default", "privileged"];

/// The container of S3, and its name on the demo's network: the tracer resolves it as it would
/// resolve that of a real store.
const S3: &str = "s3";
const S3_PORT: u16 = 9000;

pub(super) fn run(ctx: &Ctx, task: &Demo, interrupt: &Interrupt) -> Result<()> {
    let engine = found::find(task.engine.as_deref())?;
    let root = files::directory(task.out.as_deref(), USUAL)?;
    files::claim(&root)?;
    let result = Podman::create(&engine, &root)
        .and_then(|podman| play_all(ctx, task, &podman, &root, interrupt));
    // Ctrl-C reaches podman and the load test too, whose failure is then not the reason.
    interrupt.check().and(result)
}

fn play_all(
    ctx: &Ctx,
    task: &Demo,
    podman: &Podman,
    root: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    ctx.step("build the programs", || {
        super::build(ctx)?;
        ctx.change(&Command::new("cargo build --locked --package manifests"))
    })?;
    let images = ctx.step("build the images", || Images::build(ctx, podman, root, &task.driver))?;
    interrupt.check()?;
    ctx.step("take capabilities away", || capabilities::check(podman, &images.sidecar, interrupt))?;
    for profile in PROFILES {
        let files = Files::create(root.join(profile))?.with_tracer(static_path());
        let rendered = settings::render(&files, &images, profile, &task.trace_format)?;
        let pod = Pod { ctx, podman, files: &files, profile, interrupt };
        let result = pod.play(rendered, &images, task.prompts);
        pod.save_logs();
        result.with_context(|| {
            format!(
                "the pod with profile {profile} failed; the logs are in {}",
                files.logs().display()
            )
        })?;
        eprintln!("\nprofile {profile}:");
        compare(ctx, &files)?;
    }
    ctx.step("remove podman's state", || podman.remove())
}

/// The pod with one profile, from its start to its end.
struct Pod<'a> {
    ctx: &'a Ctx,
    podman: &'a Podman,
    files: &'a Files,
    profile: &'static str,
    interrupt: &'a Interrupt,
}

impl Pod<'_> {
    fn play(&self, rendered: Rendered, images: &Images, prompts: u32) -> Result<()> {
        let Self { ctx, podman, files, interrupt, .. } = self;
        let Rendered { manifest, duties } = rendered;
        let kubelet = Kubelet::new(podman, duties, interrupt);
        let s3 = self.step("start S3, then the pod as the kubelet would", || {
            let s3 = self.start_s3(images)?;
            kubelet.ports_are_free()?;
            podman.play(&manifest)?;
            kubelet.start()?;
            Ok(s3)
        })?;
        let endpoint = format!("http://{}", podman.published(S3, S3_PORT)?);
        let address = format!("127.0.0.1:{NODE_PORT}");
        let state = State {
            demo: std::process::id(),
            endpoint,
            address,
            vllm: podman.pid_inside("vllm")?,
            ..State::default()
        };
        state.write(files.root())?;
        self.step("load test over the node port", || {
            send_single(ctx, files, &state.address)?;
            interrupt.check()?;
            send_batch(ctx, files, &state.address, prompts)
        })?;
        self.step("verify", || {
            let checks = checks::wait_until_passed(files, || kubelet.checks(), interrupt)?;
            verify::print(&checks);
            Ok(())
        })?;
        self.step("stop vLLM, then the tracer, in the grace period", || kubelet.stop())?;
        self.step("download the traces", || {
            copy_files(&podman.volume("vllm-model-cache")?, &files.counts())?;
            copy_files(&podman.volume("vllm-traces")?, &files.traces())?;
            store::download(files, &state.endpoint)
        })?;
        s3.stop(Duration::from_secs(5))?;
        self.save_logs();
        podman.down(&manifest)
    }

    fn step<T>(&self, name: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = self.ctx.step(&format!("{}: {name}", self.profile), action)?;
        self.interrupt.check()?;
        Ok(result)
    }

    fn start_s3(&self, images: &Images) -> Result<Background> {
        let volume = format!("{}:/{S3}:Z", self.files.s3().display());
        let publish = format!("127.0.0.1::{S3_PORT}");
        let port = S3_PORT.to_string();
        let run = ["run", "--rm", "--name", S3, "--network", podman::NETWORK];
        let mounts = ["--publish", &publish, "--volume", &volume, &images.standins];
        let server = ["/usr/bin/standin-s3", "--host", "0.0.0.0", "--port", &port];
        let arguments = [&run[..], &mounts, &server, &store::arguments("/s3")].concat();
        let log = self.files.log("s3");
        let s3 = Background::start(self.podman.program(), &arguments, &[], log)?;
        s3.wait_for_line("http://", Duration::from_secs(20), self.interrupt)?;
        Ok(s3)
    }

    /// As far as there are any.
    fn save_logs(&self) {
        for (container, log) in [("ebpf-tracer", "sidecar"), ("vllm", "vllm")] {
            if let Ok(text) = self.podman.logs(container) {
                // Missing logs must not hide what failed.
                let _: std::io::Result<()> = fs::write(self.files.log(log), text);
            }
        }
    }
}

/// The files of a directory, without what lies below it.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    let cannot = || format!("cannot copy {} to {}", from.display(), to.display());
    for entry in fs::read_dir(from).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.file_type().with_context(cannot)?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).with_context(cannot)?;
        }
    }
    Ok(())
}
