//! The bucket: connects to it, puts a file and makes sure of it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Error, Result};
use aws_config::{BehaviorVersion, ConfigLoader, Region, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{
        Builder, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    },
    operation::put_object::PutObjectError,
    primitives::ByteStream,
    types::StorageClass,
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use jiff::Timestamp;
use tokio::time::timeout;
use trace::{key_prefix::KeyPrefix, secrets::mask, segment_name::Format};
use tracing::info;

use super::{
    confirm::{Seen, Stored},
    credentials,
    digest::Digest,
    failure::{self, Caller, PutError},
    field_values::FieldValues,
    limit::Limit,
    transport,
    unsupported::{Unsupported, UnsupportedFeatures},
};
use crate::{
    endpoint::names_the_bucket,
    settings::{Addressing, Destination},
};

/// A store that has not answered by then does not answer. Uploads get the time for their bytes on
/// top, at [`SLOWEST_UPLOAD`]; transfers that stall are found sooner, by the SDK.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A store that does not say by then how it wants to be asked is asked at the next failure.
const MAX_QUESTION: Duration = Duration::from_secs(20);

/// Bytes a second. A slower line could not keep up with any trace.
pub(crate) const SLOWEST_UPLOAD: u64 = 64 << 10;

/// Of an object, by its name.
fn content_type(key: &str) -> &'static str {
    match Format::of(key) {
        Some(Format::Jsonl) => "application/x-ndjson",
        Some(Format::JsonlZst) => "application/zstd",
        Some(Format::Parquet) => "application/vnd.apache.parquet",
        None => "text/plain",
    }
}

/// One bucket, and the prefix that all keys begin with.
#[derive(Clone)]
pub struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) prefix: KeyPrefix,
    /// For fields in the prefix.
    pub(crate) field_values: FieldValues,
    /// For messages: the endpoint, or the region at AWS.
    pub(crate) store: String,
    /// The client has them too, but does not tell.
    pub(crate) credentials: Option<SharedCredentialsProvider>,
    pub(crate) storage_class: Option<StorageClass>,
    pub(crate) unsupported: Arc<UnsupportedFeatures>,
    /// The store refuses the keys, or the place: another connection may fare better.
    pub(crate) is_stale: Arc<AtomicBool>,
    /// Whether the store was there to be asked how it wants to be.
    pub(crate) is_settled: bool,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub bytes: u64,
    /// Tells one version from another, if the listing has it.
    pub etag: Option<String>,
}

/// What is put: read anew for each attempt.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    File(&'a Path),
    Text(&'a str),
}

/// How this program talks to a store: region and credentials are found as the AWS SDK does.
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
    /// Where the settings say. Asks the store how it wants the bucket to be named, if that is not set;
    /// a store that is down is no error here.
    pub async fn open(destination: &Destination) -> Result<Self> {
        Self::open_with(loader(), destination).await
    }

    pub(crate) async fn open_with(loader: ConfigLoader, destination: &Destination) -> Result<Self> {
        let transport = transport::found(destination.endpoint.as_deref()).await?;
        let loader = loader.http_client(transport.for_credentials.clone());
        let bucket = Self::build(loader, destination, Some(&transport)).await?;
        let unsettled = Self { is_settled: false, ..bucket.clone() };
        Ok(timeout(MAX_QUESTION, bucket.settled(destination)).await.unwrap_or(unsettled))
    }

    /// Contacts nothing yet: with credentials, retries or time limits of the caller's choice, and
    /// nothing read from this machine's variables for proxies and certificates.
    pub async fn connect_with(
        loader: ConfigLoader,
        name: &str,
        prefix: &str,
        endpoint: Option<&str>,
    ) -> Self {
        let destination = Destination {
            bucket: name.to_owned(),
            prefix: prefix.parse().expect("a prefix of the caller's choice"),
            endpoint: endpoint.map(str::to_owned),
            ..Destination::default()
        };
        Self::build(loader, &destination, None).await.expect("only a profile could be wrong")
    }

    /// With an endpoint, from here or from the profile, the store is not AWS: keys go into the path
    /// unless it wants the bucket in the host, and checksums are sent as plain headers, which most
    /// stores accept.
    async fn build(
        mut loader: ConfigLoader,
        destination: &Destination,
        transport: Option<&transport::Transport>,
    ) -> Result<Self> {
        let Destination { bucket: name, prefix, endpoint, addressing, checksums, storage_class } =
            destination;
        if let Some(region) = region_of_environment() {
            loader = loader.region(Region::new(region));
        } else if endpoint.is_some() {
            // Another store has no regions, and asking the instance for one takes seconds.
            loader = loader.region(Region::from_static("us-east-1"));
        }
        let shared = loader.load().await;
        let region = shared.region().filter(|region| !region.as_ref().is_empty());
        let region = region.cloned().unwrap_or(Region::from_static("us-east-1"));
        let endpoint = endpoint.as_deref().or(shared.endpoint_url()).filter(|url| !url.is_empty());
        if let Some(refusal) = endpoint.and_then(|url| names_the_bucket(url, name, *addressing)) {
            let endpoint = mask(endpoint.unwrap_or_default());
            anyhow::bail!("the endpoint is {endpoint:?}: {refusal}");
        }
        let mut store = endpoint.map_or_else(|| format!("S3 in {region}"), mask);
        let credentials = shared.credentials_provider().map(credentials::checked);
        let mut config = Builder::from(&shared)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(Limit::Refusals)
            .region(region);
        config.set_credentials_provider(credentials.clone());
        if let Some(transport) = transport {
            config = config.http_client(transport.for_objects.clone());
            store.push_str(&transport.told);
        }
        let in_path = match addressing {
            Addressing::Auto => endpoint.is_some(),
            Addressing::Path => true,
            Addressing::Host => false,
        };
        config = config.force_path_style(in_path);
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint);
        } else if std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| url.is_empty()) {
            // The SDK would take the empty one for a URL.
            config.set_endpoint_url(None);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            name: name.clone(),
            prefix: prefix.clone(),
            field_values: FieldValues::here(),
            store,
            credentials,
            storage_class: storage_class.as_deref().map(StorageClass::from),
            unsupported: Arc::new(UnsupportedFeatures::new(*checksums)),
            is_stale: Arc::default(),
            is_settled: true,
        })
    }

    /// Whether another connection may fare better: with keys that have changed, for one.
    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Uploads a file and returns once the store has confirmed its size and checksum.
    ///
    /// Putting the same file twice is harmless: same key, same content. Where the store refuses the
    /// second one, what it has is compared.
    pub async fn put(&self, file: &Path, object_name: &str) -> Result<(), PutError> {
        let digest = Digest::read(file).await.map_err(PutError::File)?;
        self.put_read(file, object_name, &digest).await
    }

    /// [`Self::put`] of what an earlier attempt may have stored: looks first.
    pub async fn put_again(&self, file: &Path, object_name: &str) -> Result<(), PutError> {
        let digest = Digest::read(file).await.map_err(PutError::File)?;
        let key = self.key_of(file, object_name).await?;
        match self.look(&key, &digest, None).await {
            Ok(Seen::Same) => Ok(()),
            Ok(Seen::Missing | Seen::Other(_)) => self.put_read(file, object_name, &digest).await,
            Err(error) => Err(PutError::Unconfirmed(self.unconfirmed(&key, error))),
        }
    }

    async fn put_read(
        &self,
        file: &Path,
        object_name: &str,
        digest: &Digest,
    ) -> Result<(), PutError> {
        let key = self.key_of(file, object_name).await?;
        // Told as the file's fault, not as the request's.
        ByteStream::from_path(file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))
            .map_err(PutError::File)?;
        let stored = match self.put_object(&key, digest, Body::File(file)).await {
            Ok(stored) => stored,
            Err(error) => return self.refused(&key, digest, &error).await,
        };
        match self.look(&key, digest, Some(&stored)).await {
            Ok(Seen::Same) => Ok(()),
            // Put again, it may arrive.
            Ok(Seen::Missing) => Err(PutError::Store(self.unconfirmed(&key, failure::not_there()))),
            Ok(Seen::Other(what)) => Err(PutError::Store(self.unconfirmed(&key, what))),
            Err(error) => Err(PutError::Unconfirmed(self.unconfirmed(&key, error))),
        }
    }

    /// A store that keeps objects from being replaced refuses what it has already.
    async fn refused(
        &self,
        key: &str,
        digest: &Digest,
        error: &failure::SdkError<PutObjectError>,
    ) -> Result<(), PutError> {
        let location = format!("s3://{}/{key}", self.name);
        if failure::may_be_there(error) {
            match self.look(key, digest, None).await {
                Ok(Seen::Same) => {
                    info!("{location} was there already, with the same content");
                    return Ok(());
                }
                Ok(Seen::Other(what)) => {
                    return Err(PutError::Taken(what.context(format!(
                        "{location} is there already, with other content, and the store lets nobody \
                         replace it (remove the object, or choose another S3_PREFIX)"
                    ))));
                }
                Ok(Seen::Missing) | Err(_) => {}
            }
        }
        let explained = self.explain(error, "s3:PutObject");
        Err(PutError::of(error, explained.context(format!("cannot put {location}"))))
    }

    fn unconfirmed(&self, key: &str, error: Error) -> Error {
        error.context(format!("cannot confirm s3://{}/{key}", self.name))
    }

    /// Of a file, by when it was written last: the same at each attempt.
    async fn key_of(&self, file: &Path, object_name: &str) -> Result<String, PutError> {
        let modified = async { tokio::fs::metadata(file).await?.modified() }.await;
        let modified =
            modified.map_err(Error::from).and_then(|time| Ok(Timestamp::try_from(time)?));
        let time = modified.with_context(|| format!("cannot stat {}", file.display()));
        Ok(self.key(object_name, time.map_err(PutError::File)?))
    }

    /// Of an object that was made at `time`.
    pub(crate) fn key(&self, object_name: &str, time: Timestamp) -> String {
        format!("{}{object_name}", self.field_values.fill(&self.prefix, time))
    }

    /// With the checksum of S3, and without it where the store does not know it.
    pub(crate) async fn put_object(
        &self,
        key: &str,
        digest: &Digest,
        body: Body<'_>,
    ) -> Result<Stored, failure::SdkError<PutObjectError>> {
        let with_checksum = self.unsupported.sends_checksums();
        let error = match self.put_object_once(key, digest, body, with_checksum).await {
            Ok(stored) => return Ok(stored),
            Err(error) => error,
        };
        if !with_checksum
            || !self.unsupported.may_omit_checksums()
            || !failure::may_be_a_header(&error)
        {
            return Err(error);
        }
        match self.put_object_once(key, digest, body, false).await {
            Ok(stored) => {
                self.unsupported.learn(Unsupported::Checksums, &self.store);
                Ok(stored)
            }
            Err(_) => Err(error),
        }
    }

    async fn put_object_once(
        &self,
        key: &str,
        digest: &Digest,
        body: Body<'_>,
        with_checksum: bool,
    ) -> Result<Stored, failure::SdkError<PutObjectError>> {
        let stream = match body {
            Body::File(path) => ByteStream::from_path(path)
                .await
                .map_err(failure::SdkError::construction_failure)?,
            Body::Text(text) => ByteStream::from(text.as_bytes().to_vec()),
        };
        let stored = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .set_storage_class(self.storage_class.clone())
            .set_checksum_sha256(with_checksum.then(|| digest.sha256().to_owned()))
            // Every store checks this one; some do not know the other.
            .content_md5(digest.md5())
            .content_type(content_type(key))
            .body(stream)
            .customize()
            .interceptor(Limit::All)
            .config_override(Builder::default().timeout_config(self.upload_timeouts(digest.bytes)))
            .send()
            .await?;
        Ok(Stored { sha256: stored.checksum_sha256().map(str::to_owned) })
    }

    fn upload_timeouts(&self, bytes: u64) -> TimeoutConfig {
        let base = self.client.config().timeout_config();
        let answer = base.and_then(TimeoutConfig::operation_attempt_timeout);
        let transfer = Duration::from_secs(bytes / SLOWEST_UPLOAD);
        base.map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder)
            .operation_attempt_timeout(answer.unwrap_or(ANSWER_TIMEOUT) + transfer)
            .build()
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
    pub(crate) async fn list_one(&self) -> Result<(), failure::ListError> {
        self.list_first(self.prefix.fixed()).await.map(drop)
    }

    /// For messages: the endpoint, or the region at AWS.
    pub fn store(&self) -> &str {
        &self.store
    }

    pub(crate) fn explain<E: failure::Cause>(
        &self,
        error: &failure::SdkError<E>,
        permission: &str,
    ) -> Error {
        let is_new = !self.is_settled && failure::status(error).is_some();
        if is_new || failure::is_about_keys(error) {
            self.is_stale.store(true, Ordering::Relaxed);
        }
        failure::explain(error, &Caller { bucket: &self.name, store: &self.store, permission })
    }
}

/// Without the line break that a secret made by hand ends in.
fn region_of_environment() -> Option<String> {
    let of = |variable| std::env::var(variable).ok().map(|value| value.trim().to_owned());
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .filter_map(of)
        .find(|region| !region.is_empty())
}
