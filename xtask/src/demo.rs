//! `cargo xtask demo`: the main job on stand-ins, with real probes, processes, sockets and S3.

mod checks;
mod comparison;
mod files;
mod one_liners;
mod report;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
pub(crate) use checks::verify;
use clap::Args;
pub(crate) use one_liners::one_liners;
use xshell::cmd;

use crate::{
    background::{Background, Interrupt},
    ctx::{Ctx, as_from_shell},
    doctor,
    segments::segments,
    verify,
};
use comparison::Comparison;
use files::{BUCKET, Files, State};

/// Trace a stand-in vLLM end to end and prove that no call is missing; needs root
///
/// Starts an S3 server, the sidecar and a vLLM stand-in on this machine, sends prompts, checks that
/// traces are captured and uploaded, and compares them with what the called libraries counted
/// themselves. Leaves nothing behind but the files in DIR.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where everything goes (target/demo of the workspace); an earlier demo there is replaced
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Prompts of the batch, four at a time
    #[arg(long, value_name = "COUNT", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    prompts: u32,

    /// Prologues of the stand-in driver: r550 or r580
    #[arg(long, value_name = "KIND", default_value = "r550", value_parser = ["r550", "r580"])]
    driver: String,

    /// Stop S3 for this long in the middle of the batch: uploads must wait and then resume
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    s3_outage: u64,

    /// Leave everything running after the checks, until Ctrl-C
    #[arg(long)]
    keep_running: bool,
}

impl Default for Demo {
    fn default() -> Self {
        Self {
            out: None,
            prompts: 15,
            driver: "r550".to_owned(),
            s3_outage: 0,
            keep_running: false,
        }
    }
}

impl Demo {
    /// The other prologues, and S3 away for a while.
    pub(crate) fn rough() -> Self {
        Self { driver: "r580".to_owned(), s3_outage: 5, ..Self::default() }
    }
}

pub(crate) fn run(ctx: &Ctx, task: &Demo) -> Result<()> {
    // Said before minutes are spent on building.
    doctor::require_for_tracing(&ctx.sh)?;
    let interrupt = Interrupt::watch()?;
    let files = Files::create(task.out.as_deref())?;
    ctx.step("build", || build(ctx))?;
    let mut running = ctx.step("start S3, the sidecar, then vLLM", || {
        Running::start(ctx, &files, &task.driver, &interrupt)
    })?;
    ctx.step("load test", || {
        let result = load_test(ctx, &files, task, &mut running, &interrupt);
        // Ctrl-C reaches the load test too, whose failure is then not the reason.
        interrupt.check().and(result)
    })?;
    ctx.step("verify", || {
        let checks = checks::wait_until_passed(&files, &running.state, &interrupt)?;
        verify::print(&checks);
        Ok(())
    })?;
    if task.keep_running {
        keep_running(&files, &running.state, &interrupt);
    }
    let Running { vllm, sidecar, s3, state } = running;
    ctx.step("stop vLLM, then the sidecar", || {
        vllm.stop(Duration::from_secs(20))?;
        sidecar.stop(Duration::from_secs(30))
    })?;
    ctx.step("download the traces", || fetch(ctx, &files, &state))?;
    s3.stop(Duration::from_secs(5))?;
    let comparison = ctx.step("compare with the callees' own counts", || {
        let comparison = Comparison::of(&files)?;
        comparison.write(&files.comparison())?;
        Ok(comparison)
    })?;
    report::print(&comparison, &files);
    comparison.verdict()
}

/// The programs come from the other crates: this one stays light.
fn build(ctx: &Ctx) -> Result<()> {
    let sh = &ctx.sh;
    as_from_shell(cmd!(
        sh,
        "cargo build --locked --package sidecar --package testbed --package loadtest --bins"
    ))
    .run()
    .context("cannot build the programs of the demo")
}

/// What the demo has started. Dropping it stops all of it in the order of the fields, so that the
/// sidecar sees vLLM end and S3 is still there for the last upload.
struct Running {
    vllm: Background,
    sidecar: Background,
    s3: Background,
    state: State,
}

impl Running {
    fn start(ctx: &Ctx, files: &Files, driver: &str, interrupt: &Interrupt) -> Result<Self> {
        let sh = &ctx.sh;
        let (libraries, installer) = (files.libraries(), files.program("standin-libraries"));
        cmd!(sh, "{installer} {libraries} --driver {driver}").ignore_stdout().run()?;
        let s3 = start_s3(files, "0")?;
        let endpoint = s3.wait_for_line("http://", Duration::from_secs(10), interrupt)?;
        let sidecar = Background::start(
            files.program("ebpf-cuda-tracer"),
            &[],
            &sidecar_variables(files, &endpoint),
            files.log("sidecar"),
        )?;
        sidecar.wait_for_line("ready: tracing", Duration::from_secs(20), interrupt)?;
        let listening = "listening on http://";
        let line = sidecar.wait_for_line(listening, Duration::from_secs(1), interrupt)?;
        let (_, http) = line.split_once(listening).context("the sidecar logs its address")?;
        let vllm = start_vllm(files)?;
        let line =
            vllm.wait_for_line("API server on http://", Duration::from_secs(20), interrupt)?;
        let (_, address) = line.split_once("http://").context("vLLM prints its address")?;
        vllm.wait_for_line("Application startup complete", Duration::from_secs(60), interrupt)?;
        let state = State {
            demo: std::process::id(),
            endpoint,
            address: address.trim().to_owned(),
            sidecar: sidecar.pid(),
            sidecar_http: http.trim().to_owned(),
            vllm: vllm.pid(),
        };
        state.write(files)?;
        eprintln!("vLLM answers on http://{}, S3 on {}", state.address, state.endpoint);
        Ok(Self { vllm, sidecar, s3, state })
    }
}

fn start_s3(files: &Files, port: &str) -> Result<Background> {
    let root = files.s3().display().to_string();
    let arguments = ["--root", &root, "--bucket", BUCKET, "--port", port];
    let keys = ["--access-key", files::ACCESS_KEY, "--secret-key", files::SECRET_KEY];
    Background::start(
        files.program("standin-s3"),
        &[&arguments[..], &keys[..]].concat(),
        &[],
        files.log("s3"),
    )
}

/// Started as `python3 -m vllm...`, as the real one is.
fn start_vllm(files: &Files) -> Result<Background> {
    let variables = [
        ("LD_LIBRARY_PATH", files.libraries().display().to_string()),
        ("CUDA_STANDIN_COUNTS", files.counts().display().to_string()),
    ];
    let arguments = [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        "meta-llama/Llama-2-7b-hf",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--gpu-memory-utilization",
        "0.9",
        "--max-model-len",
        "2048",
        "--dtype",
        "float16",
    ];
    Background::start(files.link_python()?, &arguments, &variables, files.log("vllm"))
}

fn sidecar_variables(files: &Files, endpoint: &str) -> Vec<(&'static str, String)> {
    vec![
        // This demo's vLLM and no other process of the machine.
        ("TARGET_PROCESS", files.python().display().to_string()),
        ("TRACE_DIR", files.traces().display().to_string()),
        // Demos in several directories may run at once.
        ("HTTP_ADDRESS", "127.0.0.1:0".to_owned()),
        ("TRACE_INTERVAL", "2".to_owned()),
        ("UPLOAD_INTERVAL", "3".to_owned()),
        ("S3_BUCKET", BUCKET.to_owned()),
        ("S3_ENDPOINT", endpoint.to_owned()),
        ("AWS_ACCESS_KEY_ID", files::ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", files::SECRET_KEY.to_owned()),
    ]
}

/// One prompt, then a batch; in an outage S3 is gone while the batch runs.
fn load_test(
    ctx: &Ctx,
    files: &Files,
    task: &Demo,
    running: &mut Running,
    interrupt: &Interrupt,
) -> Result<()> {
    let state = &running.state;
    let sh = &ctx.sh;
    let loadtest = files.program("loadtest");
    let (host, port) = state.address.rsplit_once(':').context("an address has a port")?;
    let (count, out) = (task.prompts.to_string(), files.results());
    let single = cmd!(sh, "{loadtest} single --host {host} --port {port} --out {out}");
    print_path(&single.read()?);
    interrupt.check()?;
    let outage = Duration::from_secs(task.s3_outage);
    let started = Instant::now();
    if !outage.is_zero() {
        eprintln!("S3 goes away for {} s", task.s3_outage);
        running.s3.stop(Duration::from_secs(5))?;
    }
    let batch = cmd!(
        sh,
        "{loadtest} batch --host {host} --port {port} --count {count} --parallel --workers 4 --out {out}"
    );
    print_path(&batch.read()?);
    if !outage.is_zero() {
        interrupt.sleep(outage.saturating_sub(started.elapsed()))?;
        let (_, port) = state.endpoint.rsplit_once(':').context("an endpoint has a port")?;
        running.s3 = start_s3(files, port.trim())?;
        running.s3.wait_for_line("http://", Duration::from_secs(10), interrupt)?;
        eprintln!("S3 is back");
    }
    interrupt.check()
}

/// The load test leaves its path on stdout, which belongs to the demo's own table.
fn print_path(path: &str) {
    eprintln!("{path}");
}

fn keep_running(files: &Files, state: &State, interrupt: &Interrupt) {
    eprintln!(
        "\nEverything keeps running. Try:\n  \
         curl http://{}/v1/models\n  \
         curl http://{}/metrics\n  \
         {} status --http-address {}\n  \
         cargo xtask verify --demo --out {}\n  \
         tail -f {}\n\
         Ctrl-C stops it and compares the trace with the callees' counts.",
        state.address,
        state.sidecar_http,
        files.program("ebpf-cuda-tracer").display(),
        state.sidecar_http,
        files.root().display(),
        files.log("sidecar").display(),
    );
    interrupt.wait();
    interrupt.clear();
}

fn fetch(ctx: &Ctx, files: &Files, state: &State) -> Result<()> {
    let sh = &ctx.sh;
    let (sidecar, out) = (files.program("ebpf-cuda-tracer"), files.downloaded());
    cmd!(sh, "{sidecar} fetch --out {out}")
        .envs(sidecar_variables(files, &state.endpoint))
        .env("RUST_LOG", "warn")
        .ignore_stdout()
        .run()
        .context("cannot download the traces")?;
    let left = segments(&files.traces())?;
    ensure!(left.is_empty(), "segments were not uploaded: {left:?}");
    Ok(())
}
