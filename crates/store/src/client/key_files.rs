//! The files that keys are read from: whether they are still what they were.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};

/// A file system that does not answer tells nothing.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// What tells a file from another under its name: device, inode, size and time.
type Mark = (u64, u64, u64, i64, i64);

/// Both files of the AWS SDK, as they are at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyFiles([Option<Mark>; 2]);

impl KeyFiles {
    pub(super) async fn now() -> Option<Self> {
        timeout(MAX_WAIT, spawn_blocking(|| Self(paths().map(|path| mark(path?))))).await.ok()?.ok()
    }
}

fn mark(path: PathBuf) -> Option<Mark> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

fn paths() -> [Option<PathBuf>; 2] {
    let of = |variable: &str, name: &str| {
        let set = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
        set.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".aws").join(name)))
    };
    [of("AWS_CONFIG_FILE", "config"), of("AWS_SHARED_CREDENTIALS_FILE", "credentials")]
}
