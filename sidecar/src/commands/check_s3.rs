//! `ebpf-cuda-tracer check-s3`: will uploads work, and if not, why?

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use anyhow::{Context as _, Result, anyhow, bail};
use store::{Bucket, Permitted, WriteCheck};

use crate::{config::Config, signals::Signals};

/// Prints a line for each step on stdout; fails if one failed.
pub async fn run(config: &Config) -> Result<()> {
    let mut signals = Signals::watch()?;
    let destination = config.destination()?;
    let bucket = tokio::select! {
        bucket = Bucket::open_briefly(&destination) => bucket,
        name = signals.next() => bail!("received {name}"),
    };
    let bucket = match bucket {
        Ok(bucket) => bucket,
        Err(error) => return tell("settings", Err::<&str, _>(error)),
    };
    let write_check = bucket.write_check();
    tokio::select! {
        checked = check(&bucket, &write_check) => checked,
        name = signals.next() => {
            bail!("received {name}: {} may be left behind", write_check.location())
        }
    }
}

/// Each step needs the ones before it, save that what was written is always removed.
async fn check(bucket: &Bucket, write_check: &WriteCheck) -> Result<()> {
    say("ok", "settings", &bucket.location())?;
    tell("credentials", bucket.credentials().await)?;
    let listed = bucket.may_list().await.map(|permitted| match permitted {
        Permitted::Yes => "it is there",
        Permitted::No => {
            "listing it is not permitted, which uploads do without; `fetch` needs s3:ListBucket"
        }
    });
    tell("bucket", listed)?;
    tell("write", write_check.write().await.map(|()| write_check.location()))?;
    let read = read(write_check).await;
    let removed = remove(write_check).await;
    read.and(removed)
}

async fn read(write_check: &WriteCheck) -> Result<()> {
    tell("confirm", write_check.confirm().await.map(|()| "size and checksum are as sent"))?;
    tell("read back", write_check.read_back().await.map(|()| "the content is as sent"))
}

async fn remove(write_check: &WriteCheck) -> Result<()> {
    match write_check.remove().await {
        Ok(Permitted::Yes) => say("ok", "remove", &"nothing is left behind"),
        Ok(Permitted::No) => say(
            "note",
            "remove",
            &format!(
                "not permitted, which uploads do without; {} stays: remove it by other means",
                write_check.location()
            ),
        ),
        Err(error) => tell("remove", Err::<&str, _>(error)),
    }
}

/// The error is short: the line has said it all.
fn tell(step: &str, outcome: Result<impl Display>) -> Result<()> {
    match outcome {
        Ok(text) => say("ok", step, &text),
        Err(error) => {
            say("FAILED", step, &format!("{error:#}"))?;
            Err(anyhow!("uploads will not work: the step `{step}` failed"))
        }
    }
}

fn say(mark: &str, step: &str, text: &impl Display) -> Result<()> {
    writeln!(io::stdout(), "{mark:<7} {step}: {text}").context("cannot print a step")
}
