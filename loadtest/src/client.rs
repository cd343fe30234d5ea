//! One HTTP client for one server: lists its models and runs measured requests.

mod exchange;
mod failure;
mod pool;
mod stream;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::OnceCell, time};

use crate::{
    error::{Phase, RequestError},
    http::{Method, Request, Response, Stamping},
    measurement::{Measured, Measurement},
    prompts::Prompt,
    protocol::{self, Api, Generation},
    target::Target,
};
use pool::Pool;

const MAX_CONNECT: Duration = Duration::from_secs(10);
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

/// Connections are kept and used again, and the host name is resolved once. Neither is part of what is measured: the
/// clock of a request starts when its bytes leave.
#[derive(Debug)]
pub struct Client {
    target: Target,
    options: Options,
    /// As the `Authorization` header wants it.
    authorization: Option<String>,
    host: String,
    addresses: Vec<SocketAddr>,
    connect_limit: Duration,
    pool: Pool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    _stamping: Stamping,
    /// Asked for once, after the first answer that says "no such model".
    available: OnceCell<Option<Vec<String>>>,
}

impl Client {
    /// Resolves the host name; connects only with the first request.
    pub async fn new(target: Target, options: Options) -> Result<Self, RequestError> {
        // Shorter than the limit of a request, so that the two can be told apart.
        let connect_limit = options.timeout.mul_f64(0.9).min(MAX_CONNECT);
        let lookup = tokio::net::lookup_host((target.host(), target.port()));
        let addresses = match time::timeout(connect_limit, lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(failure::of_lookup(&target, &error)),
            Err(_) => {
                return Err(RequestError::Timeout {
                    limit: connect_limit,
                    waiting_for: Phase::Connection,
                });
            }
        };
        Ok(Self {
            authorization: options.api_key.as_ref().map(|key| format!("Bearer {key}")),
            host: target.to_string(),
            target,
            options,
            addresses,
            connect_limit,
            pool: Pool::default(),
            shared: Arc::new(Shared { _stamping: Stamping::start(), available: OnceCell::new() }),
        })
    }

    /// The same, with connections of its own: they belong to the thread that opened them.
    #[must_use]
    pub fn for_another_thread(&self) -> Self {
        Self {
            target: self.target.clone(),
            options: self.options.clone(),
            authorization: self.authorization.clone(),
            host: self.host.clone(),
            addresses: self.addresses.clone(),
            connect_limit: self.connect_limit,
            pool: Pool::default(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// The models the server serves, in its order.
    pub async fn models(&self) -> Result<Vec<String>, RequestError> {
        let limit = self.options.timeout;
        time::timeout(limit, self.ask_for_models())
            .await
            .unwrap_or(Err(RequestError::Timeout { limit, waiting_for: Phase::Headers }))
    }

    /// Runs one request to its end and records it, whatever that end is.
    pub async fn run(&self, order: Order<'_>) -> Measured {
        let Order { index, request_id, model, prompt, due } = order;
        let Options { api, stream, max_tokens, ignore_eos, timeout, api_key: _ } = self.options;
        let max_tokens = prompt.max_tokens.unwrap_or(max_tokens);
        let prompt = prompt.text;
        let body = Generation { api, model, prompt: &prompt, max_tokens, ignore_eos, stream }
            .body()
            .to_string();
        let request =
            self.request(Method::Post, api.path(), &[("X-Request-Id", &request_id)], &body);

        let mut measurement = Measurement::start(stream, due);
        let exchanged = time::timeout(timeout, self.exchange(&request, &mut measurement)).await;
        let ended = Instant::now();
        let outcome = match exchanged {
            Ok(Ok(response)) => {
                self.drain(response).await;
                Ok(())
            }
            Ok(Err(error)) => Err(self.with_available_models(error, model).await),
            Err(_) => {
                Err(RequestError::Timeout { limit: timeout, waiting_for: measurement.phase() })
            }
        };
        measurement.end(index, request_id, prompt, outcome, ended)
    }

    async fn ask_for_models(&self) -> Result<Vec<String>, RequestError> {
        let request = self.request(Method::Get, "/v1/models", &[], "");
        let mut response =
            self.send(&request, &mut Measurement::start(false, Instant::now())).await?;
        self.expect_ok(&mut response).await?;
        let body = self.whole_body(&mut response).await?;
        self.pool.put(response);
        protocol::parse_models(&body)
            .map_err(|reason| RequestError::MalformedResponse { reason, excerpt: None })
    }

    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
        let mut headers = headers.to_vec();
        headers.extend(self.authorization.as_deref().map(|value| ("Authorization", value)));
        Request { method, path, host: &self.host, headers: &headers, body }.to_bytes()
    }

    /// A server says 404 both for an unknown model and for an unknown path; only the first names the model.
    async fn with_available_models(&self, error: RequestError, model: &str) -> RequestError {
        match error {
            RequestError::Status { status: 404, message }
                if message.contains("model") && message.contains(model) =>
            {
                let ask = || async { self.models().await.ok() };
                let available = self.shared.available.get_or_init(ask).await.clone();
                RequestError::ModelNotFound { model: model.to_owned(), available }
            }
            other => other,
        }
    }

    /// A connection is used again only when its body has been read to the end.
    async fn drain(&self, mut response: Response) {
        let deadline = Instant::now() + END_OF_BODY;
        while let Ok(Ok(Some(_))) = time::timeout_at(deadline.into(), response.piece()).await {}
        self.pool.put(response);
    }
}
