//! `cargo xtask ci`: all that a change must pass. Needs stable Rust, a C compiler and root, and for
//! one of its steps podman.

use anyhow::Result;
use clap::Args;
use tasks::ctx::{Ctx, as_from_shell};
use xshell::cmd;

use crate::{
    analyze,
    cluster::verify,
    demo,
    develop::{doctor, test_faults},
};

/// Run every check and test; needs stable Rust, a C compiler and root
///
/// Where there is no podman, the demo of the pod is left out, which is said at the beginning and at
/// the end. The eBPF object has its own check with its own toolchain: `cargo xtask ebpf check`.
#[derive(Debug, Args)]
pub(crate) struct Ci {
    /// Fail where podman cannot play the pod
    #[arg(long)]
    require_pod: bool,

    /// The podman of `cargo xtask demo --pod`, or its path; without it the one on PATH
    #[arg(long, value_name = "PROGRAM", env = "CONTAINER_ENGINE")]
    engine: Option<String>,
}

pub(crate) fn run(ctx: &Ctx, Ci { require_pod, engine }: &Ci) -> Result<()> {
    anyhow::ensure!(!ctx.dry_run, "checks cannot be shown without running them: --help says which");
    let sh = &ctx.sh;
    let left_out = match demo::pod_can_run(engine.as_deref()) {
        Ok(_) => None,
        Err(error) if *require_pod => return Err(error),
        Err(error) => Some(format!("LEFT OUT: `cargo xtask demo --pod`: {error:#}")),
    };
    if let Some(left_out) = &left_out {
        eprintln!("{left_out}");
    }
    // `RUSTFLAGS` stays as it is: another value would compile every dependency again.
    let cargo = |command| -> Result<()> { Ok(as_from_shell(command).run()?) };

    ctx.step("this machine", || doctor::require_for_tracing(sh))?;
    ctx.step("format", || cargo(cmd!(sh, "cargo fmt --all -- --check")))?;
    ctx.step("clippy", || cargo(cmd!(sh, "cargo clippy --locked --all-targets -- -D warnings")))?;
    // `--all-targets` leaves out what `cargo test` leaves out.
    ctx.step("clippy of the privileged tests and of the faults", || {
        cargo(cmd!(
            sh,
            "cargo clippy --locked --package sidecar --test privileged --test faults -- -D warnings"
        ))
    })?;
    ctx.step("tests", || cargo(cmd!(sh, "cargo test --locked")))?;
    // One at a time: they share the kernel's probes and each counts the hits of all.
    ctx.step("privileged tests", || {
        cargo(cmd!(
            sh,
            "cargo test --locked --package sidecar --test privileged -- --test-threads=1"
        ))
    })?;
    ctx.step("faults, in short", || test_faults::run(ctx, &test_faults::TestFaults::short()))?;
    // The README's first command, once with the other prologues, compressed, and without S3 for a
    // while; then as written, so that it is this one's trace that stays for the commands below it.
    ctx.step("demo with an outage of S3", || demo::run(ctx, &demo::Demo::rough()))?;
    ctx.step("demo", || demo::run(ctx, &demo::Demo::default()))?;
    ctx.step("verify what the demo has left", verify::left_by_demo)?;
    ctx.step("what its trace says", || analyze::left_by_demo(ctx))?;
    ctx.step("the README's one-liners", || demo::one_liners(ctx))?;
    match left_out {
        None => {
            ctx.step("demo of the pod", || demo::run(ctx, &demo::Demo::in_pod(engine.clone())))?;
            eprintln!("\nci: everything passed in {}", ctx.elapsed());
        }
        Some(left_out) => {
            eprintln!("\nci: everything that was run passed in {}\n{left_out}", ctx.elapsed());
        }
    }
    Ok(())
}
