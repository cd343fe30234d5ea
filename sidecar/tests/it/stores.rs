//! Stores as they are: each that does less than S3 does, or does it otherwise, gets the segments all the
//! same, or the reason and the way out are told.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use store::{Connection, PutError};
use tempfile::TempDir;
use testbed::s3::{ACCESS_KEY, SECRET_KEY};

use crate::{
    command::{BUCKET, Ran, binary, clean, run},
    scripted::{Reply, Request, Scripted},
    store::{NAME, PREFIX, bucket_at},
};

pub(crate) type Objects = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A store in memory that answers some requests in its own way. Keys are paths without the query; it
/// tells no checksum of its own, and no tag.
pub(crate) fn store(
    odd: impl Fn(&Request, &Objects) -> Option<Reply> + Send + Sync + 'static,
) -> (Scripted, Objects) {
    let objects = Objects::default();
    let kept = Arc::clone(&objects);
    let server = Scripted::start(move |request| {
        odd(request, &kept).unwrap_or_else(|| answer(request, &kept))
    });
    (server, objects)
}

fn answer(request: &Request, objects: &Objects) -> Reply {
    let mut objects = objects.lock().unwrap();
    let key = key(request);
    if is_listing(request) {
        return listing(&objects, request);
    }
    let object = objects.get(&key).cloned();
    match (request.method.as_str(), object) {
        ("PUT", _) => {
            objects.insert(key, request.body.clone());
            Reply::new(200)
        }
        ("DELETE", _) => {
            objects.remove(&key);
            Reply::new(204)
        }
        (_, None) => Reply::error(404, "NoSuchKey", "there is none"),
        ("HEAD", Some(object)) => {
            Reply::new(200).header("Content-Length", object.len().to_string())
        }
        (_, Some(object)) if request.headers.contains_key("range") => Reply::new(206)
            .header("Content-Range", format!("bytes 0-0/{}", object.len()))
            .body(object[..1].to_vec()),
        (_, Some(object)) => Reply::new(200).body(object),
    }
}

fn listing(objects: &HashMap<String, Vec<u8>>, request: &Request) -> Reply {
    let asked = request.path.replace("%2F", "/");
    let prefix = asked.split("prefix=").nth(1).unwrap_or_default();
    let prefix = prefix.split('&').next().unwrap();
    let found: Vec<(&str, usize)> = objects
        .iter()
        .filter_map(|(path, object)| Some((path.strip_prefix("/traces/")?, object.len())))
        .filter(|(key, _)| key.starts_with(prefix))
        .collect();
    Reply::listing(&found)
}

fn key(request: &Request) -> String {
    request.path.split('?').next().unwrap().to_owned()
}

fn is_listing(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("prefix=")
}

/// Where the segment belongs.
fn path_of_segment() -> String {
    format!("/{BUCKET}/{PREFIX}{NAME}")
}

fn segment(content: &[u8]) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(NAME);
    fs::write(&path, content).unwrap();
    (directory, path)
}

async fn put(server: &Scripted, file: &Path) -> Result<(), PutError> {
    let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    bucket.put(file, NAME).await
}

fn methods(server: &Scripted) -> Vec<String> {
    server.requests().into_iter().map(|request| request.method).collect()
}

fn has_checksum(request: &Request) -> bool {
    request.headers.keys().any(|name| name.starts_with("x-amz-checksum-"))
}

#[tokio::test]
async fn a_store_that_refuses_checksums_gets_none_from_then_on() {
    for (status, code) in
        [(400, "InvalidArgument"), (501, "NotImplemented"), (403, "Odd"), (400, "")]
    {
        let (server, objects) = store(move |request, _| {
            has_checksum(request).then(|| Reply::error(status, code, "no such header here"))
        });
        let (_directory, file) = segment(b"{}\n");
        let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
        bucket.put(&file, NAME).await.unwrap();
        assert_eq!(objects.lock().unwrap()[&path_of_segment()], b"{}\n");
        let before = server.requests().len();
        bucket.put(&file, "trace_h_20261124T032105.123Z_000002.jsonl").await.unwrap();
        let after = server.requests().split_off(before);
        assert!(!after.is_empty() && !after.iter().any(has_checksum), "it is remembered");
        assert!(after[0].headers.contains_key("content-md5"), "the store checks what it gets");
    }
}

#[tokio::test]
async fn an_error_that_is_no_matter_of_checksums_stays_what_it_is() {
    let (server, _) = store(|request, _| {
        (request.method == "PUT").then(|| Reply::error(400, "MalformedXML", "as always"))
    });
    let (_directory, file) = segment(b"{}\n");
    let text = put(&server, &file).await.unwrap_err().to_string();
    assert!(text.contains("MalformedXML: as always (HTTP 400"), "{text}");
}

#[tokio::test]
async fn a_store_that_does_not_tell_the_size_by_head_is_asked_otherwise_and_not_again() {
    let head = |reply: fn(usize) -> Reply| {
        move |request: &Request, objects: &Objects| {
            let bytes = objects.lock().unwrap().get(&key(request)).map(Vec::len);
            (request.method == "HEAD").then(|| reply(bytes.unwrap_or_default()))
        }
    };
    let replies: [fn(usize) -> Reply; 6] = [
        |_| Reply::new(200).without_length(),
        |_| Reply::new(200).header("Content-Length", "0"),
        |bytes| Reply::new(200).header("Content-Length", (bytes + 7).to_string()),
        |_| Reply::new(403),
        |_| Reply::new(405),
        |_| Reply::new(501),
    ];
    for reply in replies {
        let (server, _) = store(head(reply));
        let (_directory, file) = segment(b"{}\n");
        let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
        bucket.put(&file, NAME).await.unwrap();
        bucket.put(&file, "trace_h_20261124T032105.123Z_000002.jsonl").await.unwrap();
        let methods = methods(&server);
        assert_eq!(methods.iter().filter(|method| *method == "PUT").count(), 2, "sent once each");
        assert_eq!(methods[methods.len() - 2..], ["PUT", "GET"], "HEAD is not asked again");
    }
}

#[tokio::test]
async fn where_neither_head_nor_a_range_tells_the_size_a_listing_or_the_content_does() {
    let no_head = |request: &Request| (request.method == "HEAD").then(|| Reply::new(405));
    let is_get = |request: &Request| request.method == "GET" && !is_listing(request);
    // The range is not honoured: the whole object comes.
    let (whole, _) = store(move |request, objects| {
        let object = || Reply::new(200).body(objects.lock().unwrap()[&key(request)].clone());
        no_head(request).or_else(|| is_get(request).then(object))
    });
    // It may only be written, and listed.
    let (listed, _) = store(move |request, _| {
        no_head(request)
            .or_else(|| is_get(request).then(|| Reply::error(403, "AccessDenied", "no")))
    });
    // Changed on the way, with the same size.
    let (changed, _) = store(move |request, _| {
        no_head(request).or_else(|| is_get(request).then(|| Reply::new(200).body("[]\n")))
    });
    let (_directory, file) = segment(b"{}\n");
    put(&whole, &file).await.unwrap();
    put(&listed, &file).await.unwrap();
    let text = put(&changed, &file).await.unwrap_err().to_string();
    assert!(text.contains("the store has the SHA-256"), "{text}");
}

/// Refuses a second PUT of a key.
fn write_once(status: u16) -> impl Fn(&Request, &Objects) -> Option<Reply> {
    move |request, objects| {
        let is_there = objects.lock().unwrap().contains_key(&key(request));
        (request.method == "PUT" && is_there)
            .then(|| Reply::error(status, "AccessDenied", "the object is locked"))
    }
}

#[tokio::test]
async fn the_same_content_that_is_there_already_is_success_where_the_store_refuses_another() {
    for status in [403, 409, 412, 423] {
        let (server, objects) = store(write_once(status));
        let (_directory, file) = segment(b"{}\n");
        put(&server, &file).await.unwrap();
        // As after a kill between the upload and the deletion: another run knows nothing of it.
        put(&server, &file).await.unwrap();
        assert_eq!(objects.lock().unwrap()[&path_of_segment()], b"{}\n");
        assert_eq!(methods(&server).last().unwrap(), "GET", "this store tells no checksum");
    }
}

#[tokio::test]
async fn other_content_that_is_there_already_is_told_by_name_and_left_alone() {
    for (there, expected) in
        [(&b"[]\n"[..], "the store has the SHA-256"), (b"{}\n{}\n", "the store has 6 bytes, not 3")]
    {
        let (server, objects) = store(write_once(409));
        objects.lock().unwrap().insert(path_of_segment(), there.to_owned());
        let (_directory, file) = segment(b"{}\n");
        let error = put(&server, &file).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, PutError::Taken(_)), "{text}");
        assert!(text.contains(&format!("{NAME} is there already, with other content")), "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(objects.lock().unwrap()[&path_of_segment()], there);
    }
}

#[tokio::test]
async fn what_could_not_be_confirmed_is_looked_for_and_not_sent_again() {
    let heads = AtomicUsize::new(0);
    let (server, _) = store(move |request, _| {
        let is_early = request.method == "HEAD" && heads.fetch_add(1, Ordering::Relaxed) < 2;
        is_early.then(|| Reply::error(503, "SlowDown", "later"))
    });
    let (_directory, file) = segment(b"{}\n");
    let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    let error = bucket.put(&file, NAME).await.unwrap_err();
    assert!(matches!(error, PutError::Unconfirmed(_)), "{error}");
    bucket.put_again(&file, NAME).await.unwrap();
    assert_eq!(methods(&server).iter().filter(|method| *method == "PUT").count(), 1);
}

#[tokio::test]
async fn a_store_that_knows_the_first_form_of_listings_only_passes_the_check() {
    let (server, _) = store(|request, _| {
        let is_new = request.path.contains("list-type=2");
        is_new.then(|| Reply::error(501, "NotImplemented", "list-type"))
    });
    let bucket = bucket_at(&server.endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    bucket.check().await.unwrap();
    bucket.check().await.unwrap();
    bucket.list().await.unwrap();
    let new = server.requests().into_iter().filter(|request| request.path.contains("list-type=2"));
    assert_eq!(new.count(), 1, "it is remembered");
}

#[tokio::test]
async fn a_redirect_to_another_region_says_what_to_set() {
    let (server, _) = store(|request, _| {
        (request.method == "PUT").then(|| {
            Reply::error(307, "TemporaryRedirect", "resend")
                .header("x-amz-bucket-region", "eu-west-3")
                .header("Location", "http://elsewhere.invalid/traces/key")
        })
    });
    let (_directory, file) = segment(b"{}\n");
    let text = put(&server, &file).await.unwrap_err().to_string();
    let expected = "set AWS_REGION to eu-west-3; the store sends to http://elsewhere.invalid, for \
                    S3_ENDPOINT";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_store_that_names_its_region_is_asked_for_that_one() {
    let (server, _) = store(|request, _| {
        let is_right = request.headers["authorization"].contains("/garage/s3/");
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is \
                    wrong</Message><Region>garage</Region></Error>";
        (!is_right).then(|| Reply::new(400).body(body))
    });
    passes(&check(&server.endpoint, &[]));
}

#[tokio::test]
async fn keys_that_were_replaced_are_taken_up_when_the_store_refuses_the_old_ones() {
    for code in ["InvalidAccessKeyId", "ExpiredToken", "SignatureDoesNotMatch"] {
        let keys = Arc::new(Mutex::new("first".to_owned()));
        let valid = Arc::clone(&keys);
        let (server, objects) = store(move |request, _| {
            let is_valid = request.headers["authorization"].contains(&*valid.lock().unwrap());
            (!is_valid).then(|| Reply::error(403, code, "of another time"))
        });
        let (endpoint, read) = (server.endpoint.clone(), Arc::clone(&keys));
        let connection = Connection::by(move || {
            let (endpoint, key) = (endpoint.clone(), read.lock().unwrap().clone());
            async move { Ok(bucket_at(&endpoint, BUCKET, (&key, SECRET_KEY)).await) }
        });
        let (_directory, file) = segment(b"{}\n");
        connection.put(&file, NAME, false).await.unwrap();
        "second".clone_into(&mut keys.lock().unwrap());
        objects.lock().unwrap().clear();
        connection.put(&file, NAME, false).await.unwrap();
        assert!(objects.lock().unwrap().contains_key(&path_of_segment()), "{code}");
        "third".clone_into(&mut keys.lock().unwrap());
        connection.check().await.unwrap();
    }
}

fn check(endpoint: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = checking(endpoint);
    command.envs(variables.iter().copied());
    run(command)
}

pub(crate) fn checking(endpoint: &str) -> Command {
    let mut command = clean(&binary());
    command
        .arg("check-s3")
        .env("S3_BUCKET", BUCKET)
        .env("S3_ENDPOINT", endpoint)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

#[track_caller]
pub(crate) fn passes(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
}

#[track_caller]
pub(crate) fn fails_with(ran: &Ran, expected: &str) {
    assert_eq!(ran.code, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains(expected), "no {expected:?} in {}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_proxy_carries_uploads_unless_no_proxy_names_the_host() {
    let (server, _) = store(|_, _| None);
    let proxy = server.endpoint.clone();
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let before = server.requests().len();
        // A name that nobody knows: only the proxy can lead there. As a forward proxy is asked.
        let ran = check("http://store.invalid", &[(variable, &proxy)]);
        let requests = server.requests().split_off(before);
        assert!(!requests.is_empty(), "{}{}", ran.stdout, ran.stderr);
        assert!(requests.iter().all(|request| request.path.starts_with("http://store.invalid/")));
        assert!(ran.stdout.contains(&format!("through the proxy {proxy}")), "{}", ran.stdout);
    }
    let before = server.requests().len();
    let ran =
        check("http://store.invalid", &[("HTTP_PROXY", &proxy), ("NO_PROXY", "store.invalid")]);
    fails_with(&ran, "cannot reach http://store.invalid: ");
    assert_eq!(server.requests().len(), before);
}

#[test]
fn a_proxy_for_https_is_asked_for_a_tunnel_and_named_where_it_gives_none() {
    let server = Scripted::start(|_| Reply::new(502));
    let with_password = server.endpoint.replace("http://", "http://user:hidden@");
    let ran = check("https://store.invalid", &[("HTTPS_PROXY", &with_password)]);
    fails_with(&ran, &format!("through the proxy {}", server.endpoint));
    assert!(!ran.stdout.contains("hidden") && !ran.stderr.contains("hidden"));
    let requests = server.requests();
    assert_eq!((&*requests[0].method, &*requests[0].path), ("CONNECT", "store.invalid:443"));
    for odd in ["socks5://proxy:1080", "http://"] {
        let ran = check("https://store.invalid", &[("HTTPS_PROXY", odd)]);
        fails_with(&ran, "HTTPS_PROXY is ");
    }
}

/// A store that knows the bucket by its host name only, behind a proxy, for no name leads to it here.
fn by_host_only(code: &'static str) -> (Scripted, Objects) {
    let objects = Objects::default();
    let kept = Arc::clone(&objects);
    let server = Scripted::start(move |request| {
        let Some(rest) = request.path.strip_prefix("http://traces.store.invalid") else {
            return Reply::error(403, code, "ask by the host name");
        };
        let path = format!("/{BUCKET}{rest}");
        answer(&Request { path, ..request.clone() }, &kept)
    });
    (server, objects)
}

#[test]
fn a_store_that_takes_the_bucket_in_the_host_name_only_is_found_out_and_may_be_named() {
    for (code, addressing) in [
        ("SecondLevelDomainForbidden", "auto"),
        ("NoSuchBucket", "auto"),
        ("SecondLevelDomainForbidden", "host"),
    ] {
        let (server, _) = by_host_only(code);
        let variables = [("HTTP_PROXY", &*server.endpoint), ("S3_ADDRESSING", addressing)];
        let ran = check("http://store.invalid", &variables);
        passes(&ran);
        let puts: Vec<Request> =
            server.requests().into_iter().filter(|request| request.method == "PUT").collect();
        assert_eq!(puts.len(), 1);
        assert!(puts[0].path.starts_with("http://traces.store.invalid/k3s-vllm/check-s3_"));
    }
    let (server, _) = by_host_only("SecondLevelDomainForbidden");
    let variables = [("HTTP_PROXY", &*server.endpoint), ("S3_ADDRESSING", "path")];
    fails_with(&check("http://store.invalid", &variables), "set S3_ADDRESSING=host");
}

#[test]
fn objects_are_put_with_the_storage_class_of_the_setting_and_none_without_it() {
    for class in [None, Some("STANDARD_IA")] {
        let (server, _) = store(|_, _| None);
        let variables: Vec<_> = class.iter().map(|class| ("S3_STORAGE_CLASS", *class)).collect();
        passes(&check(&server.endpoint, &variables));
        let requests = server.requests();
        let put: Vec<_> = requests.iter().filter(|request| request.method == "PUT").collect();
        assert_eq!(put.len(), 1);
        let sent = put[0].headers.get("x-amz-storage-class");
        assert_eq!(sent.map(String::as_str), class);
    }
}

#[test]
fn checksums_follow_the_setting() {
    let refuses = || {
        store(|request, _| {
            has_checksum(request)
                .then(|| Reply::error(400, "InvalidArgument", "x-amz-checksum-sha256 is unknown"))
        })
        .0
    };
    passes(&check(&refuses().endpoint, &[]));
    let server = refuses();
    passes(&check(&server.endpoint, &[("S3_CHECKSUMS", "never")]));
    assert!(!server.requests().iter().any(has_checksum));
    let ran = check(&refuses().endpoint, &[("S3_CHECKSUMS", "always")]);
    fails_with(&ran, "set S3_CHECKSUMS=never");
}

#[test]
fn a_line_break_behind_a_key_or_the_region_is_left_out_and_told() {
    let (server, _) = store(|_, _| None);
    for (variable, value) in [
        ("AWS_ACCESS_KEY_ID", "standin-access-key\n"),
        ("AWS_ACCESS_KEY_ID", " standin-access-key"),
        ("AWS_SECRET_ACCESS_KEY", "standin-secret-key\r\n"),
        ("AWS_SESSION_TOKEN", "\n"),
        ("AWS_REGION", "us-east-1\n"),
    ] {
        let ran = check(&server.endpoint, &[(variable, value)]);
        passes(&ran);
        if variable.ends_with("KEY") || variable.ends_with("ID") {
            let expected = format!("{variable} begins or ends with a blank or a line break");
            assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
        }
        assert!(!ran.stderr.contains("standin-secret-key"));
    }
    let ran = check(&server.endpoint, &[("AWS_ACCESS_KEY_ID", "standin\naccess-key")]);
    fails_with(&ran, "AWS_ACCESS_KEY_ID has a blank, a line break or another character");
}

#[test]
fn a_credential_process_that_hangs_is_told_in_bounded_time() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("config");
    fs::write(&config, "[default]\ncredential_process = sleep 300\n").unwrap();
    let (server, _) = store(|_, _| None);
    let variables = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("PATH", "/usr/bin:/bin"),
    ];
    let began = Instant::now();
    let ran = check(&server.endpoint, &variables);
    fails_with(&ran, "a credential_process of ~/.aws hangs");
    // What hangs would take 300 seconds.
    assert!(began.elapsed() < Duration::from_secs(200));
}

#[test]
fn http_and_https_that_are_mixed_up_are_told_by_the_scheme_to_use() {
    let (plain, _) = store(|_, _| None);
    let loud = answers_with(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    for plain in [plain.endpoint, loud] {
        let ran = check(&plain.replace("http://", "https://"), &[]);
        fails_with(&ran, "speaks no TLS: S3_ENDPOINT or the proxy has to begin with http://");
    }
    let tls = Scripted::start(|_| {
        Reply::new(400).body("Client sent an HTTP request to an HTTPS server.\n")
    });
    fails_with(&check(&tls.endpoint, &[]), "S3_ENDPOINT has to begin with https://");
    // An alert, as servers of TLS answer to what is no TLS.
    let alert = answers_with(b"\x15\x03\x01\x00\x02\x02\x46");
    fails_with(&check(&alert, &[]), "S3_ENDPOINT has to begin with https://");
}

/// To whatever comes.
fn answers_with(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
        }
    });
    endpoint
}

#[test]
fn a_store_without_tls_needs_no_authorities_of_the_system() {
    let directory = TempDir::new().unwrap();
    let none = directory.path().to_str().unwrap();
    let (server, _) = store(|_, _| None);
    passes(&check(&server.endpoint, &[("SSL_CERT_DIR", none)]));
    // Nothing listens there; what matters is that it is asked.
    fails_with(&check("https://127.0.0.1:1", &[("SSL_CERT_DIR", none)]), "cannot reach");
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_named() {
    let directory = TempDir::new().unwrap();
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    for (variable, path, expected) in [
        ("AWS_CA_BUNDLE", "/nowhere.pem", "AWS_CA_BUNDLE is /nowhere.pem: it cannot be opened"),
        ("SSL_CERT_FILE", "/nowhere.pem", "SSL_CERT_FILE is /nowhere.pem: it cannot be opened"),
        ("AWS_CA_BUNDLE", empty, "there is no certificate in it"),
        ("AWS_CA_BUNDLE", "/dev/zero", "accepted: a file of certificates in PEM form"),
    ] {
        fails_with(&check("https://127.0.0.1:1", &[(variable, path)]), expected);
    }
}
