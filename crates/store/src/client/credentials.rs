//! Credentials as they are found, in bounded time, and without what would break a request.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use aws_credential_types::provider::{self, error::CredentialsError, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use jiff::Timestamp;
use tokio::{task::JoinHandle, time::timeout};
use tracing::warn;

use super::{bucket::Bucket, failure};

/// The SDK itself waits for ever for a `credential_process`.
const MAX_WAIT: Duration = Duration::from_secs(15);

pub(crate) fn checked(inner: SharedCredentialsProvider) -> SharedCredentialsProvider {
    let (pending, has_warned) = (Mutex::default(), AtomicBool::default());
    SharedCredentialsProvider::new(Checked { inner, pending, has_warned })
}

#[derive(Debug)]
struct Checked {
    inner: SharedCredentialsProvider,
    /// One that has not answered in time. It is waited for again: each further one might be a further
    /// process that hangs.
    pending: Mutex<Option<JoinHandle<provider::Result>>>,
    has_warned: AtomicBool,
}

impl ProvideCredentials for Checked {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

impl Checked {
    async fn provide(&self) -> provider::Result {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut search = pending.unwrap_or_else(|| {
            let inner = self.inner.clone();
            tokio::spawn(async move { inner.provide_credentials().await })
        });
        let Ok(ended) = timeout(MAX_WAIT, &mut search).await else {
            *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(search);
            return Err(CredentialsError::provider_error(format!(
                "credentials are not found within {} s: a credential_process of ~/.aws hangs, or the \
                 service that gives them does not answer",
                MAX_WAIT.as_secs()
            )));
        };
        let found = ended.map_err(|_| {
            CredentialsError::provider_error("the search for credentials broke off")
        })??;
        self.trimmed(found)
    }

    /// A secret made by hand ends in a line break, which no header can bear.
    fn trimmed(&self, found: Credentials) -> provider::Result {
        let parts = [
            ("AWS_ACCESS_KEY_ID", found.access_key_id()),
            ("AWS_SECRET_ACCESS_KEY", found.secret_access_key()),
            ("AWS_SESSION_TOKEN", found.session_token().unwrap_or_default()),
        ];
        for (name, value) in parts {
            if !value.trim().bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(CredentialsError::invalid_configuration(format!(
                    "{name} has a blank, a line break or another character in it that no key has: set it \
                     to the key alone"
                )));
            }
        }
        let Some((name, _)) = parts.into_iter().find(|(_, value)| value.trim() != *value) else {
            return Ok(found);
        };
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            warn!(
                "{name} begins or ends with a blank or a line break, which is left out: a secret made by \
                 `echo` has one, use `printf %s`"
            );
        }
        let [id, secret, token] = parts.map(|(_, value)| value.trim().to_owned());
        let mut trimmed = Credentials::builder()
            .access_key_id(id)
            .secret_access_key(secret)
            .provider_name(PROVIDER);
        if !token.is_empty() {
            trimmed = trimmed.session_token(token);
        }
        trimmed.set_expiry(found.expiry());
        Ok(trimmed.build())
    }
}

/// The name of the one that found them is not told.
const PROVIDER: &str = "the chain of the AWS SDK";

impl Bucket {
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

    #[derive(Debug)]
    struct Hangs;

    impl ProvideCredentials for Hangs {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(std::future::pending())
        }
    }

    fn keys(id: &str, secret: &str, token: Option<&str>) -> SharedCredentialsProvider {
        let token = token.map(str::to_owned);
        checked(SharedCredentialsProvider::new(Credentials::new(id, secret, token, None, "test")))
    }

    #[tokio::test]
    async fn what_surrounds_a_key_is_left_out() {
        let found = keys("id\n", " secret", Some("\n")).provide_credentials().await.unwrap();
        assert_eq!((found.access_key_id(), found.secret_access_key()), ("id", "secret"));
        assert_eq!(found.session_token(), None);
    }

    #[tokio::test]
    async fn what_is_in_a_key_is_refused_by_name_and_never_shown() {
        for (id, secret, token, name) in [
            ("i\nd", "secret", None, "AWS_ACCESS_KEY_ID"),
            ("id", "sec ret", None, "AWS_SECRET_ACCESS_KEY"),
            ("id", "secret", Some("to\u{e9}ken"), "AWS_SESSION_TOKEN"),
        ] {
            let error = keys(id, secret, token).provide_credentials().await.unwrap_err();
            let text = failure::root_cause(&error);
            assert!(text.starts_with(name) && !text.contains("ret"), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_is_an_error_and_is_not_asked_again() {
        let provider = checked(SharedCredentialsProvider::new(Hangs));
        for _ in 0..2 {
            let error = provider.provide_credentials().await.unwrap_err();
            let text = failure::root_cause(&error);
            assert!(text.contains("a credential_process of ~/.aws hangs"), "{text}");
        }
    }

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
