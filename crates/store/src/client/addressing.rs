//! How a store wants the bucket to be named: in the path or in the host.

use std::net::IpAddr;

use aws_config::Region;
use aws_sdk_s3::Client;
use tracing::info;

use super::{bucket::Bucket, failure};
use crate::{
    endpoint::host_of,
    settings::{Addressing, Destination},
};

impl Bucket {
    /// Asks the store once, and follows it: to the bucket in the host instead of the path, if it knows it
    /// only so, and to the region that it says. Only what is not set, and only to what answers better.
    pub(crate) async fn settled(mut self, destination: &Destination) -> Self {
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
