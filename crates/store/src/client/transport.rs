//! The way to the store: through a proxy, and with certificates that are not the system's.
//!
//! Read from the variables that other programs know: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY in
//! either case, AWS_CA_BUNDLE, and SSL_CERT_FILE, which the TLS library reads itself.

use std::{env, fs, panic::catch_unwind, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::time::timeout;

/// Services that give credentials are reached from this machine only.
const CREDENTIAL_SERVICES: &str =
    "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,fd00:ec2::23";

/// A bundle of all authorities of the world takes 300 KB.
const MAX_BUNDLE: u64 = 16 << 20;

/// A file on a network that does not answer must not hold up more than uploads.
const MAX_READ: Duration = Duration::from_secs(20);

pub(crate) struct Transport {
    pub(crate) for_objects: SharedHttpClient,
    pub(crate) for_credentials: SharedHttpClient,
    /// What messages say behind the name of the store.
    pub(crate) told: String,
}

/// What leads to a store; without an endpoint to AWS.
pub(crate) async fn found(endpoint: Option<&str>) -> Result<Transport> {
    let endpoint = endpoint.unwrap_or("https://s3.amazonaws.com").to_owned();
    let read = tokio::task::spawn_blocking(move || read(&endpoint));
    match timeout(MAX_READ, read).await {
        Ok(read) => read.context("the settings of proxy and certificates cannot be read")?,
        Err(_) => {
            bail!("AWS_CA_BUNDLE or SSL_CERT_FILE cannot be read within {} s", MAX_READ.as_secs())
        }
    }
}

fn read(endpoint: &str) -> Result<Transport> {
    let uri: Uri = endpoint.parse().context("the endpoint is no URL")?;
    let no_proxy = first_of(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
    let no_proxy = format!("{no_proxy},{CREDENTIAL_SERVICES}");
    let uses_tls = uri.scheme_str() == Some("https");
    let trust = if uses_tls || is_set("AWS_CA_BUNDLE") { trust_store()? } else { None };
    let of_https = proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?;
    let mine = if uses_tls {
        of_https.clone()
    } else {
        proxy(&["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"])?
    };
    let mine = mine.filter(|proxy| proxy.leads_to(&uri, &no_proxy));
    let told = mine.as_ref().map_or(String::new(), |Proxy { variable, shown, .. }| {
        format!(" through the proxy {shown} ({variable}; NO_PROXY names hosts that need none)")
    });
    Ok(Transport {
        for_objects: client(
            mine.map(|proxy| proxy.for_all(&no_proxy)).transpose()?,
            trust.clone(),
        )?,
        // Roles are asked for by HTTPS; what is asked for by HTTP is this machine.
        for_credentials: client(
            of_https.map(|proxy| proxy.for_https(&no_proxy)).transpose()?,
            trust,
        )?,
        told,
    })
}

#[derive(Clone)]
struct Proxy {
    variable: &'static str,
    url: String,
    /// Without user and password.
    shown: String,
}

impl Proxy {
    fn leads_to(&self, uri: &Uri, no_proxy: &str) -> bool {
        // The matcher takes a star for all names, and for no address.
        if no_proxy.split(',').any(|part| part.trim() == "*") {
            return false;
        }
        let matcher = Matcher::builder().all(self.url.clone()).no(no_proxy.to_owned()).build();
        matcher.intercept(uri).is_some()
    }

    fn for_all(&self, no_proxy: &str) -> Result<ProxyConfig> {
        let config = ProxyConfig::all(self.url.as_str());
        Ok(config.map_err(|_| self.odd())?.no_proxy(no_proxy))
    }

    fn for_https(&self, no_proxy: &str) -> Result<ProxyConfig> {
        let config = ProxyConfig::https(self.url.as_str());
        Ok(config.map_err(|_| self.odd())?.no_proxy(no_proxy))
    }

    fn odd(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "{} is {:?}: accepted: a URL such as http://proxy:3128",
            self.variable,
            self.shown
        )
    }
}

fn proxy(variables: &[&'static str]) -> Result<Option<Proxy>> {
    let Some((variable, value)) = first_of(variables) else { return Ok(None) };
    // As curl takes it.
    let url = if value.contains("://") { value } else { format!("http://{value}") };
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let shown = format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host));
    let proxy = Proxy { variable, url, shown };
    let is_known = matches!(
        proxy.url.split("://").next(),
        Some(scheme) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    );
    if !is_known || proxy.url.parse::<Uri>().is_ok_and(|uri| uri.host().is_none_or(str::is_empty)) {
        return Err(proxy.odd());
    }
    Ok(Some(proxy))
}

fn first_of(variables: &[&'static str]) -> Option<(&'static str, String)> {
    variables.iter().find_map(|&variable| {
        let value = env::var(variable).ok()?.trim().to_owned();
        (!value.is_empty()).then_some((variable, value))
    })
}

fn is_set(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// `None`: the system's authorities, or those of SSL_CERT_FILE.
fn trust_store() -> Result<Option<TrustStore>> {
    if let Some((variable, path)) = first_of(&["SSL_CERT_FILE"])
        && !is_set("AWS_CA_BUNDLE")
    {
        // The TLS library would only have a warning for it.
        certificates(variable, Path::new(&path))?;
        return Ok(None);
    }
    let Some((variable, path)) = first_of(&["AWS_CA_BUNDLE"]) else { return Ok(None) };
    let pem = certificates(variable, Path::new(&path))?;
    Ok(Some(TrustStore::empty().with_pem_certificate(pem)))
}

/// The certificates of a file, and nothing else that may stand in it.
fn certificates(variable: &str, path: &Path) -> Result<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let shown = path.display();
    let metadata = fs::metadata(path)
        .with_context(|| format!("{variable} is {shown}: it cannot be opened"))?;
    ensure!(
        metadata.is_file() && metadata.len() <= MAX_BUNDLE,
        "{variable} is {shown}: accepted: a file of certificates in PEM form, up to 16 MiB"
    );
    let text =
        fs::read(path).with_context(|| format!("{variable} is {shown}: it cannot be read"))?;
    let text = String::from_utf8_lossy(&text);
    let mut pem = String::new();
    for part in text.split(BEGIN).skip(1) {
        let body = part.split(END).next().unwrap_or_default();
        let body: String = body.split_whitespace().collect();
        // A sequence of ASN.1, as every certificate is.
        let is_one = BASE64.decode(&body).is_ok_and(|der| der.first() == Some(&0x30));
        ensure!(is_one, "{variable} is {shown}: a certificate in it is damaged");
        pem.extend([BEGIN, "\n", &body, "\n", END, "\n"]);
    }
    ensure!(
        !pem.is_empty(),
        "{variable} is {shown}: there is no certificate in it; accepted: PEM, with {BEGIN}"
    );
    Ok(pem.into_bytes())
}

fn client(proxy: Option<ProxyConfig>, trust: Option<TrustStore>) -> Result<SharedHttpClient> {
    if trust.is_none() {
        // A debug build of the TLS client panics where the system has no authorities, also for a store without TLS.
        let with_system = catch_unwind(|| client_of(proxy.clone(), TrustStore::default()));
        return with_system.unwrap_or_else(|_| client_of(proxy, TrustStore::empty()));
    }
    // It panics where a certificate is none.
    catch_unwind(|| client_of(proxy, trust.unwrap_or_default()))
        .unwrap_or_else(|_| bail!("AWS_CA_BUNDLE has a certificate that TLS cannot use"))
}

fn client_of(proxy: Option<ProxyConfig>, trust: TrustStore) -> Result<SharedHttpClient> {
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| anyhow::anyhow!("{error}"))?;
    let connector = move || {
        let mut builder = Connector::builder();
        builder.set_proxy_config(proxy.clone());
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context.clone())
    };
    // Where it panics, it does so here and not amid an upload.
    drop(connector().build());
    let client = aws_smithy_http_client::Builder::new().build_with_connector_fn(
        move |settings, components| {
            let mut builder = connector();
            builder.set_connector_settings(settings.cloned());
            if let Some(components) = components {
                builder.set_sleep_impl(components.sleep_impl());
            }
            builder.build()
        },
    );
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_at(url: &str) -> Proxy {
        Proxy { variable: "HTTPS_PROXY", url: url.to_owned(), shown: url.to_owned() }
    }

    #[test]
    fn a_proxy_is_for_hosts_that_no_proxy_does_not_name() {
        let proxy = proxy_at("http://proxy:3128");
        let leads = |uri: &str, no: &str| proxy.leads_to(&uri.parse().unwrap(), no);
        assert!(leads("https://s3.example.com", "other.com"));
        for no_proxy in ["*", "example.com", ".example.com", "a,s3.example.com"] {
            assert!(!leads("https://s3.example.com", no_proxy), "{no_proxy}");
        }
        for no_proxy in ["10.0.0.0/8", "*", "a, *"] {
            assert!(!leads("http://10.1.2.3:9000", no_proxy), "{no_proxy}");
        }
        assert!(!leads("http://169.254.169.254", CREDENTIAL_SERVICES));
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_the_name_of_its_variable() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        for (content, expected) in [
            ("", "there is no certificate in it"),
            ("-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----", "damaged"),
            ("-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----", "damaged"),
        ] {
            fs::write(&file, content).unwrap();
            let text = format!("{:#}", certificates("AWS_CA_BUNDLE", &file).unwrap_err());
            assert!(text.starts_with("AWS_CA_BUNDLE is /") && text.contains(expected), "{text}");
        }
        for path in [directory.path(), Path::new("/nowhere")] {
            let text = format!("{:#}", certificates("SSL_CERT_FILE", path).unwrap_err());
            assert!(text.starts_with("SSL_CERT_FILE is /"), "{text}");
        }
    }
}
