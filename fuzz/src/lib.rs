//! What the fuzz targets share.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Where a target writes its input, for code that opens a file by its path.
///
/// In `TMPDIR`, which `fuzz/run` sets and removes: libFuzzer ends the process without running destructors.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub fn new(file_name: &str) -> Self {
        let directory = env::temp_dir().join(format!("fuzz-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a scratch directory can be created");
        Self { path: directory.join(file_name) }
    }

    /// The path of a file with this content.
    pub fn with(&self, content: &[u8]) -> &Path {
        fs::write(&self.path, content).expect("a scratch file can be written");
        &self.path
    }
}
