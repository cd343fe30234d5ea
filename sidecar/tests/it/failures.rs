//! A store that fails: an error in bounded time that names the cause, and success afterwards.

use std::time::Duration;

use store::PutError;
use testbed::s3::{ACCESS_KEY, Fault, SECRET_KEY};
use tokio::time::timeout;

use crate::{
    command::BUCKET,
    scripted::{Reply, Scripted},
    store::{NAME, PREFIX, Scene, bucket_at},
};

#[tokio::test]
async fn each_fault_is_an_error_and_the_next_upload_succeeds() {
    let scene = Scene::new(&vec![b'x'; 32 << 10]);
    let (bucket, segment) = (scene.bucket().await, scene.segment());
    let refused = format!("cannot reach {}: Connection refused", scene.server.endpoint());
    let slow = format!("{} does not answer in time", scene.server.endpoint());
    for (fault, cause) in [
        (Fault::Refuse, refused.as_str()),
        (
            Fault::Status(503),
            "SlowDown: a fault is set (HTTP 503; the store is at fault: try again later)",
        ),
        (
            Fault::Status(500),
            "InternalError: a fault is set (HTTP 500; the store is at fault: try again later)",
        ),
        (
            Fault::Status(403),
            "AccessDenied: a fault is set (HTTP 403; the credentials need s3:PutObject on traces)",
        ),
        (Fault::Cut, "cannot reach http"),
        (Fault::Slow(Duration::from_secs(60)), slow.as_str()),
    ] {
        scene.server.faults().set(fault).unwrap();
        // Far more than two attempts need, far less than for ever.
        let put = timeout(Duration::from_secs(60), bucket.put(&segment, NAME));
        let error = put.await.expect("the time is bounded").unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, PutError::Store(_)), "{text}");
        assert!(text.starts_with(&format!("cannot put s3://{BUCKET}/{PREFIX}{NAME}: ")), "{text}");
        assert!(text.contains(cause), "{fault:?}: {text}");
        assert!(!text.contains('\n') && text.len() < 300, "{text}");
        assert!(scene.segment().exists() && !scene.stored(&format!("{PREFIX}{NAME}")).exists());
    }
    scene.server.faults().clear().unwrap();
    bucket.put(&scene.segment(), NAME).await.unwrap();
    assert_eq!(scene.server.put_count(&format!("{PREFIX}{NAME}")), 1);
}

#[tokio::test]
async fn a_corrupted_upload_is_not_confirmed() {
    let scene = Scene::new(b"{}\n");
    let bucket = scene.bucket().await;
    scene.server.faults().set(Fault::Corrupt).unwrap();
    let text = bucket.put(&scene.segment(), NAME).await.unwrap_err().to_string();
    assert!(text.contains("cannot confirm s3://traces/") && text.contains("SHA-256"), "{text}");
    assert!(scene.segment().exists());
    scene.server.faults().clear().unwrap();
    bucket.put(&scene.segment(), NAME).await.unwrap();
    assert_eq!(std::fs::read(scene.stored(&format!("{PREFIX}{NAME}"))).unwrap(), b"{}\n");
}

#[tokio::test]
async fn wrong_credentials_say_what_to_check() {
    let scene = Scene::new(b"{}\n");
    for (keys, code) in
        [(("other", SECRET_KEY), "NotSignedUp"), ((ACCESS_KEY, "other"), "SignatureDoesNotMatch")]
    {
        let bucket = bucket_at(&scene.server.endpoint(), BUCKET, keys).await;
        let put = bucket.put(&scene.segment(), NAME).await.unwrap_err();
        let [check, list] = [bucket.check().await.unwrap_err(), bucket.list().await.unwrap_err()];
        for text in [put.to_string(), format!("{check:#}"), format!("{list:#}")] {
            assert!(
                text.contains(code) && text.contains("(HTTP 403; check AWS_ACCESS_KEY_ID"),
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn a_missing_bucket_says_what_to_check() {
    let scene = Scene::new(b"{}\n");
    let bucket = bucket_at(&scene.server.endpoint(), "absent", (ACCESS_KEY, SECRET_KEY)).await;
    for error in [bucket.check().await.unwrap_err(), bucket.list().await.unwrap_err()] {
        let text = format!("{error:#}");
        assert!(
            text.contains("s3://absent/k3s-vllm/: ") && text.contains("NoSuchBucket"),
            "{text}"
        );
        assert!(text.contains("(HTTP 404; check S3_BUCKET"), "{text}");
    }
}

/// As S3 answers by its list of error responses, and something that is not S3.
#[tokio::test]
async fn answers_that_the_stand_in_does_not_give_are_explained() {
    let scene = Scene::new(b"{}\n");
    for (reply, expected) in [
        (
            Reply::error(301, "PermanentRedirect", "use the specified endpoint")
                .header("x-amz-bucket-region", "eu-west-1"),
            "PermanentRedirect: use the specified endpoint (HTTP 301; set AWS_REGION to eu-west-1)",
        ),
        (
            Reply::error(403, "InvalidAccessKeyId", "does not exist in our records"),
            "InvalidAccessKeyId: does not exist in our records (HTTP 403; check AWS_ACCESS_KEY_ID",
        ),
        (
            Reply::error(403, "RequestTimeTooSkewed", "too large"),
            "RequestTimeTooSkewed: too large (HTTP 403; check the clock of this machine)",
        ),
        (
            Reply::error(404, "NoSuchBucket", "The specified bucket does not exist"),
            "NoSuchBucket: The specified bucket does not exist (HTTP 404; check S3_BUCKET",
        ),
        (
            Reply::new(405).body("<html>nginx</html>"),
            "the store refuses (HTTP 405; check S3_ENDPOINT)",
        ),
    ] {
        let server = Scripted::start(move |_| reply.clone());
        let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
        let text = bucket.put(&scene.segment(), NAME).await.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn an_object_that_is_too_large_is_told_from_a_store_that_fails() {
    let scene = Scene::new(b"{}\n");
    for (reply, is_object) in [
        (Reply::error(400, "EntityTooLarge", "exceeds the maximum"), true),
        (Reply::new(413).body("<html>nginx</html>"), true),
        (Reply::error(403, "AccessDenied", "no"), false),
    ] {
        let server = Scripted::start(move |_| reply.clone());
        let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
        let error = bucket.put(&scene.segment(), NAME).await.unwrap_err();
        assert_eq!(matches!(error, PutError::TooLarge(_)), is_object, "{error}");
        assert_eq!(error.to_string().contains("lower TRACE_SEGMENT_SIZE"), is_object, "{error}");
    }
}

#[tokio::test]
async fn the_check_lets_credentials_pass_that_may_only_upload() {
    let server = Scripted::start(|_| Reply::error(403, "AccessDenied", "Access Denied"));
    let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    bucket.check().await.unwrap();
    let text = format!("{:#}", bucket.list().await.unwrap_err());
    assert!(
        text.contains("AccessDenied: Access Denied (HTTP 403; the credentials need s3:ListBucket"),
        "{text}"
    );
}
