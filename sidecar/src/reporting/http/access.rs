//! Who may see `/status`: command lines may hold secrets, so only who is in the pod already.
//!
//! Neither the address nor the name alone tells that. A service mesh delivers what comes from
//! outside through an address of 127.0.0.0/8, and a web page can give its own name the address
//! 127.0.0.1 (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::{
    Request,
    header::{FORWARDED, HOST, HeaderMap, VIA},
};

use crate::escape::escape;

/// The way out of a refusal.
pub const WAY_OUT: &str =
    "run `ebpf-cuda-tracer status` beside the sidecar, in a cluster by `kubectl exec`";

/// What proxies add: behind one, the peer is not who asks.
const FORWARDED_HEADERS: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "x-envoy-external-address"];

/// The longest part of a header that a refusal repeats.
const MAX_QUOTED_CHARACTERS: usize = 100;

/// `Err`: the reason why not.
pub(super) fn may_see_processes<B>(peer: IpAddr, request: &Request<B>) -> Result<(), String> {
    let peer = peer.to_canonical();
    if peer != Ipv4Addr::LOCALHOST && peer != Ipv6Addr::LOCALHOST {
        return Err(format!("this request comes from {peer}"));
    }
    let headers = request.headers();
    if let Some(header) = forwarded_by(headers) {
        return Err(format!("a proxy has passed this request on (header {header})"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err("this request has no Host, or several".to_owned());
    };
    let host = String::from_utf8_lossy(host.as_bytes());
    // An absolute request target counts more than the header.
    let target = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    match [Some(&*host), target].into_iter().flatten().find(|name| !is_loopback(name)) {
        None => Ok(()),
        Some(name) => {
            let quoted: String = name.chars().take(MAX_QUOTED_CHARACTERS).collect();
            Err(format!("this request is for the host \"{}\"", escape(&quoted)))
        }
    }
}

fn forwarded_by(headers: &HeaderMap) -> Option<&'static str> {
    let by_name = FORWARDED_HEADERS.into_iter().find(|name| headers.contains_key(*name));
    by_name
        .or_else(|| headers.contains_key(FORWARDED).then_some("forwarded"))
        .or_else(|| headers.contains_key(VIA).then_some("via"))
}

/// `localhost`, or an address that no other machine can have; with a port or without.
fn is_loopback(authority: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let host = match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.ends_with(']') => {
            if !is_port(port) {
                return false;
            }
            host
        }
        _ => authority,
    };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => {
            address.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        }
        None => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(peer: &str, target: &str, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        may_see_processes(peer.parse().unwrap(), &request.body(()).unwrap()).err()
    }

    #[test]
    fn only_the_two_loopback_addresses_are_told_not_a_mesh_nor_the_node_nor_the_pod_s_own() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(refused(peer, "/status", &[("host", "localhost:9420")]), None, "{peer}");
        }
        for peer in ["127.0.0.6", "127.0.0.2", "10.42.0.7", "::ffff:127.0.0.6", "fd00::1", "::2"] {
            let reason = refused(peer, "/status", &[("host", "localhost:9420")]).unwrap();
            assert!(reason.starts_with("this request comes from "), "{reason}");
        }
    }

    #[test]
    fn only_loopback_hosts_are_answered_so_that_no_web_page_can_take_the_address() {
        for host in [
            "localhost",
            "LOCALHOST:9420",
            "127.0.0.1",
            "127.0.0.1:9420",
            "127.0.0.9:1",
            "[::1]",
            "[::1]:9420",
        ] {
            assert_eq!(refused("127.0.0.1", "/status", &[("host", host)]), None, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9420",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:9420.evil",
            "localhost@evil.example",
            "10.42.0.7:9420",
            "::1",
            "[fd00::1]:9420",
            "0.0.0.0:9420",
            "[::]:9420",
            "127.1",
            "localhost.",
        ] {
            let reason = refused("127.0.0.1", "/status", &[("host", host)]).expect(host);
            assert_eq!(reason, format!("this request is for the host \"{host}\""));
        }
        let odd = [
            &[][..],
            &[("host", "localhost"), ("host", "localhost")],
            &[("host", "localhost"), ("x-forwarded-for", "10.0.0.1")],
            &[("host", "localhost"), ("forwarded", "for=10.0.0.1")],
            &[("host", "localhost"), ("via", "1.1 mesh")],
        ];
        for headers in odd {
            assert!(refused("127.0.0.1", "/status", headers).is_some(), "{headers:?}");
        }
        let absolute = "http://evil.example/status";
        assert!(refused("127.0.0.1", absolute, &[("host", "localhost")]).is_some());
    }

    #[test]
    fn a_refusal_repeats_little_of_what_was_sent_and_nothing_that_a_terminal_obeys() {
        let host = "x".repeat(5000);
        let reason = refused("127.0.0.1", "/status", &[("host", &host)]).unwrap();
        assert!(reason.len() < 200, "{reason}");
        let reason = refused("127.0.0.1", "/status", &[("host", "a\u{9b}2J")]).unwrap();
        assert!(reason.ends_with("\"a\\u009b2J\""), "{reason}");
    }
}
