//! The labels and the metadata of objects.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use settings::names::{APP, DEPLOYMENT, NAMESPACE};

/// What objects of this deployment are found by; a superset of [`selector`].
pub fn labels() -> BTreeMap<String, String> {
    let mut labels = selector();
    labels.extend(node_labels());
    let own = [("app.kubernetes.io/name", APP), ("app.kubernetes.io/instance", DEPLOYMENT)];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    labels
}

/// Of what belongs to the node and stays when the deployment goes.
pub(crate) fn node_labels() -> BTreeMap<String, String> {
    [("app.kubernetes.io/part-of", "k3s-vllm-tracing"), ("app.kubernetes.io/managed-by", "xtask")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// What pods are selected by: the label `app`. Immutable in a Deployment, so nothing is ever added.
pub fn selector() -> BTreeMap<String, String> {
    [("app".to_owned(), APP.to_owned())].into()
}

/// The name, the namespace and the labels of an object of this deployment.
pub(crate) fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}
