//! `cargo xtask logs`: what vLLM and the tracer have written.

use anyhow::Result;
use clap::{Args, ValueEnum};
use tasks::ctx::Ctx;

use crate::cluster::{Cluster, kubectl::Kubectl};
use settings::names::{APP, TRACER_CONTAINER, VLLM_CONTAINER};

/// Print the logs of vLLM, of the tracer, or of both
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Whose; without it both, each line with its origin
    container: Option<Whose>,

    /// Go on with what is written from now on, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Of the container before its last restart
    #[arg(short, long)]
    previous: bool,

    /// Lines from the end; -1 for all
    #[arg(long, value_name = "LINES", default_value_t = 200, allow_hyphen_values = true)]
    tail: i64,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Whose {
    Vllm,
    Tracer,
}

pub(crate) fn run(ctx: &Ctx, task: &Logs) -> Result<()> {
    let Logs { container, follow, previous, tail, cluster } = task;
    let kubectl = Kubectl::find(ctx, cluster)?;
    let mut logs =
        kubectl.namespaced("logs -l").arg(format!("app={APP}")).arg(format!("--tail={tail}"));
    logs = match container {
        Some(Whose::Vllm) => logs.words("-c").arg(VLLM_CONTAINER),
        Some(Whose::Tracer) => logs.words("-c").arg(TRACER_CONTAINER),
        None => logs.words("--all-containers --prefix"),
    };
    if *follow {
        logs = logs.words("--follow");
    }
    if *previous {
        logs = logs.words("--previous");
    }
    logs.run_for_output()
}
