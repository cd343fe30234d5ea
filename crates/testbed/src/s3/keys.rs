//! The one pair of keys that is valid now.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use s3s::S3Result;
use s3s::auth::{S3Auth, SecretKey, SimpleAuth};

#[derive(Debug, Clone)]
pub(super) struct Keys(Arc<Mutex<(String, SecretKey)>>);

impl Keys {
    pub(super) fn new(access_key: &str, secret_key: &str) -> Self {
        Self(Arc::new(Mutex::new((access_key.to_owned(), secret_key.into()))))
    }

    pub(super) fn set(&self, access_key: &str, secret_key: &str) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *keys = (access_key.to_owned(), secret_key.into());
    }

    fn now(&self) -> SimpleAuth {
        let (access_key, secret_key) =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SimpleAuth::from_single(access_key, secret_key)
    }
}

#[async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.now().get_secret_key(access_key).await
    }
}
