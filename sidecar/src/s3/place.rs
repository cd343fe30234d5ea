//! How a store wants the bucket to be named: in the path or in the host; and endpoints that name it
//! already.

use std::net::IpAddr;

use aws_config::Region;
use aws_sdk_s3::Client;
use tracing::info;

use super::{Bucket, Destination, failure};
use crate::config::Addressing;

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
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

impl Bucket {
    /// Asks the store once, and follows it: to the bucket in the host instead of the path, if it knows it
    /// only so, and to the region that it says. Only what is not set, and only to what answers better.
    pub(super) async fn settled(mut self, destination: &Destination) -> Self {
        let error = match self.list_one().await {
            Ok(()) => return self,
            Err(error) => error,
        };
        self.is_settled = failure::status(&error).is_some();
        let endpoint = destination.endpoint.as_deref();
        // Another address than this one is never followed: it would get what is signed for this one.
        if let Some(region) = failure::region_of(&error) {
            let other = self.in_region(&region);
            if other.answers_better(&error).await {
                info!("the bucket is in the region {region}: AWS_REGION={region} says so");
                return other;
            }
        }
        if destination.addressing == Addressing::Auto
            && endpoint.is_some_and(|endpoint| can_bear_a_bucket(endpoint, &self.name))
            && failure::may_be_the_place(&error)
        {
            let other = self.with_bucket_in_host();
            if other.answers_better(&error).await {
                info!(
                    "{} takes the bucket in the host name only: it is asked so, as with \
                     S3_ADDRESSING=host",
                    self.store
                );
                return other;
            }
        }
        self
    }

    /// A denial is an answer too, where the question was how to ask.
    async fn answers_better(&self, before: &failure::ListError) -> bool {
        match self.list_one().await {
            Ok(()) => true,
            Err(error) => failure::is_access_denied(&error) && failure::is_about_the_way(before),
        }
    }

    fn with_bucket_in_host(&self) -> Self {
        let config = self.client.config().to_builder().force_path_style(false).build();
        Self { client: Client::from_conf(config), ..self.clone() }
    }

    fn in_region(&self, region: &str) -> Self {
        let region = Region::new(region.to_owned());
        let config = self.client.config().to_builder().region(region).build();
        Self { client: Client::from_conf(config), ..self.clone() }
    }
}

/// An address has no names below it.
fn can_bear_a_bucket(endpoint: &str, bucket: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host_of(rest.split('/').next().unwrap_or(rest));
    host.parse::<IpAddr>().is_err() && !bucket.contains([':', '/', '_'])
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
