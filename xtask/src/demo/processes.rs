//! The demo on this machine: S3, the sidecar and vLLM as processes of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xshell::cmd;

use super::{
    Demo, build, checks, compare,
    files::{Files, State, USUAL, directory},
    send_batch, send_single, store,
};
use tasks::{
    background::{Background, Interrupt},
    ctx::Ctx,
};

use crate::cluster::verify;

pub(super) fn run(ctx: &Ctx, task: &Demo, interrupt: &Interrupt) -> Result<()> {
    let files = Files::create(directory(task.out.as_deref(), USUAL)?)?;
    ctx.step("build", || build(ctx))?;
    let mut running = ctx.step("start S3, the sidecar, then vLLM", || {
        Running::start(ctx, &files, task, interrupt)
    })?;
    ctx.step("load test", || {
        let result = load_test(ctx, &files, task, &mut running, interrupt);
        // Ctrl-C reaches the load test too, whose failure is then not the reason.
        interrupt.check().and(result)
    })?;
    ctx.step("verify", || {
        let look = || checks::four_checks(&files, &running.state);
        let checks = checks::wait_until_passed(&files, look, interrupt)?;
        verify::print(&checks);
        Ok(())
    })?;
    if task.keep_running {
        keep_running(&files, &running.state, interrupt);
    }
    let Running { vllm, sidecar, s3, state } = running;
    ctx.step("stop vLLM, then the sidecar", || {
        vllm.stop(Duration::from_secs(20))?;
        sidecar.stop(Duration::from_secs(30))
    })?;
    ctx.step("download the traces", || store::download(&files, &state.endpoint))?;
    s3.stop(Duration::from_secs(5))?;
    compare(ctx, &files)
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
    fn start(ctx: &Ctx, files: &Files, task: &Demo, interrupt: &Interrupt) -> Result<Self> {
        let (sh, driver) = (&ctx.sh, &task.driver);
        let (libraries, installer) = (files.libraries(), files.program("standin-libraries"));
        cmd!(sh, "{installer} {libraries} --driver {driver}").ignore_stdout().run()?;
        let s3 = start_s3(files, "0")?;
        let endpoint = s3.wait_for_line("http://", Duration::from_secs(10), interrupt)?;
        let sidecar = Background::start(
            files.tracer(),
            &[],
            &sidecar_variables(files, &task.trace_format, &endpoint),
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
        state.write(files.root())?;
        eprintln!("vLLM answers on http://{}, S3 on {}", state.address, state.endpoint);
        Ok(Self { vllm, sidecar, s3, state })
    }
}

fn start_s3(files: &Files, port: &str) -> Result<Background> {
    let root = files.s3().display().to_string();
    let arguments = [&store::arguments(&root)[..], &["--port", port]].concat();
    Background::start(files.program("standin-s3"), &arguments, &[], files.log("s3"))
}

/// Started as `python3 -m vllm...`, as the real one is.
fn start_vllm(files: &Files) -> Result<Background> {
    let variables = [
        ("LD_LIBRARY_PATH", files.libraries().display().to_string()),
        (crate::demo::callees::DIRECTORY_VARIABLE, files.counts().display().to_string()),
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

fn sidecar_variables(files: &Files, format: &str, endpoint: &str) -> Vec<(&'static str, String)> {
    let own = [
        // This demo's vLLM and no other process of the machine.
        ("TARGET_PROCESS", files.python().display().to_string()),
        ("TRACE_DIR", files.traces().display().to_string()),
        // Demos in several directories may run at once.
        ("HTTP_ADDRESS", "127.0.0.1:0".to_owned()),
        ("TRACE_FORMAT", format.to_owned()),
        ("TRACE_INTERVAL", "2".to_owned()),
        ("UPLOAD_INTERVAL", "3".to_owned()),
    ];
    own.into_iter().chain(store::variables(endpoint)).collect()
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
    send_single(ctx, files, &state.address)?;
    interrupt.check()?;
    let outage = Duration::from_secs(task.s3_outage);
    let started = Instant::now();
    if !outage.is_zero() {
        eprintln!("S3 goes away for {} s", task.s3_outage);
        running.s3.stop(Duration::from_secs(5))?;
    }
    send_batch(ctx, files, &state.address, task.prompts)?;
    if !outage.is_zero() {
        interrupt.sleep(outage.saturating_sub(started.elapsed()))?;
        let (_, port) = state.endpoint.rsplit_once(':').context("an endpoint has a port")?;
        running.s3 = start_s3(files, port.trim())?;
        running.s3.wait_for_line("http://", Duration::from_secs(10), interrupt)?;
        eprintln!("S3 is back");
    }
    interrupt.check()
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
        files.tracer().display(),
        state.sidecar_http,
        files.root().display(),
        files.log("sidecar").display(),
    );
    interrupt.wait();
    interrupt.clear();
}
