//! `ebpf-cuda-tracer fetch`: downloads what sidecars have uploaded.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use tracing::{error, info, warn};

use crate::{config::Config, s3::Bucket, signals::Signals};

/// Downloads everything under the prefix into a directory, and prints the path of each file.
pub async fn run(config: &Config, directory: &Path) -> Result<()> {
    let mut signals = Signals::watch()?;
    tokio::select! {
        fetched = fetch_all(config, directory) => fetched,
        name = signals.next() => bail!("received {name}: what is downloaded so far is whole"),
    }
}

async fn fetch_all(config: &Config, directory: &Path) -> Result<()> {
    let name = config.s3_bucket.as_deref().context("S3_BUCKET is not set")?;
    let prefix = &config.s3_prefix;
    let bucket = Bucket::open(config).await?;
    let objects = bucket.list().await?;
    if objects.is_empty() {
        warn!("nothing is stored under s3://{name}/{prefix}");
    }
    let (mut downloaded, mut left_out) = (0, 0);
    for object in &objects {
        let path = match bucket.path_of(object, directory) {
            Ok(path) => path,
            Err(error) => {
                // No reason to withhold the others.
                error!("{error:#}");
                left_out += 1;
                continue;
            }
        };
        if bucket.fetch(object, &path).await? {
            info!(bytes = object.bytes, "downloaded {}", path.display());
            downloaded += 1;
        }
        writeln!(io::stdout(), "{}", path.display()).context("cannot print a path")?;
    }
    let objects = objects.len();
    ensure!(left_out == 0, "{left_out} of {objects} objects were left out");
    info!(objects, downloaded, "all of s3://{name}/{prefix} is in {}", directory.display());
    Ok(())
}
