//! One of the servers that a client sends to.

use std::{net::SocketAddr, time::Duration};

use tokio::time;

use super::{Options, failure, pool::Pool};
use crate::{
    error::{Phase, RequestError},
    http::{Method, Request, Tls},
    target::Target,
};

/// Its addresses are looked up once; its connections are kept.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) target: Target,
    /// As the `Host` header wants it.
    host: String,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<Tls>,
    pub(super) pool: Pool,
}

impl Endpoint {
    pub(super) async fn new(
        target: Target,
        options: &Options,
        limit: Duration,
    ) -> Result<Self, RequestError> {
        let lookup = tokio::net::lookup_host((target.host(), target.port()));
        let addresses = match time::timeout(limit, lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(failure::of_lookup(&target, &error)),
            Err(_) => {
                return Err(RequestError::Timeout { limit, waiting_for: Phase::Connection });
            }
        };
        let tls = match &options.tls {
            Some(configuration) if target.is_tls() => {
                Some(Tls::new(configuration.clone(), target.host()).map_err(|error| {
                    RequestError::Tls { target: target.clone(), reason: format!("{error:#}") }
                })?)
            }
            _ => None,
        };
        let host = options.headers.get("host").map_or_else(|| target.authority(), str::to_owned);
        Ok(Self { target, host, addresses, tls, pool: Pool::default() })
    }

    /// The same, with connections of its own.
    pub(super) fn for_another_thread(&self) -> Self {
        let Self { target, host, addresses, tls, pool: _ } = self;
        Self {
            target: target.clone(),
            host: host.clone(),
            addresses: addresses.clone(),
            tls: tls.clone(),
            pool: Pool::default(),
        }
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Vec<u8> {
        let path = self.target.path(path);
        Request { method, path: &path, host: &self.host, headers, body }.to_bytes()
    }
}
