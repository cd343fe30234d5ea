//! Probes over HTTP.

use k8s_openapi::{
    api::core::v1::{HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

/// Asks `path` on the port of that name every `period` seconds; `failures` in a row count.
pub(crate) fn http_get(path: &str, port: &str, period: i32, timeout: i32, failures: i32) -> Probe {
    Probe {
        failure_threshold: Some(failures),
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        ..Probe::default()
    }
}
