//! A store behind TLS, with a certificate of an authority, its own, or one that it may not use.
//!
//! The certificates beside this file are of nobody, for 127.0.0.1 and localhost, until 2119; all servers
//! have the key `key.pem`.

use std::{path::PathBuf, sync::Arc};

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
