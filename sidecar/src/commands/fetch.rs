//! `ebpf-cuda-tracer fetch`: downloads what sidecars have uploaded.

mod names;

use std::{
    collections::VecDeque,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use store::{ATTEMPTS, Bucket, FetchError, Listing, MAX_FAILURES_IN_A_ROW};
use tokio::task::JoinHandle;
use tracing::{error, info};

use super::fetch_selection::Selection;
use crate::{config::Config, signals::Signals};
use names::local_paths;

/// Downloads at a time: one that is paused must not hold up the others.
const MAX_DOWNLOADS: usize = 8;

/// Downloads everything under the prefix into a directory, and prints the path of each file. What
/// cannot be had is named at the end, and does not keep the others from being downloaded.
pub async fn run(config: &Config, directory: &Path, selection: &Selection) -> Result<()> {
    let mut signals = Signals::watch()?;
    tokio::select! {
        fetched = fetch_all(config, directory, selection) => fetched,
        name = signals.next() => bail!("received {name}: what is downloaded so far is whole"),
    }
}

/// In the order of the listing, in which paths are printed.
struct Running {
    path: PathBuf,
    bytes: u64,
    fetch: JoinHandle<Result<bool, FetchError>>,
}

async fn fetch_all(config: &Config, directory: &Path, selection: &Selection) -> Result<()> {
    let name = config.settings.s3_bucket.as_deref().context("S3_BUCKET is not set")?;
    let prefix = config.settings.s3_prefix.fixed();
    let bucket = Bucket::open(&config.destination()?).await?;
    let Listing { objects, stopped } = bucket.list_what_can_be().await?;
    if objects.is_empty() && stopped.is_none() {
        bail!(
            "nothing is stored under s3://{name}/{prefix} in {}: check S3_BUCKET and S3_PREFIX, or \
             wait for the first upload",
            bucket.store()
        );
    }
    let objects = selection.choose(objects, |object| &object.key)?;
    let listed = objects.len();
    let keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let paths = local_paths(&keys, prefix, directory);
    let sizes = objects.iter().map(|object| object.bytes).zip(&paths);
    let to_come = sizes.filter_map(|(bytes, path)| Some((bytes, path.as_ref().ok()?)));
    room_for(to_come, directory)?;
    let mut left_out: Vec<Error> = Vec::new();
    let mut running: VecDeque<Running> = VecDeque::new();
    let (mut downloaded, mut failures) = (0, 0);
    let mut rest = objects.into_iter().zip(paths);
    loop {
        while running.len() < MAX_DOWNLOADS
            && let Some((object, path)) = rest.next()
        {
            match path {
                Ok(path) => {
                    let attempts = if failures < MAX_FAILURES_IN_A_ROW { ATTEMPTS } else { 1 };
                    let (bucket, bytes, to) = (bucket.clone(), object.bytes, path.clone());
                    let fetch = async move { bucket.fetch(&object, &to, attempts).await };
                    running.push_back(Running { path, bytes, fetch: tokio::spawn(fetch) });
                }
                Err(error) => left_out.push(
                    error.context(format!("cannot save s3://{name}/{}", object.key.escape_debug())),
                ),
            }
        }
        let Some(Running { path, bytes, fetch }) = running.pop_front() else { break };
        let panicked = |error| {
            FetchError::Final(Error::new(error).context(format!("cannot save {}", path.display())))
        };
        match fetch.await.unwrap_or_else(|error| Err(panicked(error))) {
            Ok(is_new) => {
                if is_new {
                    info!(bytes, "downloaded {}", path.display());
                    downloaded += 1;
                }
                failures = 0;
                writeln!(io::stdout(), "{}", path.display()).context("cannot print a path")?;
            }
            Err(FetchError::Final(error)) => left_out.push(error),
            Err(FetchError::Transfer(error)) => {
                failures += 1;
                left_out.push(error);
            }
        }
    }
    for error in &left_out {
        error!("left out: {error:#}");
    }
    let left_out = left_out.len();
    match (left_out, stopped) {
        (0, None) => {
            let to = directory.display();
            let what = if *selection == Selection::default() { "all" } else { "what was asked for" };
            info!(objects = listed, downloaded, "{what} of s3://{name}/{prefix} is in {to}");
            Ok(())
        }
        (_, None) => bail!("{left_out} of {listed} objects were left out"),
        (_, Some(reason)) => Err(reason.context(format!(
            "only {listed} objects of s3://{name}/{prefix} could be listed, of which {left_out} were \
             left out"
        ))),
    }
}

/// Fails if what is not there yet is more than the disk has room for: a full disk harms others too.
fn room_for<'a>(objects: impl Iterator<Item = (u64, &'a PathBuf)>, directory: &Path) -> Result<()> {
    let is_new = |(bytes, path): &(u64, &PathBuf)| {
        fs::metadata(path).map(|file| file.len()).ok() != Some(*bytes)
    };
    let needed: u64 = objects.filter(is_new).map(|(bytes, _)| bytes).sum();
    let existing = directory.ancestors().find(|one| one.is_dir()).unwrap_or(Path::new("."));
    // A file system that does not tell is no reason to refuse.
    let Ok(disk) = rustix::fs::statvfs(existing) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    ensure!(
        needed <= free,
        "{needed} bytes are to be downloaded, and the disk of {} has {free} free: choose another --out, \
         or fewer runs by --run, --last or --since",
        directory.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_disk_has_room_for_is_not_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/a");
        room_for([(1, &path)].into_iter(), &directory.path().join("new")).unwrap();
        let error = room_for([(1 << 62, &path)].into_iter(), &directory.path().join("new"));
        assert!(error.unwrap_err().to_string().contains("--last"));
        // What is there already needs none.
        let there = directory.path().join("b");
        fs::File::create(&there).unwrap().set_len(1 << 40).unwrap();
        room_for([(1 << 40, &there)].into_iter(), directory.path()).unwrap();
    }
}
