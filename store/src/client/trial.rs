//! An object that is written, read back and removed, to see whether uploads will work.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Credentials, ProvideCredentials as _};
use jiff::Timestamp;

use super::{
    bucket::{Bucket, CONNECT_TIMEOUT, Content, loader},
    confirm::{Seen, Stored},
    digest::Digest,
    failure,
};
use crate::settings::Destination;

/// Somebody waits for the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// One object, of which the store knows nothing before.
pub struct Trial {
    bucket: Bucket,
    key: String,
    content: String,
    digest: Digest,
}

/// Whether the store lets these credentials do something that uploads do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permitted {
    Yes,
    No,
}

impl Bucket {
    /// [`Self::open`] for somebody who waits.
    pub async fn open_briefly(destination: &Destination) -> Result<Self> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ANSWER_TIMEOUT)
            .build();
        Self::open_with(loader().timeout_config(timeouts), destination).await
    }

    /// Where objects go, in words.
    pub fn location(&self) -> String {
        format!("s3://{}/{} at {}", self.name, self.prefix, self.store)
    }

    /// Finds credentials, and says where they are from.
    pub async fn credentials(&self) -> Result<Found> {
        let provider = self.credentials.as_ref().context(failure::CREDENTIALS)?;
        match provider.provide_credentials().await {
            Ok(credentials) => Ok(Found(credentials)),
            Err(error) => Err(anyhow!(
                "none found: {} ({})",
                failure::root_cause(&error),
                failure::CREDENTIALS
            )),
        }
    }

    /// Fails unless the bucket is there and knows the credentials.
    pub async fn may_list(&self) -> Result<Permitted> {
        match self.list_one().await {
            Ok(()) => Ok(Permitted::Yes),
            Err(error) if failure::is_access_denied(&error) => Ok(Permitted::No),
            Err(error) => Err(self.explain(&error, "s3:ListBucket")),
        }
    }

    pub fn trial(&self) -> Trial {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let now = Timestamp::now();
        let name = format!("check-s3_{host}_{}.txt", now.strftime("%Y%m%dT%H%M%S%.3fZ"));
        let key = self.key(&name, now);
        let content = format!("ebpf-cuda-tracer check-s3 on {host} at {now}; may be removed\n");
        let digest = Digest::of_bytes(content.as_bytes());
        Trial { bucket: self.clone(), key, content, digest }
    }
}

impl Trial {
    pub fn location(&self) -> String {
        format!("s3://{}/{}", self.bucket.name, self.key)
    }

    /// By the same request as an upload.
    pub async fn write(&self) -> Result<()> {
        let content = Content::Text(&self.content);
        let put = self.bucket.put_object(&self.key, &self.digest, content).await;
        put.map(drop).map_err(|error| self.bucket.explain(&error, "s3:PutObject"))
    }

    /// As an upload is confirmed.
    pub async fn confirm(&self) -> Result<()> {
        match self.bucket.look(&self.key, &self.digest, Some(&Stored::default())).await? {
            Seen::Same => Ok(()),
            Seen::Missing => Err(failure::not_there()),
            Seen::Other(what) => Err(what),
        }
    }

    pub async fn read_back(&self) -> Result<()> {
        let answer = self
            .bucket
            .client
            .get_object()
            .bucket(&self.bucket.name)
            .key(&self.key)
            .send()
            .await
            .map_err(|error| self.bucket.explain(&error, "s3:GetObject"))?;
        let bytes = answer.body.collect().await.context("the transfer failed")?.into_bytes();
        ensure!(
            bytes == self.content.as_bytes(),
            "the store gives back something else than was sent: check what lies between, such as a \
             proxy or gateway"
        );
        Ok(())
    }

    pub async fn remove(&self) -> Result<Permitted> {
        let Self { bucket, key, .. } = self;
        match bucket.client.delete_object().bucket(&bucket.name).key(key).send().await {
            Ok(_) => Ok(Permitted::Yes),
            Err(error) if failure::is_access_denied(&error) => Ok(Permitted::No),
            Err(error) => Err(bucket.explain(&error, "s3:DeleteObject"))
                .with_context(|| format!("{} may be left behind", self.location())),
        }
    }
}

/// Credentials that were found; shown without what is secret.
pub struct Found(Credentials);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(credentials) = self;
        let id = credentials.access_key_id();
        let end = if id.len() > 8 { id.get(id.len() - 4..).unwrap_or_default() } else { "" };
        write!(f, "from {} (AWS_ACCESS_KEY_ID ends in ****{end}", source(credentials))?;
        if credentials.session_token().is_some() {
            f.write_str(", temporary")?;
        }
        if let Some(expiry) = credentials.expiry().and_then(|time| Timestamp::try_from(time).ok()) {
            write!(f, ", valid until {expiry:.0}")?;
        }
        f.write_str(")")
    }
}

/// The SDK tells the name of the provider in its Debug form only, where secrets are left out.
fn source(credentials: &Credentials) -> String {
    let shown = format!("{credentials:?}");
    let name = shown.split("provider_name: \"").nth(1).and_then(|rest| rest.split('"').next());
    let known = match name {
        Some("EnvironmentVariable") => "the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        Some("ProfileFile") => "a profile in ~/.aws (or AWS_SHARED_CREDENTIALS_FILE)",
        Some("WebIdentityToken") => "a web identity (AWS_WEB_IDENTITY_TOKEN_FILE)",
        Some("EcsContainer") => "the container's endpoint (AWS_CONTAINER_CREDENTIALS_...)",
        Some("IMDSv2") => "the role of the instance",
        Some("AssumeRoleProvider") => "a role that a profile in ~/.aws assumes",
        Some("CredentialProcess") => "the credential_process of a profile in ~/.aws",
        Some(other) => return other.to_owned(),
        None => "the chain of the AWS SDK",
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(id: &str, provider: &'static str) -> String {
        let credentials = Credentials::new(id, "not to be shown", None, None, provider);
        Found(credentials).to_string()
    }

    #[test]
    fn credentials_are_told_by_their_source_and_never_shown() {
        let shown = found("AKIAIOSFODNN7EXAMPLE", "EnvironmentVariable");
        assert_eq!(
            shown,
            "from the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_ACCESS_KEY_ID ends \
             in ****MPLE)"
        );
        assert!(
            found("AKIAIOSFODNN7EXAMPLE", "IMDSv2").starts_with("from the role of the instance")
        );
        assert_eq!(found("short", "odd"), "from odd (AWS_ACCESS_KEY_ID ends in ****)");
    }

    #[test]
    fn temporary_credentials_say_until_when() {
        let expiry = std::time::UNIX_EPOCH + Duration::from_secs(1_795_490_465);
        let credentials = Credentials::new(
            "AKIAIOSFODNN7EXAMPLE",
            "x",
            Some("y".to_owned()),
            Some(expiry),
            "SSO",
        );
        let shown = Found(credentials).to_string();
        assert!(shown.ends_with("MPLE, temporary, valid until 2026-11-24T03:21:05Z)"), "{shown}");
    }
}
