//! The size and the checksums of a file, as S3 writes them.

use std::{fmt::Write as _, fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use md5::Md5;
use sha2::Sha256;

/// In base64, as headers have them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) bytes: u64,
    sha256: String,
    md5: String,
}

impl Digest {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let (mut bytes, mut sha256, mut md5) = (0, Sha256::default(), Md5::default());
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = file
                .read(&mut buffer)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if read == 0 {
                break;
            }
            let piece = &buffer[..read];
            bytes += piece.len() as u64;
            sha2::Digest::update(&mut sha256, piece);
            md5::Digest::update(&mut md5, piece);
        }
        Ok(Self {
            bytes,
            sha256: BASE64.encode(sha2::Digest::finalize(sha256)),
            md5: BASE64.encode(md5::Digest::finalize(md5)),
        })
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.len() as u64,
            sha256: BASE64.encode(<Sha256 as sha2::Digest>::digest(bytes)),
            md5: BASE64.encode(<Md5 as md5::Digest>::digest(bytes)),
        }
    }

    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    pub(super) fn sha256_hex(&self) -> String {
        let bytes = BASE64.decode(&self.sha256).unwrap_or_default();
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _: std::fmt::Result = write!(hex, "{byte:02x}");
            hex
        })
    }

    pub(super) fn md5(&self) -> &str {
        &self.md5
    }
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
