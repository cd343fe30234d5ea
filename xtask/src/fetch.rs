//! `cargo xtask fetch`: the traces of the deployment, from S3.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    cluster::{Cluster, bucket::Bucket, kubectl::Kubectl},
    ctx::Ctx,
};

/// Download the traces from S3
///
/// Bucket, prefix and endpoint are those of S3_BUCKET, S3_PREFIX and S3_ENDPOINT, else those of the
/// deployment; credentials are those of this machine, else those of the cluster's secret. What is
/// there already is not downloaded again. Prints the path of each file.
#[derive(Debug, Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    cluster: Cluster,

    /// Where files go
    #[arg(long, value_name = "DIR", default_value = "traces")]
    out: PathBuf,
}

pub(crate) fn run(ctx: &Ctx, Fetch { cluster, out }: &Fetch) -> Result<()> {
    // A bucket that is named here needs no cluster.
    let kubectl = Kubectl::find(ctx, cluster);
    let bucket = match &kubectl {
        Ok(kubectl) => Bucket::find(Some(kubectl))
            .or_else(|of_cluster| Bucket::find(None).map_err(|_| of_cluster)),
        Err(_) => Bucket::find(None),
    };
    let bucket = bucket.context("cannot tell where the traces are")?;
    let fetch = bucket.fetch(out);
    if ctx.dry_run {
        return ctx.change(&fetch);
    }
    eprintln!("$ {}", fetch.shown());
    fetch.run_for_output()
}
