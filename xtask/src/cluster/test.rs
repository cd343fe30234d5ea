//! `cargo xtask test`: prompts to the deployed vLLM, by the program `loadtest`.

use anyhow::{Error, Result};
use clap::{Args, ValueEnum};
use tasks::{
    advice::explained,
    command::{Command, in_short},
    ctx::Ctx,
};

use crate::cluster::{
    Cluster,
    diagnosis::{Finding, diagnose},
    kubectl::Kubectl,
    observe::Snapshot,
};
use settings::names::NODE_PORT;

/// Send prompts to the deployed vLLM: one, then a batch
///
/// Results go into single_prompt_result_*.json and batch_prompts_result_*.json.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Which test; without it both
    which: Option<Which>,

    #[command(flatten)]
    target: Target,

    /// Prompts of the batch
    #[arg(long, value_name = "N", default_value_t = BATCH)]
    count: u32,

    /// Keep several requests of the batch in flight
    #[arg(long)]
    parallel: bool,

    /// Requests in flight with --parallel
    #[arg(long, value_name = "N", default_value_t = 4, requires = "parallel")]
    workers: u32,

    #[command(flatten)]
    cluster: Cluster,

    /// More arguments of `loadtest`, such as --max-tokens 128 --json
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Prompts of the batch that `all` sends.
pub(crate) const BATCH: u32 = 15;

#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Host name or address of the node
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: String,

    /// Port of vLLM there; without it the node port of the service
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Single,
    Batch,
}

pub(crate) fn run(ctx: &Ctx, task: &Test) -> Result<()> {
    let Test { which, target, count, parallel, workers, cluster, arguments } = task;
    // The cluster is asked for the port, and for reasons; neither is a must.
    let kubectl = Kubectl::find(ctx, cluster).ok();
    let tester = Tester::new(ctx, kubectl.as_ref(), target);
    if *which != Some(Which::Batch) {
        tester.run("single prompt", tester.single().args(arguments.clone()))?;
    }
    if *which == Some(Which::Single) {
        return Ok(());
    }
    let mut batch = tester.batch(*count);
    if *parallel {
        batch = batch.words("--parallel --workers").arg(workers.to_string());
    }
    tester.run(&format!("batch of {count} prompts"), batch.args(arguments.clone()))
}

pub(crate) struct Tester<'a> {
    ctx: &'a Ctx,
    kubectl: Option<&'a Kubectl>,
    host: String,
    port: u16,
}

impl<'a> Tester<'a> {
    pub(crate) fn new(ctx: &'a Ctx, kubectl: Option<&'a Kubectl>, target: &Target) -> Self {
        let of_service = || {
            let kubectl = kubectl.filter(|_| !ctx.dry_run)?;
            Snapshot::take(kubectl).ok()?.node_port()
        };
        let port = target.port.or_else(of_service).unwrap_or(NODE_PORT);
        Self { ctx, kubectl, host: target.host.clone(), port }
    }

    pub(crate) fn single(&self) -> Command {
        self.program("single")
    }

    pub(crate) fn batch(&self, count: u32) -> Command {
        self.program("batch").words("--count").arg(count.to_string())
    }

    fn program(&self, test: &str) -> Command {
        Command::new("cargo run --locked --package loadtest --")
            .arg(test)
            .words("--host")
            .arg(&self.host)
            .words("--port")
            .arg(self.port.to_string())
    }

    /// The result's path, or what `--json` prints, goes to stdout.
    pub(crate) fn run(&self, name: &str, test: Command) -> Result<()> {
        self.ctx.step(name, || {
            if self.ctx.dry_run {
                return self.ctx.change(&test);
            }
            test.run_as_it_is().map_err(|error| self.explain(&error))
        })
    }

    /// With what the cluster knows of why vLLM did not answer.
    fn explain(&self, error: &Error) -> Error {
        let Self { host, port, .. } = self;
        let what =
            format!("vLLM at {host}:{port} did not answer as it should: {}", in_short(error));
        let snapshot = self.kubectl.and_then(|kubectl| Snapshot::take(kubectl).ok());
        let findings = snapshot.as_ref().map(diagnose).unwrap_or_default();
        if let Some(Finding { what: found, cause, next, .. }) = findings.first() {
            return explained(format!("{what}\n{found}"), cause, next);
        }
        if snapshot.is_some_and(|snapshot| snapshot.is_complete()) && host == "localhost" {
            return explained(
                what,
                "its pod is ready; if nothing answers at the port, a firewall is in the way",
                "sudo ufw status; cargo xtask logs vllm",
            );
        }
        explained(
            what,
            "not known; the lines above have the reason of each request",
            "cargo xtask status",
        )
    }
}
