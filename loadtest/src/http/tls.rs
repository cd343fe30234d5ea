//! Which servers are trusted over TLS, and the handshake with one.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::stamped::Stamped;

/// Trusts the authorities of this machine, or those of a file in their place. `SSL_CERT_FILE` and `SSL_CERT_DIR` say
/// where those of the machine are, as with OpenSSL.
pub(crate) fn configuration(authorities: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = authorities {
        let certificates = CertificateDer::pem_file_iter(path)
            .with_context(|| format!("cannot read certificates from {}", path.display()))?;
        for certificate in certificates {
            let certificate = certificate.with_context(|| {
                format!("{} is no file of certificates in PEM form", path.display())
            })?;
            roots
                .add(certificate)
                .with_context(|| format!("{} holds what is no certificate", path.display()))?;
        }
        ensure!(!roots.is_empty(), "{} holds no certificate in PEM form", path.display());
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        ensure!(
            !roots.is_empty(),
            "this machine has no list of certificate authorities: install ca-certificates, or give --ca FILE"
        );
    }
    let provider = Arc::new(ring::default_provider());
    let mut configuration = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set TLS up")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(configuration))
}

/// How one server is spoken to.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(crate) fn new(configuration: Arc<ClientConfig>, host: &str) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host} is no name that a certificate can have"))?;
        Ok(Self { connector: configuration.into(), name })
    }

    pub(super) async fn handshake(&self, stream: Stamped) -> std::io::Result<TlsStream<Stamped>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Tls").field(&self.name).finish()
    }
}
