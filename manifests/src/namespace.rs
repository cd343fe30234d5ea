//! The namespace, open for what the tracer needs.

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use settings::{deployment::Config, names::NAMESPACE};

use crate::labels;

/// Added capabilities, as `hostPID`, are of the level `privileged`. Where a cluster enforces another
/// one, the label is what lets the pod in, and its absence shows only in the events of a ReplicaSet.
pub fn namespace(_: &Config) -> Namespace {
    let mut labels = labels::labels();
    for mode in ["enforce", "audit", "warn"] {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), "privileged".to_owned());
    }
    Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}
