//! The address of a server: a host and a port, or a base URL.

use std::{fmt, net::Ipv6Addr};

use url::{Host, Url};

/// Where a server is, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    is_tls: bool,
    /// What its paths begin with: empty, or `/` and more, without a `/` at its end.
    prefix: String,
    /// Given as a URL, not as a host and a port.
    is_url: bool,
}

impl Target {
    /// Refuses what is not a bare host name or address, and says what to give instead.
    pub fn new(host: &str, port: u16) -> Result<Self, String> {
        let host = parse_host(host)?;
        Ok(Self { host, port, is_tls: false, prefix: String::new(), is_url: false })
    }

    /// From `http://` or `https://`, a host, and perhaps a port and a path. A `/v1` at the end may be there or not:
    /// clients of OpenAI have it in their base URL, `vllm bench serve` does not.
    pub fn from_url(text: &str) -> Result<Self, String> {
        let example = "as in https://vllm.example.com/prefix";
        let url = Url::parse(text).map_err(|error| format!("{error}: give a URL, {example}"))?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(format!("give a URL that begins with http:// or https://, {example}")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            // The URL goes into results and messages.
            return Err("leave user and password out of the URL, and give --header \"Authorization: Basic ...\""
                .to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("leave out what follows ? or #, {example}"));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(format!("the URL has no host: give one, {example}")),
        };
        let port = url.port_or_known_default().filter(|&port| port > 0).ok_or("port 0 is none")?;
        let path = url.path().trim_end_matches('/');
        let prefix = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/').to_owned();
        Ok(Self { host, port, is_tls, prefix, is_url: true })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub fn is_url(&self) -> bool {
        self.is_url
    }

    /// The whole of it: scheme, host, port and prefix.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.prefix)
    }

    /// Where `path`, which begins with `/`, is on this server.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// As the `Host` header wants it: without the port that the scheme stands for.
    pub(crate) fn authority(&self) -> String {
        let default_port = if self.is_tls { 443 } else { 80 };
        if self.port == default_port { self.bracketed() } else { self.with_port() }
    }

    /// By which options it was given.
    pub(crate) fn given_by(&self) -> &'static str {
        if self.is_url { "--base-url" } else { "--host and --port" }
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    fn with_port(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }
}

/// `host:port`, with IPv6 addresses in brackets, or the URL.
impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&if self.is_url { self.url() } else { self.with_port() })
    }
}

/// A value parser for `--host`.
pub fn parse_host(host: &str) -> Result<String, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Ok(bare.to_owned());
    }
    if host.is_empty() {
        return Err("give a host name or an address".to_owned());
    }
    if host.contains("//") {
        return Err("give the host name alone; a URL goes to --base-url".to_owned());
    }
    if host.contains(':') {
        return Err("give the host name alone; the port goes to --port".to_owned());
    }
    let allowed =
        |character: char| character.is_alphanumeric() || matches!(character, '-' | '.' | '_');
    if let Some(character) = host.chars().find(|&character| !allowed(character)) {
        return Err(format!("a host name cannot contain {character:?}"));
    }
    match Url::parse(&format!("http://{host}/")) {
        Ok(_) => Ok(host.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_accepted() {
        for (host, shown) in [
            ("localhost", "localhost:80"),
            ("10.0.0.7", "10.0.0.7:80"),
            ("vllm-api.vllm-tracing.svc", "vllm-api.vllm-tracing.svc:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
        ] {
            assert_eq!(Target::new(host, 80).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_way_out() {
        for (host, part) in [
            ("", "give a host name"),
            ("http://localhost", "--base-url"),
            ("localhost:8000", "--port"),
            ("local host", "cannot contain ' '"),
            ("localhost/v1", "cannot contain '/'"),
            ("10.0.0.999", "invalid IPv4 address"),
        ] {
            let message = parse_host(host).unwrap_err();
            assert!(message.contains(part), "{host}: {message}");
        }
    }

    #[test]
    fn a_url_may_have_a_prefix_and_the_version_of_the_api() {
        for (url, host, path, shown) in [
            ("http://localhost:8000", "localhost:8000", "/v1/completions", "http://localhost:8000"),
            ("https://a.example/", "a.example", "/v1/completions", "https://a.example"),
            ("https://a.example/v1/", "a.example", "/v1/completions", "https://a.example"),
            (
                "https://a.example:8443/x/y/v1",
                "a.example:8443",
                "/x/y/v1/completions",
                "https://a.example:8443/x/y",
            ),
            ("http://[::1]:80/x", "[::1]", "/x/v1/completions", "http://[::1]/x"),
        ] {
            let target = Target::from_url(url).unwrap();
            assert_eq!(
                (target.authority().as_str(), target.path("/v1/completions").as_str()),
                (host, path)
            );
            assert_eq!(target.to_string(), shown);
        }
        let target = Target::from_url("https://[::1]/").unwrap();
        assert_eq!((target.host(), target.port(), target.is_tls()), ("::1", 443, true));
    }

    #[test]
    fn a_url_without_its_parts_or_with_a_password_is_refused() {
        for (url, part) in [
            ("localhost:8000", "http://"),
            ("localhost", "give a URL"),
            ("ftp://localhost", "https://"),
            ("http://", "give a URL"),
            ("http://a/?x=1", "leave out"),
            ("http://a:0/", "port 0"),
            ("https://user:secret@a/", "--header"),
        ] {
            let message = Target::from_url(url).unwrap_err();
            assert!(message.contains(part) && !message.contains("secret"), "{url}: {message}");
        }
    }
}
