//! Objects to files: below a directory as keys lie below the prefix, whole or not at all.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::types::ChecksumMode;
use tokio::io::AsyncWriteExt as _;

use super::{Bucket, Object, digest::Digest};

impl Bucket {
    /// Where an object goes in a directory: as its key lies below the prefix. Two keys never get
    /// the same path, and no path leads out of the directory.
    pub fn path_of(&self, object: &Object, directory: &Path) -> Result<PathBuf> {
        path_of(&object.key, &self.prefix, directory)
            .with_context(|| format!("cannot save s3://{}/{}", self.name, object.key))
    }

    /// Downloads an object and returns true, or finds that the same content is there already.
    pub async fn fetch(&self, object: &Object, path: &Path) -> Result<bool> {
        if self.is_there(object, path).await? {
            return Ok(false);
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let partial = Partial::beside(path);
        self.download(object, &partial.0).await.with_context(|| {
            format!("cannot download s3://{}/{} to {}", self.name, object.key, path.display())
        })?;
        fs::rename(&partial.0, path)
            .with_context(|| format!("cannot give {} its name", path.display()))?;
        Ok(true)
    }

    /// Only a checksum tells: a store without one has its objects downloaded again.
    async fn is_there(&self, object: &Object, path: &Path) -> Result<bool> {
        if fs::metadata(path).map(|file| (file.is_file(), file.len())).ok()
            != Some((true, object.bytes))
        {
            return Ok(false);
        }
        let head = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(&object.key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| self.explain(&error, "s3:GetObject"))
            .with_context(|| format!("cannot look at s3://{}/{}", self.name, object.key))?;
        let Some(stored) = of_whole(head.checksum_sha256()) else { return Ok(false) };
        let path = path.to_owned();
        let digest = tokio::task::spawn_blocking(move || Digest::of(&path)).await??;
        Ok(digest.sha256() == stored)
    }

    async fn download(&self, object: &Object, partial: &Path) -> Result<()> {
        let mut answer = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(&object.key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| self.explain(&error, "s3:GetObject"))?;
        let mut file = tokio::fs::File::create(partial).await.context("cannot create the file")?;
        let mut bytes = 0;
        // The SDK compares the checksum, if the store has one.
        while let Some(piece) = answer.body.try_next().await.context("the transfer failed")? {
            bytes += piece.len() as u64;
            file.write_all(&piece).await.context("cannot write the file")?;
        }
        file.flush().await.context("cannot write the file")?;
        let listed = object.bytes;
        ensure!(bytes == listed, "got {bytes} bytes, but the listing says {listed}");
        Ok(())
    }
}

/// An upload in parts has a checksum of checksums, with the number of parts behind a `-`.
fn of_whole(checksum: Option<&str>) -> Option<&str> {
    checksum.filter(|checksum| !checksum.contains('-'))
}

fn path_of(key: &str, prefix: &str, directory: &Path) -> Result<PathBuf> {
    let below = key.strip_prefix(prefix).unwrap_or(key);
    let mut path = directory.to_owned();
    for part in below.split('/') {
        ensure!(
            !matches!(part, "" | "." | "..") && !part.contains('\0'),
            "{part:?} cannot be the name of a file or folder: download it by other means, or \
             choose an S3_PREFIX without it"
        );
        path.push(part);
    }
    Ok(path)
}

/// A download that has not got its name. Dropped, it is removed.
struct Partial(PathBuf);

impl Partial {
    /// Hidden, and named for this process: two downloads never write to the same file.
    fn beside(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self(path.with_file_name(format!(".{name}.{}.partial", std::process::id())))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already, if it got its name.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_key_below_the_prefix() {
        let out = Path::new("out");
        let path = |key, prefix| path_of(key, prefix, out).unwrap();
        assert_eq!(path("k3s-vllm/a.jsonl", "k3s-vllm/"), out.join("a.jsonl"));
        assert_eq!(path("k/2026-11-24/a", "k/"), out.join("2026-11-24/a"));
        assert_ne!(path("k/1/a", "k/"), path("k/2/a", "k/"));
        assert_eq!(path("a", ""), out.join("a"));
    }

    #[test]
    fn keys_that_would_leave_the_directory_or_meet_another_are_refused() {
        for key in ["k/../a", "k/a/../../b", "k//a", "k/./a", "k/a\0b"] {
            let error = path_of(key, "k/", Path::new("out")).unwrap_err().to_string();
            assert!(error.contains("S3_PREFIX"), "{error}");
        }
        // An absolute path would replace the directory.
        assert!(path_of("k//etc/passwd", "k/", Path::new("out")).is_err());
    }
}
