//! The object store: puts a file and makes sure of it, lists, downloads. The only user of the SDK.

mod digest;
mod download;
mod failure;
mod listing;
mod sums;
mod trial;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use aws_config::{BehaviorVersion, ConfigLoader, Region, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{
        Builder, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    },
    operation::{list_objects_v2::ListObjectsV2Error, put_object::PutObjectError},
    primitives::ByteStream,
    types::ChecksumMode,
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use trace::{secrets::mask, segment_name::Format};

use digest::Digest;
pub use download::{ATTEMPTS, FetchError, PARTIAL};
use failure::Caller;
pub use failure::PutError;
pub use listing::Listing;
pub use trial::{Permitted, Trial};

/// A store that has not answered by then does not answer. Uploads get the time for their bytes on
/// top, at [`SLOWEST_UPLOAD`]; transfers that stall are found sooner, by the SDK.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes a second. A slower line could not keep up with any trace.
const SLOWEST_UPLOAD: u64 = 64 << 10;

/// Of an object, by its name.
fn content_type(key: &str) -> &'static str {
    match Format::of(key) {
        Some(Format::Jsonl) => "application/x-ndjson",
        Some(Format::JsonlZst) => "application/zstd",
        None => "text/plain",
    }
}

/// One bucket, and the prefix that all keys begin with.
#[derive(Clone)]
pub struct Bucket {
    client: Client,
    name: String,
    prefix: String,
    /// For messages: the endpoint, or the region at AWS.
    store: String,
    /// The client has them too, but does not tell.
    credentials: Option<SharedCredentialsProvider>,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub bytes: u64,
}

/// How the sidecar talks to a store: region and credentials are found as the AWS SDK does.
pub fn loader() -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ANSWER_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).timeout_config(timeouts)
}

impl Bucket {
    /// Contacts nothing yet. `prefix` is empty or ends in `/`.
    pub async fn connect(name: &str, prefix: &str, endpoint: Option<&str>) -> Self {
        Self::connect_with(loader(), name, prefix, endpoint).await
    }

    /// [`Self::connect`] with credentials, retries or time limits of the caller's choice.
    ///
    /// With an endpoint, from here or from the profile, the store is not AWS: keys go into the
    /// path, and checksums are sent as plain headers, which all stores accept.
    pub async fn connect_with(
        mut loader: ConfigLoader,
        name: &str,
        prefix: &str,
        endpoint: Option<&str>,
    ) -> Self {
        // Another store has no regions, and asking the instance for one takes seconds.
        let is_set = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        if endpoint.is_some() && !["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().any(is_set) {
            loader = loader.region(Region::from_static("us-east-1"));
        }
        let shared = loader.load().await;
        let region = shared.region().filter(|region| !region.as_ref().is_empty());
        let region = region.cloned().unwrap_or(Region::from_static("us-east-1"));
        let endpoint = endpoint.or(shared.endpoint_url()).filter(|url| !url.is_empty());
        let store = endpoint.map_or_else(|| format!("S3 in {region}"), mask);
        let mut config = Builder::from(&shared)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .region(region);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint).force_path_style(true);
        } else if std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| url.is_empty()) {
            // The SDK would take the empty one for a URL.
            config.set_endpoint_url(None);
        }
        Self {
            client: Client::from_conf(config.build()),
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            store,
            credentials: shared.credentials_provider(),
        }
    }

    /// Uploads a file and returns once the store has confirmed its size and checksum.
    ///
    /// Putting the same file twice is harmless: same key, same content.
    pub async fn put(&self, file: &Path, object_name: &str) -> Result<(), PutError> {
        let (digest, body) = read(file).await.map_err(PutError::File)?;
        let key = format!("{}{object_name}", self.prefix);
        let sha256 = self.put_object(&key, &digest, body).await.map_err(|error| {
            let explained = self.explain(&error, "s3:PutObject");
            PutError::of(&error, explained.context(format!("cannot put s3://{}/{key}", self.name)))
        })?;
        self.confirm(&key, &digest, sha256.as_deref())
            .await
            .with_context(|| format!("cannot confirm s3://{}/{key}", self.name))
            .map_err(PutError::Store)
    }

    /// Returns the SHA-256 that the store answers, if it does.
    async fn put_object(
        &self,
        key: &str,
        digest: &Digest,
        body: ByteStream,
    ) -> Result<Option<String>, failure::SdkError<PutObjectError>> {
        let stored = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .checksum_sha256(digest.sha256())
            // Every store checks this one; some do not know the other.
            .content_md5(digest.md5())
            .content_type(content_type(key))
            .body(body)
            .customize()
            .config_override(Builder::default().timeout_config(self.upload_timeouts(digest.bytes)))
            .send()
            .await?;
        Ok(stored.checksum_sha256().map(str::to_owned))
    }

    fn upload_timeouts(&self, bytes: u64) -> TimeoutConfig {
        let base = self.client.config().timeout_config();
        let answer = base.and_then(TimeoutConfig::operation_attempt_timeout);
        let transfer = Duration::from_secs(bytes / SLOWEST_UPLOAD);
        base.map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder)
            .operation_attempt_timeout(answer.unwrap_or(ANSWER_TIMEOUT) + transfer)
            .build()
    }

    /// Asks what the store has now, and compares.
    async fn confirm(&self, key: &str, digest: &Digest, answered: Option<&str>) -> Result<()> {
        let head = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| self.explain(&error, "s3:GetObject"))?;
        let (stored, bytes) = (head.content_length().unwrap_or(-1), digest.bytes);
        ensure!(u64::try_from(stored) == Ok(bytes), "the store has {stored} bytes, not {bytes}");
        // A store that keeps no SHA-256 has still checked the MD5 that came with the upload.
        match head.checksum_sha256().or(answered) {
            Some(stored) if stored != digest.sha256() => {
                bail!(
                    "the store has the SHA-256 {stored}, not {}: check what lies between, such as a \
                     proxy or gateway",
                    digest.sha256()
                )
            }
            _ => Ok(()),
        }
    }

    /// Fails if uploads would surely fail. Credentials that may only upload pass.
    pub async fn check(&self) -> Result<()> {
        match self.list_one().await {
            Ok(()) => Ok(()),
            Err(error) if failure::is_access_denied(&error) => Ok(()),
            Err(error) => Err(self.explain(&error, "s3:ListBucket"))
                .with_context(|| format!("cannot use s3://{}/{}", self.name, self.prefix)),
        }
    }

    /// Asks for as little as a listing can be.
    async fn list_one(&self) -> Result<(), failure::SdkError<ListObjectsV2Error>> {
        let one = self.client.list_objects_v2().bucket(&self.name).prefix(&self.prefix).max_keys(1);
        one.send().await.map(drop)
    }

    /// For messages: the endpoint, or the region at AWS.
    pub fn store(&self) -> &str {
        &self.store
    }

    fn explain<E: failure::Cause>(
        &self,
        error: &failure::SdkError<E>,
        permission: &str,
    ) -> anyhow::Error {
        failure::explain(error, &Caller { bucket: &self.name, store: &self.store, permission })
    }
}

async fn read(file: &Path) -> Result<(Digest, ByteStream)> {
    let path = file.to_owned();
    let digest = tokio::task::spawn_blocking(move || Digest::of(&path)).await??;
    let body = ByteStream::from_path(file)
        .await
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok((digest, body))
}
