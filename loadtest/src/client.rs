//! One HTTP client for one server, or several: lists their models and runs measured requests.

mod endpoint;
mod exchange;
mod failure;
mod pool;
mod stream;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::OnceCell, time};
use tokio_rustls::rustls::ClientConfig;

use crate::{
    error::{Phase, RequestError},
    headers::Headers,
    http::{Method, Response, Stamping},
    measurement::{Measured, Measurement},
    prompts::Prompt,
    protocol::{self, Api, Generation},
    record::Failure,
    target::Target,
};
use endpoint::Endpoint;

const MAX_CONNECT: Duration = Duration::from_secs(10);
/// A server that is slow to say how it is keeps no load from beginning.
const MAX_METRICS: Duration = Duration::from_secs(2);
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
    pub headers: Headers,
    /// Needed by servers that are spoken to over TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// One request of a run.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    pub index: u32,
    pub request_id: String,
    pub model: &'a str,
    pub prompt: Prompt,
    /// When it was to leave.
    pub due: Instant,
}

/// Connections are kept and used again, and host names are resolved once. Neither is part of what is measured: the
/// clock of a request starts when its bytes leave.
#[derive(Debug)]
pub struct Client {
    /// Each takes its turn. Not empty.
    endpoints: Vec<Endpoint>,
    options: Options,
    connect_limit: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    _stamping: Stamping,
    /// Asked for once, after the first answer that says "no such model".
    available: OnceCell<Option<Vec<String>>>,
}

impl Client {
    /// Resolves the host names; connects only with the first request. `targets` is not empty.
    pub async fn new(targets: &[Target], options: Options) -> Result<Self, RequestError> {
        // Shorter than the limit of a request, so that the two can be told apart.
        let connect_limit = options.timeout.mul_f64(0.9).min(MAX_CONNECT);
        let mut endpoints = Vec::new();
        for target in targets {
            endpoints.push(Endpoint::new(target.clone(), &options, connect_limit).await?);
        }
        let shared = Shared { _stamping: Stamping::start(), available: OnceCell::new() };
        Ok(Self { endpoints, options, connect_limit, shared: Arc::new(shared) })
    }

    /// The same, with connections of its own: they belong to the thread that opened them.
    #[must_use]
    pub fn for_another_thread(&self) -> Self {
        Self {
            endpoints: self.endpoints.iter().map(Endpoint::for_another_thread).collect(),
            options: self.options.clone(),
            connect_limit: self.connect_limit,
            shared: Arc::clone(&self.shared),
        }
    }

    /// The models that the first server serves, in its order.
    pub async fn models(&self) -> Result<Vec<String>, RequestError> {
        self.models_of(&self.endpoints[0]).await
    }

    /// By their URLs.
    pub(crate) fn servers(&self) -> Vec<String> {
        self.endpoints.iter().map(|endpoint| endpoint.target.url()).collect()
    }

    /// The page of metrics of the server with this number.
    pub(crate) async fn metrics(&self, server: usize) -> Result<String, RequestError> {
        let limit = self.options.timeout.min(MAX_METRICS);
        let page = time::timeout(limit, self.get(&self.endpoints[server], "/metrics"))
            .await
            .unwrap_or(Err(RequestError::Timeout { limit, waiting_for: Phase::Body }))?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }

    /// As people read it, without the secrets that a server may have repeated.
    pub fn failure(&self, error: &RequestError) -> Failure {
        let Failure { kind, message, detail, advice } = Failure::from(error);
        let headers = &self.options.headers;
        let detail = detail.map(|detail| headers.hide_in(&detail));
        Failure { kind, message: headers.hide_in(&message), detail, advice }
    }

    /// Runs one request to its end and records it, whatever that end is.
    pub async fn run(&self, order: Order<'_>) -> Measured {
        let Order { index, request_id, model, prompt, due } = order;
        let Options { api, stream, max_tokens, ignore_eos, timeout, .. } = self.options;
        let endpoint = &self.endpoints[(index.max(1) as usize - 1) % self.endpoints.len()];
        let max_tokens = prompt.max_tokens.unwrap_or(max_tokens);
        let prompt = prompt.text;
        let body = Generation { api, model, prompt: &prompt, max_tokens, ignore_eos, stream }
            .body()
            .to_string();
        let id = ("X-Request-Id", request_id.as_str());
        let request = self.request(endpoint, Method::Post, api.path(), Some(id), &body);

        let mut measurement = Measurement::start(stream, due);
        let exchange = self.exchange(endpoint, &request, &mut measurement);
        let exchanged = time::timeout(timeout, exchange).await;
        let ended = Instant::now();
        let outcome = match exchanged {
            Ok(Ok(response)) => {
                endpoint.drain(response).await;
                Ok(())
            }
            Ok(Err(error)) => Err(self.with_available_models(endpoint, error, model).await),
            Err(_) => {
                Err(RequestError::Timeout { limit: timeout, waiting_for: measurement.phase() })
            }
        };
        let failure = outcome.err().map(|error| self.failure(&error));
        let mut measured = measurement.end(index, request_id, prompt, failure, ended);
        if self.endpoints.len() > 1 {
            measured.record.server = Some(endpoint.target.url());
        }
        measured
    }

    async fn models_of(&self, endpoint: &Endpoint) -> Result<Vec<String>, RequestError> {
        let limit = self.options.timeout;
        time::timeout(limit, self.ask_for_models(endpoint))
            .await
            .unwrap_or(Err(RequestError::Timeout { limit, waiting_for: Phase::Headers }))
    }

    async fn ask_for_models(&self, endpoint: &Endpoint) -> Result<Vec<String>, RequestError> {
        let body = self.get(endpoint, "/v1/models").await?;
        protocol::parse_models(&body)
            .map_err(|reason| RequestError::MalformedResponse { reason, excerpt: None })
    }

    async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<Vec<u8>, RequestError> {
        let request = self.request(endpoint, Method::Get, path, None, "");
        let mut measurement = Measurement::start(false, Instant::now());
        let mut response = self.send(endpoint, &request, &mut measurement).await?;
        self.expect_ok(&mut response).await?;
        let body = self.whole_body(&mut response).await?;
        endpoint.pool.put(response);
        Ok(body)
    }

    fn request(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path: &str,
        id: Option<(&str, &str)>,
        body: &str,
    ) -> Vec<u8> {
        let added =
            self.options.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
        let headers: Vec<_> = id.into_iter().chain(added).collect();
        endpoint.request(method, path, &headers, body)
    }

    /// A server says 404 both for an unknown model and for an unknown path; only the first names the model.
    async fn with_available_models(
        &self,
        endpoint: &Endpoint,
        error: RequestError,
        model: &str,
    ) -> RequestError {
        match error {
            RequestError::Status { status: 404, message }
                if message.contains("model") && message.contains(model) =>
            {
                let ask = || async { self.models_of(endpoint).await.ok() };
                let available = self.shared.available.get_or_init(ask).await.clone();
                RequestError::ModelNotFound { model: model.to_owned(), available }
            }
            other => other,
        }
    }
}

impl Endpoint {
    /// A connection is used again only when its body has been read to the end.
    async fn drain(&self, mut response: Response) {
        let deadline = Instant::now() + END_OF_BODY;
        while let Ok(Ok(Some(_))) = time::timeout_at(deadline.into(), response.piece()).await {}
        self.pool.put(response);
    }
}
