//! `cargo xtask fetch`: the traces of the deployment, from S3.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tasks::ctx::Ctx;

use crate::cluster::{
    Cluster,
    bucket::{Bucket, Runs},
    kubectl::Kubectl,
};

/// Download the traces from S3
///
/// Bucket, prefix and endpoint are those of S3_BUCKET, S3_PREFIX and S3_ENDPOINT, else those of the
/// deployment; credentials are those of this machine, else those of the cluster's secret. What is
/// there already is not downloaded again; nothing begins that the disk has no room for. Prints the path of each file.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    /// Where files go
    #[arg(long, value_name = "DIR", default_value = "traces")]
    out: PathBuf,

    #[command(flatten)]
    runs: Runs,

    #[command(flatten)]
    cluster: Cluster,
}

pub(crate) fn run(ctx: &Ctx, Fetch { out, runs, cluster }: &Fetch) -> Result<()> {
    let bucket = Bucket::find(Kubectl::find(ctx, cluster).as_ref())?;
    let fetch = bucket.fetch(out, runs);
    if ctx.dry_run { ctx.change(&fetch) } else { fetch.run_as_it_is() }
}
