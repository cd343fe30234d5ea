//! When an upload counts as confirmed, on stores that answer less, or something else.

use testbed::s3::{ACCESS_KEY, SECRET_KEY};

use crate::{
    command::BUCKET,
    scripted::{Reply, Request, Scripted},
    store::{NAME, Scene, bucket_at},
};

/// SHA-256 and MD5 of the three bytes `{}\n`, by `openssl dgst -binary | base64`.
const SHA256: &str = "yj0WO6sFU4GCciYUBWjzvvfqrBh869doeOC2Pp5EI1Y=";
const MD5: &str = "ioBVTJHZ/KisuC8CPeAvEQ==";

async fn put(
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Scripted, Result<(), String>) {
    put_as(NAME, answer).await
}

async fn put_as(
    name: &str,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Scripted, Result<(), String>) {
    let scene = Scene::new(b"{}\n");
    let server = Scripted::start(answer);
    let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    let outcome = bucket.put(&scene.segment(), name).await;
    assert!(scene.segment().exists());
    (server, outcome.map_err(|error| error.to_string()))
}

fn head(length: &str) -> Reply {
    Reply::new(200).header("Content-Length", length)
}

#[tokio::test]
async fn both_checksums_travel_as_headers_with_the_plain_body() {
    let (server, outcome) = put(|request| match request.method.as_str() {
        "HEAD" => head("3"),
        _ => Reply::new(200),
    })
    .await;
    outcome.unwrap();
    let requests = server.requests();
    let put = &requests[0];
    assert_eq!((put.method.as_str(), put.body.as_slice()), ("PUT", &b"{}\n"[..]));
    assert_eq!(put.headers["x-amz-checksum-sha256"], SHA256);
    assert_eq!(put.headers["content-md5"], MD5);
    assert_eq!(put.headers["content-type"], "application/x-ndjson");
    // Other stores do not understand chunks and trailers.
    assert!(
        !put.headers.contains_key("x-amz-trailer") && !put.headers.contains_key("content-encoding")
    );
    assert!(put.path.starts_with(&format!("/{BUCKET}/k3s-vllm/{NAME}")), "{}", put.path);
    assert_eq!(requests[1].headers["x-amz-checksum-mode"], "ENABLED");
}

#[tokio::test]
async fn a_compressed_segment_is_stored_as_what_it_is_and_not_as_an_encoding_of_lines() {
    let (server, outcome) = put_as(&format!("{NAME}.zst"), |request| {
        if request.method == "HEAD" { head("3") } else { Reply::new(200) }
    })
    .await;
    outcome.unwrap();
    let put = &server.requests()[0];
    assert_eq!(put.headers["content-type"], "application/zstd");
    // A client would decompress on the way, and find another size than the store.
    assert!(!put.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn another_size_is_no_confirmation() {
    for (length, content) in [("2", "{}"), ("4", "{}\n\n"), ("0", "")] {
        let (_server, outcome) = put(move |request| match request.method.as_str() {
            "HEAD" => head(length),
            "GET" => Reply::new(200).body(content),
            _ => Reply::new(200),
        })
        .await;
        let text = outcome.unwrap_err();
        assert!(text.contains(&format!("the store has {length} bytes, not 3")), "{text}");
    }
}

#[tokio::test]
async fn another_checksum_is_no_confirmation_wherever_the_store_tells_it() {
    const OTHER: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    for told_by in ["HEAD", "PUT"] {
        let (_server, outcome) = put(move |request| {
            let reply = if request.method == "HEAD" { head("3") } else { Reply::new(200) };
            if request.method == told_by {
                reply.header("x-amz-checksum-sha256", OTHER)
            } else {
                reply
            }
        })
        .await;
        let text = outcome.unwrap_err();
        assert!(
            text.contains(&format!("the store has the SHA-256 {OTHER}, not {SHA256}")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_upload_that_cannot_be_looked_at_is_not_confirmed() {
    for (status, expected) in [
        (403, "AccessDenied (HTTP 403; the credentials need s3:GetObject on traces)"),
        (404, "NotFound (HTTP 404)"),
    ] {
        let (_server, outcome) =
            put(move |request| Reply::new(if request.method == "PUT" { 200 } else { status }))
                .await;
        let text = outcome.unwrap_err();
        assert!(text.contains("cannot confirm s3://traces/") && text.contains(expected), "{text}");
    }
}
