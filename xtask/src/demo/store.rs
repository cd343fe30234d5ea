//! The S3 stand-in of a demo: its bucket, its keys, and how traces come out of it.

use anyhow::{Context as _, Result, ensure};
use trace::segments::segments;

use super::files::Files;
use tasks::command::Command;

pub(super) const BUCKET: &str = "demo-traces";
pub(super) const ACCESS_KEY: &str = "demo";
pub(super) const SECRET_KEY: &str = "demo-secret";

/// What the server is told besides the address to listen on.
pub(super) fn arguments(root: &str) -> [&str; 8] {
    let [bucket, access_key, secret_key] = ["--bucket", "--access-key", "--secret-key"];
    ["--root", root, bucket, BUCKET, access_key, ACCESS_KEY, secret_key, SECRET_KEY]
}

/// What the sidecar must know of it.
pub(super) fn variables(endpoint: &str) -> [(&'static str, String); 4] {
    [
        ("S3_BUCKET", BUCKET.to_owned()),
        ("S3_ENDPOINT", endpoint.to_owned()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
    ]
}

/// Downloads all of them when the sidecar has ended; none may be left where it has written them.
pub(super) fn download(files: &Files, endpoint: &str) -> Result<()> {
    fetch(files, endpoint, "warn").read_in_view().context("cannot download the traces")?;
    let left = segments(&files.traces())?;
    ensure!(left.is_empty(), "segments were not uploaded: {left:?}");
    Ok(())
}

/// Downloads what is there, saying no more than `log`.
pub(super) fn fetch(files: &Files, endpoint: &str, log: &str) -> Command {
    let fetch =
        Command::new("").path(&files.tracer()).words("fetch --out").path(&files.downloaded());
    variables(endpoint).into_iter().fold(fetch.variable("RUST_LOG", log), |fetch, (name, value)| {
        if name.contains("SECRET") {
            fetch.secret_variable(name, value)
        } else {
            fetch.variable(name, value)
        }
    })
}
