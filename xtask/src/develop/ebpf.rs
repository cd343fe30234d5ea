//! `cargo xtask ebpf`: the committed eBPF object and its source, kept the same.

mod elsewhere;
mod object;
pub(crate) mod toolchain;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use serde::Deserialize;
use tasks::ctx::{Ctx, as_from_shell, workspace_root};
use xshell::{Shell, cmd};

use crate::pins;
use toolchain::Nightly;

/// What the sidecar embeds, so that nobody needs the eBPF toolchain to build it.
const COMMITTED: &str = "sidecar-ebpf/prebuilt/cuda-probes.o";

/// Rebuild or check the committed eBPF object: needs nightly Rust and bpf-linker
#[derive(Debug, Subcommand)]
pub(crate) enum Ebpf {
    /// Build the object from source, and replace the committed one if it differs
    Build,
    /// Fail unless the source is clean and gives the committed object
    Check,
}

pub(crate) fn run(ctx: &Ctx, task: &Ebpf) -> Result<()> {
    ensure!(
        !ctx.dry_run,
        "the object cannot be compared without building it: `cargo xtask ebpf check` leaves the \
         committed one as it is"
    );
    match task {
        Ebpf::Build => build(ctx),
        Ebpf::Check => check(ctx),
    }
}

fn build(ctx: &Ctx) -> Result<()> {
    let nightly = toolchain::require(&ctx.sh, toolchain::For::Build)?;
    let _toolchain = ctx.sh.push_env(toolchain::VARIABLE, nightly);
    let fresh = ctx.step("build the eBPF object", || fresh_object(&ctx.sh, &workspace_root()))?;
    let committed = workspace_root().join(COMMITTED);
    if fs::read(&committed).is_ok_and(|bytes| bytes == fresh) {
        eprintln!("{COMMITTED} is up to date ({} bytes)", fresh.len());
        return Ok(());
    }
    fs::write(&committed, &fresh).with_context(|| format!("cannot write {COMMITTED}"))?;
    eprintln!("{COMMITTED} is new ({} bytes): commit it with the change", fresh.len());
    Ok(())
}

fn check(ctx: &Ctx) -> Result<()> {
    let sh = &ctx.sh;
    let nightly = toolchain::require(sh, toolchain::For::Check)?;
    let _toolchain = sh.push_env(toolchain::VARIABLE, &nightly);
    ctx.step("format of sidecar-ebpf", || {
        Ok(as_from_shell(cmd!(sh, "cargo fmt --package sidecar-ebpf -- --check")).run()?)
    })?;
    ctx.step("clippy of sidecar-ebpf", || clippy(sh, &nightly))?;
    let fresh = ctx.step("build the eBPF object", || fresh_object(sh, &workspace_root()))?;
    compare(sh, &fresh)?;
    ctx.step("build the eBPF object elsewhere", || {
        let copy = elsewhere::copy_workspace(sh)?;
        let _target = sh.push_env("CARGO_TARGET_DIR", elsewhere::target_directory());
        let other = fresh_object(sh, &copy)?;
        match object::difference(&fresh, &other) {
            None => Ok(()),
            Some(difference) => bail!(
                "the same source gives another object in {}, {difference}: a path has got into it, \
                 see `remap_paths` in sidecar/build.rs (and `cargo clean` after a change there)",
                copy.display()
            ),
        }
    })?;
    eprintln!(
        "\nebpf check: the source gives the committed object, here and elsewhere; took {}",
        ctx.elapsed()
    );
    Ok(())
}

/// The programs compile for the BPF target only, so this is clippy as the build script's compiler
/// would run it.
fn clippy(sh: &Shell, nightly: &str) -> Result<()> {
    let _directory = sh.push_dir("sidecar-ebpf");
    let clippy = cmd!(
        sh,
        "rustup run {nightly} cargo clippy --locked --no-deps --target bpfel-unknown-none
            -Z build-std=core --target-dir ../target/ebpf-clippy -- -D warnings"
    );
    as_from_shell(clippy)
        // What aya-build passes; the bindings choose the register names by it.
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"")
        .run()?;
    Ok(())
}

/// Builds the object from the checkout at `root`, by the sidecar's own build script, which finds
/// the toolchain in the environment.
fn fresh_object(sh: &Shell, root: &Path) -> Result<Vec<u8>> {
    // Cargo runs the build script again for a change in sidecar-ebpf only, but the toolchain, the
    // lock file and sidecar-common count too. The cargo inside it knows what is fresh, but for
    // remapped paths, which cargo leaves out of its fingerprints.
    let manifest = root.join("sidecar-ebpf/Cargo.toml");
    File::options()
        .append(true)
        .open(&manifest)
        .and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("cannot touch {}", manifest.display()))?;

    let _directory = sh.push_dir(root);
    let cargo = as_from_shell(cmd!(
        sh,
        "cargo check --locked --package sidecar --features ebpf-from-source
            --message-format=json-render-diagnostics"
    ));
    eprintln!("$ {cargo}");
    let messages = cargo.read()?;
    let object = out_dir(&messages)?.join("cuda-probes.o");
    fs::read(&object).with_context(|| format!("cannot read the fresh object {}", object.display()))
}

#[derive(Deserialize)]
struct BuildScriptExecuted {
    package_id: String,
    out_dir: PathBuf,
}

/// Where the sidecar's build script has left its files, by cargo's messages.
fn out_dir(messages: &str) -> Result<PathBuf> {
    messages
        .lines()
        .filter(|line| line.contains(r#""reason":"build-script-executed""#))
        .filter_map(|line| serde_json::from_str::<BuildScriptExecuted>(line).ok())
        // `path+file:///checkout/sidecar#0.1.0`
        .find(|message| message.package_id.contains("/sidecar#"))
        .map(|message| message.out_dir)
        .context("cargo does not say where the sidecar's build script left the eBPF object")
}

fn compare(sh: &Shell, fresh: &[u8]) -> Result<()> {
    let committed = workspace_root().join(COMMITTED);
    let committed = fs::read(committed).with_context(|| format!("cannot read {COMMITTED}"))?;
    let Some(difference) = object::difference(&committed, fresh) else { return Ok(()) };
    let other_compiler = match toolchain::look(sh).nightly {
        Nightly::Chosen { rustc, .. } if rustc != pins::NIGHTLY_RUSTC => format!(
            "; or the compiler is the difference: this is {rustc}, the object was built by {}",
            pins::NIGHTLY_RUSTC
        ),
        _ => String::new(),
    };
    bail!(
        "{COMMITTED} ({} bytes) is not what the source gives ({} bytes), {difference}: run `cargo \
         xtask ebpf build` and commit the object{other_compiler}",
        committed.len(),
        fresh.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_that_of_the_sidecar_alone() {
        let message = |id: &str, directory: &str| {
            format!(
                r#"{{"reason":"build-script-executed","package_id":"{id}","linked_libs":[],"out_dir":"{directory}"}}"#
            )
        };
        let messages = [
            message("registry+https://example.org#ring@0.17.14", "/t/ring/out"),
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/sidecar#0.1.0"}"#
                .to_owned(),
            message("path+file:///w/sidecar-ebpf#0.1.0", "/t/ebpf/out"),
            message("path+file:///w/sidecar#0.1.0", "/t/sidecar/out"),
        ]
        .join("\n");
        assert_eq!(out_dir(&messages).unwrap(), Path::new("/t/sidecar/out"));
        assert!(out_dir("").is_err());
    }
}
