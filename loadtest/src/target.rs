//! The address of the server: a host and a port.

use std::{fmt, net::Ipv6Addr};

use url::Url;

/// A validated host and port; displayed as `host:port`, IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
}

impl Target {
    /// Refuses what is not a bare host name or address, and says what to give instead.
    pub fn new(host: &str, port: u16) -> Result<Self, String> {
        Ok(Self { host: parse_host(host)?, port })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
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
        return Err("give the host name alone, not a URL; the port goes to --port".to_owned());
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
            ("http://localhost", "not a URL"),
            ("localhost:8000", "--port"),
            ("local host", "cannot contain ' '"),
            ("localhost/v1", "cannot contain '/'"),
            ("10.0.0.999", "invalid IPv4 address"),
        ] {
            let message = parse_host(host).unwrap_err();
            assert!(message.contains(part), "{host}: {message}");
        }
    }
}
