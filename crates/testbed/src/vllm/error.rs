//! Errors as vLLM answers them.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    kind: &'static str,
    pub(super) message: String,
    /// The field of the request that is wrong.
    param: Option<&'static str>,
}

impl ApiError {
    pub(super) fn bad_request(param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "BadRequestError",
            message: message.into(),
            param,
        }
    }

    pub(super) fn unknown_model(model: &str) -> Self {
        let message = format!("The model `{model}` does not exist.");
        Self { status: StatusCode::NOT_FOUND, kind: "NotFoundError", message, param: Some("model") }
    }

    pub(super) fn not_ready() -> Self {
        let message =
            "The engine is not ready: it is loading its model, or has stopped.".to_owned();
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "ServiceUnavailableError",
            message,
            param: None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, kind, message, param } = self;
        let body = json!({"error": {"message": message, "type": kind, "param": param, "code": status.as_u16()}});
        (status, Json(body)).into_response()
    }
}
