//! The library's `Bucket` on the S3 stand-in: what is put is there, and what is there comes back.

use std::{fs, path::PathBuf, time::Duration};

use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::config::Credentials;
use store::{Bucket, Object, PutError};
use tempfile::TempDir;
use testbed::s3::{ACCESS_KEY, SECRET_KEY, Server};

use crate::command::BUCKET;

pub(crate) const PREFIX: &str = "k3s-vllm/";
pub(crate) const NAME: &str = "trace_h_20261124T032105.123Z_000001.jsonl";

/// A store, and a directory with one segment.
pub(crate) struct Scene {
    directory: TempDir,
    pub(crate) server: Server,
}

impl Scene {
    pub(crate) fn new(content: &[u8]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("traces")).unwrap();
        let server = Server::start(directory.path().join("s3"), BUCKET).unwrap();
        let scene = Self { directory, server };
        fs::write(scene.segment(), content).unwrap();
        scene
    }

    pub(crate) fn segment(&self) -> PathBuf {
        self.path("traces").join(NAME)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The file of an object in the store.
    pub(crate) fn stored(&self, key: &str) -> PathBuf {
        self.path("s3").join(BUCKET).join(key)
    }

    pub(crate) async fn bucket(&self) -> Bucket {
        bucket_at(&self.server.endpoint(), BUCKET, (ACCESS_KEY, SECRET_KEY)).await
    }
}

/// With the sidecar's own settings, but less patience.
pub(crate) async fn bucket_at(endpoint: &str, name: &str, keys: (&str, &str)) -> Bucket {
    bucket_under(PREFIX, endpoint, name, keys).await
}

async fn bucket_under(prefix: &str, endpoint: &str, name: &str, keys: (&str, &str)) -> Bucket {
    let credentials = Credentials::builder()
        .access_key_id(keys.0)
        .secret_access_key(keys.1)
        .provider_name("test")
        .build();
    let timeouts =
        TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(500)).build();
    let retries = RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(Duration::from_millis(10));
    let loader = store::loader()
        .credentials_provider(credentials)
        .timeout_config(timeouts)
        .retry_config(retries);
    Bucket::connect_with(loader, name, prefix, Some(endpoint)).await
}

#[tokio::test]
async fn a_prefix_with_fields_makes_folders_and_lists_all_of_them() {
    let scene = Scene::new(b"{}\n");
    let prefix = "fleet/date={date}/host={host}/";
    let bucket =
        bucket_under(prefix, &scene.server.endpoint(), BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    // Closed on two days; what is put again has the key that it had.
    let written = fs::File::options().write(true).open(scene.segment()).unwrap();
    let day = |days: u64| std::time::SystemTime::UNIX_EPOCH + Duration::from_hours(24 * days);
    for days in [20_000_u64, 20_001] {
        written.set_modified(day(days)).unwrap();
        bucket.put(&scene.segment(), NAME).await.unwrap();
        bucket.put_again(&scene.segment(), NAME).await.unwrap();
    }
    let keys: Vec<String> =
        bucket.list().await.unwrap().into_iter().map(|object| object.key).collect();
    let [first, second] = &keys[..] else { panic!("{keys:?}") };
    assert!(first.starts_with("fleet/date=2024-10-04/host="), "{first}");
    assert!(second.starts_with("fleet/date=2024-10-05/host="), "{second}");
    assert!(keys.iter().all(|key| key.ends_with(&format!("/{NAME}"))), "{keys:?}");
}

#[tokio::test]
async fn a_file_is_put_listed_and_fetched_with_the_same_content() {
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let scene = Scene::new(&content);
    let bucket = scene.bucket().await;
    bucket.check().await.unwrap();
    bucket.put(&scene.segment(), NAME).await.unwrap();
    assert_eq!(fs::read(scene.stored("k3s-vllm").join(NAME)).unwrap(), content);
    assert_eq!(fs::read(scene.segment()).unwrap(), content, "the caller deletes it, not the store");

    let objects = bucket.list().await.unwrap();
    let key = format!("{PREFIX}{NAME}");
    let [Object { key: listed, bytes, etag: _ }] = &objects[..] else { panic!("{objects:?}") };
    assert_eq!((listed, *bytes), (&key, content.len() as u64));
    let path = scene.path("out").join(NAME);
    assert!(bucket.fetch(&objects[0], &path, 1).await.unwrap());
    assert_eq!(fs::read(&path).unwrap(), content);
    assert!(!bucket.fetch(&objects[0], &path, 1).await.unwrap(), "it is there already");

    assert_eq!(scene.server.put_count(&key), 1);
    let methods: Vec<String> =
        scene.server.requests().into_iter().map(|request| request.method).collect();
    // The check, the upload and its confirmation, the listing, the download, the comparison.
    assert_eq!(methods, ["GET", "PUT", "HEAD", "GET", "GET", "HEAD"]);
}

#[tokio::test]
async fn a_file_that_was_changed_is_fetched_again() {
    let scene = Scene::new(b"{}\n");
    let bucket = scene.bucket().await;
    bucket.put(&scene.segment(), NAME).await.unwrap();
    let object = bucket.list().await.unwrap().remove(0);
    let path = scene.path("out").join(NAME);
    bucket.fetch(&object, &path, 1).await.unwrap();
    for changed in [&b"[]\n"[..], b"{}\n{}\n", b""] {
        fs::write(&path, changed).unwrap();
        assert!(bucket.fetch(&object, &path, 1).await.unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"{}\n");
    }
}

#[tokio::test]
async fn putting_twice_is_harmless() {
    let scene = Scene::new(b"{}\n");
    let bucket = scene.bucket().await;
    for _ in 0..2 {
        bucket.put(&scene.segment(), NAME).await.unwrap();
    }
    assert_eq!(fs::read(scene.stored("k3s-vllm").join(NAME)).unwrap(), b"{}\n");
}

#[tokio::test]
async fn listings_longer_than_a_page_are_complete() {
    let scene = Scene::new(b"");
    fs::create_dir_all(scene.stored("k3s-vllm")).unwrap();
    fs::create_dir_all(scene.stored("k3s-vllm-other")).unwrap();
    fs::write(scene.stored("k3s-vllm-other/0000"), "").unwrap();
    for number in 0..1100 {
        fs::write(scene.stored(&format!("k3s-vllm/{number:04}")), "").unwrap();
    }
    let keys: Vec<String> =
        scene.bucket().await.list().await.unwrap().into_iter().map(|object| object.key).collect();
    let expected: Vec<String> = (0..1100).map(|number| format!("k3s-vllm/{number:04}")).collect();
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_is_no_fault_of_the_store() {
    let scene = Scene::new(b"");
    let bucket = scene.bucket().await;
    fs::remove_file(scene.segment()).unwrap();
    for expected in ["cannot open", "cannot read"] {
        let error = bucket.put(&scene.segment(), NAME).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected) && text.contains(NAME), "{text}");
        assert!(matches!(error, PutError::File(_)), "{text}");
        // Not even root can read a directory as a file.
        fs::create_dir_all(scene.segment()).unwrap();
    }
    assert!(scene.server.requests().is_empty());
}
