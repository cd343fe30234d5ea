//! Servers behind base URLs: TLS, prefixes, headers and keys, compressed answers, and several servers at once.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
};

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{
    command::{Ran, command, run},
    reply::{MODEL, Reply, Step, error, finish, healthy, text, usage},
    server::{Seen, Server},
};

/// TLS in front of a server, until dropped.
struct Front {
    _stop: oneshot::Sender<()>,
    port: u16,
}

impl Front {
    fn start(certificate: &str, server: &Server) -> Self {
        let backend = ("127.0.0.1", server.port);
        let certificate = CertificateDer::from_pem_file(file(certificate)).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (port_sender, port) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                port_sender.send(listener.local_addr().unwrap().port()).unwrap();
                tokio::select! {
                    () = accept(listener, acceptor, backend) => (),
                    _ = stopped => (),
                }
            });
        });
        Self { _stop: stop, port: port.recv().unwrap() }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, backend: (&'static str, u16)) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // The client may not like the certificate.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut server = TcpStream::connect(backend).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut server).await;
        });
    }
}

/// Certificates of nobody, for 127.0.0.1 and localhost, that the sidecar's tests of TLS use too.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sidecar/tests/it/tls").join(name)
}

fn batch(urls: &[&str], arguments: &[&str]) -> Ran {
    let mut all = vec!["batch", "--model", MODEL, "--count", "4"];
    for url in urls {
        all.extend(["--base-url", url]);
    }
    all.extend(arguments);
    run(&all)
}

/// As a proxy does that passes on what is below `/gateway`.
fn below_gateway(seen: &Seen) -> Reply {
    let path = seen.path.strip_prefix("/gateway").unwrap_or("/outside").to_owned();
    healthy(&Seen { path, ..seen.clone() })
}

#[test]
fn https_with_an_own_authority_and_a_prefix() {
    let server = Server::start(below_gateway);
    let front = Front::start("of-authority.pem", &server);
    let url = format!("https://localhost:{}/gateway/v1", front.port);
    let authority = file("authority.pem");
    let ran = batch(&[&url], &["--ca", authority.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let result = ran.result();
    assert_eq!(result.summary.output_tokens, Some(20));
    let paths: Vec<_> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/gateway/v1/completions"; 4]);
    let host = format!("localhost:{}", front.port);
    assert_eq!(server.seen()[0].header("host"), Some(host.as_str()));
    // One connection and one handshake, which is a part of connecting and of no latency.
    assert_eq!(server.connections(), 1);
    let first = &result.requests[0];
    assert!(first.tls_ms.unwrap() > 0.0 && first.tls_ms <= first.connect_ms, "{first:?}");
    assert_eq!(result.requests[1].tls_ms, None);
    assert!(result.requests.iter().all(|request| request.chunk_offsets_ms.len() == 3));
    let shown = format!("https://localhost:{}/gateway", front.port);
    assert_eq!(result.settings.base_urls, [shown.as_str()]);
    assert!(ran.stderr.contains(&format!("{MODEL} at {shown}, ")), "{}", ran.stderr);
    // The kernel's times are had through TLS too.
    assert!(result.client.unwrap().kernel_stamped_share.unwrap() > 0.0);
}

#[test]
fn https_without_trust_says_what_to_give() {
    let server = Server::start(healthy);
    for (certificate, authority, message, advice) in [
        ("of-authority.pem", "own.pem", "is not trusted", "--ca FILE"),
        ("own-authority.pem", "own-authority.pem", "CaUsedAsEndEntity", "CA:FALSE"),
    ] {
        let front = Front::start(certificate, &server);
        let url = format!("https://127.0.0.1:{}", front.port);
        let ran = batch(&[&url], &["--ca", file(authority).to_str().unwrap()]);
        let failure = ran.result().summary.failures.remove(0).failure;
        assert_eq!((ran.code, failure.kind.as_str()), (1, "tls"), "{}", ran.stderr);
        assert!(failure.message.contains(message), "{failure:?}");
        assert!(failure.advice.as_ref().unwrap().contains(advice), "{failure:?}");
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn the_wrong_scheme_is_told_by_the_right_one() {
    let server = Server::start(healthy);
    let front = Front::start("own.pem", &server);
    for (url, advice) in [
        (format!("http://127.0.0.1:{}", front.port), "https://"),
        (format!("https://127.0.0.1:{}", server.port), "http://"),
    ] {
        let ca = if url.starts_with("https") { vec!["--ca", ""] } else { vec![] };
        let path = file("own.pem");
        let ca: Vec<&str> = ca
            .iter()
            .map(|&word| if word.is_empty() { path.to_str().unwrap() } else { word })
            .collect();
        let ran = batch(&[&url], &ca);
        let failure = ran.result().summary.failures.remove(0).failure;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(failure.advice.as_ref().unwrap().contains(advice), "{url}: {failure:?}");
    }
}

#[test]
fn headers_and_the_key_are_sent_and_never_shown() {
    // As some servers do, this one repeats the key it does not like.
    let server = Server::start(|seen| {
        let key = seen.header("authorization").unwrap_or_default();
        let tenant = seen.header("x-tenant").unwrap_or_default();
        if key == "Bearer rightkey" {
            healthy(seen)
        } else {
            error(401, &format!("bad key {key} of {tenant}"))
        }
    });
    let url = format!("http://127.0.0.1:{}", server.port);
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), "rightkey\n").unwrap();
    let key = ["--api-key-file", key.path().to_str().unwrap()];
    let headers = ["--header", "X-Tenant: tenant-secret", "--header", "host: vllm.example"];
    let ran = batch(&[&url], &[&key[..], &headers].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let seen = server.seen();
    assert_eq!(seen[0].header("x-tenant"), Some("tenant-secret"));
    let hosts = seen[0].headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    assert_eq!(hosts.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["vllm.example"]);
    assert_eq!(ran.result().settings.header_names, ["X-Tenant", "host", "Authorization"]);
    let written = fs::read_to_string(&ran.files()[0]).unwrap();
    assert!(!written.contains("rightkey") && !written.contains("tenant-secret"), "{written}");

    let directory = tempfile::tempdir().unwrap();
    let wrong = ["batch", "--count", "2", "--model", MODEL, "--base-url", &url];
    let mut command = command(&directory, &[&wrong[..], &headers].concat());
    let output = command.env("VLLM_API_KEY", "wrongkey").output().unwrap();
    let ran = Ran::of(output, directory);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("bad key Bearer [hidden] of [hidden]"), "{}", ran.stderr);
    let written = fs::read_to_string(&ran.files()[0]).unwrap();
    for text in [&ran.stderr, &ran.stdout, &written] {
        assert!(!text.contains("wrongkey") && !text.contains("tenant-secret"), "{text}");
    }
}

#[test]
fn what_is_no_header_or_no_url_is_wrong_usage() {
    for (arguments, part) in [
        (&["--header", "tenant-secret"][..], "no colon"),
        (&["--header", "Content-Length: 3"], "set by the client itself"),
        (&["--base-url", "vllm.example"], "--base-url"),
        (&["--base-url", "http://a", "--host", "b"], "cannot be used with"),
        (&["--base-url", "http://a", "--ca", "x.pem"], "--ca is for https"),
        (&["--base-url", "https://a", "--ca", "/nowhere.pem"], "/nowhere.pem"),
        (&["--api-key-file", "/nowhere"], "/nowhere"),
    ] {
        let ran = run(&[&["batch"], arguments].concat());
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(part) && !ran.stderr.contains("secret"), "{}", ran.stderr);
        assert!(ran.files().is_empty());
    }
}

#[test]
fn several_servers_take_turns_and_have_their_own_figures() {
    let first = Server::start(healthy);
    let second = Server::start(|_| error(500, "out of order"));
    let urls = [&first, &second].map(|server| format!("http://127.0.0.1:{}", server.port));
    let ran = batch(&[&urls[0], &urls[1]], &["--parallel", "--workers", "2"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!((first.seen().len(), second.seen().len()), (2, 2));
    let result = ran.result();
    for request in &result.requests {
        let expected = &urls[usize::from(request.index % 2 == 0)];
        assert_eq!(request.server.as_ref(), Some(expected));
        assert_eq!(request.succeeded(), request.index % 2 == 1);
    }
    let mut servers: Vec<_> = result
        .summary
        .servers
        .iter()
        .map(|figures| (figures.server.clone(), figures.requests, figures.failed))
        .collect();
    servers.sort_by_key(|server| server.2);
    assert_eq!(servers, [(urls[0].clone(), 2, 0), (urls[1].clone(), 2, 2)]);
    assert!(
        ran.stderr.contains(&format!("server      {}: 0 of 2 succeeded", urls[1])),
        "{}",
        ran.stderr
    );
}

/// Two tokens, and the end of the answer unless it hangs before.
fn compressed(hangs: bool) -> Reply {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let events = [text(" one"), text(" two"), finish("length"), usage(4, 2), "[DONE]".to_owned()];
    let mut steps = Vec::new();
    let mut sent = 0;
    for event in events.iter().take(if hangs { 2 } else { events.len() }) {
        write!(encoder, "data: {event}\n\n").unwrap();
        encoder.flush().unwrap();
        steps.push(Step::Chunk(encoder.get_ref()[sent..].to_vec()));
        sent = encoder.get_ref().len();
    }
    if hangs {
        steps.push(Step::Hang);
    }
    steps.push(Step::Chunk(encoder.finish().unwrap()[sent..].to_vec()));
    let mut reply = Reply::stream(steps);
    reply.headers.push(("content-encoding", "gzip".to_owned()));
    reply
}

#[test]
fn a_compressed_answer_is_read_to_its_end() {
    let server = Server::start(|_| compressed(false));
    let ran = batch(&[&format!("http://127.0.0.1:{}", server.port)], &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.result().requests.iter().all(|request| request.output_text == " one two"));
    // The connection is good for the next request: the end of the compressed body was read.
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_compressed_answer_is_read_as_it_comes() {
    let server = Server::start(|_| compressed(true));
    let url = format!("http://127.0.0.1:{}", server.port);
    let ran = batch(&[&url], &["--parallel", "--timeout", "3"]);
    let failure = ran.result().summary.failures.remove(0).failure;
    assert_eq!(failure.message, "timed out after 3 s while waiting for the next token");
    for request in ran.result().requests {
        assert_eq!(request.chunk_offsets_ms.len(), 2);
        assert_eq!(request.output_text, " one two");
    }
}

#[test]
fn words_in_an_unknown_encoding_are_told_to_be() {
    let server = Server::start(|_| {
        let mut reply = Reply::text(502, "text/html", "\u{1}\u{2}");
        reply.headers.push(("content-encoding", "br".to_owned()));
        reply
    });
    let ran = batch(&[&format!("http://127.0.0.1:{}", server.port)], &[]);
    let failure = ran.result().summary.failures.remove(0).failure;
    assert!(failure.message.contains("encoded as br"), "{failure:?}");
}
