//! The object store: puts a file, asks the store what it has, downloads. The only user of the SDK.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_config::{BehaviorVersion, Region, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{RequestChecksumCalculation, ResponseChecksumValidation},
    error::DisplayErrorContext,
    primitives::ByteStream,
    types::ChecksumMode,
};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};

/// One bucket, and the prefix that all keys begin with.
#[derive(Clone)]
pub struct Bucket {
    client: Client,
    name: String,
    prefix: String,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    pub bytes: u64,
}

impl Bucket {
    /// Finds region and credentials as the AWS SDK does; contacts nothing yet.
    ///
    /// With an endpoint, from here or from AWS_ENDPOINT_URL(_S3), the store is not AWS: keys go
    /// into the path, and checksums are sent as plain headers, which all stores accept.
    pub async fn connect(name: &str, prefix: &str, endpoint: Option<&str>) -> Self {
        let from_environment = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
            .into_iter()
            .find_map(|variable| std::env::var(variable).ok().filter(|url| !url.is_empty()));
        let endpoint = endpoint.map(str::to_owned).or(from_environment);
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder().connect_timeout(Duration::from_secs(5)).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .timeout_config(timeouts);
        // Another store has no regions, and asking the instance for one takes seconds.
        let region_is_set = ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .into_iter()
            .any(|variable| std::env::var_os(variable).is_some());
        if endpoint.is_some() && !region_is_set {
            loader = loader.region(Region::new("us-east-1"));
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if shared.region().is_none() {
            config = config.region(Region::new("us-east-1"));
        }
        if let Some(endpoint) = endpoint {
            config = config.endpoint_url(endpoint).force_path_style(true);
        }
        let client = Client::from_conf(config.build());
        Self { client, name: name.to_owned(), prefix: prefix.to_owned() }
    }

    /// Uploads a file and returns once the store has confirmed its size and checksum.
    ///
    /// Putting the same file twice is harmless: same key, same content.
    pub async fn put(&self, file: &Path, object_name: &str) -> Result<()> {
        let key = format!("{}{object_name}", self.prefix);
        let at = format!("s3://{}/{key}", self.name);
        let path = file.to_owned();
        let (bytes, checksum) = tokio::task::spawn_blocking(move || digest(&path)).await??;
        let body = ByteStream::from_path(file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))?;
        self.client
            .put_object()
            .bucket(&self.name)
            .key(&key)
            .checksum_sha256(&checksum)
            .content_type("application/x-ndjson")
            .body(body)
            .send()
            .await
            .map_err(explain)
            .with_context(|| format!("cannot put {at}"))?;
        self.confirm(&key, bytes, &checksum).await.with_context(|| format!("cannot confirm {at}"))
    }

    async fn confirm(&self, key: &str, bytes: u64, checksum: &str) -> Result<()> {
        let head = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await
            .map_err(explain)?;
        let stored = head.content_length().unwrap_or(-1);
        ensure!(u64::try_from(stored) == Ok(bytes), "the store has {stored} bytes, not {bytes}");
        // A store that keeps no checksum has still checked the one that came with the upload.
        match head.checksum_sha256() {
            Some(stored) if stored != checksum => {
                bail!("the store has the SHA-256 {stored}, not {checksum}")
            }
            _ => Ok(()),
        }
    }

    /// Every object under the prefix.
    pub async fn list(&self) -> Result<Vec<Object>> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .prefix(&self.prefix)
            .into_paginator()
            .send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page
                .map_err(explain)
                .with_context(|| format!("cannot list s3://{}/{}", self.name, self.prefix))?;
            objects.extend(page.contents().iter().filter_map(|object| {
                let bytes = u64::try_from(object.size().unwrap_or(0)).unwrap_or(0);
                Some(Object { key: object.key()?.to_owned(), bytes })
            }));
        }
        Ok(objects)
    }

    /// Downloads an object into a directory, under the last part of its key.
    pub async fn fetch(&self, object: &Object, directory: &Path) -> Result<PathBuf> {
        let at = format!("s3://{}/{}", self.name, object.key);
        let file_name = object.key.rsplit('/').next().unwrap_or(&object.key);
        let path = directory.join(file_name);
        let partial = directory.join(format!("{file_name}.download"));
        let response = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(&object.key)
            .send()
            .await
            .map_err(explain)
            .with_context(|| format!("cannot get {at}"))?;
        let mut body = response.body.into_async_read();
        let mut file = tokio::fs::File::create(&partial)
            .await
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let bytes = tokio::io::copy(&mut body, &mut file)
            .await
            .with_context(|| format!("cannot download {at}"))?;
        ensure!(bytes == object.bytes, "{at}: got {bytes} of {} bytes", object.bytes);
        tokio::fs::rename(&partial, &path).await.context("cannot rename the download")?;
        Ok(path)
    }
}

/// Size and SHA-256 (in base64, as S3 writes it) of a file.
fn digest(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let read =
            file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok((bytes, BASE64.encode(hasher.finalize())));
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
    }
}

/// The SDK's own Display says "service error"; the cause is further down the chain.
fn explain<E: std::error::Error + Send + Sync + 'static>(error: E) -> anyhow::Error {
    anyhow::anyhow!("{}", DisplayErrorContext(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_standard() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        assert_eq!(digest(&path).unwrap(), (3, expected.to_owned()));
    }
}
