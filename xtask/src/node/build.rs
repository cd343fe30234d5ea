//! `cargo xtask build`: the sidecar as an image of one static program, and into K3s's containerd.

mod archive;
mod bom;
mod context;
pub(crate) mod engine;
mod import;
mod paths;
pub(crate) use import::remove_all;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tasks::{
    advice::explained,
    command::is_on_path,
    ctx::{Ctx, target_directory},
    static_build::static_program,
};

use context::Context;
use engine::Engine;
use settings::names::IMAGE;

/// What the image may weigh, in bytes.
const MAX_BYTES: u64 = 25_000_000;

/// Build the sidecar's image and import it into K3s
///
/// Prints the image's name on stdout; `deploy` uses it from then on. The tag is derived from what
/// is in the image, so an unchanged one is neither built nor imported again. The same sources give the
/// same image wherever they are built, by the same compiler and with the same certificates.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Build {
    /// podman, docker or buildah, or the path of one; without it the first that works
    #[arg(long, value_name = "PROGRAM", env = "CONTAINER_ENGINE")]
    pub(crate) engine: Option<String>,

    /// Certificates of the authorities that the sidecar trusts; without it those of this machine
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Only build: leave K3s alone
    #[arg(long)]
    pub(crate) no_import: bool,
}

/// An image in an engine's store, and as an archive.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) reference: String,
    pub(crate) archive: PathBuf,
}

/// Returns the image's name; in a dry run, with a tag that stands for the one to come.
pub(crate) fn run(ctx: &Ctx, task: &Build) -> Result<String> {
    if !task.no_import && !ctx.dry_run && !is_on_path("k3s") {
        return Err(explained(
            "the image could not be imported: `k3s` is not on PATH",
            "K3s is not installed on this machine",
            "`cargo xtask install` on the GPU node, or `cargo xtask build --no-import`",
        ));
    }
    let image = ctx.step("build the image", || {
        let engine = Engine::find(ctx, task.engine.as_deref())?;
        image(ctx, &engine, task.ca_file.as_deref())
    })?;
    if !task.no_import {
        ctx.step("import the image into K3s", || import::into_k3s(ctx, &image))?;
    }
    if !ctx.dry_run {
        fs::write(record(), &image.reference).context("cannot note which image was built")?;
        println!("{}", image.reference);
    }
    Ok(image.reference)
}

/// Builds the image, unless the engine has it, and saves it.
pub(crate) fn image(ctx: &Ctx, engine: &Engine, ca_file: Option<&Path>) -> Result<Image> {
    let context = Context::new();
    ctx.change(&static_program("build")).context("cannot build the sidecar as a static program")?;
    let reference = if ctx.dry_run {
        eprintln!("note    TAG will be the first digits of the SHA-256 of what is in the image");
        format!("{IMAGE}:TAG")
    } else {
        context.fill(ca_file)?
    };
    let archive = scratch().join("image.tar");
    ctx.converge("image", || engine.look(&reference), &[engine.build(context.root(), &reference)])?;
    if !ctx.dry_run && archive.exists() {
        // Podman does not replace an archive.
        fs::remove_file(&archive).context("cannot remove the archive of the image before")?;
    }
    ctx.change(&engine.save(&reference, &archive))?;
    if !ctx.dry_run {
        report(engine, &reference, &archive)?;
    }
    Ok(Image { reference, archive })
}

/// The image that was built last.
pub(crate) fn last() -> Option<String> {
    let reference = fs::read_to_string(record()).ok()?;
    Some(reference.trim().to_owned()).filter(|reference| !reference.is_empty())
}

fn report(engine: &Engine, reference: &str, archive: &Path) -> Result<()> {
    let bytes = fs::metadata(archive).context("cannot read the size of the image")?.len();
    let megabytes = bytes as f64 / 1e6;
    eprintln!("size    {megabytes:.1} MB");
    ensure!(
        bytes <= MAX_BYTES,
        "the image has {megabytes:.1} MB, more than the {} MB it may have",
        MAX_BYTES / 1_000_000
    );
    match engine.start(reference) {
        None => eprintln!("start   not measured: {} does not run images", engine.name()),
        Some(start) => {
            let started = Instant::now();
            let version = start.read().context("the image does not start")?;
            let seconds = started.elapsed().as_secs_f64();
            eprintln!("start   {seconds:.2} s from `{}` to its end: {version}", start.shown());
        }
    }
    Ok(())
}

/// Scratch files of tasks.
fn scratch() -> PathBuf {
    target_directory().join("xtask/image")
}

fn record() -> PathBuf {
    scratch().join("reference")
}
