//! The size and the checksums of a file, as S3 writes them.

use std::{fmt::Write as _, fs::File, io::Read as _, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use aws_sdk_s3::primitives::ByteStream;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use md5::Md5;
use sha2::Sha256;

/// In base64, as headers have them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) bytes: u64,
    sha256: String,
    md5: String,
    md5_hex: String,
}

/// Between two pieces of an object.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Takes content piece by piece.
#[derive(Default)]
pub(crate) struct Hasher {
    bytes: u64,
    sha256: Sha256,
    md5: Md5,
}

impl Hasher {
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        sha2::Digest::update(&mut self.sha256, piece);
        md5::Digest::update(&mut self.md5, piece);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::finish(self.bytes, self.sha256, self.md5)
    }
}

impl Digest {
    /// [`Self::of`] for those who must not be held up.
    pub(crate) async fn read(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Self::of(&path)).await?
    }

    /// Of what comes; reads no further where it is longer than `most`.
    pub(crate) async fn of_stream(mut stream: ByteStream, most: u64) -> Result<Self> {
        let mut hasher = Hasher::default();
        loop {
            let next = tokio::time::timeout(MAX_PAUSE, stream.try_next()).await;
            let next = next.context("the transfer stands still")?;
            let Some(piece) = next.context("the transfer failed")? else { break };
            hasher.update(&piece);
            if hasher.bytes > most {
                break;
            }
        }
        Ok(hasher.finish())
    }

    pub(crate) fn of(path: &Path) -> Result<Self> {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = file
                .read(&mut buffer)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
        Ok(hasher.finish())
    }

    fn finish(bytes: u64, sha256: Sha256, md5: Md5) -> Self {
        let md5 = md5::Digest::finalize(md5);
        Self {
            bytes,
            sha256: BASE64.encode(sha2::Digest::finalize(sha256)),
            md5_hex: hex(&md5),
            md5: BASE64.encode(md5),
        }
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self::finish(
            bytes.len() as u64,
            <Sha256 as sha2::Digest>::new_with_prefix(bytes),
            <Md5 as md5::Digest>::new_with_prefix(bytes),
        )
    }

    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(crate) fn sha256_hex(&self) -> String {
        let bytes = BASE64.decode(&self.sha256).unwrap_or_default();
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _: std::fmt::Result = write!(hex, "{byte:02x}");
            hex
        })
    }

    pub(crate) fn md5(&self) -> &str {
        &self.md5
    }

    /// As entity tags have it.
    pub(crate) fn md5_hex(&self) -> &str {
        &self.md5_hex
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_are_those_of_the_standards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let digest = Digest::of(&path).unwrap();
        assert_eq!(digest.bytes, 3);
        assert_eq!(digest, Digest::of_bytes(b"abc"));
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest.sha256(), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        // RFC 1321, appendix A.5: 900150983cd24fb0d6963f7d28e17f72.
        assert_eq!(digest.md5(), "kAFQmDzST7DWlj99KOF/cg==");
    }
}
