//! The way out of a failed request.

use super::{Phase, RequestError};

impl RequestError {
    /// What to check or to try, where that is known.
    pub fn advice(&self) -> Option<String> {
        let advice = match self {
            Self::Resolve { .. } => {
                "check --host; a name of the cluster resolves only inside the cluster".to_owned()
            }
            Self::Refused { target } => format!(
                "check --host and --port, and that vLLM is ready: it opens its port only when the model is loaded \
                 (`kubectl get pods,svc -n vllm-tracing`, `curl http://{target}/health`)"
            ),
            Self::Connect { .. } | Self::Timeout { waiting_for: Phase::Connection, .. } => {
                "check --host and --port, and that no firewall is in between".to_owned()
            }
            Self::Timeout { .. } => {
                "raise --timeout, or lower --max-tokens or --workers".to_owned()
            }
            Self::Transport { waiting_for: Phase::Headers, .. } => {
                "check that --port is a plain HTTP port and that the vLLM pod has not restarted"
                    .to_owned()
            }
            Self::Transport { .. } => {
                "check whether the vLLM pod restarted (`kubectl get pods -n vllm-tracing`)"
                    .to_owned()
            }
            Self::Status { message, .. } if message.contains("chat template") => {
                "a base model has no chat template: leave --chat out".to_owned()
            }
            Self::Status { status: 401 | 403, .. } => {
                "give the server's key with --api-key or VLLM_API_KEY".to_owned()
            }
            Self::Status { status: 404, .. } => {
                "check that --port is that of an OpenAI-compatible server".to_owned()
            }
            Self::Status { status: 429 | 503, .. } => {
                "the server is overloaded: lower --workers".to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_the_status() {
        let advice = |status, message: &str| {
            RequestError::Status { status, message: message.to_owned() }.advice()
        };
        assert!(advice(401, "Unauthorized").unwrap().contains("--api-key"));
        assert!(
            advice(400, "you must provide a chat template").unwrap().contains("leave --chat out")
        );
        assert!(advice(503, "busy").unwrap().contains("--workers"));
    }
}
