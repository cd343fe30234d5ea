//! The checksums that a store tells of an object, and whether a file has them.

use aws_sdk_s3::{
    operation::{get_object::GetObjectOutput, head_object::HeadObjectOutput},
    types::ServerSideEncryption,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::digest::Digest;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoredChecksums {
    /// In base64.
    sha256: Option<String>,
    /// In lower-case hex.
    md5: Option<String>,
}

/// What answers to GET and HEAD have in common.
macro_rules! sums_of {
    ($answer:expr) => {{
        let answer = $answer;
        let metadata = answer.metadata().and_then(|metadata| metadata.get("sha256"));
        let is_encrypted = answer.sse_customer_algorithm().is_some()
            || matches!(
                answer.server_side_encryption(),
                Some(other) if *other != ServerSideEncryption::Aes256
            );
        StoredChecksums {
            sha256: of_whole(answer.checksum_sha256())
                .map(str::to_owned)
                .or_else(|| of_metadata(metadata?)),
            md5: answer.e_tag().filter(|tag| !is_encrypted && !tag.starts_with("W/")).and_then(md5_of),
        }
    }};
}

impl StoredChecksums {
    pub(crate) fn of_answer(answer: &GetObjectOutput) -> Self {
        sums_of!(answer)
    }

    pub(crate) fn of_head(answer: &HeadObjectOutput) -> Self {
        sums_of!(answer)
    }

    /// What is wrong with a file that has this digest. Of two sums the stronger one decides.
    pub(crate) fn mismatch(&self, digest: &Digest) -> Option<String> {
        let (name, stored, found) = match self {
            Self { sha256: Some(sha256), .. } => ("SHA-256", sha256, digest.sha256()),
            Self { md5: Some(md5), .. } => ("MD5 (by its ETag)", md5, digest.md5_hex()),
            Self { sha256: None, md5: None } => return None,
        };
        (stored != found).then(|| {
            format!(
                "the store has the {name} {stored}, and what came has {found}: check what lies \
                 between, such as a proxy or gateway"
            )
        })
    }
}

/// An upload in parts has a checksum of checksums, with the number of parts behind a `-`.
pub(crate) fn of_whole(checksum: Option<&str>) -> Option<&str> {
    checksum.filter(|checksum| !checksum.contains('-'))
}

/// The entity tag, where it looks like the MD5 of the content: in lower-case hex.
pub(crate) fn md5_of(etag: &str) -> Option<String> {
    let tag = etag.trim_start_matches("W/").trim_matches('"');
    let is_md5 = tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_md5.then(|| tag.to_ascii_lowercase())
}

fn of_metadata(sha256: &String) -> Option<String> {
    let is_base64 = BASE64.decode(sha256).is_ok_and(|bytes| bytes.len() == 32);
    if is_base64 { Some(sha256.clone()) } else { of_hex(sha256).filter(|sum| sum.len() == 44) }
}

fn of_hex(text: &str) -> Option<String> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap_or_default())
        .collect();
    Some(BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_an_md5_only_where_it_looks_like_one() {
        // RFC 1321, appendix A.5.
        let md5 = md5_of("\"900150983cd24fb0d6963f7d28e17f72\"");
        assert_eq!(md5.as_deref(), Some(Digest::of_bytes(b"abc").md5_hex()));
        for other in ["\"900150983cd24fb0d6963f7d28e17f72-2\"", "\"x\"", "\"\"", "\"9001\""] {
            assert_eq!(md5_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_sha256_in_the_metadata_may_be_hex_or_base64() {
        let digest = Digest::of_bytes(b"abc");
        for text in [digest.sha256().to_owned(), digest.sha256_hex()] {
            assert_eq!(of_metadata(&text).as_deref(), Some(digest.sha256()));
        }
        assert_eq!(of_metadata(&"yes".to_owned()), None);
    }

    #[test]
    fn the_stronger_sum_decides() {
        let digest = Digest::of_bytes(b"abc");
        let other = Some("x".to_owned());
        let right =
            StoredChecksums { sha256: Some(digest.sha256().to_owned()), md5: other.clone() };
        assert_eq!(right.mismatch(&digest), None);
        let wrong = StoredChecksums { sha256: other, md5: Some(digest.md5_hex().to_owned()) };
        assert!(wrong.mismatch(&digest).unwrap().contains("SHA-256 x"));
        assert_eq!(StoredChecksums::default().mismatch(&digest), None);
    }
}
