//! Endpoints that name the bucket already.

use std::net::IpAddr;

use crate::settings::Addressing;

/// Why an endpoint cannot be meant, with the way out: objects would go to `bucket/bucket/...`.
pub fn names_the_bucket(endpoint: &str, bucket: &str, addressing: Addressing) -> Option<String> {
    // Whoever says that the bucket goes into the path has thought of it.
    if addressing == Addressing::Path {
        return None;
    }
    let (scheme, rest) = endpoint.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host_of(authority);
    // A store may be called as the bucket is; only a longer name has room for both.
    let in_host = host.len() > bucket.len()
        && host.get(..bucket.len()).is_some_and(|first| first.eq_ignore_ascii_case(bucket))
        && host[bucket.len()..].starts_with('.')
        && host.parse::<IpAddr>().is_err();
    let in_path = path.split('/').any(|part| part == bucket);
    let without = match (in_host, in_path) {
        (true, _) => format!("{scheme}://{}", &authority[bucket.len() + 1..]),
        (false, true) => format!("{scheme}://{authority}"),
        (false, false) => return None,
    };
    let way_out = if addressing == Addressing::Auto {
        ", or S3_ADDRESSING=path if the name of the store itself begins so"
    } else {
        ""
    };
    Some(format!(
        "it names the bucket {bucket} already, which S3_BUCKET does; accepted: the store alone, such as \
         {without}{way_out}"
    ))
}

/// Without the port and the brackets of an IPv6 address.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_names_the_bucket_is_refused_with_the_one_that_does_not() {
        for (endpoint, accepted) in [
            ("http://traces.store.example:9000", "http://store.example:9000"),
            ("https://traces.s3.amazonaws.com/", "https://s3.amazonaws.com"),
            ("https://Traces.store", "https://store"),
            ("http://store:9000/traces", "http://store:9000"),
            ("http://store/base/traces/", "http://store"),
            ("http://127.0.0.1:9000/traces", "http://127.0.0.1:9000"),
        ] {
            for addressing in [Addressing::Auto, Addressing::Host] {
                let refusal = names_the_bucket(endpoint, "traces", addressing).unwrap();
                assert!(refusal.contains(&format!("such as {accepted}")), "{endpoint}: {refusal}");
            }
            assert_eq!(names_the_bucket(endpoint, "traces", Addressing::Path), None);
        }
    }

    #[test]
    fn a_store_that_is_called_as_the_bucket_is_no_mistake() {
        for endpoint in [
            "http://traces:9000",
            "http://traces",
            "http://tracestore.example",
            "http://traces-store.example",
            "http://store.traces",
            "http://[::1]:9000",
            "http://store/base",
        ] {
            assert_eq!(names_the_bucket(endpoint, "traces", Addressing::Auto), None, "{endpoint}");
        }
        assert_eq!(names_the_bucket("http://127.0.0.1", "127", Addressing::Auto), None);
    }
}
