//! A store behind TLS, with a certificate of an authority, its own, or one that it may not use.
//!
//! The certificates beside this file are of nobody, for 127.0.0.1 and localhost, until 2119; all servers
//! have the key `key.pem`.

use std::{
    io::{BufRead as _, BufReader, Write as _, copy},
    net::{Shutdown, TcpListener as Listener, TcpStream as Stream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
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
    command::run,
    scripted::Scripted,
    stores::{checking, fails_with, passes, store},
};

/// TLS in front of a store, for as long as its runtime lives.
struct Front {
    _runtime: Runtime,
    endpoint: String,
}

impl Front {
    fn start(certificate: &str, server: &Scripted) -> Self {
        let backend = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let certificate = CertificateDer::from_pem_file(file(certificate)).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, backend) = (acceptor.clone(), backend.clone());
                tokio::spawn(async move {
                    // The client may not like the certificate.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut store = TcpStream::connect(backend).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut store).await;
                });
            }
        });
        Self { _runtime: runtime, endpoint }
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name)
}

#[test]
fn a_private_authority_and_a_certificate_of_its_own_are_honoured_from_both_variables() {
    let (server, _) = store(|_, _| None);
    for (certificate, authority) in [("of-authority.pem", "authority.pem"), ("own.pem", "own.pem")]
    {
        let front = Front::start(certificate, &server);
        for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
            let mut command = checking(&front.endpoint);
            command.env(variable, file(authority));
            passes(&run(command));
        }
    }
}

#[test]
fn certificates_that_are_not_accepted_are_told_with_the_way_out() {
    let (server, _) = store(|_, _| None);
    for (certificate, authority, expected) in [
        ("of-authority.pem", "own.pem", "AWS_CA_BUNDLE or SSL_CERT_FILE names the file"),
        ("own-authority.pem", "own-authority.pem", "basicConstraints=critical,CA:FALSE"),
    ] {
        let front = Front::start(certificate, &server);
        let mut command = checking(&front.endpoint);
        command.env("AWS_CA_BUNDLE", file(authority));
        fails_with(&run(command), expected);
    }
}

#[test]
fn plain_http_to_a_store_behind_tls_is_told_by_the_scheme_to_use() {
    let (server, _) = store(|_, _| None);
    let front = Front::start("own.pem", &server);
    let plain = front.endpoint.replace("https://", "http://");
    fails_with(&run(checking(&plain)), "S3_ENDPOINT has to begin with https://");
}

/// A proxy that makes tunnels, all of them to one place, whatever it is asked for.
struct Proxy {
    address: String,
    /// What it was asked, with the headers.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn to(front: &Front) -> Self {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, target) = (Arc::clone(&asked), front.endpoint.replace("https://", ""));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (log, target) = (Arc::clone(&log), target.clone());
                thread::spawn(move || tunnel(client.unwrap(), &target, &log));
            }
        });
        Self { address, asked }
    }

    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn tunnel(mut client: Stream, target: &str, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap() == 0 {
            return;
        }
    }
    log.lock().unwrap().push(head);
    let mut store = Stream::connect(target).unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let mut to_store = store.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let _ = copy(&mut reader, &mut to_store);
        let _ = to_store.shutdown(Shutdown::Write);
    });
    // Either side may end it amid the transfer.
    let _ = copy(&mut store, &mut client);
    let _ = client.shutdown(Shutdown::Write);
    sender.join().unwrap();
}

/// Nothing listens there: only the proxy leads to the store.
const NOWHERE: &str = "https://127.0.0.1:1";

#[test]
fn a_proxy_carries_tls_to_the_store_by_each_variable_that_names_it() {
    let (server, _) = store(|_, _| None);
    let front = Front::start("of-authority.pem", &server);
    let proxy = Proxy::to(&front);
    for (variable, value) in [
        ("HTTPS_PROXY", format!("http://{}", proxy.address)),
        ("https_proxy", proxy.address.clone()),
        ("ALL_PROXY", format!("http://{}", proxy.address)),
        ("HTTPS_PROXY", format!("http://user:hidden@{}", proxy.address)),
    ] {
        let before = server.requests().len();
        let mut command = checking(NOWHERE);
        command.env("AWS_CA_BUNDLE", file("authority.pem")).env(variable, &value);
        let ran = run(command);
        passes(&ran);
        let methods: Vec<String> =
            server.requests().split_off(before).into_iter().map(|request| request.method).collect();
        assert!(["PUT", "DELETE"].iter().all(|&method| methods.contains(&method.into())));
        let asked = proxy.take_asked();
        assert!(!asked.is_empty());
        for head in asked {
            assert!(head.starts_with("CONNECT 127.0.0.1:1 HTTP/1.1\r\n"), "{head}");
            // `user:hidden` in Base64.
            let has_password = head.to_lowercase().contains("proxy-authorization: basic ")
                && head.contains("dXNlcjpoaWRkZW4=");
            assert_eq!(has_password, value.contains("hidden"), "{head}");
        }
        assert!(!ran.stdout.contains("hidden") && !ran.stderr.contains("hidden"));
    }
}

#[test]
fn no_proxy_leads_past_the_proxy_to_a_store_behind_tls() {
    let (server, _) = store(|_, _| None);
    let front = Front::start("of-authority.pem", &server);
    let proxy = Proxy::to(&front);
    let checking_with = |endpoint: &str, no_proxy: (&str, &str)| {
        let mut command = checking(endpoint);
        command
            .env("AWS_CA_BUNDLE", file("authority.pem"))
            .env("HTTPS_PROXY", format!("http://{}", proxy.address))
            .env(no_proxy.0, no_proxy.1);
        run(command)
    };
    for no_proxy in [
        ("NO_PROXY", "127.0.0.1"),
        ("no_proxy", "other.example,127.0.0.1"),
        ("NO_PROXY", "127.0.0.0/8"),
        ("NO_PROXY", "*"),
    ] {
        passes(&checking_with(&front.endpoint, no_proxy));
        fails_with(&checking_with(NOWHERE, no_proxy), "cannot reach https://127.0.0.1:1: ");
        assert_eq!(proxy.take_asked(), [""; 0], "{no_proxy:?}");
    }
    passes(&checking_with(NOWHERE, ("NO_PROXY", "other.example,10.0.0.0/8")));
    assert!(!proxy.take_asked().is_empty());
}

#[test]
fn a_proxy_does_not_stand_in_for_the_certificate_of_the_store() {
    let (server, _) = store(|_, _| None);
    let front = Front::start("of-authority.pem", &server);
    let proxy = Proxy::to(&front);
    let mut command = checking(NOWHERE);
    command
        .env("AWS_CA_BUNDLE", file("own.pem"))
        .env("HTTPS_PROXY", format!("http://{}", proxy.address));
    fails_with(&run(command), "AWS_CA_BUNDLE or SSL_CERT_FILE names the file");
    assert!(server.requests().is_empty(), "no key goes to a store that nobody vouches for");
}
