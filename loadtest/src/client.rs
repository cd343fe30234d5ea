//! One HTTP client for one server: lists its models and runs measured requests.

mod exchange;
mod failure;

use std::time::{Duration, Instant};

use reqwest::{Url, header, redirect};
use tokio::{sync::OnceCell, time};

use crate::{
    error::{Phase, RequestError},
    measurement::Measurement,
    protocol::{self, Api, Generation},
    record::RequestRecord,
    target::Target,
};

/// Below the five seconds after which vLLM's HTTP server closes an idle connection, so that none is used as it closes.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
const LONGEST_CONNECT: Duration = Duration::from_secs(10);
/// How long to wait for the end of a body whose content is complete, so that its connection can be used again.
const END_OF_BODY: Duration = Duration::from_secs(1);

/// What all requests of a run have in common.
#[derive(Debug, Clone)]
pub struct Options {
    pub api: Api,
    pub stream: bool,
    pub max_tokens: u32,
    pub ignore_eos: bool,
    /// For each request, from its start to its end.
    pub timeout: Duration,
    pub api_key: Option<String>,
}

/// Connections are kept and used again, and the host name is resolved once: neither is part of what is measured
/// after the first request of each worker.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    target: Target,
    options: Options,
    connect_limit: Duration,
    endpoint: Url,
    /// Asked for once, after the first answer that says "no such model".
    available: OnceCell<Option<Vec<String>>>,
}

impl Client {
    /// Resolves the host name; connects only with the first request.
    pub async fn new(target: Target, options: Options) -> Result<Self, RequestError> {
        // Shorter than the limit of a request, so that the two can be told apart.
        let connect_limit = options.timeout.mul_f64(0.9).min(LONGEST_CONNECT);
        let lookup = tokio::net::lookup_host((target.host(), target.port()));
        let addresses: Vec<_> = match time::timeout(connect_limit, lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(failure::of_lookup(&target, &error)),
            Err(_) => {
                return Err(RequestError::Timeout {
                    limit: connect_limit,
                    waiting_for: Phase::Connection,
                });
            }
        };
        let endpoint = target.url(options.api.path());
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(connect_limit)
            .pool_idle_timeout(IDLE_CONNECTION)
            .resolve_to_addrs(endpoint.host_str().unwrap_or(target.host()), &addresses)
            .user_agent(concat!("loadtest/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RequestError::Connect {
                target: target.clone(),
                reason: error.to_string(),
            })?;
        Ok(Self { http, target, options, connect_limit, endpoint, available: OnceCell::new() })
    }

    /// The models the server serves, in its order.
    pub async fn models(&self) -> Result<Vec<String>, RequestError> {
        let limit = self.options.timeout;
        time::timeout(limit, self.ask_for_models())
            .await
            .unwrap_or(Err(RequestError::Timeout { limit, waiting_for: Phase::Headers }))
    }

    /// Runs one request to its end and records it, whatever that end is.
    pub async fn run(
        &self,
        index: u32,
        request_id: String,
        model: &str,
        prompt: &str,
    ) -> RequestRecord {
        let Options { api, stream, max_tokens, ignore_eos, timeout, api_key: _ } = self.options;
        let body =
            Generation { api, model, prompt, max_tokens, ignore_eos, stream }.body().to_string();
        let request = self
            .authorized(self.http.post(self.endpoint.clone()))
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-Request-Id", &request_id)
            .body(body);

        let mut measurement = Measurement::start(stream);
        let exchanged = time::timeout(timeout, self.exchange(request, &mut measurement)).await;
        let ended = measurement.elapsed();
        let outcome = match exchanged {
            Ok(Ok(response)) => {
                drain(response).await;
                Ok(())
            }
            Ok(Err(error)) => Err(self.with_available_models(error, model).await),
            Err(_) => {
                Err(RequestError::Timeout { limit: timeout, waiting_for: measurement.phase() })
            }
        };
        measurement.into_record(index, request_id, prompt.to_owned(), outcome, ended)
    }

    async fn ask_for_models(&self) -> Result<Vec<String>, RequestError> {
        let request = self.authorized(self.http.get(self.target.url("/v1/models")));
        let sent = request.send().await;
        let mut response = sent.map_err(|error| self.failure(error, Phase::Headers))?;
        self.expect_ok(&mut response, Phase::Body).await?;
        let body = self.whole_body(&mut response, Phase::Body).await?;
        protocol::parse_models(&body)
            .map_err(|reason| RequestError::MalformedResponse { reason, excerpt: None })
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.options.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// A server says 404 both for an unknown model and for an unknown path; only the first names the model.
    async fn with_available_models(&self, error: RequestError, model: &str) -> RequestError {
        match error {
            RequestError::Status { status: 404, message }
                if message.contains("model") && message.contains(model) =>
            {
                let ask = || async { self.models().await.ok() };
                let available = self.available.get_or_init(ask).await.clone();
                RequestError::ModelNotFound { model: model.to_owned(), available }
            }
            other => other,
        }
    }
}

/// A connection goes back to the pool only when its body has been read to the end.
async fn drain(mut response: reqwest::Response) {
    let deadline = Instant::now() + END_OF_BODY;
    while let Ok(Ok(Some(_))) = time::timeout_at(deadline.into(), response.chunk()).await {}
}
