//! The way out of a failed request.

use super::{Phase, RequestError};

impl RequestError {
    /// What to check or to try, where that is known.
    pub fn advice(&self) -> Option<String> {
        let advice = match self {
            Self::Resolve { target, .. } => {
                let option = if target.is_url() { "--base-url" } else { "--host" };
                format!("check {option}; a name of the cluster resolves only inside the cluster")
            }
            Self::Refused { target } => format!(
                "check {}, and that vLLM is ready: it opens its port only when the model is loaded \
                 (`kubectl get pods,svc -n vllm-tracing`, `curl {}/health`)",
                target.given_by(),
                target.url()
            ),
            Self::Connect { target, .. } => {
                format!("check {}, and that no firewall is in between", target.given_by())
            }
            Self::Tls { reason, .. } if reason.contains("not trusted") => {
                "give the authority's certificate with --ca FILE".to_owned()
            }
            Self::Tls { reason, .. } if reason.contains("not TLS") => {
                "give a --base-url that begins with http://".to_owned()
            }
            Self::Tls { reason, .. } if reason.contains("CaUsedAsEndEntity") => {
                "an authority's certificate cannot be a server's too: sign one of its own, or make it with \
                 basicConstraints=critical,CA:FALSE"
                    .to_owned()
            }
            Self::Tls { target, .. } => format!(
                "look at the server's certificate: `openssl s_client -connect {}:{}`",
                target.host(),
                target.port()
            ),
            Self::Timeout { waiting_for: Phase::Connection, .. } => {
                "check the server's address; a firewall drops what it does not let through, and so does a server whose \
                 queue of new connections is full: if others do connect, lower --workers or --rate"
                    .to_owned()
            }
            Self::Timeout { .. } => {
                "raise --timeout, or lower --max-tokens, --workers or --rate".to_owned()
            }
            Self::Transport { waiting_for: Phase::Headers, .. } => {
                "check that the port is a plain HTTP port (for TLS give --base-url https://...), and that the vLLM pod \
                 has not restarted"
                    .to_owned()
            }
            Self::Transport { .. } => {
                "check whether the vLLM pod restarted (`kubectl get pods -n vllm-tracing`)"
                    .to_owned()
            }
            Self::Status { message, .. } if message.contains("chat template") => {
                "a base model has no chat template: leave --chat out".to_owned()
            }
            Self::Status { status: 503, message } if is_loading(message) => {
                "the model is not loaded yet: wait until the server is ready (`kubectl get pods -n vllm-tracing`)"
                    .to_owned()
            }
            Self::Status { message, .. } if is_too_long(message) => {
                "the prompt and --max-tokens do not fit the model: shorten one of them, or raise the server's --max-model-len"
                    .to_owned()
            }
            Self::Status { status: 401 | 403, .. } => {
                "give the server's key in VLLM_API_KEY or with --api-key-file".to_owned()
            }
            Self::Status { status: 400, message } if message.contains("HTTPS port") => {
                "the server speaks TLS there: give --base-url https://...".to_owned()
            }
            Self::Status { status: 404, .. } => {
                "check that the address is that of an OpenAI-compatible server".to_owned()
            }
            Self::Status { status: 429, .. } => {
                "the server takes no more for now: lower --workers or --rate".to_owned()
            }
            Self::Status { status: 502..=504, .. } => {
                "the server is overloaded, or there is none behind the one that answered: lower --workers or --rate, and \
                 see whether the vLLM pod is ready (`kubectl get pods -n vllm-tracing`)"
                    .to_owned()
            }
            Self::ModelNotFound { .. } => {
                "give one of them with --model, or leave --model out".to_owned()
            }
            Self::NoModel => {
                "wait until vLLM has loaded its model, or name it with --model".to_owned()
            }
            Self::MalformedStream { .. } => {
                "try --no-stream, if the server cannot stream".to_owned()
            }
            Self::InStream { .. } | Self::Truncated { .. } | Self::Aborted { .. } => {
                "see the server's log (`kubectl logs -n vllm-tracing -l app=vllm -c vllm`)"
                    .to_owned()
            }
            Self::Status { .. } | Self::MalformedResponse { .. } => return None,
        };
        Some(advice)
    }
}

/// As llama.cpp, TGI and proxies put it.
fn is_loading(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["loading", "not ready", "starting", "warming"].iter().any(|word| message.contains(word))
}

fn is_too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["context length", "too long", "max_model_len"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_status() {
        let advice = |status, message: &str| {
            RequestError::Status { status, message: message.to_owned() }.advice()
        };
        assert!(advice(401, "Unauthorized").unwrap().contains("VLLM_API_KEY"));
        assert!(
            advice(400, "you must provide a chat template").unwrap().contains("leave --chat out")
        );
        assert!(advice(503, "busy").unwrap().contains("--workers"));
        let loading = advice(503, "Loading model").unwrap();
        assert!(loading.contains("not loaded yet") && !loading.contains("--workers"), "{loading}");
        let long = "This model's maximum context length is 2048 tokens";
        assert!(advice(400, long).unwrap().contains("--max-tokens"));
    }
}
