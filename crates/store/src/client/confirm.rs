//! What the store has under a key, compared with what was or would be put there.
//!
//! HEAD tells it best. Of a store that does not answer it, or not with the size, a GET of one byte, a
//! listing, and at last the whole object are asked for.

use std::time::Duration;

use anyhow::{Error, Result, anyhow, bail};
use aws_sdk_s3::{
    operation::{head_object::HeadObjectError, list_objects_v2::ListObjectsV2Output},
    types::ChecksumMode,
};
use tokio::time::timeout;

use super::{
    bucket::{ANSWER_TIMEOUT, Bucket, SLOWEST_UPLOAD},
    digest::Digest,
    failure,
    limit::Limit,
    stored_checksums::{md5_of, of_whole},
    transfer::total_of,
    unsupported::Unsupported,
};

/// What a PUT was answered with.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) sha256: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Seen {
    Same,
    Missing,
    /// And in what it differs.
    Other(Error),
}

/// What a store tells of an object.
#[derive(Debug, Default)]
struct Told {
    bytes: Option<u64>,
    sha256: Option<String>,
    etag: Option<String>,
}

/// What follows from it.
enum Verdict {
    Seen(Seen),
    /// The size is not known.
    NoSize,
    /// The size is right, and that is all there is.
    NoProof,
}

impl Bucket {
    /// `own` is the answer to an upload that was made just now: the store has checked its MD5, so that
    /// the size is enough where it tells no more. For an older object only a checksum is, or the
    /// content itself.
    pub(crate) async fn look(
        &self,
        key: &str,
        digest: &Digest,
        own: Option<&Stored>,
    ) -> Result<Seen> {
        if let Some(sha256) = own.and_then(|own| of_whole(own.sha256.as_deref()))
            && sha256 != digest.sha256()
        {
            return Ok(Seen::Other(other_sha256(sha256, digest)));
        }
        let mut head_fails = self.unsupported.has(Unsupported::Head);
        let mut refusal = None;
        if !head_fails {
            match self.head(key).await {
                Ok(told) => match told.verdict(digest, own.is_some()) {
                    Verdict::Seen(found) => return Ok(found),
                    Verdict::NoProof => return self.compare(key, digest).await,
                    Verdict::NoSize => head_fails = true,
                },
                Err(error) if failure::status(&error) == Some(404) => return Ok(Seen::Missing),
                Err(error) if failure::is_refusal(&error) => {
                    head_fails = true;
                    refusal = Some(self.explain(&error, "s3:GetObject"));
                }
                Err(error) => return Err(self.explain(&error, "s3:GetObject")),
            }
        }
        let found = self.look_without_head(key, digest, own.is_some(), refusal).await?;
        if head_fails && matches!(found, Seen::Same) {
            self.unsupported.learn(Unsupported::Head, &self.store);
        }
        Ok(found)
    }

    /// Where nothing else answers either, the error is that of the HEAD.
    async fn look_without_head(
        &self,
        key: &str,
        digest: &Digest,
        is_own: bool,
        refusal: Option<Error>,
    ) -> Result<Seen> {
        let range =
            self.client.get_object().bucket(&self.name).key(key).range("bytes=0-0").send().await;
        let refusal = match range {
            Ok(answer) => {
                let total = answer.content_range().and_then(total_of);
                let Some(bytes) = total else { return self.compare(key, digest).await };
                let told = Told {
                    bytes: Some(bytes),
                    sha256: None,
                    etag: answer.e_tag().map(str::to_owned),
                };
                return match told.verdict(digest, is_own) {
                    Verdict::Seen(found) => Ok(found),
                    Verdict::NoProof | Verdict::NoSize => self.compare(key, digest).await,
                };
            }
            Err(error) if failure::status(&error) == Some(404) => return Ok(Seen::Missing),
            // An empty object has no first byte.
            Err(error) if failure::status(&error) == Some(416) => {
                return self.compare(key, digest).await;
            }
            Err(error) if !failure::is_refusal(&error) => {
                return Err(self.explain(&error, "s3:GetObject"));
            }
            Err(error) => refusal.unwrap_or_else(|| self.explain(&error, "s3:GetObject")),
        };
        let Ok(listing) = self.list_first(key).await else { return Err(refusal) };
        let Some(object) = listing.contents().iter().find(|object| object.key() == Some(key))
        else {
            return Err(refusal);
        };
        let told = Told {
            bytes: object.size().and_then(|size| u64::try_from(size).ok()),
            sha256: None,
            etag: object.e_tag().map(str::to_owned),
        };
        match told.verdict(digest, is_own) {
            Verdict::Seen(found) => Ok(found),
            Verdict::NoProof | Verdict::NoSize => Err(refusal),
        }
    }

    async fn head(&self, key: &str) -> Result<Told, failure::SdkError<HeadObjectError>> {
        let ask = async |with_checksum: bool| {
            self.client
                .head_object()
                .bucket(&self.name)
                .key(key)
                .set_checksum_mode(with_checksum.then_some(ChecksumMode::Enabled))
                .send()
                .await
        };
        let with_checksum = self.unsupported.sends_checksums();
        let head = match ask(with_checksum).await {
            Err(error)
                if with_checksum
                    && self.unsupported.may_omit_checksums()
                    && matches!(failure::status(&error), Some(400 | 501)) =>
            {
                let head = ask(false).await.map_err(|_| error)?;
                self.unsupported.learn(Unsupported::Checksums, &self.store);
                head
            }
            head => head?,
        };
        Ok(Told {
            bytes: head.content_length().and_then(|bytes| u64::try_from(bytes).ok()),
            sha256: of_whole(head.checksum_sha256()).map(str::to_owned),
            etag: head.e_tag().map(str::to_owned),
        })
    }

    /// Reads the object as it comes: nothing of it is kept.
    async fn compare(&self, key: &str, digest: &Digest) -> Result<Seen> {
        let within = ANSWER_TIMEOUT + Duration::from_secs(digest.bytes / SLOWEST_UPLOAD);
        let read = async {
            let get = self.client.get_object().bucket(&self.name).key(key).send().await;
            let answer = match get {
                Ok(answer) => answer,
                Err(error) if failure::status(&error) == Some(404) => return Ok(Seen::Missing),
                Err(error) => return Err(self.explain(&error, "s3:GetObject")),
            };
            let stored = Digest::of_stream(answer.body, digest.bytes).await?;
            Ok(if stored.bytes != digest.bytes {
                Seen::Other(other_size(stored.bytes, digest))
            } else if stored.sha256() == digest.sha256() {
                Seen::Same
            } else {
                Seen::Other(other_sha256(stored.sha256(), digest))
            })
        };
        match timeout(within, read).await {
            Ok(found) => found,
            Err(_) => bail!("{} does not give it back within {} s", self.store, within.as_secs()),
        }
    }

    /// The first object whose key begins so, by the form of listings that the store knows.
    pub(crate) async fn list_first(
        &self,
        prefix: &str,
    ) -> Result<ListObjectsV2Output, failure::ListError> {
        let is_old = self.unsupported.has(Unsupported::ListV2);
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).max_keys(1);
        let request = request.customize().interceptor(Limit::All);
        let error = if is_old {
            None
        } else {
            match request.send().await {
                Ok(listing) => return Ok(listing),
                Err(error) if failure::may_be_a_header(&error) => Some(error),
                Err(error) => return Err(error),
            }
        };
        let old = self.client.list_objects().bucket(&self.name).prefix(prefix).max_keys(1);
        let old = old.customize().interceptor(Limit::All);
        match (old.send().await, error) {
            (Ok(listing), _) => {
                self.unsupported.learn(Unsupported::ListV2, &self.store);
                let objects = listing.contents.unwrap_or_default();
                Ok(ListObjectsV2Output::builder().set_contents(Some(objects)).build())
            }
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(failure::as_new_listing(error)),
        }
    }
}

impl Told {
    fn verdict(&self, digest: &Digest, is_own: bool) -> Verdict {
        let Self { bytes, sha256, etag } = self;
        let is_same = match sha256 {
            Some(sha256) if sha256 == digest.sha256() => true,
            Some(sha256) => return Verdict::Seen(Seen::Other(other_sha256(sha256, digest))),
            None => etag
                .as_deref()
                .is_some_and(|etag| md5_of(etag).as_deref() == Some(digest.md5_hex())),
        };
        match *bytes {
            None if is_same => Verdict::Seen(Seen::Same),
            Some(bytes) if bytes == digest.bytes => {
                // The tag of an encrypted object is no MD5, but looks like one.
                let is_odd = etag.as_deref().is_some_and(|etag| md5_of(etag).is_some());
                if is_same || is_own && !is_odd {
                    Verdict::Seen(Seen::Same)
                } else {
                    Verdict::NoProof
                }
            }
            // It may be what lies between that says so.
            None | Some(_) => Verdict::NoSize,
        }
    }
}

fn other_size(stored: u64, digest: &Digest) -> Error {
    anyhow!("the store has {stored} bytes, not {}", digest.bytes)
}

fn other_sha256(stored: &str, digest: &Digest) -> Error {
    anyhow!(
        "the store has the SHA-256 {stored}, not {}: check what lies between, such as a proxy or \
         gateway",
        digest.sha256()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: Option<u64>, sha256: Option<&str>, etag: Option<&str>) -> Told {
        Told { bytes, sha256: sha256.map(str::to_owned), etag: etag.map(str::to_owned) }
    }

    fn word(told: &Told, is_own: bool) -> &'static str {
        match told.verdict(&Digest::of_bytes(b"abc"), is_own) {
            Verdict::Seen(Seen::Same) => "same",
            Verdict::Seen(Seen::Missing) => "missing",
            Verdict::Seen(Seen::Other(_)) => "other",
            Verdict::NoSize => "no size",
            Verdict::NoProof => "no proof",
        }
    }

    #[test]
    fn an_older_object_needs_a_proof_of_its_content_and_an_own_one_no_contradiction() {
        const SHA256: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        const MD5: &str = "\"900150983cd24fb0d6963f7d28e17f72\"";
        const ENCRYPTED: &str = "\"00000000000000000000000000000000\"";
        const PARTS: &str = "\"900150983cd24fb0d6963f7d28e17f72-2\"";
        for (told, older, own) in [
            (told(Some(3), Some(SHA256), None), "same", "same"),
            (told(Some(3), None, Some(MD5)), "same", "same"),
            (told(None, None, Some(MD5)), "same", "same"),
            (told(None, Some(SHA256), Some(ENCRYPTED)), "same", "same"),
            (told(Some(3), None, None), "no proof", "same"),
            (told(Some(3), None, Some(PARTS)), "no proof", "same"),
            (told(Some(3), None, Some(ENCRYPTED)), "no proof", "no proof"),
            (told(Some(3), Some("other"), Some(MD5)), "other", "other"),
            (told(Some(0), Some(SHA256), Some(MD5)), "no size", "no size"),
            (told(None, None, None), "no size", "no size"),
        ] {
            assert_eq!((word(&told, false), word(&told, true)), (older, own), "{told:?}");
        }
    }
}
